#!/usr/bin/env python3
"""What one hop inside an estate costs: asked directly, by a waypoint, and by the sidecars of both ends. See docs/performance.md.

Latency is taken at a rate that nobody finds hard; CPU time per request is that of all proxies on the way, at that rate and
under as much load as there is. Memory is that of a sidecar that knows few forks, and many."""

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys

import client
import targets
from run import (
    LOAD_CPU,
    PROXY_CPU,
    best,
    checked,
    connects,
    counted,
    cpu,
    memory,
    middle_and_worst,
    opened,
    options,
    wait_for,
    wait_for_calm,
)

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
    parser = options(__doc__, JOBS, connections=16, rate=1000)
    parser.add_argument("--forks", default="10,10000", help="forks that a sidecar knows, for its memory")
    return checked(parser, JOBS, ("h2load", "nghttp", "nginx", "openssl", "taskset"))


def measured(bench, arguments):
    """{"hops": {job: {key: {way: [figures of each round]}}}, "memory": {forks: [megabytes before and after requests]}}"""
    hops, sizes = {}, {}
    for number in range(arguments.rounds):
        for job in arguments.jobs.split(","):
            for way in WAYS:
                with started(bench, job, way) as (place, proxies):
                    one_round(bench, place, proxies, hops.setdefault(job, {}), way, number)
    for forks in arguments.forks.split(","):
        sizes[forks] = sidecar_memory(bench, int(forks))
    return {"hops": hops, "memory": sizes}


@contextlib.contextmanager
def started(bench, job, way):
    """Where a caller meets a way, and the proxies on it, which end with it."""
    place = bench.place(way, job, 0)
    proxies = []
    try:
        if way == "direct":
            place.port = place.upstream_port
        elif way == "waypoint":
            proxies.append(waypoint(bench, place))
        else:
            # The callee's, then the caller's, which knows it.
            inbound = bench.place("inbound", job, 0)
            proxies.append(callee(bench, inbound))
            proxies.append(caller(bench, place, inbound.port))
        if proxies:
            check(place, KEYS["no key"], targets.base_address(0))
            check(place, KEYS["fork"], targets.fork_address(0))
        yield place, proxies
    finally:
        for process in proxies:
            bench.end(process)


def check(place, fields, wanted):
    """A proxy that does not route is fast."""
    if place.http2:
        command = ["nghttp", "-v", *request(place, fields)]
        answer = subprocess.run(command, capture_output=True, timeout=30).stdout
    else:
        with client.connect(place.port, SERVICE) as stream:
            answer = client.ask(stream, SERVICE, fields + ["connection: close"])
    found = re.search(rb"(?i)x-up: ([0-9.]+)", answer)
    if not found or found.group(1).decode() != wanted:
        raise RuntimeError(f"wanted {wanted}, got {answer[:600]!r}")


def request(place, fields):
    """The words for h2load and nghttp that say what is asked for."""
    of_grpc = ["content-type: application/grpc", "te: trailers"] if place.job == "grpc" else []
    return targets.http2_arguments(place, SERVICE, ["accept: application/json", *fields, *of_grpc])


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


def ends(port):
    """Addresses of the baseline and the fork, all answered by whoever has this port."""
    return [f"{ip}:{port}" for ip in (targets.base_address(0), targets.fork_address(0))]


def waypoint(bench, place):
    listeners = [{"address": f"127.0.0.1:{place.port}", "service": SERVICE}]
    return proxy(bench, place, table(place, *ends(place.upstream_port)) | {"role": "waypoint", "listeners": listeners})


def callee(bench, place):
    """The sidecar in front of the app."""
    listeners = [{"address": f"0.0.0.0:{place.port}", "direction": "inbound"}]
    own = {"role": "sidecar", "sidecar": {"service": SERVICE}, "listeners": listeners}
    return proxy(bench, place, table(place, *ends(place.upstream_port)) | own)


def caller(bench, place, port, previews=1):
    """The sidecar behind the app that calls, with those it calls at this port: sidecars where the waypoint knows apps."""
    listeners = [{"address": f"127.0.0.1:{place.port}", "direction": "outbound", "service": SERVICE}]
    own = {"role": "sidecar", "sidecar": {"service": "checkout"}, "listeners": listeners}
    config = table(place, *ends(port), previews) | own
    config["services"]["checkout"] = {"baseline": ["127.0.0.1:9"]}
    return proxy(bench, place, config)


def proxy(bench, place, config):
    command = [os.path.abspath(bench.arguments.sidetrack), "gateway", "-c", place.write("sidetrack.yaml", json.dumps(config))]
    process = bench.start(command, PROXY_CPU, "proxy")
    wait_for(lambda: connects(place.port), process, f"{bench.folder}/proxy.log")
    return process


def one_round(bench, place, proxies, into, way, number):
    """Each kind of request at the rate, then as fast as it goes."""
    for name, fields in KEYS.items():
        load(bench, place, fields, 1, 0)
        bench.wait_for_quiet()
        figures = under(bench, place, proxies, fields, bench.arguments.rate)
        busy = under(bench, place, proxies, fields, 0)
        figures |= {"busy_cpu_us": busy["cpu_us"], "per_second": busy["per_second"], "failed": figures["failed"] + busy["failed"]}
        into.setdefault(name, {}).setdefault(way, []).append(figures)
        print(f"{place.job}, round {number}, {name}, {way}: {json.dumps(figures)}", file=sys.stderr)


def under(bench, place, proxies, fields, rate):
    """Latency, where there is a rate, and CPU time of the proxies per request."""
    seconds = bench.arguments.seconds
    before = sum(cpu(process.pid) for process in proxies)
    good, bad = load(bench, place, fields, seconds, rate)
    used = sum(cpu(process.pid) for process in proxies) - before
    if good == 0:
        raise RuntimeError(f"nothing was answered: {open(f'{bench.folder}/proxy.log').read()[-500:]}")
    figures = {"cpu_us": round(used / 1e3 / good, 2), "per_second": round(good / seconds), "failed": bad}
    return figures | middle_and_worst(bench.taken(0)) if rate else figures


def load(bench, place, fields, seconds, rate):
    """Answers with 200, and other answers."""
    bench.forget_times(0)
    count = bench.arguments.connections
    command = ["taskset", "-c", LOAD_CPU, "h2load", "-t", "1", "-c", str(count), "-D", str(seconds)]
    command += [] if place.http2 else ["--h1"]
    command += ["--rps", str(rate / count), f"--log-file={bench.times(0)}"] if rate else []
    command += request(place, fields)
    text = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60).stdout
    return counted(place, text)[:2]


def sidecar_memory(bench, forks):
    """Megabytes (PSS) of a sidecar that knows so many forks: at rest, and when it has answered for a while."""
    place = bench.place("memory", "h1", 0)
    process = caller(bench, place, place.upstream_port, forks)
    try:
        wait_for_calm(process.pid)
        rest = round(memory(process.pid), 1)
        load(bench, place, KEYS["fork"], bench.arguments.seconds, 0)
        return [rest, round(memory(process.pid), 1)]
    finally:
        bench.end(process)


def show(results):
    """Tables as docs/performance.md has them; medians, and best of rounds for CPU time."""
    middle = lambda rounds, field: statistics.median(one[field] for one in rounds)
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
