//! The borrowed view of a request head that identify, route and admit read. They know no HTTP library, so that
//! every codec, a test and a fuzzer can give them a head.

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
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// The first value of the field `name`.
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

/// The head of a request that the HTTP library parsed, with the authority that was checked.
#[derive(Clone, Copy, Debug)]
pub struct HttpHead<'a> {
    parts: &'a http::request::Parts,
    authority: &'a str,
    is_secure: bool,
}

impl<'a> HttpHead<'a> {
    /// A view of `parts`; `authority` is the one that [`crate::accept::request::check`] found, and `is_secure` says
    /// whether they came over TLS.
    pub const fn new(parts: &'a http::request::Parts, authority: &'a str, is_secure: bool) -> Self {
        Self { parts, authority, is_secure }
    }
}

impl Head for HttpHead<'_> {
    fn method(&self) -> &str {
        self.parts.method.as_str()
    }

    fn authority(&self) -> &str {
        self.authority
    }

    fn path(&self) -> &str {
        self.parts.uri.path()
    }

    fn query(&self) -> Option<&str> {
        self.parts.uri.query()
    }

    fn is_secure(&self) -> bool {
        self.is_secure
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        self.parts.headers.get(name).map(http::HeaderValue::as_bytes)
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

    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}
