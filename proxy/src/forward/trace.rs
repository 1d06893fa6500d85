//! A trace that begins here: `traceparent`, and the same ids as B3 and as Datadog write them, for applications that read
//! nothing else. Where its id says the key ([`crate::context::hidden`]), it is the id of the request too.

use crate::context::Context;
use crate::context::ids::halves;
use crate::fields::Fields;
use crate::hex;

const TRACEPARENT: &str = "traceparent";

/// Begins a trace. `hidden` is the id that says the key, where there is one; else it is random.
pub(super) fn begin(
    fields: &mut Fields,
    context: &Context,
    hidden: Option<u128>,
    mut random: impl FnMut() -> u64,
) {
    let mut word = || u128::from(random());
    let trace = hidden.unwrap_or_else(|| word() << 64 | word() | 1);
    let span = word() | 1;
    let (trace_digits, span_digits) = (hex::digits::<32>(trace), hex::digits::<16>(span));
    // The second flag would say that the id is random, and ours is not.
    let sampled = if context.sampled { b"1" } else { b"0" };
    fields.insert(TRACEPARENT, &[b"00-", &trace_digits[..], b"-", &span_digits, b"-0", sampled].concat());
    if hidden.is_none() {
        return;
    }
    if context.b3 && !fields.contains("b3") && !fields.contains("x-b3-traceid") {
        // In both of its forms, since who copies fields may know one of them.
        fields.insert("b3", &[&trace_digits[..], b"-", &span_digits, b"-", sampled].concat());
        fields.insert("x-b3-traceid", &trace_digits);
        fields.insert("x-b3-spanid", &span_digits);
        fields.insert("x-b3-sampled", sampled);
    }
    if context.datadog && !fields.contains("x-datadog-trace-id") {
        let decimal = |id: u128| halves(id).1.to_string();
        fields.insert("x-datadog-trace-id", decimal(trace).as_bytes());
        fields.insert("x-datadog-parent-id", decimal(span).as_bytes());
        fields.insert("x-datadog-sampling-priority", sampled);
        fields.insert("x-datadog-tags", &[b"_dd.p.tid=", &hex::digits::<16>(trace >> 64)[..]].concat());
    }
}
