"""WebSocket through the gateway: Python `websockets` and Node `ws`, each as a client and as a server."""

import json
import socket
import ssl
import threading
import unittest

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from estate import HERE, PATIENCE, EstateCase, Gateway, run, wait_until


class Sockets(EstateCase):
    """The servers are Node's `ws` (upstream.cjs), which name themselves in their first message."""

    def ends(self):
        """Scheme, port and TLS settings of both listeners."""
        yield "ws", self.estate.plain, None
        yield "wss", self.estate.tls, ssl.create_default_context(cafile=str(self.estate.gateway.ca))

    def dial(self, end, host: str, path: str = "/socket", **headers: str):
        """An open socket of Python's `websockets`, and what the server said of itself."""
        scheme, port, tls = end
        tcp = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        options = {"sock": tcp, "ssl": tls, "additional_headers": extra, "proxy": None}
        ws = connect(f"{scheme}://{host}:{port}{path}", **options)
        return ws, json.loads(ws.recv(timeout=PATIENCE))

    def test_every_carrier_routes(self):
        for end in self.ends():
            for expected, host, path, headers in (
                ("shop-baseline", "preview.localhost", "/socket", {}),
                ("shop-42", "pr-42.preview.localhost", "/socket", {}),
                ("api-42", "api--pr-42.preview.localhost", "/socket", {}),
                ("shop-42", "preview.localhost", "/socket", {"X_PR_ID": "42"}),
                ("shop-42", "preview.localhost", "/socket", {"Cookie": "theme=dark; pr-id=42"}),
                ("shop-42", "preview.localhost", "/socket?a=1&pr-id=42", {}),
                ("api-42", "api.preview.localhost", "/socket", {"Origin": "https://pr-42.preview.localhost"}),
            ):
                ws, server = self.dial(end, host, path, **headers)
                with ws:
                    self.assertEqual(server["name"], expected, (host, path, headers))
                    self.assertNotIn("pr-id", server["url"])
                    if expected.endswith("42"):
                        self.assertEqual(server["headers"]["x-pr-id"], "42")

    def test_text_binary_and_size(self):
        for end in self.ends():
            ws, _ = self.dial(end, "pr-42.preview.localhost")
            with ws:
                for message in ("héllo", "", b"\x00\xff\x80", b"", "long " * 100_000, bytes(900_000)):
                    ws.send(message)
                    self.assertEqual(ws.recv(timeout=PATIENCE), message)

    def test_pings_from_both_ends(self):
        for end in self.ends():
            ws, _ = self.dial(end, "pr-42.preview.localhost")
            with ws:
                self.assertTrue(ws.ping(b"client").wait(PATIENCE))
                ws.send("ping")
                self.assertEqual(ws.recv(timeout=PATIENCE), "ponged are you there")

    def test_close_code_of_the_server(self):
        for end in self.ends():
            ws, _ = self.dial(end, "pr-42.preview.localhost")
            ws.send("close 4001 done here")
            with self.assertRaises(ConnectionClosedError) as caught:
                ws.recv(timeout=PATIENCE)
            self.assertEqual((caught.exception.rcvd.code, caught.exception.rcvd.reason), (4001, "done here"))

    def test_close_code_of_the_client(self):
        fork = self.estate.up["shop-42"]
        for code, end in zip((4002, 4003), self.ends()):
            ws, _ = self.dial(end, "pr-42.preview.localhost")
            ws.close(code, "bye")
            wait_until("the close code upstream", lambda: fork.seen().get(f"closed {code}") == 1)

    def test_subprotocol_passes(self):
        for scheme, port, tls in self.ends():
            tcp = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            url = f"{scheme}://pr-42.preview.localhost:{port}/socket"
            with connect(url, sock=tcp, ssl=tls, subprotocols=["estate.v1"], proxy=None) as ws:
                self.assertEqual(ws.subprotocol, "estate.v1")

    def test_many_at_once(self):
        end = next(self.ends())
        open_sockets = [self.dial(end, "pr-42.preview.localhost")[0] for _ in range(50)]
        for number, ws in enumerate(open_sockets):
            ws.send(f"to {number}")
        for number, ws in enumerate(open_sockets):
            self.assertEqual(ws.recv(timeout=PATIENCE), f"to {number}")
            ws.close()

    def test_node_client(self):
        ca = str(self.estate.gateway.ca)
        for url in (f"ws://127.0.0.1:{self.estate.plain}", f"wss://127.0.0.1:{self.estate.tls}"):
            for host, cookie in (("pr-42.preview.localhost", ""), ("preview.localhost", "pr-id=42")):
                done = run(["node", str(HERE / "socket.cjs"), f"{url}/socket", host, cookie, ca])
                self.assertEqual(done.returncode, 0, done.stderr)
                expected = {"server": "shop-42", "text": "text", "binary": "00ff80", "ponged": True, "close": [4010, "enough"]}
                self.assertEqual(json.loads(done.stdout), expected)


class PythonServers(unittest.TestCase):
    """The servers are Python's `websockets` library, which also refuses a handshake."""

    @classmethod
    def setUpClass(cls):
        def server(name: str):
            def talk(ws):
                ws.send(name)
                for message in ws:
                    ws.send(message)

            def gate(ws, request):
                return ws.respond(403, f"{name} lets nobody in\n") if request.path == "/closed" else None

            running = serve(talk, "127.0.0.1", 0, process_request=gate)
            thread = threading.Thread(target=running.serve_forever, daemon=True)
            thread.start()
            cls.addClassCleanup(running.shutdown)
            return f"127.0.0.1:{running.socket.getsockname()[1]}"

        cls.gateway = Gateway(
            {
                "listeners": [{"address": "127.0.0.1:0"}],
                "domains": ["preview.localhost"],
                "services": {"talk": {"baseline": [server("baseline")]}},
                "routes": [{"host": "preview.localhost", "service": "talk"}],
                "previews": {"42": {"forks": {"talk": [server("fork")]}}},
            }
        )
        cls.addClassCleanup(cls.gateway.close)

    def dial(self, host: str, path: str = "/"):
        port = self.gateway.listeners[0]
        tcp = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        return connect(f"ws://{host}:{port}{path}", sock=tcp, proxy=None)

    def test_echo_with_compression(self):
        for host, expected in (("preview.localhost", "baseline"), ("pr-42.preview.localhost", "fork")):
            with self.dial(host) as ws:
                self.assertEqual(ws.recv(timeout=PATIENCE), expected)
                # permessage-deflate is negotiated end to end: reserved bits must pass untouched.
                self.assertTrue(ws.protocol.extensions)
                for message in ("again " * 1000, bytes(5000)):
                    ws.send(message)
                    self.assertEqual(ws.recv(timeout=PATIENCE), message)
                ws.close(1000, "thanks")
                with self.assertRaises(ConnectionClosedOK):
                    ws.recv(timeout=PATIENCE)

    def test_refused_handshake_is_an_ordinary_answer(self):
        with self.assertRaises(InvalidStatus) as caught:
            self.dial("pr-42.preview.localhost", "/closed")
        response = caught.exception.response
        self.assertEqual((response.status_code, response.body), (403, b"fork lets nobody in\n"))
        self.assertRegex(response.headers["X-PR-Route"], r"^talk@42;reason=fork;gen=\d+$")

    def test_unknown_preview_refuses_the_handshake(self):
        with self.assertRaises(InvalidStatus) as caught:
            self.dial("pr-404.preview.localhost")
        self.assertEqual(caught.exception.response.status_code, 404)
        self.assertEqual(json.loads(caught.exception.response.body)["code"], "unknown_preview")
