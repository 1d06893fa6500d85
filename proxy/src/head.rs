//! The borrowed view of a request head that identify, route and admit read. They know no HTTP library, so that
//! every codec, a test and a fuzzer can give them a head.

use http::uri::{Authority, PathAndQuery};
use http::{Method, Version};

use crate::error::{Code, Failure};
use crate::fields::Fields;

/// A request head, as far as decisions need it. Field names are lower case.
pub trait Head {
    /// The method, as sent.
    fn method(&self) -> &str;
    /// `:authority`, the authority of an absolute target, or `Host`, with its port.
    fn authority(&self) -> &str;
    /// The path without its query; begins with `/`, or is `*`.
    fn path(&self) -> &str;
    /// What follows the first `?`.
    fn query(&self) -> Option<&str>;
    /// Whether it came over TLS.
    fn is_secure(&self) -> bool;
    /// Every field line, in order.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// The values of the field `name`, line by line.
    fn lines<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(|(field, _)| *field == name.as_bytes()).map(|(_, value)| value)
    }

    /// The first value of the field `name`.
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.lines(name).next()
    }

    /// Whether the name of some field may have a `_`.
    fn has_underscores(&self) -> bool {
        self.fields().any(|(name, _)| name.contains(&b'_'))
    }
}

/// The head of a request as it came, over either version of HTTP.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// `:authority`, or that of an absolute target.
    pub authority: Option<Authority>,
    /// Path and query; empty where the target has neither.
    pub target: PathAndQuery,
    /// The version.
    pub version: Version,
    /// Whether it is an extended CONNECT that asks for a WebSocket (RFC 8441).
    pub is_websocket: bool,
    /// The fields.
    pub fields: Fields,
}

impl RequestHead {
    /// What stands for a request that could not be read.
    pub fn none() -> Self {
        Self {
            method: Method::GET,
            authority: None,
            target: PathAndQuery::from_static("/"),
            version: Version::HTTP_11,
            is_websocket: false,
            fields: Fields::default(),
        }
    }
}

impl RequestHead {
    /// What a client would have sent that says what `plain` does.
    ///
    /// # Errors
    /// `malformed_request` where no request can say it.
    pub fn of(plain: &PlainHead) -> Result<Self, Failure> {
        let malformed =
            |what: &str| Failure::new(Code::MalformedRequest, format!("no request has this {what}"));
        let target = match &plain.query {
            Some(query) => format!("{}?{query}", plain.path),
            None => plain.path.clone(),
        };
        let mut fields = Fields::default();
        plain.fields.iter().for_each(|(name, value)| fields.append(name, value));
        Ok(Self {
            method: Method::from_bytes(plain.method.as_bytes()).map_err(|_| malformed("method"))?,
            target: PathAndQuery::try_from(target).map_err(|_| malformed("path or query"))?,
            fields,
            ..Self::none()
        })
    }
}

/// The head of a request with the authority that was checked.
#[derive(Clone, Copy, Debug)]
pub struct HttpHead<'a> {
    head: &'a RequestHead,
    authority: &'a str,
    is_secure: bool,
}

impl<'a> HttpHead<'a> {
    /// A view of `head`; `authority` is the one that [`crate::accept::request::check`] found, and `is_secure` says
    /// whether it came over TLS.
    pub const fn new(head: &'a RequestHead, authority: &'a str, is_secure: bool) -> Self {
        Self { head, authority, is_secure }
    }
}

impl Head for HttpHead<'_> {
    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    fn authority(&self) -> &str {
        self.authority
    }

    fn path(&self) -> &str {
        self.head.target.path()
    }

    fn query(&self) -> Option<&str> {
        self.head.target.query()
    }

    fn is_secure(&self) -> bool {
        self.is_secure
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.head.fields.iter()
    }

    #[inline]
    fn lines<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.head.fields.get_all(name)
    }

    fn has_underscores(&self) -> bool {
        self.head.fields.has_underscores()
    }
}

/// A head made by hand: of `explain`, of tests and of fuzzers.
#[derive(Clone, Debug, Default)]
pub struct PlainHead {
    /// The method.
    pub method: String,
    /// Host and port.
    pub authority: String,
    /// The path without its query.
    pub path: String,
    /// What follows the first `?`.
    pub query: Option<String>,
    /// Whether it came over TLS.
    pub is_secure: bool,
    /// Name, in lower case, and value.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl PlainHead {
    /// A GET of `url`: `http://host/path?query`, or without a scheme.
    pub fn get(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (before, query) = rest.split_once('?').map_or((rest, None), |(b, q)| (b, Some(q.to_owned())));
        let (authority, path) = before.split_at(before.find('/').unwrap_or(before.len()));
        Self {
            method: "GET".to_owned(),
            authority: authority.to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            query,
            is_secure: url.starts_with("https://"),
            fields: Vec::new(),
        }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }
}

impl Head for PlainHead {
    fn method(&self) -> &str {
        &self.method
    }

    fn authority(&self) -> &str {
        &self.authority
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn is_secure(&self) -> bool {
        self.is_secure
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()))
    }
}
