"""grpcio, client and server, through the gateway: all four call kinds over h2c and TLS, metadata, trailers, errors."""

import concurrent.futures
import importlib
import os
import queue
import sys
import tempfile
import unittest

# grpcio would otherwise send even loopback traffic to a proxy of the environment.
os.environ["GRPC_ENABLE_HTTP_PROXY"] = "0"

import grpc
from grpc_tools import protoc

from estate import HERE, PATIENCE, Gateway

AUTHORITY = "greeter.preview.localhost"
KEY = (("x-pr-id", "42"),)


def stubs() -> tuple:
    """The message and service modules, generated from estate.proto into a folder that goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="sidetrack-stubs-")
    stubs.folder = folder  # kept as long as the module is
    out = folder.name
    outputs = [f"--python_out={out}", f"--grpc_python_out={out}"]
    code = protoc.main(["protoc", f"-I{HERE}", *outputs, str(HERE / "estate.proto")])
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")
    sys.path.insert(0, out)
    return importlib.import_module("estate_pb2"), importlib.import_module("estate_pb2_grpc")


messages, services = stubs()


class Greeter(services.GreeterServicer):
    """Answers with its own name; the trailer `x-by` names it too, and `x-saw` repeats the key that arrived."""

    def __init__(self, name: str):
        self.name = name

    def word(self, text: str):
        return messages.Word(text=text, by=self.name)

    def sign(self, context):
        saw = dict(context.invocation_metadata())
        by, key = ("x-by", self.name), ("x-saw", saw.get("x-pr-id", "none"))
        context.set_trailing_metadata((by, key, ("x-raw-bin", b"\x00\xff")))

    def Unary(self, request, context):
        self.sign(context)
        if request.text == "fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"not in {self.name}: 50% of ü")
        if request.text == "sleep":
            # Ends when the caller is gone: that the deadline's reset came through is what the test waits for.
            left = concurrent.futures.Future()
            context.add_callback(lambda: left.set_result(None))
            left.result(PATIENCE)
            self.cancelled.set_result(None)
        return self.word(request.text)

    def Download(self, request, context):
        self.sign(context)
        for number in range(int(request.text)):
            yield self.word(str(number))

    def Upload(self, request_iterator, context):
        self.sign(context)
        return self.word(str(sum(len(word.text) for word in request_iterator)))

    def Chat(self, request_iterator, context):
        self.sign(context)
        for word in request_iterator:
            yield self.word(word.text.upper())


class Backend:
    """A grpcio server on a free port."""

    def __init__(self, name: str):
        self.greeter = Greeter(name)
        self.greeter.cancelled = concurrent.futures.Future()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        services.add_GreeterServicer_to_server(self.greeter, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()


class GrpcCase(unittest.TestCase):
    """A baseline and a fork of one gRPC service behind a plain and a TLS listener."""

    @classmethod
    def setUpClass(cls):
        cls.backends = {name: Backend(name) for name in ("baseline", "fork")}
        for backend in cls.backends.values():
            cls.addClassCleanup(lambda server: server.stop(None).wait(), backend.server)
        names = ["*.preview.localhost", "preview.localhost"]
        cls.gateway = Gateway(
            {
                "listeners": [
                    {"address": "127.0.0.1:0"},
                    {"address": "127.0.0.1:0", "tls": {"selfSigned": {"names": names}}},
                ],
                "domains": ["preview.localhost"],
                "services": {"greeter": {"baseline": [cls.backends["baseline"].address], "protocol": "h2c"}},
                "routes": [{"host": AUTHORITY, "service": "greeter"}],
                "previews": {
                    "42": {"forks": {"greeter": [cls.backends["fork"].address]}},
                    "43": {"forks": {"greeter": ["127.0.0.1:9"]}},
                },
            }
        )
        cls.addClassCleanup(cls.gateway.close)

    def channels(self):
        """A plain and a TLS channel to the gateway; the authority is ours, as grpcio resolves no `*.localhost`."""
        plain, tls = self.gateway.listeners
        options = [("grpc.default_authority", AUTHORITY), ("grpc.enable_http_proxy", 0)]
        trusted = grpc.ssl_channel_credentials(root_certificates=self.gateway.ca.read_bytes())
        named = [*options, ("grpc.ssl_target_name_override", AUTHORITY)]
        for channel in (
            grpc.insecure_channel(f"127.0.0.1:{plain}", options),
            grpc.secure_channel(f"127.0.0.1:{tls}", trusted, named),
        ):
            with channel:
                yield channel

    def stubs(self):
        return map(services.GreeterStub, self.channels())

    def signed(self, call, by: str, saw: str):
        """The trailers of a finished call must come from this instance."""
        trailers = dict(call.trailing_metadata())
        self.assertEqual((trailers["x-by"], trailers["x-saw"]), (by, saw))
        self.assertEqual(trailers["x-raw-bin"], b"\x00\xff")
        self.assertEqual(call.code(), grpc.StatusCode.OK)

    def refused(self, stub, key: str, code: grpc.StatusCode):
        with self.assertRaises(grpc.RpcError) as caught:
            stub.Unary(messages.Word(text="hello"), metadata=(("x-pr-id", key),), timeout=PATIENCE)
        self.assertEqual(caught.exception.code(), code)
        self.assertTrue(caught.exception.details())


class CallKinds(GrpcCase):
    """Each kind of call, to the baseline and to the fork."""

    TARGETS = (("baseline", "none", ()), ("fork", "42", KEY))

    def test_unary(self):
        for stub in self.stubs():
            for by, saw, metadata in self.TARGETS:
                word, call = stub.Unary.with_call(messages.Word(text="hello"), metadata=metadata, timeout=PATIENCE)
                self.assertEqual((word.text, word.by), ("hello", by))
                self.signed(call, by, saw)

    def test_server_streaming(self):
        for stub in self.stubs():
            for by, saw, metadata in self.TARGETS:
                call = stub.Download(messages.Word(text="500"), metadata=metadata, timeout=PATIENCE)
                self.assertEqual([(word.text, word.by) for word in call], [(str(n), by) for n in range(500)])
                self.signed(call, by, saw)

    def test_client_streaming(self):
        for stub in self.stubs():
            for by, saw, metadata in self.TARGETS:
                words = (messages.Word(text="x" * 1000) for _ in range(500))
                word, call = stub.Upload.with_call(words, metadata=metadata, timeout=PATIENCE)
                self.assertEqual((word.text, word.by), ("500000", by))
                self.signed(call, by, saw)

    def test_chat_answers_before_the_caller_is_done(self):
        for stub in self.stubs():
            for by, saw, metadata in self.TARGETS:
                words = queue.Queue()
                call = stub.Chat(iter(words.get, None), metadata=metadata, timeout=PATIENCE)
                for number in range(20):
                    # Each word waits for the answer to the one before: nothing may be gathered on the way.
                    words.put(messages.Word(text=f"word {number}"))
                    answer = next(call)
                    self.assertEqual((answer.text, answer.by), (f"WORD {number}", by))
                words.put(None)
                self.assertEqual(list(call), [])
                self.signed(call, by, saw)


class Errors(GrpcCase):
    """Errors of the application pass as they are, those of the gateway wear the gRPC dress."""

    def test_status_of_the_application(self):
        for stub in self.stubs():
            with self.assertRaises(grpc.RpcError) as caught:
                stub.Unary(messages.Word(text="fail"), metadata=KEY, timeout=PATIENCE)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
            self.assertEqual(caught.exception.details(), "not in fork: 50% of ü")
            self.assertEqual(dict(caught.exception.trailing_metadata())["x-by"], "fork")

    def test_deadline_resets_the_call_upstream(self):
        for stub in self.stubs():
            greeter = self.backends["fork"].greeter
            greeter.cancelled = concurrent.futures.Future()
            # Once connected, a call is with its service long before its time is over.
            stub.Unary(messages.Word(text="hello"), metadata=KEY, timeout=PATIENCE)
            with self.assertRaises(grpc.RpcError) as caught:
                stub.Unary(messages.Word(text="sleep"), metadata=KEY, timeout=3)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            greeter.cancelled.result(PATIENCE)

    def test_unknown_preview(self):
        for stub in self.stubs():
            self.refused(stub, "404", grpc.StatusCode.NOT_FOUND)

    def test_fork_down(self):
        for stub in self.stubs():
            self.refused(stub, "43", grpc.StatusCode.UNAVAILABLE)

    def test_malformed_key(self):
        for stub in self.stubs():
            self.refused(stub, "not a key", grpc.StatusCode.INVALID_ARGUMENT)

    def test_unknown_method(self):
        for channel in self.channels():
            with self.assertRaises(grpc.RpcError) as caught:
                channel.unary_unary("/estate.Greeter/Missing")(b"", metadata=KEY, timeout=PATIENCE)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
