#!/usr/bin/env python3
"""Sidetrack beside nginx and HAProxy in one run: CPU time per request, in interleaved rounds. See docs/performance.md."""

import argparse
import contextlib
import http.client
import json
import os
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import client
import targets
from targets import DOMAIN, PEERS, SERVICES, Place, base_address, fork_address

PROXY_CPU, LOAD_CPU = "0", "1"
# Every (host, PR) that is asked for; a load generator process each.
HOT = 8
IDLE = 10_000
PUTS = 20
JOBS = {
    "h1": "HTTP/1.1, the PR in a header, 200 bytes",
    "sub": "the same, the PR in the host",
    "big": "the same as h1, 10 KiB",
    "tls": "TLS 1.3, kept connections",
    "hs": "TLS 1.3, a full handshake for each request",
    "hsr": "the same, resumed",
    "h2": "HTTP/2, upstream HTTP/1.1",
    "grpc": "a small POST, HTTP/2 on both sides",
    "scale": "h1 at several sizes of the table",
    "cores": "h1 with one worker and with two",
    "idle": "memory of idle connections",
}


@dataclass
class Case:
    """One row of figures: a job at a size."""

    key: str
    job: str
    routes: int
    targets: list


def main():
    arguments = read_arguments()
    with opened(arguments) as bench:
        results = bench.run()
    show(results, arguments)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": machine(arguments), "arguments": vars(arguments), "results": results}, file, indent=1)


@contextlib.contextmanager
def opened(arguments):
    """A bench with a folder of its own and as many files as the system allows; it ends with its processes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="sidetrack-load-") as folder:
        bench = Bench(arguments, folder, hard)
        try:
            yield bench
        finally:
            bench.close()


def read_arguments():
    parser = options(__doc__, JOBS, connections=64, rate=4000)
    parser.add_argument("--targets", default="sidetrack,haproxy,nginx,relay", help="relay only carries bytes, in h1")
    parser.add_argument("--peers", action="store_true", help="nginx and HAProxy in scale and idle too")
    parser.add_argument("--log", action="store_true", help="sidetrack with its access log in h1 too")
    parser.add_argument("--routes", type=int, default=1000, help="pairs of service and PR")
    parser.add_argument("--sizes", default="10,1000,10000,100000", help="routes in scale")
    return checked(parser, JOBS, ("h2load", "nghttp", "nginx", "haproxy", "openssl", "taskset"))


def options(about, jobs, connections, rate):
    """A parser of what every bench of load can be told."""
    listed = "\n".join(f"  {name:6} {what}" for name, what in jobs.items())
    parser = argparse.ArgumentParser(description=f"{about}\n\njobs:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default=",".join(jobs))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement")
    parser.add_argument("--connections", type=int, default=connections)
    parser.add_argument("--rate", type=int, default=rate, help="requests/s for the latencies; 0: none")
    parser.add_argument("--sidetrack", default=os.environ.get("SIDETRACK", "target/release/sidetrack"))
    parser.add_argument("--quiet", type=float, default=0.1, help="cores of other work above which a round waits")
    parser.add_argument("--patience", type=float, default=60, help="seconds that a round waits for quiet at most")
    parser.add_argument("--json", help="file for all figures")
    return parser


def checked(parser, jobs, programs):
    """What was said, and whether all that it needs is there."""
    arguments = parser.parse_args()
    if unknown := set(arguments.jobs.split(",")) - set(jobs):
        parser.error(f"no such job: {', '.join(unknown)}")
    for program in programs:
        if not find(program):
            sys.exit(f"{program} is missing; apt-get install nginx haproxy nghttp2-client openssl util-linux")
    return arguments


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def cases(arguments):
    chosen, jobs = arguments.targets.split(","), arguments.jobs.split(",")
    beside = [name for name in chosen if name != "relay"]
    alone = beside if arguments.peers else [name for name in beside if name not in PEERS]
    for job in jobs:
        if job == "h1":
            yield Case(job, job, arguments.routes, chosen + (["sidetrack, log"] if arguments.log else []))
        elif job == "scale":
            for size in arguments.sizes.split(","):
                yield Case(f"{job} {int(size):,}", job, int(size), alone)
        elif job == "cores":
            yield Case(job, job, arguments.routes, ["sidetrack", "sidetrack, 2 workers"])
        elif job == "idle":
            yield Case("idle", "idle", arguments.routes, alone)
            yield Case("idle, TLS", "idle-tls", arguments.routes, alone)
        else:
            yield Case(job, job, arguments.routes, beside)


def has_cpus_for_load():
    """Whether two workers leave CPUs to who asks them."""
    return os.cpu_count() >= 4


class Bench:
    """What is started, and what is measured."""

    def __init__(self, arguments, folder, descriptors):
        self.arguments, self.folder, self.started = arguments, folder, []
        # A proxy may need two descriptors for a client.
        self.clients = descriptors // 2 - 100
        self.certificate, self.key, self.message = (f"{folder}/{name}" for name in ("cert.pem", "key.pem", "message"))
        with open(self.message, "wb") as file:
            file.write(b"\0\0\0\0\x10ping ping ping !")
        # fmt: off
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", f"/CN=*.{DOMAIN}", "-addext", f"subjectAltName=DNS:*.{DOMAIN}",
             "-keyout", self.key, "-out", self.certificate],
            check=True, capture_output=True)
        # fmt: on
        os.chmod(folder, 0o755)
        os.chmod(self.key, 0o644)
        self.upstream_ports = {version: free_port() for version in ("h1", "h2")}
        place = self.place("upstream", "h1", 0)
        self.upstreams = [self.start_upstream(targets.responder(place), "h1")]
        if "grpc" in arguments.jobs.split(","):
            self.upstreams.append(self.start_upstream(targets.grpc_responder(place), "h2"))

    def start_upstream(self, command, version):
        name = f"upstream-{version}"
        process = self.start(command, LOAD_CPU, name)
        wait_for(lambda: connects(self.upstream_ports[version]), process, f"{self.folder}/{name}.log")
        return process

    def place(self, name, job, routes):
        """A folder and ports of its own for one process."""
        folder = tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)
        os.chmod(folder, 0o755)
        return Place(
            folder=folder,
            port=free_port(),
            admin_port=free_port(),
            upstream_ports=self.upstream_ports,
            routes=routes,
            job=job,
            certificate=self.certificate,
            key=self.key,
            message=self.message,
            clients=self.clients,
        )

    def start(self, command, cpus, name):
        with open(f"{self.folder}/{name}.log", "w") as log:
            process = subprocess.Popen(["taskset", "-c", cpus] + command, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def end(self, process):
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.started.remove(process)

    def close(self):
        for process in list(self.started):
            self.end(process)

    def run(self):
        """{case: {target: [figures of each round]}}; the sizes of a job take turns too."""
        results, by_job = {}, {}
        for case in cases(self.arguments):
            by_job.setdefault(case.job, []).append(case)
        for of_job in by_job.values():
            for number in range(self.arguments.rounds):
                for case, name in [(case, name) for case in of_job for name in case.targets]:
                    figures = self.round(name, case)
                    results.setdefault(case.key, {}).setdefault(name, []).append(figures)
                    print(f"{case.key}, round {number}, {name}: {json.dumps(figures)}", file=sys.stderr)
        return results

    def round(self, name, case):
        """One target, started for one job, checked, loaded, ended."""
        place = self.place(name, case.job, case.routes)
        cpus, self.load_cpus = PROXY_CPU, LOAD_CPU
        if case.job == "cores":
            if has_cpus_for_load():
                cpus, self.load_cpus = "0,1" if "2 workers" in name else "0", f"2-{os.cpu_count() - 1}"
            else:
                cpus = self.load_cpus = f"0-{os.cpu_count() - 1}"
        for pid in [pid for upstream in self.upstreams for pid in family(upstream.pid)]:
            os.sched_setaffinity(pid, cpu_set(self.load_cpus))
        command = targets.TARGETS[name](place, self.arguments)
        begun = time.monotonic()
        process = self.start(command, cpus, name)
        try:
            wait_for(lambda: connects(place.port), process, f"{self.folder}/{name}.log")
            started = time.monotonic() - begun
            pairs = hot_pairs(case.routes)
            for pair in pairs if name != "relay" else []:
                check_route(place, pair)
            if case.job.startswith("idle"):
                return self.idle(place, process, pairs[0])
            if case.job == "scale":
                wait_for_calm(process.pid)
            figures = self.busy(name, place, process, pairs)
            if case.job == "h1" and self.arguments.rate:
                figures |= self.latency(place, pairs)
            if case.job == "scale":
                figures["start_ms"] = round(started * 1e3)
            if case.job == "scale" and name == "sidetrack":
                figures |= put_previews(place)
                figures["pss_mb_after"] = round(memory(process.pid), 1)
            return figures
        finally:
            self.end(process)
            shutil.rmtree(place.folder)

    def busy(self, name, place, process, pairs):
        """CPU time over requests, under as much load as there is."""
        self.load(place, pairs, 1)
        idle = memory(process.pid)
        self.wait_for_quiet()
        before, begun, others = cpu(process.pid), time.monotonic(), busy()
        before_ticks, before_packets = ticks(process.pid), packets()
        good, bad, resumed = self.load(place, pairs, self.arguments.seconds)
        used, seconds = cpu(process.pid) - before, time.monotonic() - begun
        user, system = (after - before for after, before in zip(ticks(process.pid), before_ticks))
        if good == 0:
            raise RuntimeError(f"{name} answered nothing in job {place.job}: {open(f'{self.folder}/{name}.log').read()[-500:]}")
        if place.job == "hs" and resumed or place.job == "hsr" and resumed < 0.9 * good:
            raise RuntimeError(f"{name} resumed {resumed} of {good} sessions in job {place.job}")
        return {
            "cpu_us": round(used / 1e3 / good, 2),
            "per_second": round(good / self.arguments.seconds),
            "failed": bad,
            "pss_mb": round(idle, 1),
            "machine": round((busy() - others) / seconds, 2),
            "kernel": round(system / max(1, user + system), 2),
            "packets": round((packets() - before_packets) / good, 2),
        }

    def load(self, place, pairs, seconds, rate=0):
        """Requests that were answered with 200, those that were not, and TLS sessions that were resumed."""
        each = max(1, self.arguments.connections // len(pairs))
        pin = ["taskset", "-c", self.load_cpus]
        running = [
            subprocess.Popen(
                pin + targets.load_command(place, pair, each, seconds, rate / len(pairs), self.times(number)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for number, pair in enumerate(pairs)
        ]
        total = [0, 0, 0]
        for process in running:
            try:
                text, _ = process.communicate(timeout=seconds + 30)
            except subprocess.TimeoutExpired:
                # It waits for an answer that does not come.
                process.kill()
                text, _ = process.communicate()
                total[1] += 1
            total = [sum(pair) for pair in zip(total, counted(place, text))]
        return total

    def times(self, number):
        """Where a load generator says how long each request took: not beside a configuration, whose folder is watched."""
        return f"{self.folder}/{number}.times"

    def latency(self, place, pairs):
        """Microseconds until an answer, at a rate that no target finds hard."""
        # A load generator writes on where the last one ended.
        for number in range(len(pairs)):
            self.forget_times(number)
        self.load(place, pairs, self.arguments.seconds, self.arguments.rate)
        times = [time for number in range(len(pairs)) for time in self.taken(number)]
        return middle_and_worst(times) | {"at_rate": round(len(times) / self.arguments.seconds)}

    def forget_times(self, number):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.times(number))

    def taken(self, number):
        """Microseconds that each request of a load generator took."""
        with open(self.times(number)) as lines:
            return [int(line.split("\t")[2]) for line in lines]

    def idle(self, place, process, pair):
        """Memory for a client that has asked once and stays. What the kernel holds for its socket is not in it."""
        name, fields = targets.request(place, pair[0], pair[1])
        tls = client.context() if place.tls else None
        clients = min(IDLE, self.clients)
        if clients < IDLE:
            print(f"idle: {clients:,} connections, since the limit of open files allows no more", file=sys.stderr)
        streams = []
        try:
            # The first ones make what is there once for all.
            for number in range(100 + clients):
                if number == 100:
                    before = memory(process.pid)
                streams.append(client.connect(place.port, name, tls))
                if not client.answered(client.ask(streams[-1], name, fields)):
                    raise RuntimeError(f"connection {number} was not answered")
                if number == 99:
                    for stream in streams:
                        stream.close()
                    streams.clear()
                    time.sleep(1)
            time.sleep(1)
            after = memory(process.pid)
            if not all(client.answered(client.ask(stream, name, fields)) for stream in streams[::100]):
                raise RuntimeError("a connection that should have been idle was closed")
        finally:
            for stream in streams:
                stream.close()
        return {"bytes": round((after - before) * 1e6 / clients), "connections": clients, "pss_mb": round(after, 1)}

    def wait_for_quiet(self):
        """Other work makes every figure worse, so a round waits for a quiet moment, but not for ever."""
        end = time.monotonic() + self.arguments.patience
        while time.monotonic() < end:
            before, begun = busy(), time.monotonic()
            time.sleep(0.5)
            if (busy() - before) / (time.monotonic() - begun) < self.arguments.quiet:
                return


def counted(place, text):
    """What a load generator says of its requests: answered with 200, not so, sessions resumed."""
    if place.job in ("hs", "hsr"):
        return [int(word) for word in text.split()] or [0, 0, 0]
    done = re.search(r"requests: \d+ total, \d+ started, (\d+) done", text)
    right = re.search(r"status codes: (\d+) 2xx", text)
    done, right = (int(match.group(1)) if match else 0 for match in (done, right))
    # It may count an answer whose stream is not done yet.
    return [right, max(0, done - right), 0]


def middle_and_worst(times):
    cuts = statistics.quantiles(times, n=100)
    return {"p50_us": round(cuts[49]), "p99_us": round(cuts[98])}


def hot_pairs(routes):
    """(service, PR, address that must answer): forks, and baselines of PRs that did not fork the service."""
    step = max(1, routes // (HOT // 2))
    pairs = []
    for number in range(0, routes, step)[: HOT // 2]:
        service = number % SERVICES
        other = (service + 1) % SERVICES
        pairs += [(service, number + 1, fork_address(number)), (other, number + 1, base_address(other))]
    return pairs


def check_route(place, pair):
    """A proxy that does not route is fast; so every pair is asked once, and the address that answered compared."""
    service, number, wanted = pair
    if place.http2:
        command = targets.check_command(place, pair)
        answer = subprocess.run(command, capture_output=True, timeout=30).stdout
        found = re.search(rb"x-up: ([0-9.]+)", answer)
        found = found and found.group(1).decode()
    else:
        name, fields = targets.request(place, service, number)
        with client.connect(place.port, name, client.context() if place.tls else None) as stream:
            answer = client.ask(stream, name, fields + ["connection: close"], place.path)
        found = client.upstream(answer)
    if found != wanted:
        raise RuntimeError(f"{place.job}, {pair}: wanted {wanted}, got {answer[:600]!r}")


def put_previews(place):
    """Milliseconds from a PUT of a new preview until the first request that it routes is answered."""
    times = []
    admin = http.client.HTTPConnection("127.0.0.1", place.admin_port, timeout=10)
    name = targets.host(0)
    with client.connect(place.port, name) as stream:
        for number in range(place.routes, place.routes + PUTS):
            address, fields = fork_address(number), [f"x-pr-id: {number + 1}"]
            if client.answered(client.ask(stream, name, fields)):
                raise RuntimeError(f"preview {number + 1} is there already")
            begun = time.monotonic()
            document = {"forks": {"svc-0": [f"{address}:{place.upstream_port}"]}}
            admin.request("PUT", f"/v1/previews/{number + 1}", json.dumps(document), {"content-type": "application/json"})
            answer = admin.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"PUT of preview {number + 1}: {answer.status} {text[:300]!r}")
            while client.upstream(client.ask(stream, name, fields)) != address:
                if time.monotonic() > begun + 30:
                    raise RuntimeError(f"preview {number + 1} is not in force")
            times.append((time.monotonic() - begun) * 1e3)
    admin.close()
    return {"put_ms": round(statistics.median(times), 2), "put_ms_worst": round(max(times), 2)}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def wait_for(condition, process, log):
    # nginx takes minutes for 100,000 routes.
    end = time.monotonic() + 300
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("a target did not start: " + open(log).read()[-500:])
        time.sleep(0.005)


def wait_for_calm(pid):
    """Until a target that has started does no more by itself; a big table keeps it busy after its first answer."""
    for _ in range(60):
        before = cpu(pid)
        time.sleep(0.5)
        if cpu(pid) - before < 10e6:
            return


def cpu_set(text):
    first, _, last = text.partition("-")
    return set(range(int(first), int(last or first) + 1))


def family(pid):
    """A process and those that it started: nginx and HAProxy do their work in children."""
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [pid] + [one for child in children.read().split() for one in family(int(child))]


def cpu(pid):
    """Nanoseconds on a CPU of all threads of a target, kernel time included."""
    total = 0
    for process in family(pid):
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/schedstat") as schedstat:
                total += int(schedstat.read().split()[0])
    return total


def ticks(pid):
    """What of a target's CPU time was its own and what the kernel's, in ticks."""
    total = [0, 0]
    for process in family(pid):
        with open(f"/proc/{process}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        total = [total[0] + int(fields[11]), total[1] + int(fields[12])]
    return total


def packets():
    """What has gone over the loopback device, both legs and acknowledgements that ride on nothing included."""
    with open("/sys/class/net/lo/statistics/rx_packets") as count:
        return int(count.read())


def memory(pid):
    """Megabytes of all processes of a target, shared pages counted once (PSS)."""
    kibibytes = 0
    for process in family(pid):
        with open(f"/proc/{process}/smaps_rollup") as rollup:
            kibibytes += int(re.search(r"^Pss:\s+(\d+)", rollup.read(), re.MULTILINE).group(1))
    return kibibytes * 1024 / 1e6


def busy():
    """Seconds that all CPUs of the machine have worked."""
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def machine(arguments):
    """What the figures belong to."""
    with open("/proc/cpuinfo") as cpuinfo:
        model = re.search(r"^model name\s*: (.*)", cpuinfo.read(), re.MULTILINE)
    version = lambda *command: subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.split("\n")[0]
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "sidetrack": version(arguments.sidetrack, "--version"),
        "haproxy": version(find("haproxy"), "-v"),
        "nginx": version(find("nginx"), "-v"),
        "h2load": version("h2load", "--version"),
    }


def best(rounds, field="cpu_us"):
    return min(one[field] for one in rounds)


def middle(rounds, field):
    """Of the rounds, to three places; nothing where it was not measured."""
    values = [one[field] for one in rounds if field in one]
    return f"{statistics.median(values):,.3g}" if values and values[0] < 100 else f"{statistics.median(values):,.0f}" if values else ""


def ratio(by_target):
    """Sidetrack's best over that of the best peer."""
    peers = [best(by_target[name]) for name in PEERS if name in by_target]
    return f"{best(by_target['sidetrack']) / min(peers):.2f}" if peers and "sidetrack" in by_target else ""


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def heading(title, *columns):
    print(f"\n## {title}\n")
    row(*columns)
    row(*["---"] * len(columns))


def show(results, arguments):
    """Markdown: a short table to compare, then what it was made from."""
    loaded = {key: value for key, value in results.items() if "cpu_us" in next(iter(value.values()))[0]}
    compared = {key: value for key, value in loaded.items() if key in JOBS and key != "cores"}
    if compared:
        heading(
            f"CPU per request: us, best of {arguments.rounds} rounds (median), {arguments.routes:,} routes",
            *["job", "", "sidetrack", "haproxy", "nginx", "sidetrack / best peer"],
        )
        for key, value in compared.items():
            cells = [
                f"{best(value[name]):.1f} ({middle(value[name], 'cpu_us')})" if name in value else "" for name in ("sidetrack", *PEERS)
            ]
            row(key, JOBS[key], *cells, ratio(value))
        h1 = compared.get("h1", {})
        for name, what in (("relay", "HAProxy as an L4 relay"), ("sidetrack, log", "Sidetrack with its access log")):
            if name in h1 and "sidetrack" in h1:
                figures = f"{best(h1[name]):.1f} ({middle(h1[name], 'cpu_us')})"
                print(f"\nh1, {what}: {figures}; Sidetrack / this {best(h1['sidetrack']) / best(h1[name]):.2f}.")
    if loaded:
        rate = f"at {arguments.rate:,}/s"
        # fmt: off
        heading(
            "Every figure", "job", "target", "CPU us, best", "median", "kernel's share", "packets", "requests/s",
            f"p50 us {rate}", f"p99 us {rate}", "PSS MB", "failed")
        # fmt: on
        for key, value in loaded.items():
            for name, rounds in value.items():
                medians = [middle(rounds, field) for field in ("cpu_us", "kernel", "packets", "per_second", "p50_us", "p99_us", "pss_mb")]
                row(key, name, f"{best(rounds):.2f}", *medians, sum(one["failed"] for one in rounds))
    if "cores" in loaded:
        one, two = loaded["cores"]["sidetrack"], loaded["cores"]["sidetrack, 2 workers"]
        if has_cpus_for_load():
            times, how = max(r["per_second"] for r in two) / max(r["per_second"] for r in one), "by requests per second"
        else:
            # Load and workers have all CPUs together, so that requests per second say nothing; what workers are in each other's way
            # for they pay with CPU time.
            times, how = 2 * best(one) / best(two), "by CPU time per request, all on the same CPUs"
        print(f"\ncores: two workers do {times:.2f} times what one does, {how}.")
    sizes = {key: value for key, value in results.items() if key.startswith("scale")}
    if sizes:
        heading(
            "Size of the table", "routes", "target", "CPU us, best", "PSS MB", "start ms", "PUT until routed ms", "worst", "PSS MB then"
        )
        for key, value in sizes.items():
            for name, rounds in value.items():
                medians = [middle(rounds, field) for field in ("pss_mb", "start_ms", "put_ms", "put_ms_worst", "pss_mb_after")]
                row(key.split()[1], name, f"{best(rounds):.2f}", *medians)
    idle = {key: value for key, value in results.items() if key.startswith("idle")}
    if idle:
        heading("Idle connections", "", "target", "connections", "bytes each", "PSS MB")
        for key, value in idle.items():
            for name, rounds in value.items():
                row(key, name, f"{rounds[0]['connections']:,}", *[middle(rounds, field) for field in ("bytes", "pss_mb")])


if __name__ == "__main__":
    main()
