"""WebSocket through the gateway: Python `websockets` and Node `ws`, each as a client and as a server.

The Python client is the asyncio one: the threaded one reads and writes one TLS connection at the same time, which
Python's `ssl` does not stand before 3.13 (seen here: one handshake in some hundreds never got its answer).
"""

import asyncio
import contextlib
import json
import ssl
import threading
import unittest

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.server import serve

from estate import HERE, PATIENCE, EstateCase, Gateway, run, wait_until


async def heard(ws):
    """The next message."""
    return await asyncio.wait_for(ws.recv(), PATIENCE)


class Sockets(EstateCase, unittest.IsolatedAsyncioTestCase):
    """The servers are Node's `ws` (upstream.cjs), which name themselves in their first message."""

    def ends(self):
        """Scheme, port and TLS settings of both listeners."""
        yield "ws", self.estate.plain, None
        yield "wss", self.estate.tls, ssl.create_default_context(cafile=str(self.estate.gateway.ca))

    @contextlib.asynccontextmanager
    async def dial(self, end, host: str, path: str = "/socket", **headers: str):
        """An open socket of Python's `websockets`, and what the server said of itself."""
        scheme, port, tls = end
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        async with connect(
            f"{scheme}://{host}:{port}{path}",
            host="127.0.0.1",
            ssl=tls,
            additional_headers=extra,
            open_timeout=PATIENCE,
            proxy=None,
        ) as ws:
            yield ws, json.loads(await heard(ws))

    async def test_every_carrier_routes(self):
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
                async with self.dial(end, host, path, **headers) as (_, server):
                    self.assertEqual(server["name"], expected, (host, path, headers))
                    self.assertNotIn("pr-id", server["url"])
                    if expected.endswith("42"):
                        self.assertEqual(server["headers"]["x-pr-id"], "42")

    async def test_text_binary_and_size(self):
        for end in self.ends():
            async with self.dial(end, "pr-42.preview.localhost") as (ws, _):
                for message in ("héllo", "", b"\x00\xff\x80", b"", "long " * 100_000, bytes(900_000)):
                    await ws.send(message)
                    self.assertEqual(await heard(ws), message)

    async def test_pings_from_both_ends(self):
        for end in self.ends():
            async with self.dial(end, "pr-42.preview.localhost") as (ws, _):
                await asyncio.wait_for(await ws.ping(b"client"), PATIENCE)
                await ws.send("ping")
                self.assertEqual(await heard(ws), "ponged are you there")

    async def test_close_code_of_the_server(self):
        for end in self.ends():
            async with self.dial(end, "pr-42.preview.localhost") as (ws, _):
                await ws.send("close 4001 done here")
                with self.assertRaises(ConnectionClosedError) as caught:
                    await heard(ws)
                said = caught.exception.rcvd
                self.assertEqual((said.code, said.reason), (4001, "done here"))

    async def test_close_code_of_the_client(self):
        fork = self.estate.up["shop-42"]
        for code, end in zip((4002, 4003), self.ends()):
            async with self.dial(end, "pr-42.preview.localhost") as (ws, _):
                await ws.close(code, "bye")
            wait_until("the close code upstream", lambda: fork.seen().get(f"closed {code}") == 1)

    async def test_subprotocol_passes(self):
        for scheme, port, tls in self.ends():
            url = f"{scheme}://pr-42.preview.localhost:{port}/socket"
            async with connect(url, host="127.0.0.1", ssl=tls, subprotocols=["estate.v1"], proxy=None) as ws:
                self.assertEqual(ws.subprotocol, "estate.v1")

    async def test_many_at_once(self):
        async with contextlib.AsyncExitStack() as stack:
            ends = list(self.ends()) * 25
            dials = [await stack.enter_async_context(self.dial(end, "pr-42.preview.localhost")) for end in ends]
            for number, (ws, _) in enumerate(dials):
                await ws.send(f"to {number}")
            for number, (ws, _) in enumerate(dials):
                self.assertEqual(await heard(ws), f"to {number}")

    def test_node_client(self):
        ca = str(self.estate.gateway.ca)
        for url in (f"ws://127.0.0.1:{self.estate.plain}", f"wss://127.0.0.1:{self.estate.tls}"):
            for host, cookie in (("pr-42.preview.localhost", ""), ("preview.localhost", "pr-id=42")):
                done = run(["node", str(HERE / "socket.cjs"), f"{url}/socket", host, cookie, ca])
                self.assertEqual(done.returncode, 0, done.stderr)
                echoed = {"text": "text", "binary": "00ff80", "ponged": True, "close": [4010, "enough"]}
                self.assertEqual(json.loads(done.stdout), {"server": "shop-42", **echoed})


class PythonServers(unittest.IsolatedAsyncioTestCase):
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
        return connect(f"ws://{host}:{port}{path}", host="127.0.0.1", open_timeout=PATIENCE, proxy=None)

    async def test_echo_with_compression(self):
        for host, expected in (("preview.localhost", "baseline"), ("pr-42.preview.localhost", "fork")):
            async with self.dial(host) as ws:
                self.assertEqual(await heard(ws), expected)
                # permessage-deflate is negotiated end to end: reserved bits must pass untouched.
                self.assertTrue(ws.protocol.extensions)
                for message in ("again " * 1000, bytes(5000)):
                    await ws.send(message)
                    self.assertEqual(await heard(ws), message)
                await ws.close(1000, "thanks")
                with self.assertRaises(ConnectionClosedOK):
                    await heard(ws)

    async def refused(self, host: str, path: str):
        """The ordinary answer that came instead of a socket."""
        with self.assertRaises(InvalidStatus) as caught:
            async with self.dial(host, path):
                pass
        return caught.exception.response

    async def test_refused_handshake_is_an_ordinary_answer(self):
        response = await self.refused("pr-42.preview.localhost", "/closed")
        self.assertEqual((response.status_code, response.body), (403, b"fork lets nobody in\n"))
        self.assertRegex(response.headers["X-PR-Route"], r"^talk@42;reason=fork;gen=\d+$")

    async def test_unknown_preview_refuses_the_handshake(self):
        response = await self.refused("pr-404.preview.localhost", "/")
        self.assertEqual((response.status_code, json.loads(response.body)["code"]), (404, "unknown_preview"))
