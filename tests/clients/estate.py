"""The estate that the client tests run against: upstream processes, the real `sidetrack` binary, and small helpers.

Everything listens on free loopback ports, everything that is written lands in a temporary folder, and every wait has
a deadline. Nothing here knows how Sidetrack works inside: it reads the program's log lines, its metrics and its access log.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
BINARY = os.path.abspath(os.environ.get("SIDETRACK_BIN") or TARGET / "debug" / "sidetrack")
# Longer than anything here takes on two busy cores; reached only when something hangs.
PATIENCE = 60

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, headers: dict | None = None) -> str:
    """The body of `url`, asked without any proxy of the environment."""
    with DIRECT.open(urllib.request.Request(url, headers=headers or {}), timeout=PATIENCE) as answer:
        return answer.read().decode()


def wait_until(what: str, probe, patience: float = PATIENCE):
    """Calls `probe` until it gives something true, which is returned; fails by name when `patience` is over."""
    deadline = time.monotonic() + patience
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience} s in vain for: {what}")
        time.sleep(0.02)


class Process:
    """A child process whose output is gathered line by line on threads, so that it can be waited on and shown."""

    def __init__(self, command: list[str], **options):
        self.lines: list[str] = []
        self.news = threading.Condition()
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            **options,
        )
        self.open = 2
        for stream in (self.child.stdout, self.child.stderr):
            threading.Thread(target=self._gather, args=(stream,), daemon=True).start()

    def _gather(self, stream):
        for line in stream:
            with self.news:
                self.lines.append(ANSI.sub("", line.rstrip("\n")))
                self.news.notify_all()
        with self.news:
            self.open -= 1
            self.news.notify_all()

    def await_lines(self, pattern: str, count: int = 1) -> list[re.Match]:
        """The first `count` matches of `pattern`, one per line; fails with the whole output if they don't come."""
        deadline = time.monotonic() + PATIENCE
        with self.news:
            while True:
                found = [match for line in self.lines if (match := re.search(pattern, line))]
                if len(found) >= count:
                    return found[:count]
                left = deadline - time.monotonic()
                if left <= 0 or self.open == 0:
                    wanted = f"no {count} x {pattern!r} in the output of {self.child.args}"
                    raise AssertionError(f"{wanted}:\n{self.output()}")
                self.news.wait(left)

    def output(self) -> str:
        return "\n".join(self.lines)

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """Ends the process and gives its exit code; a process that won't go is killed, which is an error."""
        if self.child.poll() is None:
            self.child.send_signal(sign)
        try:
            return self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"{self.child.args} did not end on signal {sign}:\n{self.output()}") from None


class Upstream(Process):
    """One instance of a service (upstream.cjs) that names itself in every answer."""

    def __init__(self, name: str):
        super().__init__(["node", str(HERE / "upstream.cjs"), name])
        self.name = name
        self.port = int(self.await_lines(r"^listening (\d+)$")[0][1])
        self.address = f"127.0.0.1:{self.port}"

    def seen(self) -> dict:
        """How often each "METHOD /path" arrived here."""
        return json.loads(get(f"http://{self.address}/seen"))


class Gateway(Process):
    """`sidetrack gateway` on a generated configuration; `listeners[i]` is the port of the i-th listener. What stands inside
    an estate has other words for `command`; `wrapper` is a command that starts it, `user` the number of the user that this
    makes of it, and `reach` gives the address at which a listener of it is met from here."""

    def __init__(self, config: dict, command=("gateway",), wrapper=(), user: int | None = None, reach=lambda address: address):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sidetrack-clients-"))
        self.log_file = self.folder / "access.log"
        whole = {"admin": {"address": "127.0.0.1:0"}, "stateDir": "state", "workers": 2}
        whole |= {"accessLog": {"format": "json", "path": str(self.log_file)}} | config
        file = self.folder / "sidetrack.yaml"
        file.write_text(json.dumps(whole, indent=2))  # JSON is YAML
        if user is not None:
            os.chown(self.folder, user, user)
        super().__init__([*wrapper, BINARY, *command, "-c", str(file)])
        try:
            bound = self.await_lines(r"(?<!admin )listening address=\S+:(\d+)", len(whole["listeners"]))
            self.listeners = [int(match[1]) for match in bound]
            self.admin = reach(self.await_lines(r"admin listening address=(\S+)")[0][1])
            self.await_lines(r"ready generation=\d+")
        except AssertionError:
            self.child.kill()
            raise
        self.ca = self.folder / "state" / "ca.pem"

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that carry these labels; 0 if there is none."""
        total = 0.0
        for line in get(f"http://{self.admin}/metrics").splitlines():
            sample = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+)", line)
            if sample and sample[1] == name:
                own = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
                if labels.items() <= own.items():
                    total += float(sample[3])
        return total

    def access_log(self, count: int) -> list[dict]:
        """All access log entries, once there are at least `count`."""

        def entries():
            lines = self.log_file.read_text().splitlines() if self.log_file.exists() else []
            return lines if len(lines) >= count else None

        return [json.loads(line) for line in wait_until(f"{count} access log lines", entries)]

    def close(self):
        """Drains the gateway, which must end with exit code 0, and removes its folder."""
        try:
            code = self.stop()
            if code != 0:
                raise AssertionError(f"the gateway ended with {code}:\n{self.output()}")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


class Estate:
    """Services `shop` and `api`: 42 forks both, 57 (a child of 42) forks `api`, the fork of `shop` in 43 is dead."""

    NAMES = ("shop-baseline", "shop-42", "api-baseline", "api-42", "api-57")

    def __init__(self, **config):
        self.up = {name: Upstream(name) for name in self.NAMES}
        at = {name: [upstream.address] for name, upstream in self.up.items()}
        names = ["*.preview.localhost", "preview.localhost"]
        try:
            self.gateway = Gateway(
                {
                    "listeners": [
                        {"address": "127.0.0.1:0"},
                        {"address": "127.0.0.1:0", "tls": {"selfSigned": {"names": names}}},
                    ],
                    "domains": ["preview.localhost"],
                    "services": {
                        "shop": {"baseline": at["shop-baseline"]},
                        "api": {"baseline": at["api-baseline"]},
                    },
                    "routes": [
                        {"host": "preview.localhost", "service": "shop"},
                        {"host": "preview.localhost", "path": "/api", "service": "api"},
                        {"host": "api.preview.localhost", "service": "api"},
                    ],
                    "previews": {
                        "42": {"forks": {"shop": at["shop-42"], "api": at["api-42"]}, "aliases": ["demo"]},
                        "43": {"forks": {"shop": [f"127.0.0.1:{unused_port()}"]}},
                        "57": {"forks": {"api": at["api-57"]}, "parents": ["42"]},
                    },
                }
                | config
            )
        except BaseException:
            self._stop_upstreams()
            raise
        self.plain, self.tls = self.gateway.listeners

    def _stop_upstreams(self):
        for upstream in self.up.values():
            upstream.stop(signal.SIGKILL)

    def close(self):
        try:
            self.gateway.close()
        finally:
            self._stop_upstreams()


def unused_port() -> int:
    """A loopback port that nobody listens on, and that the kernel hands out to nobody."""
    return 9


def run(command: list[str], **options) -> subprocess.CompletedProcess:
    """Runs a client to its end with a deadline and without proxies of the environment; its exit code is not judged."""
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    env |= options.pop("env", {})
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2, env=env, **options)


class EstateCase(unittest.TestCase):
    """A group of tests that share one estate; settings of the gateway beside the usual ones go into `config`."""

    config: dict = {}

    @classmethod
    def setUpClass(cls):
        cls.estate = Estate(**cls.config)
        # Runs after a failed set-up of a subclass too, which tearDownClass would not.
        cls.addClassCleanup(cls.estate.close)
