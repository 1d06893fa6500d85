"""curl against the gateway: HTTP/1.1, HTTP/2 over TLS and by prior knowledge, every carrier, cookies, uploads, errors.

curl resolves `*.localhost` to loopback by itself, so these are the very addresses that a person would paste.
"""

import hashlib
import json
import pathlib
import subprocess
import tempfile

from estate import EstateCase, get, run

NAVIGATION = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Answer:
    """What curl got: `status`, `version` ("1.1" or "2"), `headers` (last one wins), `lines` (all of them), `body`."""

    def __init__(self, folder: pathlib.Path, args: tuple):
        heads, body = folder / "heads", folder / "body"
        for file in (heads, body):
            file.write_bytes(b"")
        report = "%{http_code} %{http_version} %{num_connects}\n"
        done = run(["curl", "-sS", "-v", "--max-time", "60", "-D", str(heads), "-o", str(body), "-w", report, *args])
        self.exit, self.verbose = done.returncode, done.stderr
        last = done.stdout.splitlines()[-1] if done.stdout else "0 0 0"
        self.status, self.version, self.connects = int(last.split()[0]), last.split()[1], int(last.split()[2])
        self.lines = heads.read_text(errors="replace").splitlines()
        fields = [line.split(":", 1) for line in self.lines if ":" in line]
        self.headers = {name.strip().lower(): value.strip() for name, value in fields}
        self.body = body.read_text(errors="replace")

    def json(self) -> dict:
        return json.loads(self.body)


class CurlCase(EstateCase):
    """The estate and a scratch folder, with `curl` bound to it."""

    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="sidetrack-curl-")
        self.folder = pathlib.Path(self.scratch.name)
        self.addCleanup(self.scratch.cleanup)
        self.http = f"http://preview.localhost:{self.estate.plain}"
        self.https = f"https://preview.localhost:{self.estate.tls}"
        self.trust = ("--cacert", str(self.estate.gateway.ca))

    def curl(self, *args: str) -> Answer:
        """Runs curl, which must get an answer; what the answer says is the caller's to judge."""
        answer = Answer(self.folder, args)
        self.assertEqual(answer.exit, 0, f"curl {args}: {answer.verbose}")
        return answer

    def url(self, host: str, path: str = "/who", tls: bool = False) -> str:
        scheme, port = ("https", self.estate.tls) if tls else ("http", self.estate.plain)
        return f"{scheme}://{host}:{port}{path}"


class Carriers(CurlCase):
    """Where a key may stand, and what goes onward."""

    def reaches(self, expected: str, *args: str) -> dict:
        answer = self.curl(*args)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.headers["x-upstream"], expected)
        self.assertIn("x-pr-id", answer.headers["vary"].lower())
        return answer.json()

    def test_no_key_is_baseline_with_nothing_added(self):
        answer = self.curl(f"{self.http}/who")
        seen = answer.json()["headers"]
        self.assertEqual(answer.headers["x-upstream"], "shop-baseline")
        self.assertNotIn("x-pr-route", answer.headers)
        for name in ("x-pr-id", "baggage", "tracestate", "traceparent"):
            self.assertNotIn(name, seen)
        self.assertEqual(seen["host"], f"preview.localhost:{self.estate.plain}")
        self.assertEqual(seen["x-forwarded-proto"], "http")
        self.assertEqual(seen["x-forwarded-for"], "127.0.0.1")

    def test_header_in_every_spelling(self):
        for spelling in ("42", "pr-42", "PR-42"):
            answer = self.curl("-H", f"X-PR-ID: {spelling}", f"{self.http}/who")
            seen = answer.json()["headers"]
            self.assertEqual(answer.headers["x-upstream"], "shop-42")
            self.assertRegex(answer.headers["x-pr-route"], r"^shop@42;reason=fork;gen=\d+$")
            self.assertEqual(seen["x-pr-id"], "42")
            self.assertIn("pr-id=42", seen["baggage"])
            self.assertIn("pr-id=42", seen["tracestate"])
            self.assertRegex(seen["traceparent"], r"^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")

    def test_key_lists_and_parents(self):
        self.reaches("api-57", "-H", "X-PR-ID: 57,42", f"{self.http}/api/who")
        self.reaches("api-42", "-H", "X-PR-ID: 42,57", f"{self.http}/api/who")
        answer = self.curl("-H", "X-PR-ID: 57", f"{self.http}/who")
        self.assertEqual(answer.headers["x-upstream"], "shop-42")
        self.assertRegex(answer.headers["x-pr-route"], r"^shop@42;reason=parent_fork;gen=\d+$")

    def test_every_form_of_the_host(self):
        self.reaches("shop-42", self.url("pr-42.preview.localhost"))
        self.reaches("shop-42", self.url("demo.preview.localhost"))
        for host in ("pr-42.api", "api--pr-42", "pr-42--api", "api--demo"):
            self.reaches("api-42", self.url(f"{host}.preview.localhost"))
        self.reaches("api-57", self.url("pr-57--pr-42.preview.localhost", "/api/who"))

    def test_baggage_and_tracestate(self):
        seen = self.reaches("shop-42", "-H", "baggage: user=7,pr-id=42;x=1,team=a%20b", f"{self.http}/who")
        for member in ("user=7", "team=a%20b"):
            self.assertIn(member, seen["headers"]["baggage"].split(","))
        parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        seen = self.reaches("shop-42", "-H", parent, "-H", "tracestate: v=1,pr-id=42", f"{self.http}/who")
        self.assertIn("v=1", seen["headers"]["tracestate"].split(","))
        self.assertIn("0af7651916cd43dd8448eb211c80319c", seen["headers"]["traceparent"])

    def test_query_is_stripped(self):
        seen = self.reaches("shop-42", f"{self.http}/who?a=1&pr-id=pr-42&b=%2F")
        self.assertEqual(seen["url"], "/who?a=1&b=%2F")

    def test_preflight_and_call_follow_the_origin(self):
        origin = f"Origin: http://pr-42.preview.localhost:{self.estate.plain}"
        wants = ("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-custom")
        asked = ("-X", "OPTIONS", "-H", wants[0], "-H", wants[1])
        before = self.estate.up["api-42"].seen().get("OPTIONS /cors", 0)
        answer = self.curl("-H", origin, *asked, self.url("api.preview.localhost", "/cors"))
        self.assertEqual((answer.status, answer.headers["x-upstream"]), (204, "api-42"))
        self.assertEqual(self.estate.up["api-42"].seen()["OPTIONS /cors"], before + 1)
        self.reaches("api-42", "-H", origin, self.url("api.preview.localhost", "/cors"))


class Cookies(CurlCase):
    """The query sets a cookie, curl's own jar brings it back, the empty query clears it."""

    def follow(self, base: str, *options: str):
        jar = ("-c", str(self.folder / "jar"), "-b", str(self.folder / "jar"), *options)
        first = self.curl(*jar, f"{base}/who?pr-id=42")
        self.assertEqual(first.headers["x-upstream"], "shop-42")
        follower = self.curl(*jar, f"{base}/who")
        self.assertEqual(follower.headers["x-upstream"], "shop-42")
        self.assertEqual(follower.headers["cache-control"], "private, no-store")
        explicit = self.curl(*jar, "-H", "X-PR-ID: 57", f"{base}/api/who")
        self.assertEqual(explicit.headers["x-upstream"], "api-57", "a cookie fills in and never conflicts")
        cleared = self.curl(*jar, f"{base}/who?pr-id=")
        self.assertEqual(cleared.headers["x-upstream"], "shop-baseline")
        after = self.curl(*jar, f"{base}/who")
        self.assertEqual(after.headers["x-upstream"], "shop-baseline")
        self.assertNotIn("pr-id", (self.folder / "jar").read_text())
        return first, cleared

    def test_plain(self):
        first, _ = self.follow(self.http)
        said = [part.strip() for part in first.headers["set-cookie"].split(";")]
        self.assertEqual(said[0], "pr-id=42")
        self.assertEqual(sorted(said[1:]), ["HttpOnly", "Path=/", "SameSite=Lax"])
        self.assertNotIn("clear-site-data", first.headers)

    def test_tls(self):
        first, cleared = self.follow(self.https, *self.trust)
        self.assertIn("Secure", [part.strip() for part in first.headers["set-cookie"].split(";")])
        for answer in (first, cleared):
            self.assertEqual(answer.headers["clear-site-data"], '"cache"')

    def test_cookie_of_a_vanished_preview_fails_once_and_is_cleared(self):
        jar = self.folder / "jar"
        jar.write_text("preview.localhost\tFALSE\t/\tFALSE\t0\tpr-id\t404\n")
        options = ("-c", str(jar), "-b", str(jar))
        lost = self.curl(*options, f"{self.http}/who")
        self.assertEqual((lost.status, lost.json()["code"]), (404, "unknown_preview"))
        self.assertEqual(self.curl(*options, f"{self.http}/who").headers["x-upstream"], "shop-baseline")

    def test_a_call_of_a_script_sets_no_cookie(self):
        answer = self.curl("-H", "Sec-Fetch-Mode: cors", f"{self.http}/who?pr-id=42")
        self.assertEqual(answer.headers["x-upstream"], "shop-42")
        self.assertNotIn("set-cookie", answer.headers)


class Protocols(CurlCase):
    """The same answer over every protocol that curl speaks."""

    def every(self):
        """Protocol version as curl reports it, base URL of the preview, options."""
        secure = self.url("pr-42.preview.localhost", "", tls=True)
        plain = self.url("pr-42.preview.localhost", "")
        yield "1.1", plain, ("--http1.1",)
        yield "2", plain, ("--http2-prior-knowledge",)
        yield "2", secure, ("--http2", *self.trust)
        yield "1.1", secure, ("--http1.1", *self.trust)
        yield "2", secure, ("--http2", "--tls-max", "1.2", *self.trust)

    def test_every_protocol_reaches_the_fork(self):
        for version, base, options in self.every():
            answer = self.curl(*options, f"{base}/who")
            self.assertEqual((answer.version, answer.headers["x-upstream"]), (version, "shop-42"), options)
            scheme = base.split(":")[0]
            self.assertEqual(answer.json()["headers"]["x-forwarded-proto"], scheme)

    def test_untrusted_ca_is_refused(self):
        answer = Answer(self.folder, (self.url("pr-42.preview.localhost", tls=True),))
        self.assertEqual(answer.exit, 60, "without --cacert curl must not trust the development CA")

    def test_upgrade_offer_to_h2c_is_not_forwarded(self):
        answer = self.curl("--http2", f"{self.http}/who")
        self.assertEqual(answer.headers["x-upstream"], "shop-baseline")
        self.assertNotIn("http2-settings", answer.json()["headers"])
        self.assertNotIn("upgrade", answer.json()["headers"])

    def test_connection_is_kept(self):
        for _, base, options in self.every():
            pages = [part for page in ("who", "who", "status/404") for part in ("-o", "/dev/null", f"{base}/{page}")]
            done = run(["curl", "-sS", "-w", "%{num_connects} ", *options, *pages])
            self.assertEqual(done.stdout.split(), ["1", "0", "0"], (options, done.stderr))

    def test_uploads_with_expectation(self):
        payload = bytes(range(256)) * 4096 * 5
        file = self.folder / "payload"
        file.write_bytes(payload)
        for version, base, options in self.every():
            answer = self.curl(*options, "-H", "Expect: 100-continue", "-T", str(file), f"{base}/upload")
            seen = answer.json()
            self.assertEqual((seen["method"], seen["bytes"]), ("PUT", len(payload)), options)
            self.assertEqual(seen["sha256"], hashlib.sha256(payload).hexdigest())
            if version == "1.1":
                self.assertTrue(any(line.startswith("HTTP/1.1 100") for line in answer.lines), answer.lines)

    def test_chunked_upload(self):
        file = self.folder / "payload"
        file.write_bytes(b"chunk" * 100_000)
        for _, base, options in self.every():
            chunked = ("-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-T", str(file))
            answer = self.curl(*options, *chunked, f"{base}/upload")
            self.assertEqual(answer.json()["sha256"], hashlib.sha256(file.read_bytes()).hexdigest(), options)

    def test_early_hints_pass(self):
        for version, base, options in self.every():
            answer = self.curl(*options, f"{base}/hints")
            self.assertEqual(answer.status, 200)
            self.assertTrue(any(line.startswith(f"HTTP/{version} 103") for line in answer.lines), (options, answer.lines))

    def test_trailers_pass(self):
        for _, base, options in self.every():
            answer = self.curl(*options, "-H", "TE: trailers", f"{base}/trailers")
            self.assertEqual(answer.body, "shop-42")
            self.assertEqual(answer.headers.get("x-checksum"), "abc123", (options, answer.lines))

    def test_events_arrive_one_by_one(self):
        for _, base, options in self.every():
            command = ["curl", "-sS", "-N", "--max-time", "60", *options, f"{base}/events"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                self.assertEqual(child.stdout.readline(), "data: shop-42 1\n", options)
                get(f"http://{self.estate.up['shop-42'].address}/tick")
                self.assertEqual(child.stdout.read().split(), ["data:", "shop-42", "2"])
            self.assertEqual(child.returncode, 0)

    def test_head_and_status_pass(self):
        for _, base, options in self.every():
            self.assertEqual(self.curl(*options, "-I", f"{base}/who").status, 200)
            own = self.curl(*options, f"{base}/status/503")
            # A fork's own 503 must reach its tester.
            self.assertEqual((own.status, own.headers["x-upstream"]), (503, "shop-42"))


class Errors(CurlCase):
    """The gateway's own answers, in three dresses."""

    CASES = (
        # code, status, arguments
        ("unknown_preview", 404, ("-H", "X-PR-ID: 404", "/who")),
        ("fork_unavailable", 503, ("-H", "X-PR-ID: 43", "/who")),
        ("malformed_key", 400, ("-H", "X-PR-ID: no_such!", "/who")),
        ("malformed_key", 400, ("-H", "X-PR-ID;", "/who")),
        ("conflicting_keys", 400, ("-H", "X-PR-ID: 42", "/who?pr-id=57")),
        ("no_route", 404, ("-H", "Host: nowhere.example.com", "/who")),
        ("method_not_allowed", 405, ("-X", "TRACE", "/who")),
    )

    def ask(self, args: tuple, *more: str) -> Answer:
        *options, path = args
        return self.curl(*options, *more, self.http + path)

    def test_problem_json(self):
        for code, status, args in self.CASES:
            answer = self.ask(args)
            problem = answer.json()
            self.assertEqual((answer.status, problem["code"]), (status, code))
            self.assertEqual(answer.headers["content-type"], "application/problem+json")
            self.assertIn("no-store", answer.headers["cache-control"])
            self.assertEqual(problem["status"], status)
            for field in ("type", "title", "detail", "requestId"):
                self.assertTrue(problem[field], (code, field))

    def test_preview_and_service_are_named(self):
        problem = self.ask(("-H", "X-PR-ID: 43", "/who")).json()
        self.assertEqual((problem["preview"], problem["service"]), ("43", "shop"))

    def test_html_for_a_browser(self):
        for code, status, args in self.CASES:
            answer = self.ask(args, "-H", f"Accept: {NAVIGATION}")
            self.assertEqual(answer.status, status)
            self.assertTrue(answer.headers["content-type"].startswith("text/html"), code)
            self.assertIn(code, answer.body)
            self.assertNotIn("<script src", answer.body)

    def test_trailers_only_for_grpc(self):
        expected = {"unknown_preview": "5", "fork_unavailable": "14", "malformed_key": "3", "conflicting_keys": "3"}
        grpc = ("--http2-prior-knowledge", "-X", "POST", "-H", "Content-Type: application/grpc", "-H", "TE: trailers")
        for code, _, args in self.CASES[:5]:
            answer = self.ask(args, *grpc)
            self.assertEqual((answer.status, answer.headers["grpc-status"]), (200, expected[code]), code)
            self.assertTrue(answer.headers["content-type"].startswith("application/grpc"))
            self.assertTrue(answer.headers["grpc-message"])
            self.assertEqual(answer.body, "")

    def test_errors_are_counted(self):
        before = self.estate.gateway.metric("sidetrack_errors_total", code="unknown_preview")
        self.ask(("-H", "X-PR-ID: 404", "/who"))
        after = self.estate.gateway.metric("sidetrack_errors_total", code="unknown_preview")
        self.assertEqual(after, before + 1)
