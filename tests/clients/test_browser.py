"""Headless Chromium against the gateway, driven by playwright-core.

The development CA is imported into the browser's own trust store; certificate errors are errors here.
"""

import json
import os
import pathlib
import shutil
import tempfile

from estate import HERE, EstateCase, Process, run

CHROMIUM = os.environ.get("SIDETRACK_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


class Chromium(EstateCase):
    """Each test is a fresh browser with a fresh profile and trust store."""

    def browse(self, step: str, trusted: bool = True):
        """Runs one step of browser.cjs; gives the finished process."""
        with tempfile.TemporaryDirectory(prefix="sidetrack-browser-", ignore_cleanup_errors=True) as home:
            store = pathlib.Path(home) / ".pki" / "nssdb"
            store.mkdir(parents=True)
            self.certutil("-N", "--empty-password", "-d", f"sql:{store}")
            if trusted:
                ca = str(self.estate.gateway.ca)
                self.certutil("-A", "-d", f"sql:{store}", "-n", "sidetrack", "-t", "C,,", "-i", ca)
            env = {"HOME": home, "SIDETRACK_CHROMIUM": CHROMIUM, "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
            profile = str(pathlib.Path(home) / "profile")
            return run(["node", str(HERE / "browser.cjs"), step, str(self.estate.tls), profile], env=env)

    def certutil(self, *args: str):
        done = run(["certutil", *args])
        self.assertEqual(done.returncode, 0, done.stderr)

    def see(self, step: str) -> dict:
        done = self.browse(step)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        return json.loads(done.stdout)

    def served(self, visit: dict, name: str):
        """The page, its script and its style sheet all came from this instance."""
        self.assertEqual((visit["status"], visit["heading"], visit["script"]), (200, name, name))
        self.assertEqual(visit["parts"], {path: name for path in ("/", "/app.js", "/style.css")})

    def test_certificate_matters(self):
        done = self.browse("coalesce", trusted=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("ERR_CERT_AUTHORITY_INVALID", done.stderr)

    def test_both_versions_over_one_coalesced_connection(self):
        seen = self.see("coalesce")
        self.served(seen["preview"], "shop-42")
        self.served(seen["baseline"], "shop-baseline")
        self.served(seen["again"], "shop-42")
        self.assertEqual(seen["protocols"], ["h2"])
        # As the browser itself numbers its connections; it may open more ahead of need and leave them idle.
        self.assertEqual(seen["connections"], 1, "both hosts must have shared one connection")

    def test_cookie_is_followed_and_cleared(self):
        seen = self.see("cookie")
        self.served(seen["before"], "shop-baseline")
        self.served(seen["keyed"], "shop-42")
        self.served(seen["follower"], "shop-42")
        self.assertEqual(seen["fetched"], "shop-42")
        cookie = seen["cookie"]
        self.assertEqual((cookie["name"], cookie["value"], cookie["domain"]), ("pr-id", "42", "preview.localhost"))
        self.assertEqual((cookie["httpOnly"], cookie["secure"], cookie["sameSite"]), (True, True, "Lax"))
        self.assertEqual(cookie["expires"], -1, "for the session")
        self.assertEqual(seen["hidden"], "", "no script may read it")
        self.served(seen["cleared"], "shop-baseline")
        self.served(seen["after"], "shop-baseline")
        self.assertEqual(seen["left"], 0)

    def test_calls_to_another_host_follow_the_origin(self):
        fork, baseline = self.estate.up["api-42"], self.estate.up["api-baseline"]
        before = fork.seen().get("OPTIONS /cors", 0)
        self.assertEqual(self.see("origin"), {"simple": "api-42", "preflighted": "api-42"})
        self.assertEqual(fork.seen()["OPTIONS /cors"], before + 1)
        self.assertNotIn("OPTIONS /cors", baseline.seen())

    def test_socket_over_http2(self):
        seen = self.see("socket")
        said = {"code": 4001, "reason": "done"}
        self.assertEqual(seen["preview"], {"heard": ["shop-42", "hello"], **said})
        self.assertEqual(seen["baseline"], {"heard": ["shop-baseline", "hello"], **said})
        self.assertEqual(seen["cookie"], {"heard": ["shop-42", "hello"], **said})
        # RFC 8441 answers with 200, where HTTP/1.1 would have switched protocols with 101.
        self.assertEqual(seen["statuses"], [200, 200, 200])

    def test_error_page(self):
        seen = self.see("error")
        self.assertEqual(seen["status"], 404)
        self.assertTrue(seen["type"].startswith("text/html"))
        self.assertIn("404", seen["text"])
