//! Kinds whose CRD may not be there: none until it is, watched from then on, none again when it goes.

use std::time::Duration;

use kube::core::{ApiResource, DynamicObject};
use kube::{Client, Error};
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::Message;
use super::follow::{End, Facts, Follow};
use crate::observe::Fact;

/// How often it is looked for a kind that is not there: one small request.
const LOOK: Duration = Duration::from_secs(5);

/// Watches a kind whenever it is there.
pub(super) async fn run<F: Fact>(
    client: Client,
    kind: ApiResource,
    mut follow: Follow<DynamicObject, Facts<DynamicObject, F>>,
) {
    let mut told = false;
    loop {
        match is_served(&client, &kind).await {
            Ok(true) => {
                if told {
                    info!("{} is installed now, and watched", follow.what);
                }
                if matches!(follow.run().await, End::Closed) {
                    return;
                }
            }
            Ok(false) => {
                if !told {
                    info!("{} is not installed; it is looked for every {} s", follow.what, LOOK.as_secs());
                    told = true;
                }
                if absent(&mut follow).await.is_err() {
                    return;
                }
            }
            // What is known stays while the API server is away.
            Err(error) => debug!("{} can't be looked for: {error}", follow.what),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Says that there is nothing of the kind, and that this is all.
async fn absent<F: Fact>(
    follow: &mut Follow<DynamicObject, Facts<DynamicObject, F>>,
) -> Result<(), mpsc::error::SendError<Message>> {
    let none = follow.sink.none();
    follow.sender.send(Message::Change(none)).await?;
    follow.sender.send(Message::Complete(follow.source)).await
}

/// Whether the API server serves the kind, by discovery: everybody who is authenticated may ask. One that has just
/// started knows no CRD yet and says so as if there were none, so that it is asked first whether it is ready.
async fn is_served(client: &Client, kind: &ApiResource) -> Result<bool, Error> {
    let ready = http::Request::get("/readyz").body(Vec::new()).map_err(Error::HttpError)?;
    match client.request_text(ready).await {
        // Who may not know has to believe it.
        Err(Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => {}
        answer => drop(answer?),
    }
    match client.list_api_group_resources(&kind.api_version).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == kind.plural)),
        Err(Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api;

    #[tokio::test]
    async fn an_api_server_that_starts_is_not_believed() {
        let kind = ApiResource::erase::<crate::preview::Preview>(&());
        let found = r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"sidetrack.dev/v1alpha1","resources":[
            {"name":"previews","singularName":"","namespaced":true,"kind":"Preview","verbs":[]}]}"#;
        for (ready, discovery, body, served) in [
            (500, 404, "no", None),
            (200, 404, "no", Some(false)),
            (403, 404, "no", Some(false)),
            (200, 500, "no", None),
            (200, 200, found, Some(true)),
        ] {
            let (client, asked) = fake_api::serve(move |line| match line {
                "GET /readyz" => (ready, "no".to_owned()),
                _ => (discovery, body.to_owned()),
            })
            .await;
            assert_eq!(is_served(&client, &kind).await.ok(), served, "{ready} {discovery}");
            assert_eq!(asked.lock().unwrap()[0], "GET /readyz");
        }
    }
}
