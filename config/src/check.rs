//! The way from a text to a checked configuration: read, hold against the schema, then check what it says.
//! Every step writes into one report, so that a person sees all problems of a file at once.

mod access;
mod carriers;
mod context;
mod controller;
mod files;
mod grammar;
mod limits;
mod listeners;
mod names;
mod previews;
mod report;
mod routes;
mod services;
mod shape;
mod stream_route;

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::document::{self, Document};
use crate::key::Key;
use crate::model::{Config, Preview, Role, UnknownPreview};
use crate::problem::{Problem, Problems};
use crate::source_map::{self, At, Kind, Node};
use crate::stamp::{Seen, Stamp};
pub use grammar::{host_name, route_host, ttl};
pub use names::Taken;
use report::Report;
use shape::Shape;
pub use stream_route::{RouteError, read_route};

/// The biggest configuration file: 100,000 previews need a sixth of it.
const MAX_BYTES: u64 = 64 << 20;

/// A configuration that holds, and what in it is likely to surprise.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// What is legal and likely not meant, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Who says which services, routes and previews there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The file and what it names.
    File,
    /// A controller: the file must not say it too, and a listener's certificates may be the controller's.
    Controller,
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Everything that is wrong with the file, or that it cannot be read.
pub fn load(path: &Path) -> Result<Checked, Problems> {
    load_for(path, Owner::File)
}

/// Reads and checks a configuration file whose table belongs to `owner`.
///
/// # Errors
/// Everything that is wrong with the file, or that it cannot be read.
pub fn load_for(path: &Path, owner: Owner) -> Result<Checked, Problems> {
    // Before it is read: a change that comes while it is must not pass for one that was seen.
    let stamp = Stamp::of(path).ok();
    let text = read(path).map_err(|why| Problems::whole_file(path, why))?;
    let mut checked = parse_for(path, &text, owner)?;
    checked.config.files.push(Seen { path: path.to_owned(), stamp });
    Ok(checked)
}

fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("is bigger than {} MiB", MAX_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|b| **b == b'\n');
        format!("is not UTF-8 text: line {} has other bytes", line.count() + 1)
    })
}

/// Checks the text of a configuration file. Paths in it are relative to the folder of `file_name`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file_name: &Path, text: &str) -> Result<Checked, Problems> {
    parse_for(file_name, text, Owner::File)
}

/// The same for a table that belongs to `owner`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_for(file_name: &Path, text: &str, owner: Owner) -> Result<Checked, Problems> {
    let root = source_map::parse(file_name, text)?;
    let mut report = Report::new(file_name, text, &root);
    let document: Document = shaped(file_name, &root, shape::document(), &mut report)?;
    let config = config(&document, owner, &mut report);
    let warnings = report.finish()?;
    Ok(Checked { config, warnings })
}

/// Checks the text of one preview: a file of `previewsDir`, or the body of a PUT. YAML or JSON, with content
/// as under `previews.KEY`.
///
/// Services, routes and domains are those of `config`. Whether other previews claim the same names is judged
/// where all of them are known.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_preview(file_name: &Path, key: &Key, text: &str, config: &Config) -> Result<Preview, Problems> {
    PreviewParser::new(config).parse(file_name, key, text)
}

/// Checks many previews against one configuration; see [`parse_preview`].
#[derive(Debug)]
pub struct PreviewParser<'a> {
    config: &'a Config,
    taken: Taken,
}

impl<'a> PreviewParser<'a> {
    /// Gathers what the names of a preview must keep clear of.
    pub fn new(config: &'a Config) -> Self {
        Self { config, taken: Taken::new(&config.routes, &config.domains, &config.carriers) }
    }

    /// Checks the text of one preview.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(&self, file_name: &Path, key: &Key, text: &str) -> Result<Preview, Problems> {
        let root = source_map::parse(file_name, text)?;
        let mut report = Report::new(file_name, text, &root);
        // A file that is being written, or a variable that a job has not set: as a preview without forks it would bring all
        // requests of its key to the baseline.
        let forks = At::ROOT.key("forks");
        if root.is_null() {
            report.problem(&At::ROOT, "nothing is written here", previews::ALLOWED);
            return Err(report.give_up());
        }
        if root.has(&forks) && root.find(&forks).is_null() {
            report.problem(&forks, "nothing is written here", previews::ALLOWED);
        }
        let document: document::Preview = shaped(file_name, &root, shape::preview(), &mut report)?;
        let Config { services, carriers, .. } = self.config;
        let context = previews::Context { services, carriers, taken: &self.taken };
        let preview = previews::preview(*key, &document, &At::ROOT, &context, &mut report);
        report.finish()?;
        Ok(preview)
    }
}

/// Holds `root` against `shape` and makes a document of what is left.
fn shaped<'n, T: DeserializeOwned>(
    file_name: &Path,
    root: &'n Node,
    shape: &'static Shape,
    report: &mut Report<'n>,
) -> Result<T, Problems> {
    let value = shape::check(root, shape, &At::ROOT, report);
    if !matches!(root.kind, Kind::Map(_) | Kind::Null) {
        return Err(report.give_up());
    }
    // The shape is derived from `T`, so only a mistake of ours gets here.
    T::deserialize(value).map_err(|error| Problems::whole_file(file_name, error.to_string()))
}

fn config(document: &Document, owner: Owner, report: &mut Report<'_>) -> Config {
    if owner == Owner::Controller {
        controller::refuse_its_own(document, report);
    }
    let role = match document.role {
        None | Some(document::Role::Gateway) => Role::Gateway,
        Some(document::Role::Waypoint) => Role::Waypoint,
        Some(document::Role::Sidecar) => Role::Sidecar,
    };
    let carriers = carriers::carriers(&document.carriers, role, report);
    let domains = routes::domains(&document.domains, &carriers, report);
    let mut listeners =
        listeners::listeners(document.listeners.as_deref().unwrap_or_default(), owner, role, report);
    let admin = listeners::admin(document.admin.as_ref(), &listeners, report);
    let access = access::access(document.access.as_ref(), &At::ROOT.key("access"), &carriers, report);
    let services = services::services(&document.services, report);
    let routes = routes::routes(&document.routes, &services, &domains, &carriers, report);
    let taken = Taken::new(&routes, &domains, &carriers);
    let context = previews::Context { services: &services, carriers: &carriers, taken: &taken };
    let previews = previews::previews(&document.previews, &context, &domains, report);
    warn(document, owner, &listeners, report);
    listeners::places(document, &mut listeners, role, (owner, &services), report);
    let workload = listeners::workload(document, role, (owner, &services), &carriers, report);
    let previews_dir = files::previews_dir(document.previews_dir.as_ref(), report);
    Config {
        listeners,
        admin,
        domains,
        carriers,
        access,
        unknown_preview: unknown_preview(document.unknown_preview, role),
        services,
        routes,
        previews,
        previews_dir,
        state_dir: files::state_dir(document.state_dir.as_ref(), report),
        role,
        workload,
        context: context::context(&document.context, role, owner, report),
        limits: limits::limits(&document.limits, report),
        access_log: files::access_log(document.access_log.as_ref(), report),
        workers: document.workers.and_then(|count| usize::try_from(count).ok()?.try_into().ok()),
        // Last: whatever is read has been read.
        files: report.take_files(),
    }
}

fn unknown_preview(written: Option<document::UnknownPreview>, role: Role) -> UnknownPreview {
    match (written, role) {
        (Some(document::UnknownPreview::Reject), _) | (None, Role::Gateway) => UnknownPreview::Reject,
        (Some(document::UnknownPreview::Baseline), _) | (None, Role::Waypoint | Role::Sidecar) => {
            UnknownPreview::Baseline
        }
    }
}

fn warn(document: &Document, owner: Owner, listeners: &[crate::model::Listener], report: &mut Report<'_>) {
    let root = At::ROOT;
    if owner == Owner::File && document.services.is_empty() {
        report.warning(
            &root.key("services"),
            "no service is named",
            "at least one, or nothing can be routed",
        );
    }
    if owner == Owner::File && document.routes.is_empty() {
        report.warning(
            &root.key("routes"),
            "no route is named",
            "at least one, or every request is `no_route`",
        );
    }
    let inside = matches!(document.role, Some(document::Role::Waypoint | document::Role::Sidecar));
    if document.access.is_some() || inside {
        return;
    }
    for (index, listener) in listeners.iter().enumerate() {
        if !listener.address.ip().to_canonical().is_loopback() {
            let at = root.key("listeners");
            let at = at.index(index);
            let message = format!("whoever reaches {} reaches every preview", listener.address);
            report.warning(
                &at.key("address"),
                message,
                "`access` with the networks or the secret of your testers",
            );
        }
    }
}
