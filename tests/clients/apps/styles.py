"""What applications hand on with their calls: a function for each style, from the fields that a request brought to those
that a call of the application has. Names are in lower case on both sides.

Where a library is named, the fields are the library's own doing, as its users have it; the others are what applications
write by hand. The same styles in Node are in styles.cjs, in Rust in ../../chain/styles.rs.
"""

import os
import secrets

# ddtrace would look for an agent to report to.
os.environ |= {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}
os.environ |= {"DD_TRACE_PROPAGATION_STYLE": "datadog", "DD_TRACE_ENABLED": "false"}

from ddtrace.propagation.http import HTTPPropagator
from ddtrace.trace import Context
from opentelemetry import propagate, trace
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# Every field that can say a key, or an id that one is found by.
ALL = (
    ["x-pr-id", "baggage", "traceparent", "tracestate", "x-request-id", "b3"]
    + ["x-b3-traceid", "x-b3-parentspanid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags"]
    + ["x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority", "x-datadog-tags"]
)
W3C = ["x-pr-id", "baggage", "traceparent", "tracestate", "x-request-id"]

tracer = TracerProvider(shutdown_on_exit=False).get_tracer("chain")


def picked(names):
    """Hands on these fields as they came."""
    return lambda received: {name: received[name] for name in names if name in received}


def instrumented(extract, inject):
    """OpenTelemetry: the call is a span of its own in the trace that the request brought, or in a new one."""

    def onward(received):
        span = tracer.start_span("call", context=extract.extract(received))
        fields = {}
        # Baggage is of the context that came in, which is the one around the span.
        inject.inject(fields, trace.set_span_in_context(span, extract.extract(received)))
        return {name.lower(): value for name, value in fields.items()}

    return onward


class FromW3cOrB3:
    """Reads both, as services do that stand between the two worlds."""

    def extract(self, carrier):
        return B3MultiFormat().extract(carrier, context=TraceContextTextMapPropagator().extract(carrier))


def traceparent(received):
    """The trace goes on under a new span; what stood beside it is lost."""
    version, trace_id, _, flags = received.get("traceparent", f"00-{secrets.token_hex(16)}-0-01").split("-")[:4]
    return {"traceparent": f"{version}-{trace_id}-{secrets.token_hex(8)}-{flags}"}


def datadog(received):
    """ddtrace: extracted, and injected under the id of a new span."""
    context = HTTPPropagator.extract(received)
    number = lambda: secrets.randbits(63) | 1
    onward = Context(
        trace_id=context.trace_id or number(),
        span_id=number(),
        sampling_priority=context.sampling_priority,
        meta=dict(context._meta),
    )
    fields = {}
    HTTPPropagator.inject(onward, fields)
    return fields


def datadog64(received):
    """Tracers of before Datadog had 128 bits: the low half of the id, and nothing that says the other."""
    trace_id = received.get("x-datadog-trace-id") or str(secrets.randbits(63) | 1)
    return {"x-datadog-trace-id": trace_id, "x-datadog-parent-id": str(secrets.randbits(63) | 1)}


STYLES = {
    # As reverse proxies do.
    "everything": picked(ALL),
    "full": picked(W3C),
    "baggage": instrumented(propagate.get_global_textmap(), propagate.get_global_textmap()),
    "tracestate": instrumented(TraceContextTextMapPropagator(), TraceContextTextMapPropagator()),
    "traceparent": traceparent,
    "b3": instrumented(B3MultiFormat(), B3MultiFormat()),
    "b3-single": instrumented(B3SingleFormat(), B3SingleFormat()),
    "bridge": instrumented(FromW3cOrB3(), B3MultiFormat()),
    "datadog": datadog,
    "datadog-64": datadog64,
    "request-id": picked(["x-request-id"]),
    "none": picked([]),
}
