//! The API server as the one who knows tokens (TokenReview), rights (SubjectAccessReview) and pods.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, Error};

use super::auth::{Checker, NoAnswer, User};
use crate::observe;
use crate::world::{Meta, Name};

/// Asks the API server.
#[derive(Clone)]
pub struct ApiServer {
    tokens: Api<TokenReview>,
    rights: Api<SubjectAccessReview>,
    client: Client,
    audience: String,
}

impl ApiServer {
    /// For tokens of `audience`, `sidetrack-controller` in a usual cluster.
    pub fn new(client: Client, audience: &str) -> Self {
        let (tokens, rights) = (Api::all(client.clone()), Api::all(client.clone()));
        Self { tokens, rights, client, audience: audience.to_owned() }
    }

    async fn review(&self, token: &str) -> Result<Option<User>, NoAnswer> {
        let spec =
            TokenReviewSpec { audiences: Some(vec![self.audience.clone()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.tokens.create(&PostParams::default(), &review).await.map_err(no_answer)?;
        let Some(status) = answer.status.filter(|status| status.authenticated == Some(true)) else {
            return Ok(None);
        };
        // One that does not know audiences answers without: then the token is for the API server itself.
        let meant = status.audiences.is_some_and(|audiences| audiences.contains(&self.audience));
        Ok(status.user.filter(|_| meant).and_then(user))
    }

    async fn may(&self, user: &User) -> Result<bool, NoAnswer> {
        let attributes = ResourceAttributes {
            group: Some("sidetrack.dev".to_owned()),
            resource: Some("previews".to_owned()),
            verb: Some("get".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = self.rights.create(&PostParams::default(), &review).await.map_err(no_answer)?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn find(&self, name: &Name) -> Result<Option<Meta>, NoAnswer> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &name.namespace);
        let pod = pods.get_metadata_opt(&name.name).await.map_err(no_answer)?;
        Ok(pod.map(|pod| observe::meta(&pod.metadata)))
    }
}

impl Checker for ApiServer {
    fn user<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, NoAnswer>> {
        self.review(token).boxed()
    }

    fn may_read<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<bool, NoAnswer>> {
        self.may(user).boxed()
    }

    fn pod<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Option<Meta>, NoAnswer>> {
        self.find(name).boxed()
    }
}

fn user(info: UserInfo) -> Option<User> {
    Some(User {
        name: info.username.filter(|name| !name.is_empty())?,
        uid: info.uid,
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    })
}

fn no_answer(error: Error) -> NoAnswer {
    NoAnswer(error.to_string())
}
