"""The targets: a function each that writes a configuration into a folder and gives the command that serves it.

Route i forks service i % SERVICES in PR i + 1; every other service of that PR is served by its baseline. Every
route has an upstream address of its own in 127.16.0.0/12, all answered by one responder, so that upstream
connections look as they do in a cluster."""

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import client

SERVICES = 4
DOMAIN = "bench.test"


@dataclass
class Place:
    """Where a target is set up, and for what."""

    folder: str
    port: int
    admin_port: int
    upstream_ports: dict
    routes: int
    job: str
    certificate: str
    key: str
    # A file with the body of a gRPC request.
    message: str
    # Clients at once, for those that want to be told.
    clients: int

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    @property
    def tls(self):
        return self.job in ("tls", "hs", "hsr", "idle-tls")

    @property
    def http2(self):
        return self.job in ("h2", "grpc")

    @property
    def upstream_port(self):
        """gRPC is HTTP/2 on both sides; the others have an HTTP/1.1 upstream."""
        return self.upstream_ports["h2" if self.job == "grpc" else "h1"]

    @property
    def path(self):
        return {"big": "/big", "grpc": "/bench.Echo/Say"}.get(self.job, "/small")


def base_address(service):
    return f"127.1.0.{service + 1}"


def fork_address(number):
    return f"127.{16 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"


def host(service):
    return f"svc-{service}.{DOMAIN}"


def table(place):
    """(service, PR, address) of every fork."""
    return [(number % SERVICES, number + 1, fork_address(number)) for number in range(place.routes)]


def request(place, service, number):
    """Host and field lines of a request for a PR, as many as a browser sends."""
    fields = [
        "accept: application/json, text/plain, */*",
        "accept-language: en-GB,en;q=0.9",
        "referer: https://app.bench.test/items",
        "cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ]
    if place.job == "grpc":
        fields += ["content-type: application/grpc", "te: trailers"]
    if place.job == "sub":
        return f"pr-{number}.{host(service)}", fields
    return host(service), [f"x-pr-id: {number}"] + fields


def load_command(place, pair, connections, seconds, rate=0, log=None):
    """A load generator that asks for one pair over keep-alive connections: as fast as it is answered, or at a rate."""
    name, fields = request(place, pair[0], pair[1])
    if place.job in ("hs", "hsr"):
        resume = "yes" if place.job == "hsr" else "no"
        return [sys.executable, client.__file__, str(place.port), name, str(seconds), resume, *fields]
    streams = 8 if place.http2 else 1
    # As many streams in all as the HTTP/1.1 jobs have connections.
    connections = max(1, connections // streams)
    command = ["h2load", "-t", "1", "-c", str(connections), "-m", str(streams), "-D", str(seconds)]
    command += [] if place.http2 else ["--h1"]
    if rate:
        command += ["--rps", str(rate / connections), f"--log-file={log}"]
    # Over HTTP/1.1 h2load makes a Host of :authority; a `host` would be a second one.
    return command + http2_arguments(place, name, fields)


def check_command(place, pair):
    """One request over HTTP/2, told in full."""
    return ["nghttp", "-v"] + http2_arguments(place, *request(place, pair[0], pair[1]))


def http2_arguments(place, name, fields):
    arguments = ["-d", place.message] if place.job == "grpc" else []
    for field in [f":authority: {name}"] + fields:
        arguments += ["-H", field]
    return arguments + [f"{'https' if place.tls else 'http'}://127.0.0.1:{place.port}{place.path}"]


NGINX = """daemon off; worker_processes 1; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; server_tokens off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
"""


def nginx_command(place, text):
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return [program, "-p", place.folder, "-c", place.write("nginx.conf", text)]


def responder(place):
    """The upstream of everything but gRPC: 200 bytes or 10 KiB, and the address that was asked."""
    answer = lambda text: f"add_header x-up $server_addr; default_type application/json; return 200 '{text}';"
    text = NGINX.format(folder=place.folder)
    # A word of its configuration can't be longer than 4 KiB.
    text += f"  server {{ listen 0.0.0.0:{place.upstream_ports['h1']} reuseport backlog=4096; set $kib {'x' * 1024};\n"
    text += f"    location / {{ {answer('x' * 200)} }}\n    location /big {{ {answer('$kib' * 10)} }} }}\n}}\n"
    return nginx_command(place, text)


def grpc_responder(place):
    """The upstream of gRPC, in Rust: one that is slower than a proxy hides what the proxy costs."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(client.__file__))))
    path = os.path.join(root, os.environ.get("CARGO_TARGET_DIR", "target"), "release", "sidetrack-upstream")
    # One that is there serves: who measures may have no compiler.
    if not os.path.exists(path):
        build = ["cargo", "build", "--release", "--locked", "-p", "sidetrack-upstream"]
        print(f"{path} is missing: {' '.join(build)}", file=sys.stderr)
        if not shutil.which("cargo") or subprocess.run(build, cwd=root).returncode:
            sys.exit(f"the upstream of gRPC can't be built; where there is cargo: cd {root} && {' '.join(build)}")
    return [path, str(place.upstream_ports["h2"])]


def nginx(place, _):
    """`map` to a named `upstream` with kept connections, the usual form."""
    up = lambda name, address: (
        f"  upstream {name} {{ server {address}:{place.upstream_port}; keepalive 128; keepalive_requests 1000000000; }}\n"
    )
    text = NGINX.format(folder=place.folder) + "  map_hash_max_size 1048576; map_hash_bucket_size 256;\n"
    key = "$host" if place.job == "sub" else "$host|$http_x_pr_id"
    text += "  map $host $base {\n" + "".join(f"    ~(^|\\.){host(s).replace('.', '[.]')}$ base{s};\n" for s in range(SERVICES)) + "  }\n"
    text += f'  map "{key}" $route {{\n    default $base;\n'
    for number, (service, pr, _) in enumerate(table(place)):
        name = f"pr-{pr}.{host(service)}" if place.job == "sub" else f"{host(service)}|{pr}"
        text += f'    "{name}" fork{number};\n'
    text += "  }\n"
    text += "".join(up(f"base{service}", base_address(service)) for service in range(SERVICES))
    text += "".join(up(f"fork{number}", address) for number, (_, _, address) in enumerate(table(place)))
    form = " ssl" if place.tls else " http2" if place.http2 else ""
    text += f"  server {{ listen 127.0.0.1:{place.port}{form} backlog=4096; server_name _;\n"
    if place.tls:
        text += f"    ssl_certificate {place.certificate}; ssl_certificate_key {place.key}; ssl_protocols TLSv1.3;\n"
    if place.job == "grpc":
        return nginx_command(place, text + "    location / { grpc_set_header Host $http_host; grpc_pass grpc://$route; } }\n}\n")
    text += '    location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;\n'
    text += "      proxy_pass http://$route; } }\n}\n"
    return nginx_command(place, text)


def haproxy(place, _):
    """A map file to a backend for each route."""
    names = lambda service, pr: f"pr-{pr}.{host(service)}" if place.job == "sub" else f"{host(service)}|{pr}"
    forks = place.write("forks.map", "".join(f"{names(s, pr)} fork{n}\n" for n, (s, pr, _) in enumerate(table(place))))
    bases = place.write("bases.map", "".join(f"{host(service)} base{service}\n" for service in range(SERVICES)))
    form = " proto h2" if place.http2 else ""
    if place.tls:
        form = f" ssl crt {pem(place)} ssl-min-ver TLSv1.3 alpn http/1.1"
    key = "req.hdr(host),lower" if place.job == "sub" else "req.hdr(host),lower,concat(|,txn.pr)"
    text = haproxy_start(place, "http")
    text += f"""\
  http-reuse always
frontend in
  bind 127.0.0.1:{place.port}{form}
  http-request set-var(txn.pr) req.hdr(x-pr-id)
  http-request set-var(txn.route) {key},map_str({forks})
  use_backend %[var(txn.route)] if {{ var(txn.route) -m found }}
  use_backend %[req.hdr(host),lower,map_end({bases})]
"""
    proto = " proto h2" if place.job == "grpc" else ""
    backend = lambda name, address: f"backend {name}\n  server s {address}:{place.upstream_port}{proto}\n"
    text += "".join(backend(f"base{service}", base_address(service)) for service in range(SERVICES))
    text += "".join(backend(f"fork{number}", address) for number, (_, _, address) in enumerate(table(place)))
    return haproxy_command(place, text)


def relay(place, _):
    """HAProxy that only carries bytes, to one baseline: what anything in this place costs."""
    text = haproxy_start(place, "tcp")
    text += f"listen in\n  bind 127.0.0.1:{place.port}\n  server s {base_address(0)}:{place.upstream_port}\n"
    return haproxy_command(place, text)


def haproxy_start(place, mode):
    return f"""global
  maxconn {place.clients}
  nbthread 1
defaults
  mode {mode}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
"""


def haproxy_command(place, text):
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or "haproxy"
    return [program, "-W", "-f", place.write("haproxy.cfg", text)]


def pem(place):
    return place.write("both.pem", open(place.certificate).read() + open(place.key).read())


def sidetrack(place, arguments, workers=1, log=False):
    """One worker and no access log, as the peers; all else as it comes."""
    listener = {"address": f"127.0.0.1:{place.port}"}
    if place.tls:
        listener["tls"] = {"certificates": [{"certFile": place.certificate, "keyFile": place.key}]}
    address = lambda ip: [f"{ip}:{place.upstream_port}"]
    services = range(SERVICES)
    protocol = {"protocol": "h2c"} if place.job == "grpc" else {}
    previews = os.path.join(place.folder, "previews.d")
    os.mkdir(previews)
    # JSON is YAML.
    text = json.dumps(
        {
            "listeners": [listener],
            "admin": {"address": f"127.0.0.1:{place.admin_port}"},
            "domains": [DOMAIN],
            "accessLog": {"format": "json", "path": os.path.join(place.folder, "access.log")} if log else "off",
            "workers": workers,
            "previewsDir": previews,
            "services": {f"svc-{service}": {"baseline": address(base_address(service)), **protocol} for service in services},
            "routes": [{"host": host(service), "service": f"svc-{service}"} for service in services],
            "previews": {str(pr): {"forks": {f"svc-{service}": address(ip)}} for service, pr, ip in table(place)},
        }
    )
    return [os.path.abspath(arguments.sidetrack), "gateway", "-c", place.write("sidetrack.yaml", text)]


PEERS = ("haproxy", "nginx")
TARGETS = {
    "sidetrack": sidetrack,
    "haproxy": haproxy,
    "nginx": nginx,
    "relay": relay,
    "sidetrack, log": functools.partial(sidetrack, log=True),
    "sidetrack, 2 workers": functools.partial(sidetrack, workers=2),
}
