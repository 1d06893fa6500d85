#!/usr/bin/env python3
"""A client for what h2load cannot do: a TLS handshake for every request, one question that is looked at, idle connections.

It is slow beside h2load; but CPU time of the proxy per request is what is measured, and that does not ask for a fast client."""

import re
import socket
import ssl
import sys
import time


def main():
    """As a program: PORT HOST SECONDS RESUME [FIELD...]; prints how many were answered, not answered, and resumed."""
    port, name, seconds, resume, *fields = sys.argv[1:]
    tls, session = context(), None
    good = bad = resumed = 0
    end = time.monotonic() + int(seconds)
    while time.monotonic() < end:
        try:
            with connect(int(port), name, tls, session) as stream:
                right = answered(ask(stream, name, fields + ["connection: close"]))
                resumed += stream.session_reused
                # Always the newest ticket, as a browser does. It came with the answer.
                session = stream.session if resume == "yes" else None
        except OSError:
            right = False
        good, bad = good + right, bad + (not right)
    print(good, bad, resumed)


def context():
    """TLS without a look at the certificate, which is the bench's own."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.set_alpn_protocols(["http/1.1"])
    return tls


def connect(port, name, tls=None, session=None):
    stream = socket.create_connection(("127.0.0.1", port), 5)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(stream, server_hostname=name, session=session) if tls else stream


def ask(stream, name, fields, path="/small"):
    """The answer as bytes: to the end of its length, or of the connection if that is to be closed."""
    lines = [f"GET {path} HTTP/1.1", f"host: {name}", *fields, "", ""]
    stream.sendall("\r\n".join(lines).encode())
    answer, whole = b"", None
    if "connection: close" in fields:
        whole = sys.maxsize
    while (whole is None or len(answer) < whole) and (part := stream.recv(65536)):
        answer += part
        if whole is None and (head := answer.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", answer[:head])
            whole = head + 4 + int(length.group(1)) if length else sys.maxsize
    return answer


def answered(answer):
    return answer.startswith(b"HTTP/1.1 200 ")


def upstream(answer):
    """The address of the upstream that answered, which each of them says."""
    found = re.search(rb"(?i)\r\nx-up: ([0-9.]+)", answer)
    return found.group(1).decode() if found else None


if __name__ == "__main__":
    main()
