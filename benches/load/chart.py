#!/usr/bin/env python3
"""Draws what `run.py --json FILE` found: chart.py FILE docs/performance.svg. The bars of a job have a scale of their own."""

import json
import re
import sys
from html import escape

# The jobs in order, as a reader knows them.
JOBS = {
    "h1": ("HTTP/1.1", "200 bytes, PR in a header"),
    "sub": ("HTTP/1.1", "PR in the host name"),
    "big": ("HTTP/1.1", "10 KiB answers"),
    "tls": ("TLS 1.3", "kept connections"),
    "hs": ("TLS handshake", "and one request"),
    "hsr": ("TLS resumed", "and one request"),
    "h2": ("HTTP/2", "upstream HTTP/1.1"),
    "grpc": ("gRPC", "HTTP/2 on both sides"),
}
TARGETS = {"sidetrack": "Sidetrack", "haproxy": "HAProxy", "nginx": "nginx", "relay": "L4 relay"}
WIDTH, LEFT, BAR, STEP, GAP, TOP = 760, 262, 14, 18, 16, 78
LONGEST = WIDTH - LEFT - 84
STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #1f2328 }
    .title { font-weight: 600; font-size: 16px }
    .job { font-weight: 600; font-size: 13px }
    .small { font-size: 11.5px; fill: #57606a }
    .right { text-anchor: end }
    .sheet { fill: #ffffff }
    .peer { fill: #afb8c1 } .sidetrack { fill: #0969da } .relay { fill: #d8dee4 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .small { fill: #9198a1 } .sheet { fill: #0d1117 }
      .peer { fill: #6e7681 } .sidetrack { fill: #4493f8 } .relay { fill: #30363d }
    }
"""


def main():
    with open(sys.argv[1]) as file:
        document = json.load(file)
    with open(sys.argv[2], "w") as file:
        file.write(draw(document))


def draw(document):
    results = document["results"]
    jobs = {job: best(results[job]) for job in JOBS if job in results}
    out, y = [], TOP
    for job, figures in jobs.items():
        name, what = JOBS[job]
        out += [text(20, y + 11, name, "job"), text(20, y + 27, what, "small")]
        for target, figure in figures.items():
            kind = target if target in ("sidetrack", "relay") else "peer"
            length = LONGEST * figure / max(figures.values())
            out.append(text(LEFT - 8, y + 11, TARGETS[target], "small right"))
            out.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
            out.append(text(LEFT + length + 6, y + 11, f"{figure:.1f} µs", "value"))
            y += STEP
        y += GAP
    rounds = document["arguments"]["rounds"]
    about = f"µs on a CPU, kernel included; less is better. Best of {rounds} interleaved rounds; each job has a scale of its own."
    machine = document["machine"]
    version = lambda name: re.search(r"[0-9]+[.][0-9.]*[0-9]", machine[name]).group()
    where = f"{machine['cpu']}, {machine['cpus']} CPUs; HAProxy {version('haproxy')}, nginx {version('nginx')}"
    out = [
        f'<rect class="sheet" width="{WIDTH}" height="{y + 22}" rx="6"/>',
        text(20, 30, "CPU time per request", "title"),
        text(20, 52, about, "small"),
        *out,
        text(20, y + 6, where, "small"),
    ]
    described = "; ".join(
        f"{' '.join(JOBS[job])}: " + ", ".join(f"{TARGETS[target]} {figure:.1f}" for target, figure in figures.items())
        for job, figures in jobs.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 22}" width="{WIDTH}" height="{y + 22}"'
        ' role="img" aria-labelledby="title desc">\n'
        '  <title id="title">CPU time per request of Sidetrack, HAProxy and nginx</title>\n'
        f'  <desc id="desc">In microseconds. {escape(described)}.</desc>\n'
        f"  <style>{STYLE}  </style>\n  " + "\n  ".join(out) + "\n</svg>\n"
    )


def best(by_target):
    return {target: min(one["cpu_us"] for one in by_target[target]) for target in TARGETS if target in by_target}


def text(x, y, words, kind):
    return f'<text class="{kind}" x="{x:g}" y="{y}">{escape(words)}</text>'


if __name__ == "__main__":
    main()
