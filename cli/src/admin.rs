//! The admin listener of a running proxy: how a command finds it, asks it, and tells a person of a refusal.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, VARY};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;

use crate::client::{self, Reply};

/// The most bytes of a token file.
const MAX_TOKEN: u64 = 8 << 10;

/// Which proxy is asked.
#[derive(clap::Args)]
pub(crate) struct Admin {
    /// Admin address of the running proxy
    #[arg(long, env = "SIDETRACK_ADMIN", default_value = "127.0.0.1:9901", value_name = "HOST:PORT")]
    admin: String,
    /// The file with its token, where admin.tokenFile is set
    #[arg(long, env = "SIDETRACK_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// What the proxy answered.
pub(crate) struct Said {
    /// The document.
    pub(crate) document: Value,
    /// The same, as it came.
    pub(crate) text: String,
}

impl Admin {
    /// The proxy with this admin address.
    pub(crate) fn at(address: &str, token_file: Option<PathBuf>) -> Self {
        Self { admin: address.to_owned(), token_file }
    }

    /// The file with a token, if one is set.
    pub(crate) fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    /// Asks, and gives the document that was answered. `body` is a text for PUT.
    ///
    /// # Errors
    /// Why there is none, in words for the person who asked. What the proxy says against it comes word by word.
    pub(crate) fn ask(&self, method: Method, target: &str, body: String) -> anyhow::Result<Said> {
        let to = self.address();
        let mut request = Request::builder().method(method).uri(format!("http://{to}{target}"));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/yaml");
        }
        if let Some(file) = &self.token_file {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token(file)?));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| anyhow!("{to} can't be asked this: {error}; --admin wants HOST:PORT"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(client::send(request, to, None)) {
            Ok(reply) => self.judged(reply),
            Err(error) => bail!(
                "{error:#}\nIs a proxy running, and is this its admin listener? `sidetrack gateway -c FILE` starts one and \
                 logs its admin address; name it with --admin HOST:PORT or in SIDETRACK_ADMIN"
            ),
        }
    }

    /// `host:port`, also where somebody wrote a URL.
    fn address(&self) -> &str {
        self.admin.strip_prefix("http://").unwrap_or(&self.admin).trim_end_matches('/')
    }

    fn judged(&self, reply: Reply) -> anyhow::Result<Said> {
        let to = self.address();
        let is_json = matches!(reply.field("content-type"), "application/json" | "application/problem+json");
        // The listeners for traffic answer with problems of their own.
        let is_traffic = reply.fields.contains_key(VARY);
        ensure!(
            is_json && !is_traffic,
            "what answers at {to} is no admin listener (status {}); a gateway logs the address of its own, which \
             --admin HOST:PORT takes",
            reply.status
        );
        let document: Value =
            serde_json::from_slice(&reply.body).with_context(|| format!("{to} answered with broken JSON"))?;
        if reply.status.is_success() {
            return Ok(Said { document, text: String::from_utf8_lossy(&reply.body).into_owned() });
        }
        let detail = document.get("detail").and_then(Value::as_str).unwrap_or("it does not say why");
        match (reply.status, &self.token_file) {
            (StatusCode::UNAUTHORIZED, None) => {
                bail!("{to} wants a token: name the file that holds it with --token-file FILE ({detail})")
            }
            (StatusCode::UNAUTHORIZED, Some(file)) => {
                bail!("{to} does not accept the token in {} ({detail})", file.display())
            }
            _ => Err(anyhow!("{detail}")),
        }
    }
}

/// The token in a file.
///
/// # Errors
/// When it can't be read, or holds none.
pub(crate) fn token(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_TOKEN).read_to_string(&mut text))
        .with_context(|| format!("the token file {} can't be read", file.display()))?;
    let token = text.trim();
    ensure!(
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
        "the token file {} holds no token: one line of printable ASCII without spaces",
        file.display()
    );
    Ok(token.to_owned())
}
