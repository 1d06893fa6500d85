"""An estate three hops deep, whose services know nothing of Sidetrack: frontend -> checkout -> payment -> ledger.

42 forks checkout; 57 forks payment, with 42 behind it; 7 forks ledger; 9 forks ledger, with 57 behind it. So 7 proves by
who answers last that the key came by every baseline, and 9 that it came by every fork.

The settings differ in what is between the services: waypoints (`Waypoints`), sidecars that apps call by ports (`Ports`),
and sidecars that traffic is redirected to (`Redirected`). In front there is a gateway always.
"""

import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from typing import NamedTuple

import grpc

from estate import BINARY, HERE, PATIENCE, TARGET, Gateway, Process, run
from places import Loopback, Namespaces, checked

SERVICES = ("frontend", "checkout", "payment", "ledger")
CALLS = dict(zip(SERVICES, SERVICES[1:]))
# What each preview forks, and the one behind it.
PREVIEWS = {"42": ("checkout", None), "57": ("payment", "42"), "7": ("ledger", None), "9": ("ledger", "57")}
HOST = "shop.test"
APP, INBOUND, OUTBOUND, ADMIN, REPORTS = 8080, 15006, 15001, 15090, 9902
FIRST_PORT = 15200
SIDECAR_USER = 15006
FLASK, EXPRESS = str(HERE / "apps" / "flask_app.py"), str(HERE / "apps" / "express_app.cjs")
COMMANDS = {
    "python": [sys.executable, str(HERE / "apps" / "chain.py")],
    "node": ["node", str(HERE / "apps" / "chain.cjs")],
    "rust": [str(TARGET / "debug" / "sidetrack-chain")],
    # Frameworks, with instrumentation and without.
    "flask": [str(pathlib.Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, FLASK],
    "bare flask": [sys.executable, FLASK],
    "express": ["node", "--require", str(HERE / "apps" / "instrumented.cjs"), EXPRESS],
    "bare express": ["node", EXPRESS],
}
# Nobody is there to whom traces could be told.
QUIET = {f"OTEL_{what}_EXPORTER": "none" for what in ("TRACES", "METRICS", "LOGS")}


def expected(key: str | None, lost_at: str | None = None) -> list[str]:
    """Who answers, from front to end: `["frontend@baseline", "checkout@42", ...]`. Behind `lost_at` the key is lost."""
    forks = {}
    named = key
    while named in PREVIEWS:
        service, behind = PREVIEWS[named]
        forks.setdefault(service, named)
        named = behind
    kept = SERVICES.index(lost_at) + 1 if lost_at else len(SERVICES)
    version = lambda at, service: forks.get(service, "baseline") if at < kept else "baseline"
    return [f"{service}@{version(at, service)}" for at, service in enumerate(SERVICES)]


@dataclass
class Pod:
    """One instance of a service."""

    service: str
    version: str
    ip: str
    app: Process | None = None
    sidecar: Gateway | None = None

    @property
    def name(self):
        return f"{self.service}-{self.version}"

    @property
    def key(self):
        return None if self.version == "baseline" else self.version


class Answer(NamedTuple):
    """What a client got; `status` is of HTTP, or of gRPC where that is not 0."""

    status: int
    fields: dict
    body: dict

    def hops(self) -> list[dict]:
        """What each service said, from front to end."""
        found, body = [], self.body
        while "calls" in body:
            found.append(body)
            body = body["calls"][0]["answer"] if body["calls"] else {}
        return found

    def path(self) -> list[str]:
        """Who answered, from front to end."""
        return [f"{hop['service']}@{hop['version']}" for hop in self.hops()]

    def receipt(self) -> list[str]:
        """Who answered as the receipt has it, without reasons. `...` stands for what the proxy does not know."""
        entries = self.fields.get("x-pr-route", "")
        return [entry.split(";")[0].strip() for entry in entries.split(",") if entry]


class Hops:
    """The estate. `languages` say in what each service is written; `protocol` is `http` or `grpc`."""

    places = Loopback
    has_sidecars = False

    def __init__(self, languages: dict[str, str], protocol: str = "http", context: dict | None = None):
        self.languages, self.protocol, self.context = languages, protocol, context or {}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sidetrack-hops-"))
        self.folder.chmod(0o755)
        self.secret = self.folder / "context.key"
        self.secret.write_text(secrets.token_hex(32) + "\n")
        self.secret.chmod(0o644)
        self.proxies: list[Gateway] = []
        self.pods: dict[tuple, Pod] = {}
        self.net, self.channel = None, None
        try:
            self._build()
        except BaseException:
            self.close(quietly=True)
            raise

    def _build(self):
        self.net = self.places()
        self.prepare()
        versions = [(service, "baseline") for service in SERVICES]
        versions += [(service, key) for key, (service, _) in PREVIEWS.items()]
        for service, version in versions:
            pod = Pod(service, version, "")
            pod.ip = self.net.add(pod.name)
            self.pods[service, version] = pod
        self.edge_ip = self.net.add("edge")
        self.connect()
        for pod in self.pods.values():
            self._start_app(pod)
        for pod in self.pods.values():
            pod.app.await_lines("^listening$|Running on")
        self.start_proxies()
        self.gateway = self.proxy("edge", self.edge_config())
        self.address = self.net.reach("edge", f"{self.edge_ip}:{APP}")

    def prepare(self):
        """What the network must know before there are pods."""

    def connect(self):
        """What it must know then."""

    def start_proxies(self):
        """Starts what is between the services."""

    def front(self, pod: Pod) -> str:
        """Where proxies meet a pod."""
        return f"{pod.ip}:{APP}"

    def url(self, pod: Pod, callee: str) -> str:
        """What the app in `pod` calls for `callee`."""
        raise NotImplementedError

    def _start_app(self, pod: Pod):
        calls = {callee: self.url(pod, callee) for callee in (CALLS.get(pod.service), pod.service) if callee}
        own = {"SERVICE": pod.service, "VERSION": pod.version, "LISTEN": f"{self.listen(pod)}:{APP}"}
        own |= {"CALLS": json.dumps(calls), "PROTOCOL": self.protocol}
        # The real ones of the environment would take the calls elsewhere.
        inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        command = [*self.net.wrapper(pod.name), *COMMANDS[self.languages[pod.service]]]
        pod.app = Process(command, env=inherited | QUIET | own)

    def listen(self, pod: Pod) -> str:
        """Where an app listens."""
        return pod.ip

    # ------------------------------------------------------------------------------------------------- configurations

    def table(self, at: Pod | None = None) -> dict:
        """Services and previews, as seen by the edge, or by the sidecar of a pod: there its own service is the app."""
        own = f"127.0.0.1:{APP}" if at and self.listen(at) != at.ip else at and f"{at.ip}:{APP}"
        protocol = {"protocol": "h2c"} if self.protocol == "grpc" else {}

        def ends(pod):
            here = at and pod.service == at.service and pod.version in (at.version, "baseline")
            return [own if here else self.front(pod)]

        previews = {}
        for key, (service, behind) in PREVIEWS.items():
            previews[key] = {"forks": {service: ends(self.pods[service, key])}, "parents": [behind] if behind else []}
        services = {service: {"baseline": ends(self.pods[service, "baseline"])} | protocol for service in SERVICES}
        return {"services": services, "previews": previews}

    def edge_config(self) -> dict:
        routes = [{"host": HOST, "service": "frontend"}]
        listeners = [{"address": f"{self.edge_ip}:{APP}"}]
        # Where hops tell what they decided.
        reports = {"reports": f"{self.edge_ip}:{REPORTS}"}
        return self.table() | {"listeners": listeners, "domains": [HOST], "routes": routes, "context": reports}

    def proxy(self, pod: str, config: dict, command=("gateway",), user: int | None = None) -> Gateway:
        context = {"keyFile": str(self.secret), "reportTo": [f"{self.edge_ip}/32"]} | self.context
        whole = {"workers": 1, "accessLog": "off"} | config | {"context": context | config.get("context", {})}
        wrapper = self.net.wrapper(pod, user)
        proxy = Gateway(whole, command, wrapper, user, lambda address: self.net.reach(pod, address))
        self.proxies.append(proxy)
        return proxy

    # --------------------------------------------------------------------------------------------------------- asking

    def ask(self, target: str = "/chain", key: str | None = None, fields: dict | None = None) -> Answer:
        """One request by the gateway."""
        named = {"x-pr-id": key} if key else {}
        return (self._ask_grpc if self.protocol == "grpc" else self._ask_http)(self.address, target, named | (fields or {}))

    def ask_app(self, service: str, version: str, target: str, fields: dict | None = None) -> Answer:
        """One request to an app itself, as of a timer in its pod."""
        pod = self.pods[service, version]
        address = self.net.reach(pod.name, f"127.0.0.1:{APP}" if self.listen(pod) != pod.ip else f"{pod.ip}:{APP}")
        return (self._ask_grpc if self.protocol == "grpc" else self._ask_http)(address, target, fields or {})

    def connection(self) -> http.client.HTTPConnection:
        """A connection to the gateway."""
        host, port = self.address.split(":")
        return http.client.HTTPConnection(host, int(port), timeout=PATIENCE)

    def _ask_http(self, address: str, target: str, fields: dict) -> Answer:
        host, port = address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        try:
            return asked(connection, target, fields)
        finally:
            connection.close()

    def _ask_grpc(self, address: str, target: str, fields: dict) -> Answer:
        options = [("grpc.default_authority", HOST), ("grpc.enable_http_proxy", 0)]
        # The connection to the gateway is kept.
        channel = self.channel if address == self.address else None
        channel = channel or grpc.insecure_channel(address, options)
        if address == self.address:
            self.channel = channel
        call = channel.unary_unary("/estate.Chain/Ask")
        try:
            text, done = call.with_call(target.encode(), metadata=list(fields.items()), timeout=PATIENCE)
        except grpc.RpcError as error:
            return Answer(error.code().value[0], dict(error.trailing_metadata()), {"text": error.details()})
        return Answer(0, dict(done.initial_metadata()) | dict(done.trailing_metadata()), json.loads(text))

    def close(self, quietly: bool = False):
        """Ends everything in the order in which a cluster does: who asks, the apps, then their sidecars."""
        if self.channel:
            self.channel.close()
        for pod in self.pods.values():
            if pod.app:
                pod.app.stop(signal.SIGKILL)
        try:
            for proxy in reversed(self.proxies):
                try:
                    proxy.close()
                except AssertionError:
                    if not quietly:
                        raise
        finally:
            if self.net:
                self.net.close()
            shutil.rmtree(self.folder, ignore_errors=True)


def asked(connection: http.client.HTTPConnection, target: str, fields: dict) -> Answer:
    """One request over a connection to the gateway."""
    connection.request("GET", target, headers={"host": HOST} | fields)
    reply = connection.getresponse()
    text = reply.read().decode()
    # Fields that came twice are one list.
    found = {}
    for name, value in reply.getheaders():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    try:
        body = json.loads(text)
    except ValueError:
        body = {"text": text}
    return Answer(reply.status, found, body)


class Waypoints(Hops):
    """One waypoint with a port for each service; no sidecar, no privilege."""

    def connect(self):
        self.waypoint_ip = self.net.add("waypoint")

    def url(self, pod, callee):
        return f"http://{self.waypoint_ip}:{FIRST_PORT + SERVICES.index(callee)}"

    def start_proxies(self):
        address = lambda service: f"{self.waypoint_ip}:{FIRST_PORT + SERVICES.index(service)}"
        listeners = [{"address": address(service), "service": service} for service in SERVICES]
        self.waypoint = self.proxy("waypoint", self.table() | {"role": "waypoint", "listeners": listeners})


class Ports(Hops):
    """A sidecar for each pod, in front of its app, and behind it with a port for each service that it calls."""

    has_sidecars = True
    command = ("sidecar",)

    def front(self, pod):
        return f"{pod.ip}:{INBOUND}"

    def url(self, pod, callee):
        return f"http://{pod.ip}:{FIRST_PORT + SERVICES.index(callee)}"

    def outbound(self, pod) -> list[dict]:
        """How the sidecar takes the calls of its app."""
        address = lambda service: f"{pod.ip}:{FIRST_PORT + SERVICES.index(service)}"
        return [{"address": address(s), "direction": "outbound", "service": s} for s in SERVICES]

    def start_proxies(self):
        for pod in self.pods.values():
            own = {"service": pod.service} | ({"key": pod.key} if pod.key else {})
            listeners = [{"address": f"{self.listen(pod)}:{INBOUND}", "direction": "inbound"}, *self.outbound(pod)]
            config = self.table(pod) | {"role": "sidecar", "sidecar": own, "listeners": listeners}
            config["admin"] = {"address": f"127.0.0.1:{0 if self.places is Loopback else ADMIN}"}
            user = None if self.places is Loopback else SIDECAR_USER
            pod.sidecar = self.proxy(pod.name, config, self.command, user)

    def lossy(self) -> list[tuple]:
        """The pairs of services between which `sidetrack doctor` sees keys lost."""
        admins = [word for pod in self.pods.values() for word in ("--admin", pod.sidecar.admin)]
        done = run([BINARY, "doctor", "--json", *admins])
        report = json.loads(done.stdout or "{}")
        edges = [(edge["service"], edge["callee"]) for edge in report.get("edges", []) if edge["lost"]]
        if done.returncode != (1 if edges else 0):
            raise AssertionError(f"the doctor ended with {done.returncode}: {done.stdout}{done.stderr}")
        return edges


class Redirected(Ports):
    """Pods as a cluster has them: apps call Services by name, and the system lets that come by their sidecars."""

    places = Namespaces

    def prepare(self):
        self.net.name_services(SERVICES)

    def connect(self):
        self.net.serve({service: f"{self.pods[service, 'baseline'].ip}:{APP}" for service in SERVICES})

    def front(self, pod):
        return f"{pod.ip}:{APP}"

    def listen(self, pod):
        return "0.0.0.0"

    def url(self, pod, callee):
        return f"http://{callee}" if self.protocol == "http" else f"http://{callee}:80"

    def outbound(self, pod):
        return [{"address": f"127.0.0.1:{OUTBOUND}", "direction": "outbound", "redirected": True}]

    def start_proxies(self):
        for pod in self.pods.values():
            user = str(SIDECAR_USER)
            checked(*self.net.wrapper(pod.name), BINARY, "init", "--uid", user, "--gid", user)
        super().start_proxies()
