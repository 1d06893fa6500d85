"""Services as other people have them: Flask and Express, instrumented by OpenTelemetry from outside, and not at all. Nothing
in them knows of keys."""

import unittest

import survival
from hops import CALLS, PREVIEWS, Ports, Redirected, Waypoints, expected

APPS = {"frontend": "flask", "checkout": "express", "payment": "flask", "ledger": "rust"}


class Setting:
    """What must hold in every setting."""

    def estate(self, bare=()):
        found = self.hops({service: ("bare " if service in bare else "") + app for service, app in APPS.items()})
        self.addCleanup(found.close)
        return found

    def test_instrumented_from_outside_every_hop_routes(self):
        estate = self.estate()
        for key in (None, *PREVIEWS):
            for own in (False, True):
                answer = estate.ask("/chain", key, survival.own_trace("traceparent") if own else {})
                self.assertEqual(answer.path(), expected(key), answer)

    def test_who_is_not_instrumented_loses_the_key(self):
        for service in CALLS:
            with self.subTest(service=service):
                estate = self.estate(bare=[service])
                self.assertEqual(estate.ask("/chain").path(), expected(None))
                answer = estate.ask("/chain", "7")
                self.assertEqual(answer.path(), expected("7", service))
                self.assertEqual(answer.receipt(), answer.path()[: list(CALLS).index(service) + 1])
                if estate.has_sidecars:
                    self.assertEqual(estate.lossy(), [(service, CALLS[service])])


class OfWaypoints(Setting, unittest.TestCase):
    hops = Waypoints


class OfPorts(Setting, unittest.TestCase):
    hops = Ports


class OfRedirected(Setting, unittest.TestCase):
    hops = Redirected
