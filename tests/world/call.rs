//! One request, said once and sent over any version of HTTP.

use bytes::Bytes;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Version};

use crate::body::{Body, empty, full};

/// A request to be sent.
pub struct Call {
    method: Method,
    host: String,
    target: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
    protocol: Option<&'static str>,
}

/// `GET target` of `host`.
pub fn get(host: &str, target: &str) -> Call {
    request("GET", host, target)
}

/// `POST target` of `host` with a body.
pub fn post(host: &str, target: &str, body: impl Into<Bytes>) -> Call {
    request("POST", host, target).body(full(body))
}

/// `PUT target` of `host` with a body.
pub fn put(host: &str, target: &str, body: impl Into<Bytes>) -> Call {
    request("PUT", host, target).body(full(body))
}

/// `DELETE target` of `host`.
pub fn delete(host: &str, target: &str) -> Call {
    request("DELETE", host, target)
}

/// `method target` of `host`.
pub fn request(method: &str, host: &str, target: &str) -> Call {
    Call {
        method: method.parse().unwrap(),
        host: host.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: empty(),
        protocol: None,
    }
}

impl Call {
    /// Adds a header line; the same name twice makes two lines.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.parse().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        self
    }

    /// Makes it the POST of a gRPC client; a method other than GET stays.
    #[must_use]
    pub fn grpc(mut self) -> Self {
        if self.method == Method::GET {
            self.method = Method::POST;
        }
        self.header("content-type", "application/grpc").header("te", "trailers")
    }

    /// Names the preview in `X-PR-ID`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("x-pr-id", key)
    }

    /// Tells the scripted upstream what to do: see [`crate::Upstream`].
    #[must_use]
    pub fn act(self, script: &str) -> Self {
        self.header("x-act", script)
    }

    /// Makes the scripted upstream add a header line to its answer.
    #[must_use]
    pub fn answer_with(self, name: &str, value: &str) -> Self {
        self.header("x-answer", &format!("{name}: {value}"))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Makes it an extended CONNECT (RFC 8441) for `protocol`; HTTP/2 only.
    #[must_use]
    pub fn connect(mut self, protocol: &'static str) -> Self {
        self.method = Method::CONNECT;
        self.protocol = Some(protocol);
        self
    }

    /// The request as `version` writes it.
    pub(crate) fn build(self, version: Version, scheme: &str) -> Request<Body> {
        let http2 = version == Version::HTTP_2;
        let uri = match http2 {
            true => format!("{scheme}://{}{}", self.host, self.target),
            false => self.target,
        };
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri.parse().unwrap();
        *request.version_mut() = version;
        if !http2 && !self.host.is_empty() {
            request.headers_mut().insert(HOST, self.host.parse().unwrap());
        }
        for (name, value) in self.headers {
            request.headers_mut().append(name, value);
        }
        if let Some(protocol) = self.protocol {
            request.extensions_mut().insert(hyper::ext::Protocol::from_static(protocol));
        }
        request
    }
}
