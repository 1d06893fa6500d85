"""Estates three hops deep: every hop routes, and the key survives services that lose it, in each setting and each style.

What each test asks is the same in every setting; what must come of it is in survival.py.
"""

import collections
import concurrent.futures
import time
import unittest

import survival
from estate import wait_until
from hops import CALLS, PREVIEWS, SERVICES, Ports, Redirected, Waypoints, asked, expected

HTTP = ("python", "node", "rust")
GRPC = ("python", "node")
# Fields by which a key could come, but for the id of the request, which everybody gets.
KEYED = lambda fields: {name: value for name, value in fields.items() if name != "x-request-id"}


def rotations(languages):
    """Estates in which each language stands at each place once."""
    for turn in range(len(languages)):
        row = [languages[(turn + at) % len(languages)] for at in range(len(CALLS))]
        yield dict(zip(SERVICES, [*row, "rust" if "rust" in languages else "node"]))


class Setting:
    """What must hold in every setting; `hops`, `protocol`, `languages`, `must` and `section` are said below."""

    @classmethod
    def setUpClass(cls):
        cls.estate = cls.hops(next(rotations(cls.languages)), cls.protocol)
        cls.addClassCleanup(cls.estate.close)

    def test_requests_without_a_key_meet_baseline_and_get_nothing(self):
        for style in ("full", "everything", "baggage", "none"):
            answer = self.estate.ask(f"/chain?all={style}")
            self.assertEqual(answer.path(), expected(None), answer)
            self.assertNotIn("x-pr-route", answer.fields)
            self.carried(answer.hops(), {})
        # A trace of the caller's goes through as it is.
        own = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1", "baggage": "b=2"}
        answer = self.estate.ask("/chain?all=full", None, own)
        self.assertEqual(answer.path(), expected(None), answer)
        self.carried(answer.hops(), own)

    def carried(self, hops, first):
        """Each service received what the one before it sent, no more and no less."""
        sent = first
        for hop in hops:
            self.assertEqual(KEYED(hop["received"]), KEYED(sent), hop["service"])
            sent = hop["calls"][0]["sent"] if hop["calls"] else {}

    def test_each_key_meets_its_forks_and_baseline_elsewhere(self):
        for key in PREVIEWS:
            answer = self.estate.ask("/chain?all=full", key)
            self.assertEqual(answer.path(), expected(key), answer)
            for hop in answer.hops():
                self.assertEqual(hop["received"]["x-pr-id"], key, hop["service"])

    def test_an_unknown_key_is_refused_at_the_edge(self):
        answer = self.estate.ask("/chain", "nobody")
        self.assertEqual(answer.status, 5 if self.protocol == "grpc" else 404, answer)
        self.assertIn("unknown_preview", str(answer))

    def test_styles(self):
        seen = {}
        for languages in rotations(self.languages):
            estate = self.hops(languages, self.protocol)
            try:
                survival.measure(estate, seen)
            finally:
                estate.close()
        wrong = survival.faults(seen, self.must)
        stale = survival.on_page(self.section, survival.table(seen))
        if wrong or stale:
            self.fail("\n".join([*wrong, stale or ""]))

    def test_a_whole_estate_of_one_style(self):
        """The key is lost and found at each hop again."""
        shared = set.intersection(*(survival.SPOKEN[language] for language in self.languages)) - {"none"}
        for style in sorted(shared):
            for own in (False, True):
                with self.subTest(style=style, own=own):
                    answer = self.estate.ask(f"/chain?all={style}", "9", survival.own_trace(style) if own else {})
                    must = expected("9") if self.must[style][own] else expected("9", "frontend")
                    self.assertEqual(answer.path(), must)

    def test_the_client_sees_the_whole_chain(self):
        for key in ("42", "9"):
            answer = self.estate.ask("/chain?all=full", key)
            self.assertEqual(answer.receipt(), expected(key), answer.fields.get("x-pr-route"))
            self.assertIn("checkout", answer.fields.get("server-timing", ""))

    def test_a_fork_that_calls_itself_by_its_service_reaches_itself(self):
        for key, (service, _) in PREVIEWS.items():
            answer = self.estate.ask_app(service, key, f"/call/{service}?all=full", {"x-pr-id": key})
            self.assertEqual(answer.path(), [f"{service}@{key}"] * 2)


class Storm:
    """Many at once."""

    CLIENTS, SECONDS = 50, 5
    KEYS = (None, "42", "57", "7", "9", "nobody")

    def test_not_one_wrong_answer_in_a_storm(self):
        end = time.monotonic() + self.SECONDS
        with concurrent.futures.ThreadPoolExecutor(self.CLIENTS) as pool:
            counts = sum(pool.map(lambda number: self.storm(number, end), range(self.CLIENTS)), collections.Counter())
        wrong = {case: count for case, count in counts.items() if case[0] == "wrong"}
        self.assertFalse(wrong)
        for key in self.KEYS:
            self.assertGreaterEqual(counts["right", key], self.CLIENTS, counts)
        print(f"     {sum(counts.values())} requests of {self.CLIENTS} clients in {self.SECONDS} s, none wrong", flush=True)

    def storm(self, number, end):
        counts = collections.Counter()
        connection = self.estate.connection()
        while time.monotonic() < end or counts.total() < len(self.KEYS):
            key = self.KEYS[number % len(self.KEYS)]
            number += 1
            # One connection has all keys.
            style = "full" if number % 2 else "baggage"
            answer = asked(connection, f"/chain?all={style}", {"x-pr-id": key} if key else {})
            right = answer.status == 404 if key == "nobody" else answer.path() == expected(key)
            counts["right" if right else "wrong", key if right else f"{key}: {answer.status} {answer.path()}"] += 1
        connection.close()
        return counts


class Sidecar:
    """What only sidecars can do."""

    def test_the_sidecar_of_a_fork_stamps_calls_without_a_key(self):
        for key, (service, _) in PREVIEWS.items():
            callee = CALLS.get(service)
            for call in self.estate.ask_app(service, key, "/job?all=full").body["calls"]:
                self.assertEqual(call["answer"]["received"].get("x-pr-id"), key, call)
                self.assertEqual(call["answer"]["version"], key if call["service"] == service else "baseline", call)
            if callee:
                # A request whose key the fork loses is no other than a job.
                answer = self.estate.ask(f"/chain?all=full&{service}=none", key)
                self.assertEqual(answer.path(), expected(key))
                self.assertEqual(answer.hops()[SERVICES.index(callee)]["received"].get("x-pr-id"), key)

    def test_a_job_of_a_baseline_has_no_key(self):
        for service in CALLS:
            for call in self.estate.ask_app(service, "baseline", "/job?all=full").body["calls"]:
                self.assertEqual((call["answer"]["version"], KEYED(call["answer"]["received"])), ("baseline", {}), call)

    def test_a_loss_names_who_lost_it(self):
        for service, callee in CALLS.items():
            sidecar = self.estate.pods[service, "baseline"].sidecar
            lost = lambda: sidecar.metric("sidetrack_context_lost_total", service=service, callee=callee)
            before = lost()
            for _ in range(3):
                answer = self.estate.ask(f"/chain?all=full&{service}=none", "7")
                self.assertEqual(answer.path(), expected("7", service))
            wait_until(f"three losses at {service}", lambda: lost() == before + 3, patience=5)
            self.assertIn((service, callee), self.estate.lossy())

    def test_repairs_are_counted(self):
        sidecar = self.estate.pods["frontend", "baseline"].sidecar
        repaired = lambda: sidecar.metric("sidetrack_context_repaired_total")
        before = repaired()
        answer = self.estate.ask("/chain?all=full&frontend=traceparent", "42", survival.own_trace("traceparent"))
        self.assertEqual(answer.path(), expected("42"))
        wait_until("a repair", lambda: repaired() == before + 1, patience=5)

    def test_an_id_with_two_keys_is_not_repaired(self):
        own = survival.own_trace("traceparent")
        paths = [self.estate.ask("/chain?all=full&frontend=traceparent", key, own).path() for key in ("7", "42")]
        self.assertEqual(paths, [expected("7"), expected("42", "frontend")])


class Blind:
    """What waypoints alone can say of a loss: they can't tell a call that lost its key from one that never had one."""

    def test_a_loss_shows_as_the_end_of_the_chain(self):
        for at, service in enumerate(CALLS):
            answer = self.estate.ask(f"/chain?all=full&{service}=none", "7")
            self.assertEqual(answer.path(), expected("7", service))
            self.assertEqual(answer.receipt(), expected("7")[: at + 1])


class WaypointsHttp(Setting, Blind, Storm, unittest.TestCase):
    hops, protocol, languages = Waypoints, "http", HTTP
    must, section = survival.WAYPOINTS, "waypoints, HTTP"

    def test_half_an_id_counts_where_it_is_told_to(self):
        estate = Waypoints(next(rotations(HTTP)), context={"trace64": True})
        try:
            answer = estate.ask("/chain?all=datadog-64", "9")
            self.assertEqual(answer.path(), ["frontend@baseline", *expected("9")[1:]], answer)
        finally:
            estate.close()


class WaypointsGrpc(Setting, Blind, unittest.TestCase):
    hops, protocol, languages = Waypoints, "grpc", GRPC
    must, section = survival.WAYPOINTS, "waypoints, gRPC"


class PortsHttp(Setting, Storm, Sidecar, unittest.TestCase):
    hops, protocol, languages = Ports, "http", HTTP
    must, section = survival.SIDECARS, "sidecars, HTTP"


class PortsGrpc(Setting, Sidecar, unittest.TestCase):
    hops, protocol, languages = Ports, "grpc", GRPC
    must, section = survival.SIDECARS, "sidecars, gRPC"


class RedirectedHttp(Setting, Storm, Sidecar, unittest.TestCase):
    hops, protocol, languages = Redirected, "http", HTTP
    must, section = survival.SIDECARS, "redirected, HTTP"


class RedirectedGrpc(Setting, Sidecar, unittest.TestCase):
    hops, protocol, languages = Redirected, "grpc", GRPC
    must, section = survival.SIDECARS, "redirected, gRPC"
