//! One pass over the fields of a head: what any carrier needs, by slot.

use sidetrack_config::carriers::Place;
use sidetrack_config::model::Carriers;
use smallvec::SmallVec;

use super::traceparent::{TraceParent, only};
use crate::head::Head;

/// The values of a field, line by line.
pub(super) type Lines<'a> = SmallVec<[&'a [u8]; 2]>;

/// The fields that identify reads.
#[derive(Default)]
pub(super) struct Scan<'a> {
    pub(super) header: Lines<'a>,
    /// A field that is our header but for `_`: some servers read both as one, so neither may pass.
    pub(super) twin: Option<&'a [u8]>,
    pub(super) baggage: Lines<'a>,
    pub(super) tracestate: Lines<'a>,
    traceparent: Lines<'a>,
    pub(super) cookie: Lines<'a>,
    pub(super) origin: Option<&'a [u8]>,
    pub(super) fetch_mode: Option<&'a [u8]>,
    pub(super) is_preflight: bool,
    /// Whether a line of `x-pr-strict` asks for it.
    pub(super) strict: bool,
    /// Headers of other tools: position in the configured sets, value.
    pub(super) tools: SmallVec<[(&'static str, &'a [u8]); 1]>,
}

impl<'a> Scan<'a> {
    pub(super) fn new<H: Head>(head: &'a H, carriers: &Carriers) -> Self {
        let mut scan = Self::default();
        let ours = carriers.header.as_deref().unwrap_or("").as_bytes();
        for (name, value) in head.fields() {
            match name {
                b"baggage" => scan.baggage.push(value),
                b"tracestate" => scan.tracestate.push(value),
                b"traceparent" => scan.traceparent.push(value),
                b"cookie" => scan.cookie.push(value),
                b"origin" => scan.origin = Some(value),
                b"sec-fetch-mode" => scan.fetch_mode = Some(value),
                b"access-control-request-method" => scan.is_preflight = head.method() == "OPTIONS",
                b"x-pr-strict" => scan.strict |= is_strict(value),
                _ => {}
            }
            if name.len() == ours.len() && !ours.is_empty() {
                if name == ours {
                    scan.header.push(value);
                } else if is_twin(name, ours) {
                    scan.twin = Some(name);
                }
            }
            for place in carriers.aliases.iter().flat_map(|tool| tool.places) {
                if let Place::Header(wanted) = place
                    && wanted.as_bytes() == name
                {
                    scan.tools.push((wanted, value));
                }
            }
        }
        scan
    }

    /// The caller's trace, where there is exactly one and it is valid.
    pub(super) fn trace_parent(&self) -> Option<TraceParent> {
        only(self.traceparent.iter().copied())
    }
}

/// Whether a line of `x-pr-strict` asks for strictness: anything but an explicit no does, since a typing error must not turn
/// it off.
pub(crate) const fn is_strict(value: &[u8]) -> bool {
    !matches!(value, b"0" | b"false" | b"")
}

/// Whether `name` is `ours` but for `_` in place of some `-`, or the other way round.
pub(crate) fn is_twin(name: &[u8], ours: &[u8]) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == ours.len() && name.iter().copied().map(dashed).eq(ours.iter().copied().map(dashed))
}
