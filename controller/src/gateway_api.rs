//! Gateway API (`gateway.networking.k8s.io/v1`), as far as Sidetrack reads it. Fields that are not here are kept by the
//! API server and don't matter to us; those that would change what a route means and that we don't implement are read
//! as [`serde_json::Value`], so that the plan can refuse them by name instead of passing them over.

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which controller serves the Gateways of a class.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GatewayClass",
    schema = "disabled",
    status = "Value"
)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayClassSpec {
    /// `sidetrack.dev/gateway` for ours.
    pub controller_name: String,
    /// Not implemented: refused.
    pub parameters_ref: Option<Value>,
}

/// Where traffic comes in.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "Gateway",
    schema = "disabled",
    namespaced,
    status = "Value"
)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// Its class.
    pub gateway_class_name: String,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    /// Addresses that it asks for. Not implemented: refused, since ours are those of the gateways' Service.
    pub addresses: Vec<Value>,
    /// Its `frontend` asks clients for certificates. Not implemented: refused.
    pub tls: Option<Value>,
    /// Its `parametersRef` is not implemented: refused.
    pub infrastructure: Option<Value>,
}

/// One listener of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// Its name, unique in the Gateway.
    pub name: String,
    /// Which hosts; `None`: all.
    pub hostname: Option<String>,
    /// The port that clients see.
    pub port: u16,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP` or another one.
    pub protocol: String,
    /// How TLS ends, for `HTTPS`.
    pub tls: Option<ListenerTls>,
    /// Which routes may attach.
    pub allowed_routes: Option<AllowedRoutes>,
}

/// How TLS ends at a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerTls {
    /// `Terminate` (the default) or `Passthrough`.
    pub mode: Option<String>,
    /// The Secrets with the certificates.
    pub certificate_refs: Vec<ObjectRef>,
    /// Asks clients for certificates. Not implemented: refused.
    pub frontend_validation: Option<Value>,
}

/// Which routes may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedRoutes {
    /// From which namespaces.
    pub namespaces: Option<RouteNamespaces>,
    /// Of which kinds; empty: of those that fit the protocol.
    pub kinds: Vec<RouteKind>,
}

/// From which namespaces routes may attach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteNamespaces {
    /// `Same` (the default), `All`, `Selector` or `None`.
    pub from: Option<String>,
    /// For `Selector`.
    pub selector: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
}

/// A kind of route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteKind {
    /// Its group; `None`: the Gateway API's.
    pub group: Option<String>,
    /// Its kind.
    pub kind: String,
}

/// A reference to an object. What is `None` has the default of its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Its group.
    pub group: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
}

/// Who may refer to what across namespaces.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1beta1",
    kind = "ReferenceGrant",
    schema = "disabled",
    namespaced
)]
#[serde(rename_all = "camelCase", default)]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<GrantFrom>,
    /// To what in the grant's namespace.
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantFrom {
    /// Group of the referrer.
    pub group: String,
    /// Kind of the referrer.
    pub kind: String,
    /// Namespace of the referrer.
    pub namespace: String,
}

/// To what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantTo {
    /// Group of the object; empty: the core group.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Its name; `None`: any.
    pub name: Option<String>,
}

/// Hosts, matches and backends.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    plural = "httproutes",
    root = "HttpRoute",
    schema = "disabled",
    namespaced,
    status = "Value"
)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// The Gateways that it attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// Its hosts; empty: those of the listeners.
    pub hostnames: Vec<String>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A Gateway, or one listener of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// Its group; `None`: the Gateway API's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind; `None`: Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace; `None`: the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The listener; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The port of the listener; `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Its name.
    pub name: Option<String>,
    /// Any one of these suffices; empty: every request.
    pub matches: Vec<Match>,
    /// What changes on the way.
    pub filters: Vec<Filter>,
    /// Who answers.
    pub backend_refs: Vec<BackendRef>,
    /// For how long.
    pub timeouts: Option<RuleTimeouts>,
    /// Not implemented: refused.
    pub retry: Option<Value>,
    /// Not implemented: refused.
    pub session_persistence: Option<Value>,
}

/// One match: all of it must be so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// The path; `None`: any.
    pub path: Option<TypedValue>,
    /// Header fields.
    pub headers: Vec<NamedValue>,
    /// Query parameters.
    pub query_params: Vec<NamedValue>,
    /// The method.
    pub method: Option<String>,
}

/// A path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypedValue {
    /// `PathPrefix` (the default), `Exact` or `RegularExpression`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// The value; `None`: `/`.
    pub value: Option<String>,
}

/// A field or a parameter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedValue {
    /// `Exact` (the default) or `RegularExpression`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// One filter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    /// Which of the following is set.
    #[serde(rename = "type")]
    pub type_: String,
    /// `RequestHeaderModifier`.
    pub request_header_modifier: Option<HeaderFilter>,
    /// `ResponseHeaderModifier`.
    pub response_header_modifier: Option<HeaderFilter>,
    /// `RequestRedirect`.
    pub request_redirect: Option<RedirectFilter>,
    /// `URLRewrite`.
    #[serde(rename = "urlRewrite")]
    pub url_rewrite: Option<RewriteFilter>,
}

/// Changes to header fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderFilter {
    /// In place of what is there.
    pub set: Vec<NamedValue>,
    /// Beside what is there.
    pub add: Vec<NamedValue>,
    /// Away.
    pub remove: Vec<String>,
}

/// A redirect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RedirectFilter {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
    /// The port.
    pub port: Option<u16>,
    /// 302 where it does not say.
    pub status_code: Option<u16>,
}

/// A rewrite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RewriteFilter {
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
}

/// Another path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub type_: String,
    /// For `ReplaceFullPath`.
    pub replace_full_path: Option<String>,
    /// For `ReplacePrefixMatch`.
    pub replace_prefix_match: Option<String>,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendRef {
    /// Its group; `None`: the core group.
    pub group: Option<String>,
    /// Its kind; `None`: Service.
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// Its namespace; `None`: the route's.
    pub namespace: Option<String>,
    /// The Service's port.
    pub port: Option<u16>,
    /// Its share; 1 where it does not say.
    pub weight: Option<u32>,
    /// What changes for its share.
    pub filters: Vec<Filter>,
}

/// Time-outs of a rule, as the Gateway API writes durations (`500ms`, `1h30m`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleTimeouts {
    /// For the whole exchange.
    pub request: Option<String>,
    /// For one attempt.
    pub backend_request: Option<String>,
}
