//! What came back.

use bytes::Bytes;
use hyper::{HeaderMap, Version};
use serde_json::Value;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The version it came in.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailer fields; empty where there were none.
    pub trailers: HeaderMap,
}

impl Reply {
    /// The first value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// All values of a header field, one for each line.
    pub fn header_lines(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// Whether a list header such as `Vary` holds `member`, whatever the case.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        let lines = self.header_lines(name);
        lines.iter().flat_map(|line| line.split(',')).any(|each| each.trim().eq_ignore_ascii_case(member))
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in {} {:?}", self.status, self.text()),
        }
    }

    /// Which scripted upstream answered.
    pub fn upstream(&self) -> &str {
        match self.header("x-upstream") {
            Some(name) => name,
            None => panic!("no upstream answered, but {} {:?} {}", self.status, self.headers, self.text()),
        }
    }

    /// What the scripted upstream received.
    pub fn echo(&self) -> Echo {
        self.upstream();
        Echo(self.json())
    }

    /// The `code` of a problem that the gateway answered with.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        self.json()["code"].as_str().unwrap().to_owned()
    }

    /// The receipt's entries, nearest proxy first.
    pub fn receipts(&self) -> Vec<String> {
        let lines = self.header_lines("x-pr-route");
        lines.iter().flat_map(|line| line.split(',')).map(|entry| entry.trim().to_owned()).collect()
    }

    /// The receipt's only entry without its generation: `checkout@42;reason=fork`.
    pub fn receipt(&self) -> String {
        let receipts = self.receipts();
        let [entry] = receipts.as_slice() else { panic!("not one receipt but {receipts:?} in {self:?}") };
        let (said, generation) = entry.rsplit_once(";gen=").unwrap();
        // A proxy inside the estate says how long it took, too.
        let generation = generation.split_once(";us=").map_or(generation, |(generation, _)| generation);
        assert!(generation.parse::<u64>().is_ok(), "{entry}");
        said.to_owned()
    }

    /// Asserts that `upstream` answered with 200.
    #[track_caller]
    pub fn came_from(&self, upstream: &str) {
        assert_eq!((self.status, self.header("x-upstream")), (200, Some(upstream)), "{self:?}");
    }

    /// Asserts that the gateway itself answered with this error.
    #[track_caller]
    pub fn failed(&self, status: u16, code: &str) {
        assert_eq!(self.header("x-upstream"), None, "an upstream answered: {self:?}");
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self:?}");
    }
}

/// What a scripted upstream said that it received.
#[derive(Debug)]
pub struct Echo(Value);

impl Echo {
    /// The request method.
    pub fn method(&self) -> &str {
        self.0["method"].as_str().unwrap()
    }

    /// The request target: path and query.
    pub fn target(&self) -> &str {
        self.0["target"].as_str().unwrap()
    }

    /// The version it came in: `HTTP/1.1` or `HTTP/2.0`.
    pub fn version(&self) -> &str {
        self.0["version"].as_str().unwrap()
    }

    /// `Host`, or `:authority` where there is none.
    pub fn host(&self) -> &str {
        self.0["host"].as_str().unwrap()
    }

    /// A trailer field of the request.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.0["trailers"][name].as_str()
    }

    /// The names of the trailer fields.
    pub fn trailers(&self) -> Vec<&str> {
        self.0["trailers"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// How many bytes of body came.
    pub fn body_len(&self) -> u64 {
        self.0["body_len"].as_u64().unwrap()
    }

    /// Every header line as it came.
    pub fn headers(&self) -> Vec<(&str, &str)> {
        let lines = self.0["headers"].as_array().unwrap();
        lines.iter().map(|line| (line[0].as_str().unwrap(), line[1].as_str().unwrap())).collect()
    }

    /// All lines of one header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers().into_iter().filter(|(each, _)| *each == name).map(|(_, value)| value).collect()
    }

    /// The only line of a header; `None` where there is none.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [] => None,
            [value] => Some(value),
            more => panic!("{name} came in several lines: {more:?}"),
        }
    }

    /// The members of a list header, trimmed.
    #[track_caller]
    pub fn members(&self, name: &str) -> Vec<&str> {
        self.header(name).map(|value| value.split(',').map(str::trim).collect()).unwrap_or_default()
    }
}
