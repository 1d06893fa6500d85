#!/usr/bin/env python3
"""What one hop inside an estate costs: asked directly, by a waypoint, and by the sidecars of both ends. See docs/performance.md.

Latency is taken at a rate that nobody finds hard; CPU time per request is that of all proxies on the way, at that rate and
under as much load as there is. Memory is that of a sidecar that knows few forks, and many."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

import client
import targets
from run import LOAD_CPU, PROXY_CPU, connects, cpu, memory, opened, wait_for, wait_for_calm

SERVICE, KEY = "payment", "42"
WAYS = ("direct", "waypoint", "sidecars")
JOBS = {"h1": "HTTP/1.1, 200 bytes", "grpc": "a small POST, HTTP/2 on all sides"}
KEYS = {"no key": [], "baseline": ["x-pr-id: 7"], "fork": [f"x-pr-id: {KEY}"]}


def main():
    arguments = read_arguments()
    # The upstreams, and what starts and ends processes, are those of the runs beside peers.
    with opened(arguments) as bench:
        results = measured(bench, arguments)
    show(results)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=int, default=1000, help="requests/s for the latencies")
    parser.add_argument("--forks", default="10,10000", help="forks that a sidecar knows, for its memory")
    parser.add_argument("--sidetrack", default=os.environ.get("SIDETRACK", "target/release/sidetrack"))
    parser.add_argument("--quiet", type=float, default=0.1, help="cores of other work above which a round waits")
    parser.add_argument("--patience", type=float, default=60, help="seconds that a round waits for quiet at most")
    parser.add_argument("--json", help="file for all figures")
    arguments = parser.parse_args()
    if unknown := set(arguments.jobs.split(",")) - set(JOBS):
        parser.error(f"no such job: {', '.join(unknown)}")
    return arguments


def measured(bench, arguments):
    """{"hops": {job: {key: {way: [figures of each round]}}}, "memory": {forks: [megabytes before and after requests]}}"""
    hops, sizes = {}, {}
    for number in range(arguments.rounds):
        for job in arguments.jobs.split(","):
            for way in WAYS:
                with_way(bench, job, way, lambda hop: one_round(bench, hop, hops.setdefault(job, {}), way, number))
    for forks in arguments.forks.split(","):
        sizes[forks] = sidecar_memory(bench, int(forks))
    return {"hops": hops, "memory": sizes}


class Hop:
    """The proxies of one way, and where a caller meets it."""

    def __init__(self, place, job, proxies, port):
        self.place, self.job, self.proxies, self.port = place, job, proxies, port


def with_way(bench, job, way, work):
    """Starts the proxies of a way, lets `work` ask, and ends them."""
    place = bench.place(way, job, 0)
    started = []
    try:
        port = place.upstream_port
        if way == "waypoint":
            started.append(waypoint(bench, place))
            port = place.port
        elif way == "sidecars":
            # The callee's, then the caller's, which knows it.
            inbound = bench.place("inbound", job, 0)
            started.append(callee(bench, inbound))
            started.append(caller(bench, place, inbound.port))
            port = place.port
        hop = Hop(place, job, started, port)
        for fields, wanted in ((KEYS["no key"], targets.base_address(0)), (KEYS["fork"], targets.fork_address(0))):
            if way != "direct":
                check(hop, fields, wanted)
        return work(hop)
    finally:
        for process in started:
            bench.end(process)


def check(hop, fields, wanted):
    """A proxy that does not route is fast."""
    if hop.job == "grpc":
        command = ["nghttp", "-v", *request(hop, fields)]
        answer = subprocess.run(command, capture_output=True, timeout=30).stdout
    else:
        with client.connect(hop.port, SERVICE) as stream:
            answer = client.ask(stream, SERVICE, fields + ["connection: close"])
    found = re.search(rb"(?i)x-up: ([0-9.]+)", answer)
    if not found or found.group(1).decode() != wanted:
        raise RuntimeError(f"wanted {wanted}, got {answer[:600]!r}")


def request(hop, fields):
    """The words for h2load and nghttp that say what is asked for."""
    lines = [f":authority: {SERVICE}", "accept: application/json", *fields]
    lines += ["content-type: application/grpc", "te: trailers"] if hop.job == "grpc" else []
    body = ["-d", hop.place.message] if hop.job == "grpc" else []
    words = [word for line in lines for word in ("-H", line)]
    return [*body, *words, f"http://127.0.0.1:{hop.port}{hop.place.path}"]


def table(place, baseline, fork, previews=1):
    """One service with one fork, or many previews with a fork each."""
    protocol = {"protocol": "h2c"} if place.job == "grpc" else {}
    keys = [KEY] + [str(1000 + number) for number in range(previews - 1)]
    return {
        "admin": {"address": f"127.0.0.1:{place.admin_port}"},
        "accessLog": "off",
        "workers": 1,
        "services": {SERVICE: {"baseline": [baseline]} | protocol},
        # Known everywhere, but forking nothing here: its requests have a key and meet the baseline.
        "previews": {"7": {}} | {key: {"forks": {SERVICE: [fork]}} for key in keys},
    }


def ends(place):
    """Addresses of the baseline and the fork, all answered by one upstream."""
    return [f"{ip}:{place.upstream_port}" for ip in (targets.base_address(0), targets.fork_address(0))]


def waypoint(bench, place):
    listeners = [{"address": f"127.0.0.1:{place.port}", "service": SERVICE}]
    return proxy(bench, place, table(place, *ends(place)) | {"role": "waypoint", "listeners": listeners})


def callee(bench, place):
    """The sidecar in front of the app."""
    listeners = [{"address": f"0.0.0.0:{place.port}", "direction": "inbound"}]
    own = {"role": "sidecar", "sidecar": {"service": SERVICE}, "listeners": listeners}
    return proxy(bench, place, table(place, *ends(place)) | own)


def caller(bench, place, inbound):
    """The sidecar behind the app that calls: it knows sidecars where the waypoint knows apps."""
    listeners = [{"address": f"127.0.0.1:{place.port}", "direction": "outbound", "service": SERVICE}]
    fork, baseline = f"{targets.fork_address(0)}:{inbound}", f"{targets.base_address(0)}:{inbound}"
    own = {"role": "sidecar", "sidecar": {"service": "checkout"}, "listeners": listeners}
    config = table(place, baseline, fork) | own
    config["services"]["checkout"] = {"baseline": ["127.0.0.1:9"]}
    return proxy(bench, place, config)


def proxy(bench, place, config):
    command = [os.path.abspath(bench.arguments.sidetrack), "gateway", "-c", place.write("sidetrack.yaml", json.dumps(config))]
    process = bench.start(command, PROXY_CPU, "proxy")
    wait_for(lambda: connects(place.port), process, f"{bench.folder}/proxy.log")
    return process


def one_round(bench, hop, into, way, number):
    """Each kind of request at the rate, then as fast as it goes."""
    for name, fields in KEYS.items():
        load(bench, hop, fields, 1, 0)
        bench.wait_for_quiet()
        figures = under(bench, hop, fields, bench.arguments.rate)
        busy = under(bench, hop, fields, 0)
        figures |= {"busy_cpu_us": busy["cpu_us"], "per_second": busy["per_second"], "failed": figures["failed"] + busy["failed"]}
        into.setdefault(name, {}).setdefault(way, []).append(figures)
        print(f"{hop.job}, round {number}, {name}, {way}: {json.dumps(figures)}", file=sys.stderr)


def under(bench, hop, fields, rate):
    """Latency, where there is a rate, and CPU time of the proxies per request."""
    seconds = bench.arguments.seconds
    before = sum(cpu(process.pid) for process in hop.proxies)
    good, bad, times = load(bench, hop, fields, seconds, rate)
    used = sum(cpu(process.pid) for process in hop.proxies) - before
    if good == 0:
        raise RuntimeError(f"nothing was answered: {open(f'{bench.folder}/proxy.log').read()[-500:]}")
    figures = {"cpu_us": round(used / 1e3 / good, 2), "per_second": round(good / seconds), "failed": bad}
    if rate:
        cuts = statistics.quantiles(times, n=100)
        figures |= {"p50_us": round(cuts[49]), "p99_us": round(cuts[98])}
    return figures


def load(bench, hop, fields, seconds, rate):
    """Answers with 200, other answers, and microseconds of each request if there is a rate."""
    log = bench.times(0)
    if os.path.exists(log):
        os.unlink(log)
    count = bench.arguments.connections
    command = ["taskset", "-c", LOAD_CPU, "h2load", "-t", "1", "-c", str(count), "-D", str(seconds)]
    command += [] if hop.job == "grpc" else ["--h1"]
    command += ["--rps", str(rate / count), f"--log-file={log}"] if rate else []
    command += request(hop, fields)
    text = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60).stdout
    done = re.search(r"requests: \d+ total, \d+ started, (\d+) done", text)
    right = re.search(r"status codes: (\d+) 2xx", text)
    done, right = (int(match.group(1)) if match else 0 for match in (done, right))
    times = [int(line.split("\t")[2]) for line in open(log)] if rate else []
    return right, max(0, done - right), times


def sidecar_memory(bench, forks):
    """Megabytes (PSS) of a sidecar that knows so many forks: at rest, and when it has answered for a while."""
    place = bench.place("memory", "h1", 0)
    listeners = [{"address": f"127.0.0.1:{place.port}", "direction": "outbound", "service": SERVICE}]
    own = {"role": "sidecar", "sidecar": {"service": "checkout"}, "listeners": listeners}
    config = table(place, *ends(place), previews=forks) | own
    config["services"]["checkout"] = {"baseline": ["127.0.0.1:9"]}
    process = proxy(bench, place, config)
    try:
        wait_for_calm(process.pid)
        rest = round(memory(process.pid), 1)
        hop = Hop(place, "h1", [process], place.port)
        load(bench, hop, KEYS["fork"], bench.arguments.seconds, 0)
        return [rest, round(memory(process.pid), 1)]
    finally:
        bench.end(process)


def show(results):
    """Tables as docs/performance.md has them; medians, and best of rounds for CPU time."""
    middle = lambda rounds, field: statistics.median(one[field] for one in rounds)
    best = lambda rounds, field: min(one[field] for one in rounds)
    print("\n| job | request | way | p50 us | p99 us | added p50 | added p99 | CPU us | CPU us, busy | requests/s, busy | failed |")
    print("|---" * 11 + "|")
    for job, kinds in results["hops"].items():
        for kind, ways in kinds.items():
            base = ways["direct"]
            for way, rounds in ways.items():
                p50, p99 = (middle(rounds, field) for field in ("p50_us", "p99_us"))
                added = [round(p50 - middle(base, "p50_us")), round(p99 - middle(base, "p99_us"))]
                figures = [round(p50), round(p99), *added, best(rounds, "cpu_us"), best(rounds, "busy_cpu_us")]
                figures += [round(middle(rounds, "per_second")), sum(one["failed"] for one in rounds)]
                print("| " + " | ".join(map(str, [job, kind, way, *figures])) + " |")
    print("\n| forks that a sidecar knows | PSS MB | PSS MB after requests |\n|---|---|---|")
    for forks, (rest, after) in results["memory"].items():
        print(f"| {int(forks):,} | {rest} | {after} |")


if __name__ == "__main__":
    main()
