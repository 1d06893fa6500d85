#!/usr/bin/env python3
"""Sidetrack beside nginx and HAProxy in one run: CPU time per request, in interleaved rounds. See README.md."""

import argparse
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import targets
from targets import DOMAIN, SERVICES, Place, base_address, fork_address

PROXY_CPU, LOAD_CPU = 0, 1
# Every (host, PR) that is asked for; a load generator process each.
HOT = 8


def main():
    arguments = read_arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="sidetrack-load-") as folder:
        bench = Bench(arguments, folder)
        try:
            results = bench.run()
        finally:
            bench.close()
    show(results, arguments)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", default="h1,tls,h2", help="of h1, tls, h2, sub")
    parser.add_argument("--targets", default="sidetrack,haproxy,nginx")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--routes", type=int, default=1000, help="pairs of service and PR")
    parser.add_argument("--sidetrack", default=os.environ.get("SIDETRACK", "target/release/sidetrack"))
    parser.add_argument("--quiet", type=float, default=0.1, help="cores of other work above which a round waits")
    parser.add_argument("--patience", type=float, default=60, help="seconds that a round waits for quiet at most")
    parser.add_argument("--json", help="file for all figures")
    arguments = parser.parse_args()
    for program in ("h2load", "nginx", "openssl", "taskset"):
        if not find(program):
            sys.exit(f"{program} is missing; apt-get install nginx haproxy nghttp2-client openssl util-linux")
    return arguments


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Bench:
    """What is started, and what is measured."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.started = arguments, folder, []
        self.certificate, self.key = f"{folder}/cert.pem", f"{folder}/key.pem"
        # fmt: off
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", f"/CN=*.{DOMAIN}", "-addext", f"subjectAltName=DNS:*.{DOMAIN}",
             "-keyout", self.key, "-out", self.certificate],
            check=True, capture_output=True)
        # fmt: on
        os.chmod(folder, 0o755)
        os.chmod(self.key, 0o644)
        self.upstream_port = free_port()
        self.upstream = self.start(targets.responder(self.place("upstream", "h1")), LOAD_CPU, "upstream")

    def place(self, name, job):
        """A folder and a port of its own for one process."""
        folder = tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)
        os.chmod(folder, 0o755)
        port = self.upstream_port if name == "upstream" else free_port()
        return Place(folder, port, free_port(), self.upstream_port, self.arguments.routes, job, self.certificate, self.key)

    def start(self, command, cpu, name):
        with open(f"{self.folder}/{name}.log", "w") as log:
            process = subprocess.Popen(["taskset", "-c", str(cpu)] + command, stdout=log, stderr=log)
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
        """{job: {target: [figures of each round]}}"""
        results = {}
        for job in self.arguments.jobs.split(","):
            for number in range(self.arguments.rounds):
                for name in self.arguments.targets.split(","):
                    figures = self.round(name, job)
                    results.setdefault(job, {}).setdefault(name, []).append(figures)
                    print(f"{job} round {number} {name}: {json.dumps(figures)}", file=sys.stderr)
        return results

    def round(self, name, job):
        """One target, started for one job, checked, loaded, ended."""
        place = self.place(name, job)
        command = targets.TARGETS[name](place, self.arguments)
        process = self.start(command, PROXY_CPU, name)
        try:
            wait_for(lambda: connects(place.port), process, f"{self.folder}/{name}.log")
            pairs = hot_pairs(self.arguments.routes)
            if job in ("h1", "sub"):
                for pair in pairs:
                    check_route(place, pair)
            self.load(place, pairs, 1)
            idle = memory(process.pid)
            self.wait_for_quiet()
            before, begun, others = cpu(process.pid), time.monotonic(), busy()
            requests, failed = self.load(place, pairs, self.arguments.seconds)
            used, seconds = cpu(process.pid) - before, time.monotonic() - begun
            if requests == 0:
                raise RuntimeError(f"{name} answered nothing in job {job}: {open(f'{self.folder}/{name}.log').read()[-500:]}")
            return {
                "cpu_us": round(used / 1e3 / requests, 2),
                "per_second": round(requests / self.arguments.seconds),
                "failed": failed,
                "pss_mb": round(idle, 1),
                "machine": round((busy() - others) / seconds, 2),
            }
        finally:
            self.end(process)

    def load(self, place, pairs, seconds):
        """Requests that were answered with 200, and those that were not."""
        each = max(1, self.arguments.connections // len(pairs))
        running = [
            subprocess.Popen(
                ["taskset", "-c", str(LOAD_CPU)] + targets.load_command(place, pair, each, seconds),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for pair in pairs
        ]
        good = bad = 0
        for process in running:
            try:
                text, _ = process.communicate(timeout=seconds + 30)
            except subprocess.TimeoutExpired:
                # It waits for an answer that does not come.
                process.kill()
                text, _ = process.communicate()
                bad += 1
            done = re.search(r"requests: \d+ total, \d+ started, (\d+) done", text)
            right = re.search(r"status codes: (\d+) 2xx", text)
            done, right = (int(match.group(1)) if match else 0 for match in (done, right))
            good, bad = good + right, bad + done - right
        return good, bad

    def wait_for_quiet(self):
        """Other work makes every figure worse, so a round waits for a quiet moment, but not for ever."""
        end = time.monotonic() + self.arguments.patience
        while time.monotonic() < end:
            before, begun = busy(), time.monotonic()
            time.sleep(0.5)
            if (busy() - before) / (time.monotonic() - begun) < self.arguments.quiet:
                return


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
    host, fields = targets.request(place, service, number)
    with socket.create_connection(("127.0.0.1", place.port), 5) as stream:
        lines = [f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"] + [f"{line}\r\n" for line in fields]
        stream.sendall(("".join(lines) + "\r\n").encode())
        answer = b""
        while part := stream.recv(65536):
            answer += part
    found = re.search(rb"(?i)\r\nx-up: ([0-9.]+)", answer)
    if not found or found.group(1).decode() != wanted:
        raise RuntimeError(f"{host} {fields}: wanted {wanted}, got {answer[:300]!r}")


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
    end = time.monotonic() + 60
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("a target did not start: " + open(log).read()[-500:])
        time.sleep(0.02)


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


def show(results, arguments):
    for job, by_target in results.items():
        best = {name: min(one["cpu_us"] for one in rounds) for name, rounds in by_target.items()}
        peers = [figure for name, figure in best.items() if name != "sidetrack"]
        print(f"\n## {job}: CPU us per request, {arguments.rounds} rounds, {arguments.routes} routes\n")
        print("| target | best | median | x the better peer | requests/s, median | failed | PSS MB |")
        print("|---|---|---|---|---|---|---|")
        for name, rounds in by_target.items():
            middle = lambda field: statistics.median(one[field] for one in rounds)
            ratio = f"{best[name] / min(peers):.2f}" if peers else ""
            failed = sum(one["failed"] for one in rounds)
            print(
                f"| {name} | {best[name]:.2f} | {middle('cpu_us'):.2f} | {ratio} "
                f"| {middle('per_second'):.0f} | {failed} | {middle('pss_mb'):.1f} |"
            )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
