"""How the key fares with services that hand on less than all of it: what is asked of an estate of hops, what must come of
it, and the table of it in docs/estates.md."""

import os
import pathlib
import secrets
import uuid

from estate import ROOT
from hops import CALLS, Hops, expected

PAGE = ROOT / "docs" / "estates.md"

# What each style hands on, as the page says it, in the order of the page.
STYLES = {
    "full": "`X-PR-ID`, `baggage`, `traceparent`, `tracestate`, `X-Request-Id`",
    "baggage": "`traceparent`, `tracestate`, `baggage`: OpenTelemetry as it comes",
    "tracestate": "`traceparent`, `tracestate`: OpenTelemetry, `tracecontext` alone",
    "traceparent": "`traceparent` alone",
    "b3": "`X-B3-TraceId` and its kin: OpenTelemetry, `b3multi`",
    "b3-single": "`b3`: OpenTelemetry, `b3`",
    "bridge": "`X-B3-TraceId`, made of `traceparent` where that came: OpenTelemetry between two worlds",
    "datadog": "`x-datadog-trace-id`, `x-datadog-tags`: ddtrace, `datadog`",
    "datadog-64": "`x-datadog-trace-id` alone: 64 bits",
    "request-id": "`X-Request-Id` alone",
    "none": "nothing",
}
# Languages whose fields are made by the libraries that the page names; else by hand.
LIBRARIES = {
    "python": {"baggage", "tracestate", "b3", "b3-single", "bridge", "datadog"},
    "node": {"baggage", "tracestate", "b3", "b3-single", "bridge"},
}
BY_HAND = {"full", "traceparent", "datadog-64", "request-id", "none"}
SPOKEN = {
    "python": LIBRARIES["python"] | BY_HAND,
    "node": LIBRARIES["node"] | BY_HAND,
    "rust": BY_HAND | {"baggage", "b3", "datadog"},
}

# Whether the key survives: in a trace that the gateway began, and in one that the caller brought.
WAYPOINTS = {
    "full": (True, True),
    "baggage": (True, True),
    "tracestate": (True, True),
    # A waypoint knows no key by an id that somebody else made.
    "traceparent": (True, False),
    "b3": (True, False),
    "b3-single": (True, False),
    "bridge": (True, False),
    "datadog": (True, False),
    # Half an id counts only with `trace64`.
    "datadog-64": (False, False),
    # The id of a request is the gateway's, whoever asks.
    "request-id": (True, True),
    "none": (False, False),
}
# A sidecar remembers with which key an id came in.
SIDECARS = {style: (style != "none",) * 2 for style in STYLES}


def own_trace(style: str) -> dict:
    """Fields of a caller that has begun a trace already, in the format of its estate."""
    high, low, span = (secrets.randbits(63) | 1 for _ in range(3))
    hexed = f"{high:016x}{low:016x}"
    if style == "b3":
        return {"x-b3-traceid": hexed, "x-b3-spanid": f"{span:016x}", "x-b3-sampled": "1"}
    if style == "b3-single":
        return {"b3": f"{hexed}-{span:016x}-1"}
    datadog = {"x-datadog-trace-id": str(low), "x-datadog-parent-id": str(span), "x-datadog-sampling-priority": "1"}
    if style == "datadog":
        return datadog | {"x-datadog-tags": f"_dd.p.tid={high:016x}"}
    if style == "datadog-64":
        return datadog
    if style == "request-id":
        return {"x-request-id": str(uuid.uuid4())}
    return {"traceparent": f"00-{hexed}-{span:016x}-01"}


def measure(hops: Hops, seen: dict):
    """Puts into `seen`, by (language, style), what became of the key at each place of this estate: (place, key, whose
    trace) and who answered. At the other places everything is handed on, as a reverse proxy does."""
    for place in CALLS:
        language = hops.languages[place]
        for style in sorted(SPOKEN[language]):
            for key in ("7", "9"):
                for own in (False, True):
                    fields = own_trace(style) if own else {}
                    answer = hops.ask(f"/chain?all=everything&{place}={style}", key, fields)
                    seen.setdefault((language, style), []).append((place, key, own, answer.path()))


def faults(seen: dict, must: dict) -> list[str]:
    """Where it came otherwise than it must, a line for each style and trace; and where it was lost, whether everybody
    behind was baseline."""
    found = {}
    for (language, style), cases in seen.items():
        for place, key, own, path in cases:
            right = [expected(key)] if must[style][own] else [expected(key, place), *stamped(key, place)]
            if path not in right:
                trace = "the caller's trace" if own else "our trace"
                case = f"at {place} key {key} met {' '.join(path)}"
                found.setdefault(f"{style} in {language}, {trace}: {'lost' if must[style][own] else 'wrong'}", []).append(case)
    return [f"{what} in {len(cases)} cases, as {cases[0]}" for what, cases in found.items()]


def stamped(key: str, place: str) -> list[list[str]]:
    """The sidecar of a fork gives calls without a key that of its fork, which may be another than the request's."""
    fork = dict(entry.split("@") for entry in expected(key))[place]
    if fork == "baseline":
        return []
    at = list(CALLS).index(place) + 1
    return [expected(key)[:at] + expected(fork)[at:]]


def table(seen: dict) -> str:
    """The rows of the page: for each language what became of the key in our trace / in the caller's."""
    languages = [language for language in SPOKEN if any(key[0] == language for key in seen)]
    titles = [language.capitalize() for language in languages]
    lines = ["| Style | Handed on | " + " | ".join(titles) + " |", "|---" * (2 + len(titles)) + "|"]
    for style, what in STYLES.items():
        cells = []
        for language in languages:
            cases = seen.get((language, style))
            cells.append(" / ".join(word(cases, own) for own in (False, True)) if cases else "")
        lines.append(f"| `{style}` | {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def word(cases: list, own: bool) -> str:
    kept = {path == expected(key) for _, key, whose, path in cases if whose == own}
    return {(True,): "yes", (False,): "no"}.get(tuple(kept), "not everywhere")


def on_page(section: str, text: str) -> str | None:
    """Compares a section of the page with what was found, or writes it with UPDATE_GOLDEN=1; gives what is wrong."""
    page = PAGE.read_text()
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->"
    before, rest = page.split(begin)
    old, after = rest.split(end)
    if old.strip() == text:
        return None
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")
        return None
    return f"section {section!r} of {PAGE.name} is not what came out; UPDATE_GOLDEN=1 tests/run clients hops writes:\n{text}"
