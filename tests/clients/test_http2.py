"""Node's HTTP/2 client: what a browser does with a wildcard certificate, without the browser."""

import json

from estate import HERE, EstateCase, run


class Coalescing(EstateCase):
    """Requests for many hosts share one connection; each goes where its own `:authority` says."""

    def test_many_hosts_and_a_socket_on_one_connection(self):
        before = self.estate.gateway.metric("sidetrack_tls_handshakes_total")
        done = run(["node", str(HERE / "http2.cjs"), str(self.estate.tls), str(self.estate.gateway.ca)])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            json.loads(done.stdout),
            {
                "answers": ["shop-baseline", "shop-42", "api-baseline", "api-42", "api-57"],
                "keyed": "shop-42",
                "socket": "shop-42",
                "echo": "hello",
                "open": True,
            },
        )
        self.assertEqual(self.estate.gateway.metric("sidetrack_tls_handshakes_total"), before + 1)
