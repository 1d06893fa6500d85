"""h2load against the gateway: thousands of keyed requests over every protocol, none lost, all of them at the fork."""

import json
import pathlib
import subprocess
import tempfile

from estate import PATIENCE, EstateCase, run, wait_until

REQUESTS = 2000


class Load(EstateCase):
    """h2load gets the address, and the host by a header, as it resolves no `*.localhost`."""

    def load(self, *options: str, tls: bool = False):
        scheme, port = ("https", self.estate.tls) if tls else ("http", self.estate.plain)
        fork, baseline = self.estate.up["shop-42"], self.estate.up["shop-baseline"]
        before, other = fork.seen().get("GET /who", 0), baseline.seen().get("GET /who", 0)
        counted = self.estate.gateway.metric("sidetrack_requests_total", service="shop", target="fork")
        # Our `:authority` takes the place of the one in the URL, over HTTP/1.1 as the Host.
        keyed = ("-H", "x-pr-id: 42", "-H", ":authority: preview.localhost")
        done = run(["h2load", f"-n{REQUESTS}", "-c8", *options, *keyed, f"{scheme}://127.0.0.1:{port}/who"])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout", self.line(done, "requests:"))
        self.assertIn(f"{REQUESTS} 2xx", self.line(done, "status codes:"))
        self.assertEqual(fork.seen()["GET /who"], before + REQUESTS)
        self.assertEqual(baseline.seen().get("GET /who", 0), other)
        now = self.estate.gateway.metric("sidetrack_requests_total", service="shop", target="fork")
        self.assertEqual(now, counted + REQUESTS)

    @staticmethod
    def line(done, start: str) -> str:
        return next(line for line in done.stdout.splitlines() if line.startswith(start))

    def test_h2c(self):
        self.load("-m10")

    def test_http1(self):
        self.load("--h1")

    def test_http2_over_tls(self):
        self.load("-m10", tls=True)

    def test_http1_over_tls(self):
        self.load("--h1", tls=True)


class Reload(EstateCase):
    """Previews come and go by file while h2load runs."""

    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="sidetrack-previews-")
        cls.addClassCleanup(scratch.cleanup)
        cls.previews = pathlib.Path(scratch.name)
        cls.config = {"previewsDir": str(cls.previews)}
        super().setUpClass()

    def test_no_request_is_lost(self):
        count = 10_000
        keyed = ("-H", "x-pr-id: 42", "-H", ":authority: preview.localhost")
        command = ["h2load", f"-n{count}", "-c8", "-m4", *keyed, f"https://127.0.0.1:{self.estate.tls}/who"]
        first = self.estate.gateway.metric("sidetrack_generation")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            rounds = 0
            while load.poll() is None:
                self.toggle(rounds)
                rounds += 1
            said = load.stdout.read()
        self.assertIn(f"{count} succeeded, 0 failed, 0 errored, 0 timeout", said)
        self.assertIn(f"{count} 2xx", said)
        self.assertGreater(rounds, 2, "the table must have changed while the load ran")
        self.assertGreaterEqual(self.estate.gateway.metric("sidetrack_generation"), first + rounds)

    def toggle(self, number: int):
        """Adds preview 900 by an atomic rename, or takes it away, and waits until the gateway has seen it."""
        file = self.previews / "900.yaml"
        before = self.estate.gateway.metric("sidetrack_generation")
        if number % 2 == 0:
            fresh = self.previews / ".900.yaml"
            fresh.write_text(json.dumps({"forks": {"shop": [self.estate.up["shop-42"].address]}}))
            fresh.rename(file)
        else:
            file.unlink()
        wait_until("a new generation", lambda: self.estate.gateway.metric("sidetrack_generation") > before, PATIENCE)
