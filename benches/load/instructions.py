#!/usr/bin/env python3
"""Instructions that Sidetrack runs in user space for one request, counted by callgrind: the figure that repeats on a noisy machine.

It says nothing of the system calls, which take most of the time; see docs/performance.md. The functions are those that the
compiler has left; build with `CARGO_PROFILE_RELEASE_DEBUG=line-tables-only` for better names."""

import argparse
import collections
import os
import re
import resource
import subprocess
import sys
import tempfile

import run
import targets

PIN = "0-1"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default="h1,sub,big,tls,h2,grpc")
    parser.add_argument("--seconds", type=int, default=3, help="length of one load")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--routes", type=int, default=1000)
    parser.add_argument("--top", type=int, default=0, help="functions to show of each job")
    parser.add_argument("--sidetrack", default=os.environ.get("SIDETRACK", "target/release/sidetrack"))
    arguments = parser.parse_args()
    for program in ("valgrind", "h2load", "nginx"):
        if not run.find(program):
            sys.exit(f"{program} is missing; apt-get install valgrind nginx nghttp2-client")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory(prefix="sidetrack-instructions-") as folder:
        bench = run.Bench(arguments, folder, hard)
        bench.load_cpus = PIN
        try:
            print("| job | instructions per request |\n|---|---|")
            for job in arguments.jobs.split(","):
                costs, requests = measure(bench, job)
                print(f"| {job} | {sum(costs.values()) / requests:,.0f} |")
                for name, cost in costs.most_common(arguments.top):
                    print(f"| {name} | {cost / requests:,.0f} |")
        finally:
            bench.close()


def measure(bench, job):
    """{function: instructions of its own} of one load, and how many requests it was."""
    place = bench.place("callgrind", job, bench.arguments.routes)
    out = f"{place.folder}/out"
    command = ["valgrind", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={out}"]
    process = bench.start(command + targets.TARGETS["sidetrack"](place, bench.arguments), PIN, "callgrind")
    try:
        run.wait_for(lambda: run.connects(place.port), process, f"{bench.folder}/callgrind.log")
        pairs = run.hot_pairs(bench.arguments.routes)
        for pair in pairs:
            run.check_route(place, pair)
        bench.load(place, pairs, 1)
        control(process, "--zero")
        requests, failed, _ = bench.load(place, pairs, bench.arguments.seconds)
        control(process, "--dump")
        if failed or not requests:
            raise RuntimeError(f"{job}: {requests} answered, {failed} not")
        return own_costs(f"{out}.1"), requests
    finally:
        bench.end(process)


def control(process, what):
    subprocess.run(["callgrind_control", what, str(process.pid)], check=True, capture_output=True)


def own_costs(path):
    """What each function ran itself: the line behind `calls=` is what it called."""
    costs, name, is_callee = collections.Counter(), "", False
    with open(path) as file:
        for line in file:
            if line.startswith("fn="):
                name = line[3:].strip()
            elif line.startswith("calls="):
                is_callee = True
            elif match := re.match(r"\d+ (\d+)$", line):
                costs[name] += 0 if is_callee else int(match.group(1))
                is_callee = False
    return costs


if __name__ == "__main__":
    main()
