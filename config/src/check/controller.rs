//! What a file may not say where a controller owns the table: two owners would each undo what the other one says.

use super::report::Report;
use crate::document::Document;
use crate::source_map::At;

/// Refuses services, routes and previews.
pub(super) fn refuse_its_own(document: &Document, report: &mut Report<'_>) {
    let root = At::ROOT;
    for (written, key) in [
        (!document.services.is_empty(), "services"),
        (!document.routes.is_empty(), "routes"),
        (!document.previews.is_empty(), "previews"),
        (document.previews_dir.is_some(), "previewsDir"),
    ] {
        if written {
            let message = format!("`{key}` is the controller's to say, and this proxy follows one");
            let allowed = "either this, or `--controller`: leave one of the two out";
            report.problem_at_key(&root.key(key), message, allowed);
        }
    }
}
