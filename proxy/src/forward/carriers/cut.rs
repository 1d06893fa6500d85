//! The carriers taken out of the fields of a request: those of a client that may not set them, and of a call that leaves
//! the estate. Other members of lists are kept byte for byte.

use sidetrack_config::carriers::Place;
use sidetrack_config::model::Carriers;

use super::{BAGGAGE, STRICT, TRACESTATE, cut_pairs};
use crate::chain::member;
use crate::context::signature;
use crate::fields::Fields;
use crate::identify::{cookie_value, has_strict_twin, is_named, is_strict, is_twin, members};
use crate::route::table::Estate;

/// What was among the fields of a request, and was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// A carrier.
    pub carriers: bool,
    /// The demand that the baseline does not answer in a preview's place.
    pub strict: bool,
}

/// Takes every carrier out of `fields`, other tools' that are read here too. Those in the target and in `Host` stay: they are
/// an address, which nobody writes by accident.
pub fn cut(fields: &mut Fields, carriers: &Carriers) -> Cut {
    let strict = fields.get_all(STRICT).any(is_strict)
        | (fields.has_underscores() && has_strict_twin(fields.iter()))
        | says_strict(fields, carriers);
    fields.remove(STRICT);
    let mut found = fields.remove(signature::FIELD);
    let before = fields.len();
    for ours in carriers.headers() {
        fields.retain(|name| !is_twin(name, ours.as_bytes()));
    }
    found |= fields.len() < before;
    for list in [BAGGAGE, TRACESTATE] {
        found |= from_list(fields, list, |name| is_carrier(carriers, list, name));
    }
    found |= carriers
        .cookie
        .as_deref()
        .is_some_and(|name| cut_pairs(fields, |pair| cookie_value(pair, name).is_some()));
    Cut { carriers: found, strict }
}

/// Takes every carrier out of a `tracestate` beside which there is no valid `traceparent`. Nobody has read it here, and who
/// begins a trace of its own may hand it on beside that one.
pub(super) fn untraced(fields: &mut Fields, carriers: &Carriers) {
    from_list(fields, TRACESTATE, |name| is_carrier(carriers, TRACESTATE, name));
}

/// Whether our member of `baggage` is a strict one.
fn says_strict(fields: &Fields, carriers: &Carriers) -> bool {
    let Some(ours) = carriers.baggage.as_deref() else { return false };
    let mut found = fields.get_all(BAGGAGE).flat_map(members).filter(|found| found.is(ours));
    found.any(|member| member.is_strict())
}

/// Takes every carrier out of the fields of a request that leaves the estate, and where hops report to; whether there was
/// a carrier.
pub fn leave(fields: &mut Fields, estate: &Estate) -> bool {
    let cut = cut(fields, &estate.carriers);
    if let Some(name) = estate.chain.member.as_deref() {
        member::write(fields, name, None);
    }
    cut.carriers
}

/// Whether the member `name` of `list` is a carrier.
fn is_carrier(carriers: &Carriers, list: &str, name: &[u8]) -> bool {
    let ours = if list == BAGGAGE { &carriers.baggage } else { &carriers.tracestate };
    let name = match list {
        TRACESTATE => name.strip_suffix(signature::SUFFIX.as_bytes()).unwrap_or(name),
        _ => name,
    };
    let mut others = carriers.aliases.iter().flat_map(|tool| tool.places);
    ours.as_deref().is_some_and(|ours| is_named(name, ours))
        || others.any(|place| match place {
            Place::Baggage(other) => list == BAGGAGE && is_named(name, other),
            Place::Tracestate(other) => list == TRACESTATE && is_named(name, other),
            Place::Header(_) | Place::Query(_) => false,
        })
}

/// Takes members out of a list; whether there were any.
fn from_list(fields: &mut Fields, list: &str, is_ours: impl Fn(&[u8]) -> bool) -> bool {
    let holds = |line: &[u8]| members(line).any(|member| is_ours(member.name));
    if !fields.get_all(list).any(holds) {
        return false;
    }
    let lines: Vec<Vec<u8>> = fields
        .get_all(list)
        .map(|line| {
            let kept = members(line).filter(|member| !is_ours(member.name));
            kept.map(|member| member.text).collect::<Vec<_>>().join(&b","[..])
        })
        .filter(|line| !line.trim_ascii().is_empty())
        .collect();
    fields.remove(list);
    lines.iter().for_each(|line| fields.append(list, line.trim_ascii()));
    true
}

#[cfg(test)]
mod tests;
