//! Whether the API server knows init containers that go on, from its version.

use std::sync::OnceLock;
use std::time::Duration;

use kube::Client;

/// The first minor version of Kubernetes 1 that has them without being told.
const FIRST: u32 = 29;
/// The pause after an answer that did not come.
const PAUSE: Duration = Duration::from_secs(2);

/// Asks until there is an answer. A cluster that is upgraded later is asked by the next process.
pub(crate) async fn learn(client: Client, native: &OnceLock<bool>) {
    loop {
        match client.apiserver_version().await {
            Ok(version) => {
                let _ = native.set(is_native(&version.major, &version.minor));
                return;
            }
            Err(error) => tracing::debug!(%error, "the version of the API server is not known yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Some providers write `29+`.
fn is_native(major: &str, minor: &str) -> bool {
    let number = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).and_then(|end| text.get(..end)).unwrap_or(text);
        digits.parse::<u32>().unwrap_or_default()
    };
    (number(major), number(minor)) >= (1, FIRST)
}

#[cfg(test)]
mod tests {
    use super::is_native;

    #[test]
    fn sidecars_are_init_containers_from_1_29_on() {
        for (major, minor, native) in [
            ("1", "20", false),
            ("1", "28+", false),
            ("1", "29", true),
            ("1", "29+", true),
            ("1", "33", true),
            ("2", "0", true),
            ("", "", false),
        ] {
            assert_eq!(is_native(major, minor), native, "{major}.{minor}");
        }
    }
}
