"""The targets: a function each that writes a configuration into a folder and gives the command that serves it.

Route i forks service i % SERVICES in PR i + 1; every other service of that PR is served by its baseline. Every
route has an upstream address of its own in 127.16.0.0/12, all answered by one responder, so that upstream
connections look as they do in a cluster."""

import json
import os
import shutil
from dataclasses import dataclass

SERVICES = 4
DOMAIN = "bench.test"


@dataclass
class Place:
    """Where a target is set up, and for what."""

    folder: str
    port: int
    admin_port: int
    upstream_port: int
    routes: int
    job: str
    certificate: str
    key: str

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    @property
    def tls(self):
        return self.job == "tls"


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
    """Host and field lines of a request for a PR."""
    if place.job == "sub":
        return f"pr-{number}.{host(service)}", []
    return host(service), [f"x-pr-id: {number}"]


def load_command(place, pair, connections, seconds):
    """A load generator that asks for one pair over keep-alive connections, as fast as it is answered."""
    name, fields = request(place, pair[0], pair[1])
    fields = fields + [
        # Over HTTP/1.1 h2load makes a Host of it; a `host` would be a second one.
        f":authority: {name}",
        "accept: application/json, text/plain, */*",
        "accept-language: en-GB,en;q=0.9",
        "referer: https://app.bench.test/items",
        "cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ]
    streams = 8 if place.job == "h2" else 1
    # As many streams in all as the HTTP/1.1 jobs have connections.
    connections = max(1, connections // streams)
    command = ["h2load", "-t", "1", "-c", str(connections), "-m", str(streams), "-D", str(seconds)]
    command += [] if place.job == "h2" else ["--h1"]
    for field in fields:
        command += ["-H", field]
    return command + [f"{'https' if place.tls else 'http'}://127.0.0.1:{place.port}/small"]


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
    """The upstream of everything: 200 bytes, and the address that was asked."""
    text = NGINX.format(folder=place.folder)
    text += f"  server {{ listen 0.0.0.0:{place.upstream_port} reuseport backlog=4096;\n"
    text += f"    location / {{ add_header x-up $server_addr; default_type application/json; return 200 '{'x' * 200}'; }} }}\n}}\n"
    return nginx_command(place, text)


def nginx(place, _):
    """`map` to a named `upstream` with kept connections, the usual form."""
    up = lambda name, address: f"  upstream {name} {{ server {address}:{place.upstream_port}; keepalive 128; keepalive_requests 1000000000; }}\n"
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
    form = {"tls": " ssl", "h2": " http2"}.get(place.job, "")
    text += f"  server {{ listen 127.0.0.1:{place.port}{form} backlog=4096; server_name _;\n"
    if place.tls:
        text += f"    ssl_certificate {place.certificate}; ssl_certificate_key {place.key}; ssl_protocols TLSv1.3;\n"
    text += '    location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;\n'
    text += "      proxy_pass http://$route; } }\n}\n"
    return nginx_command(place, text)


def haproxy(place, _):
    """A map file to a backend for each route."""
    names = lambda service, pr: f"pr-{pr}.{host(service)}" if place.job == "sub" else f"{host(service)}|{pr}"
    forks = place.write("forks.map", "".join(f"{names(s, pr)} fork{n}\n" for n, (s, pr, _) in enumerate(table(place))))
    bases = place.write("bases.map", "".join(f"{host(service)} base{service}\n" for service in range(SERVICES)))
    form = {"tls": f" ssl crt {pem(place)} ssl-min-ver TLSv1.3 alpn http/1.1", "h2": " proto h2"}.get(place.job, "")
    key = "req.hdr(host),lower" if place.job == "sub" else "req.hdr(host),lower,concat(|,txn.pr)"
    text = f"""global
  maxconn 4000
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend in
  bind 127.0.0.1:{place.port}{form}
  http-request set-var(txn.pr) req.hdr(x-pr-id)
  http-request set-var(txn.route) {key},map_str({forks})
  use_backend %[var(txn.route)] if {{ var(txn.route) -m found }}
  use_backend %[req.hdr(host),lower,map_end({bases})]
"""
    backend = lambda name, address: f"backend {name}\n  server s {address}:{place.upstream_port}\n"
    text += "".join(backend(f"base{service}", base_address(service)) for service in range(SERVICES))
    text += "".join(backend(f"fork{number}", address) for number, (_, _, address) in enumerate(table(place)))
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or "haproxy"
    return [program, "-W", "-f", place.write("haproxy.cfg", text)]


def pem(place):
    return place.write("both.pem", open(place.certificate).read() + open(place.key).read())


def sidetrack(place, arguments):
    """One worker and no access log, as the peers; all else as it comes."""
    listener = {"address": f"127.0.0.1:{place.port}"}
    if place.tls:
        listener["tls"] = {"certificates": [{"certFile": place.certificate, "keyFile": place.key}]}
    address = lambda ip: [f"{ip}:{place.upstream_port}"]
    services = range(SERVICES)
    # JSON is YAML.
    text = json.dumps(
        {
            "listeners": [listener],
            "admin": {"address": f"127.0.0.1:{place.admin_port}"},
            "domains": [DOMAIN],
            "accessLog": "off",
            "workers": 1,
            "services": {f"svc-{service}": {"baseline": address(base_address(service))} for service in services},
            "routes": [{"host": host(service), "service": f"svc-{service}"} for service in services],
            "previews": {str(pr): {"forks": {f"svc-{service}": address(ip)}} for service, pr, ip in table(place)},
        }
    )
    return [os.path.abspath(arguments.sidetrack), "gateway", "-c", place.write("sidetrack.yaml", text)]


TARGETS = {"sidetrack": sidetrack, "nginx": nginx, "haproxy": haproxy}
