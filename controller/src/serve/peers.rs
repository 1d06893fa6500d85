//! The other replicas, asked over HTTPS with our own token.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sidetrack_config::Key;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::previews::{Local, Unreachable};
use super::{PeerSettings, ServeError, tls};

/// How long a replica may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most replicas that are asked.
const MAX_PEERS: usize = 16;
/// The most bytes of an answer: 10,000 previews are a tenth of it.
const MAX_ANSWER: usize = 16 << 20;

/// How they are found and asked.
#[derive(Debug)]
pub(super) struct Peers {
    host: Box<str>,
    name: ServerName<'static>,
    ca_file: PathBuf,
    token_file: PathBuf,
}

impl Peers {
    /// Reads the settings, and sees that the CA file is one.
    pub(super) fn new(settings: &PeerSettings) -> Result<Self, ServeError> {
        let wrong = || ServeError::Peers(settings.host.clone());
        let (host, port) = settings.host.rsplit_once(':').ok_or_else(wrong)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        port.parse::<u16>().map_err(|_| wrong())?;
        tls::roots(&settings.ca_file)?;
        Ok(Self {
            host: settings.host.clone(),
            name,
            ca_file: settings.ca_file.clone(),
            token_file: settings.token_file.clone(),
        })
    }

    /// Asks all at once, about one key or all. A name that gives no address is one that can't be reached.
    pub(super) async fn ask(&self, key: Option<&Key>) -> Vec<Result<Local, Unreachable>> {
        let prepared = async { Ok((self.token().await?, self.connector()?, self.addresses().await?)) };
        let (token, connector, addresses) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return vec![Err(Unreachable { replica: self.host.to_string(), error })],
        };
        let target =
            key.map_or("/v1/previews?local=1".to_owned(), |key| format!("/v1/previews/{key}?local=1"));
        let asked = addresses.into_iter().map(|address| {
            let (connector, token, target) = (connector.clone(), &token, &target);
            async move {
                let answer =
                    tokio::time::timeout(PATIENCE, self.one(address, connector, token, target)).await;
                let answer =
                    answer.unwrap_or_else(|_| Err(format!("nothing within {} s", PATIENCE.as_secs())));
                answer.map_err(|error| Unreachable { replica: address.to_string(), error })
            }
        });
        join_all(asked).await
    }

    async fn one(
        &self,
        address: SocketAddr,
        connector: TlsConnector,
        token: &str,
        target: &str,
    ) -> Result<Local, String> {
        let tcp = TcpStream::connect(address).await.map_err(said)?;
        let stream = connector.connect(self.name.clone(), tcp).await.map_err(said)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
        let request = Request::get(target)
            .header(HOST, &*self.host)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Empty::<Bytes>::new())
            .map_err(said)?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(said)?;
            let status = response.status();
            let body =
                Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(said)?.to_bytes();
            match status {
                StatusCode::OK => serde_json::from_slice(&body).map_err(said),
                _ => Err(format!("{status}: {}", String::from_utf8_lossy(body.get(..300).unwrap_or(&body)))),
            }
        };
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            answer = &mut answered => answer,
            ended = connection => {
                ended.map_err(said)?;
                answered.await
            }
        }
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let found = tokio::time::timeout(PATIENCE, lookup_host(&*self.host)).await;
        let found = found.map_err(|_| "its name takes too long to resolve".to_owned())?.map_err(said)?;
        let mut addresses: Vec<SocketAddr> = found.take(MAX_PEERS).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    async fn token(&self) -> Result<String, String> {
        let file = self.token_file.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(file)).await.map_err(said)?;
        read.map(|token| token.trim().to_owned())
            .map_err(|error| format!("our own token {} can't be read: {error}", self.token_file.display()))
    }

    /// Made anew each time, since the CA may have been replaced.
    fn connector(&self) -> Result<TlsConnector, String> {
        let roots: RootCertStore = tls::roots(&self.ca_file).map_err(said)?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(said)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
