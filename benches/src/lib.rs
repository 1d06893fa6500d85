//! What the benchmarks share: an estate of any size, as text, as files and as a table.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidetrack_proxy::error::Failure;
use sidetrack_proxy::head::PlainHead;
use sidetrack_proxy::record::metrics::Metrics;
use sidetrack_proxy::route::table::Table;
use sidetrack_proxy::source::keeper::Keeper;

/// Anything that ends a benchmark; said to a person and nobody else.
pub type Failed = Box<dyn std::error::Error>;

/// A request here is never wrong, so that a refusal ends the benchmark.
pub fn refused(failure: Failure) -> Failed {
    String::from(failure.detail).into()
}

/// The domain of every estate here.
pub const DOMAIN: &str = "bench.test";

/// How big an estate is, and where its previews are written.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Services, each with a route.
    pub services: usize,
    /// Previews with one fork each, spread over the services.
    pub forks: usize,
    /// Whether each preview is a file of its own in `previewsDir`.
    pub in_files: bool,
}

/// A small estate: a team that begins.
pub const SMALL: Size = Size { services: 10, forks: 10, in_files: false };
/// The size that the product promises to be as fast with.
pub const BIG: Size = Size { services: 1_000, forks: 100_000, in_files: false };

impl Size {
    /// The same, with a file for each preview.
    #[must_use]
    pub const fn in_files(self) -> Self {
        Self { in_files: true, ..self }
    }

    /// The service that preview `number` forks.
    pub const fn service(&self, number: usize) -> usize {
        number % self.services
    }
}

/// The addresses that a configuration is written with.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Where the proxy listens.
    pub listener: SocketAddr,
    /// Where its admin listens.
    pub admin: SocketAddr,
    /// The baseline of every service.
    pub baseline: SocketAddr,
}

/// Writes the configuration of an estate into `folder`, and gives the path of the main file.
///
/// # Errors
/// What the file system says.
pub fn write(folder: &Path, size: Size, addresses: &Addresses) -> io::Result<PathBuf> {
    let previews = folder.join("previews.d");
    fs::create_dir_all(&previews)?;
    let mut text = main_file(size, addresses);
    if size.in_files {
        for number in 0..size.forks {
            fs::write(previews.join(format!("{number}.yaml")), preview(size, number))?;
        }
    } else {
        text.push_str("previews:\n");
        for number in 0..size.forks {
            let _ = writeln!(text, "  \"{number}\": {{{}}}", preview(size, number).trim_end());
        }
    }
    let path = folder.join("sidetrack.yaml");
    fs::write(&path, text)?;
    Ok(path)
}

fn main_file(size: Size, addresses: &Addresses) -> String {
    let Addresses { listener, admin, baseline } = addresses;
    let mut text = format!(
        "listeners: [{{address: \"{listener}\"}}]\nadmin: {{address: \"{admin}\"}}\ndomains: [{DOMAIN}]\n\
         accessLog: off\nworkers: 1\npreviewsDir: previews.d\nservices:\n"
    );
    // Writing to a string does not fail.
    for number in 0..size.services {
        let _ = writeln!(text, "  service-{number}: {{baseline: [\"{baseline}\"]}}");
    }
    text.push_str("routes:\n");
    for number in 0..size.services {
        let _ = writeln!(text, "  - {{host: service-{number}.{DOMAIN}, service: service-{number}}}");
    }
    text
}

/// The text of one preview: a fork with an address of its own.
fn preview(size: Size, number: usize) -> String {
    let (high, low) = (number / 250, number % 250);
    format!(
        "forks: {{service-{}: [\"127.{}.{}.{}:9\"]}}\n",
        size.service(number),
        16 + high / 250,
        high % 250,
        low + 1
    )
}

/// The table of an estate, as the proxy builds it, without a proxy.
///
/// # Errors
/// When the configuration is refused, which would be a mistake of this file.
pub fn table(size: Size) -> Result<Arc<Table>, Failed> {
    let folder = tempfile::tempdir()?;
    let any = SocketAddr::from(([127, 0, 0, 1], 9));
    let path = write(folder.path(), size, &Addresses { listener: any, admin: any, baseline: any })?;
    let config = sidetrack_config::load(&path)?.config;
    let keeper = Keeper::new(&path, config, 1, Metrics::new(1))?;
    Ok(keeper.published().load())
}

/// A request as a browser behind a gateway sends it, without a key.
pub fn request(service: usize) -> PlainHead {
    let fields = [
        ("accept", "application/json, text/plain, */*"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
        ("referer", "https://app.bench.test/items"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    ];
    let head = PlainHead::get(&format!("http://service-{service}.{DOMAIN}/items/17?page=2"));
    fields.into_iter().fold(head, |head, (name, value)| head.with(name, value))
}
