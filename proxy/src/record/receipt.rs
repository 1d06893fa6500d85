//! The receipt: what the answer to a keyed request says about the decision that it met here. What other hops say is put
//! together with it in `chain.rs`.

use crate::decision::Reason;

/// One entry: `checkout@42;reason=fork;gen=17`. `at` is a key, `baseline`, or `none` where there was no target; `stamped`
/// says that the key is not the request's, but that of the fork that sent it.
pub fn entry(service: &str, at: &str, (reason, stamped): (Reason, bool), generation: u64) -> String {
    let stamped = if stamped { ";stamped" } else { "" };
    let mut digits = itoa::Buffer::new();
    let generation = digits.format(generation);
    [service, "@", at, ";reason=", reason.as_str(), stamped, ";gen=", generation].concat()
}
