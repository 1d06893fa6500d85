"""One service of an estate of hops, in Python: `http.server` or grpcio.

The environment says who it is: SERVICE, VERSION, LISTEN (`IP:PORT`), PROTOCOL (`http` or `grpc`) and CALLS, a JSON object
of the services that it calls and where (`{"payment": "http://127.1.2.3:15201"}`). It knows nothing of proxies; only the
one in Rust sends all its calls to SIDETRACK_OUTBOUND, where an injected pod is told that.

    /chain      calls each of CALLS (but itself) for the same, and tells what it received, what it sent and what it got
    /leaf       calls nobody
    /call/NAME  calls this one for its /leaf
    /job        calls each of CALLS for its /leaf, as a job does that no request began

The query says how services hand on context: `/chain?payment=traceparent&all=none`; else it is as STYLE says. Over gRPC the
message of the method /estate.Chain/Ask is this target, and the answer's is the JSON.
"""

import http.client
import http.server
import json
import os
import socket
import sys
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

from styles import ALL, STYLES

SERVICE, VERSION = os.environ["SERVICE"], os.environ["VERSION"]
CALLS = json.loads(os.environ.get("CALLS", "{}"))
HOST, PORT = os.environ["LISTEN"].rsplit(":", 1)
METHOD = "/estate.Chain/Ask"
PATIENCE = 30


def answer(target: str, received: dict, ask) -> dict:
    """What this service says to a request for `target` that brought these fields; `ask` makes its calls."""
    path, _, query = target.partition("?")
    styles = dict(urllib.parse.parse_qsl(query))
    style = styles.get(SERVICE) or styles.get("all") or os.environ.get("STYLE", "full")
    called, onward = [], target
    if path == "/chain":
        called = [name for name in CALLS if name != SERVICE]
    elif path.startswith("/call/"):
        called, onward = [path.removeprefix("/call/")], f"/leaf?{query}"
    elif path == "/job":
        called, onward, received = list(CALLS), f"/leaf?{query}", {}
    known = {name: received[name] for name in ALL if name in received}
    calls = []
    for name in called:
        sent = STYLES[style](known)
        calls.append({"service": name, "sent": sent} | ask(CALLS[name], onward, sent))
    return {"service": SERVICE, "version": VERSION, "style": style, "received": known, "calls": calls}


def told(status: int, text: str, receipt: str | None) -> dict:
    """The outcome of a call."""
    try:
        body = json.loads(text)
    except ValueError:
        body = {"text": text}
    return {"status": status, "receipt": receipt, "answer": body}


# ---------------------------------------------------------------------------------------------------------------- HTTP

kept = threading.local()


def ask_http(base: str, target: str, fields: dict) -> dict:
    """Asks over a connection that is kept, as most clients do: one connection has requests of many keys."""
    pool = kept.__dict__.setdefault("pool", {})
    there = urllib.parse.urlsplit(base)
    for _ in range(2):
        reused = base in pool
        connection = pool.pop(base, None) or http.client.HTTPConnection(there.hostname, there.port, timeout=PATIENCE)
        try:
            connection.request("GET", target, headers=fields)
            reply = connection.getresponse()
            text = reply.read().decode()
        except (ConnectionError, http.client.HTTPException) as error:
            connection.close()
            if reused:
                continue
            return told(0, repr(error), None)
        if not reply.will_close:
            pool[base] = connection
        return told(reply.status, text, reply.headers.get("x-pr-route"))
    raise RuntimeError("a fresh connection is no reused one")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        received = {}
        for name, value in self.headers.items():
            # Lines of one list are one list.
            received[name.lower()] = f"{received[name.lower()]},{value}" if name.lower() in received else value
        body = json.dumps(answer(self.path, received, ask_http)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    # Head and body of an answer are two writes.
    def get_request(self):
        stream, address = super().get_request()
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream, address


# ---------------------------------------------------------------------------------------------------------------- gRPC


def serve_grpc():
    os.environ["GRPC_ENABLE_HTTP_PROXY"] = "0"
    import grpc

    channels = {}

    def ask(base, target, fields):
        channel = channels.get(base)
        if channel is None:
            channel = channels.setdefault(base, grpc.insecure_channel(base.removeprefix("http://")))
        call = channel.unary_unary(METHOD)
        try:
            text, done = call.with_call(target.encode(), metadata=list(fields.items()), timeout=PATIENCE)
        except grpc.RpcError as error:
            return told(error.code().value[0], error.details(), None)
        said = dict(done.initial_metadata()) | dict(done.trailing_metadata())
        return told(200, text.decode(), said.get("x-pr-route"))

    def handle(message, context):
        received = dict(context.invocation_metadata())
        return json.dumps(answer(message.decode(), received, ask)).encode()

    class Methods(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(handle) if details.method == METHOD else None

    server = grpc.server(ThreadPoolExecutor(64))
    server.add_generic_rpc_handlers((Methods(),))
    server.add_insecure_port(f"{HOST}:{PORT}")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    sys.setswitchinterval(0.001)
    if os.environ.get("PROTOCOL") == "grpc":
        serve_grpc()
    else:
        server = Server((HOST, int(PORT)), Handler)
        print("listening", flush=True)
        server.serve_forever()
