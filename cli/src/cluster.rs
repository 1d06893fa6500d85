//! The controller of a cluster: how a command finds it, asks it, and tells a person of a refusal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::AUTHORIZATION;
use hyper::{Request, StatusCode, Uri};
use rustls::ClientConfig;
use serde_json::Value;

use crate::admin;
use crate::client::{self, Reply};

/// Where the controller is, and how it is proven.
#[derive(clap::Args)]
pub(crate) struct Controller {
    /// The controller of the cluster, https://HOST:PORT
    #[arg(
        long = "controller",
        id = "controller",
        env = "SIDETRACK_CONTROLLER",
        value_name = "URL",
        help_heading = "Controller"
    )]
    url: Option<String>,
    /// PEM roots to prove the controller with [default: the system's]
    #[arg(
        long = "controller-ca",
        env = "SIDETRACK_CONTROLLER_CA",
        value_name = "FILE",
        help_heading = "Controller"
    )]
    ca: Option<PathBuf>,
}

/// Asks one controller.
pub(crate) struct Asker {
    base: String,
    to: String,
    tls: Arc<ClientConfig>,
    token_file: Option<PathBuf>,
}

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Said {
    /// A document, with its status.
    Document(StatusCode, Value),
    /// The controller can't be reached, or has no table yet: a moment later it may be otherwise.
    NotNow(String),
}

impl Controller {
    /// Its URL, where one is set.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.is_empty())
    }

    /// Makes ready to ask it; `None` where no URL is set.
    ///
    /// # Errors
    /// When the URL or the CA file can't be used.
    pub(crate) fn asker(&self, token_file: Option<&Path>) -> anyhow::Result<Option<Asker>> {
        let Some(url) = self.url() else { return Ok(None) };
        let base = url.trim_end_matches('/');
        let uri: Uri = base.parse().with_context(|| format!("--controller {url} is no URL"))?;
        ensure!(
            uri.scheme_str() == Some("https") && uri.path() == "/" && uri.host().is_some(),
            "--controller wants https://HOST:PORT, not {url}: a controller speaks TLS only"
        );
        let to = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(443));
        let tls = match &self.ca {
            Some(file) => client::trust(file)?,
            None => client::trust_of_system("--controller-ca")?,
        };
        Ok(Some(Asker { base: base.to_owned(), to, tls, token_file: token_file.map(Path::to_owned) }))
    }
}

impl Asker {
    /// Asks. The token is read each time: a pod's is replaced while a command waits.
    ///
    /// # Errors
    /// When it refuses, which asking again does not change.
    pub(crate) async fn ask(&self, target: &str) -> anyhow::Result<Said> {
        let mut request = Request::get(format!("{}{target}", self.base));
        if let Some(file) = &self.token_file {
            request = request.header(AUTHORIZATION, format!("Bearer {}", admin::token(file)?));
        }
        let request = request.body(Full::new(Bytes::new()))?;
        match client::send(request, &self.to, Some(&self.tls)).await {
            Ok(reply) => self.judged(&reply),
            Err(error) => Ok(Said::NotNow(format!("{error:#}"))),
        }
    }

    fn judged(&self, reply: &Reply) -> anyhow::Result<Said> {
        let document = serde_json::from_slice::<Value>(&reply.body);
        if let (
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT,
            Err(_),
        ) = (reply.status, &document)
        {
            // What stands before the controller says so while it is restarted.
            return Ok(Said::NotNow(format!("{} answers {}", self.base, reply.status)));
        }
        let document = document.map_err(|_| {
            anyhow!("what answers at {} is no Sidetrack controller (status {})", self.base, reply.status)
        })?;
        let detail =
            document.get("detail").and_then(Value::as_str).unwrap_or("it does not say why").to_owned();
        match (reply.status, &self.token_file) {
            (StatusCode::SERVICE_UNAVAILABLE, _) => Ok(Said::NotNow(detail)),
            (StatusCode::UNAUTHORIZED, None) => bail!(
                "{} wants a token: name the file that holds it with --token-file FILE. `kubectl create token ACCOUNT \
                 --audience sidetrack-controller` makes one",
                self.base
            ),
            (StatusCode::UNAUTHORIZED, Some(file)) => {
                bail!("{} does not accept the token in {} ({detail})", self.base, file.display())
            }
            (StatusCode::OK | StatusCode::NOT_FOUND, _) => Ok(Said::Document(reply.status, document)),
            _ => bail!("{detail}"),
        }
    }
}
