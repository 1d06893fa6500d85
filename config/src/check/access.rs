//! Who may reach a preview, and the secrets for it.

use super::report::Report;
use super::{carriers, files, grammar};
use crate::document;
use crate::document::text::{HeaderName, Text};
use crate::model::{Access, AccessHeader, Carriers};
use crate::source_map::{At, shortened};

pub(super) fn access(
    written: Option<&document::Access>,
    at: &At<'_>,
    keys: &Carriers,
    report: &mut Report<'_>,
) -> Option<Access> {
    let written = written?;
    let allow = report.read_all(&at.key("allow"), &written.allow, grammar::network);
    let header = written.header.as_ref().and_then(|written| header(written, &at.key("header"), keys, report));
    let says_nothing = written.allow.is_empty() && written.header.is_none();
    if says_nothing && !report.is_troubled(at, "allow") && !report.is_troubled(at, "header") {
        report.problem(at, "names no way in", "`allow`, `header` or both; without `access` everybody may");
    }
    Some(Access { allow, header })
}

fn header(
    written: &document::AccessHeader,
    at: &At<'_>,
    keys: &Carriers,
    report: &mut Report<'_>,
) -> Option<AccessHeader> {
    let name = written.name.as_ref().and_then(|text| report.read(&at.key("name"), text, carriers::header));
    let secret = files::secret(written.secret_file.as_ref(), &at.key("secretFile"), report);
    let name = name?;
    if carriers::reads_header(keys, &name) {
        let message = format!("`{}` already carries keys", shortened(&name));
        report.problem(&at.key("name"), message, HeaderName::ALLOWED);
    }
    Some(AccessHeader { name, secret: secret? })
}
