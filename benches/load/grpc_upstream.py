#!/usr/bin/env python3
"""An upstream that answers every HTTP/2 request with one small gRPC message and a trailer. PORT is its argument.

nginx as the upstream resets a stream whose body it did not wait for, which costs each proxy something else. The
answer is always the same, so no field block is read, and none written but as literals."""

import selectors
import socket
import sys

DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST = (1 << 31) - 1
MESSAGE = b"\0\0\0\0\x10pong pong pong !"


def main():
    listener = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=4096)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                stream, _ = listener.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(stream, selectors.EVENT_READ, Connection(stream))
            elif not key.data.read():
                ready.unregister(key.fileobj)
                key.fileobj.close()


class Connection:
    def __init__(self, stream):
        self.stream, self.pending, self.begun = stream, b"", False
        address = stream.getsockname()[0].encode()
        fields = b"\x88" + literal(b"content-type", b"application/grpc") + literal(b"x-up", address)
        # The frames of an answer, without the number of the stream that follows the first five bytes of each.
        self.answer = [
            (start(HEADERS, END_HEADERS, fields), fields),
            (start(DATA, 0, MESSAGE), MESSAGE),
            (start(HEADERS, END_HEADERS | END_STREAM, trailer := literal(b"grpc-status", b"0")), trailer),
        ]

    def read(self):
        """Answers what has come; whether there may be more."""
        try:
            part = self.stream.recv(1 << 16)
            if part:
                self.stream.sendall(self.answers(part))
        except OSError:
            return False
        return bool(part)

    def answers(self, part):
        """Bodies are shorter than any window, so that none is counted here."""
        self.pending += part
        out, at = [], 0
        if not self.begun and len(self.pending) >= len(PREFACE):
            self.begun, at = True, len(PREFACE)
            window = MOST.to_bytes(4, "big")
            settings = b"\0\3\0\0\4\0" + b"\0\4" + window
            out += [frame(SETTINGS, 0, settings), frame(WINDOW_UPDATE, 0, (MOST - 65535).to_bytes(4, "big"))]
        while self.begun and len(self.pending) >= at + 9:
            end = at + 9 + int.from_bytes(self.pending[at : at + 3], "big")
            if len(self.pending) < end:
                break
            kind, flags, number = self.pending[at + 3], self.pending[at + 4], self.pending[at + 5 : at + 9]
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                out += [head + number + body for head, body in self.answer]
            elif kind == SETTINGS and not flags & ACK:
                out.append(frame(SETTINGS, ACK, b""))
            elif kind == PING and not flags & ACK:
                out.append(frame(PING, ACK, self.pending[at + 9 : end]))
            at = end
        self.pending = self.pending[at:]
        return b"".join(out)


def literal(name, value):
    """A field in HPACK that neither side remembers."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def start(kind, flags, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags])


def frame(kind, flags, body):
    """Of the connection as a whole."""
    return start(kind, flags, body) + bytes(4) + body


if __name__ == "__main__":
    main()
