//! `sidetrack wait`: returns when every gateway has a preview in force, so that a test does not race a rollout.
//!
//! By a controller's URL it asks that, which knows every gateway. Without one it reads the `Preview` objects through the
//! kubeconfig: the controller writes there what the gateways have acknowledged.

#[cfg(feature = "kubernetes")]
mod objects;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hyper::StatusCode;
use serde_json::Value;
use sidetrack_config::Key;
use sidetrack_config::key::DEFAULT_PREFIX;

use crate::cluster::{Asker, Controller, Said};
use crate::out;

/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(500);

/// `wait`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The key: the number of the PR, or a name such as shop-42
    #[arg(value_parser = key)]
    key: Key,
    /// What to wait for
    #[arg(long = "for", id = "for", value_enum, default_value_t = Goal::Ready, value_name = "STATE")]
    goal: Goal,
    /// How long to wait, such as 90s, 5m or 1h
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = time)]
    timeout: Duration,
    /// Print what is known of the preview at the end as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    controller: Controller,
    /// The file with a token for the controller; read again when it is replaced
    #[arg(long, env = "SIDETRACK_CONTROLLER_TOKEN", value_name = "FILE", help_heading = "Controller")]
    token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Goal {
    /// Every fork is routed, and every gateway has acknowledged that
    Ready,
    /// No gateway routes to it any more
    Deleted,
}

/// Where a preview stands.
#[derive(Debug, PartialEq)]
struct Standing {
    reached: bool,
    /// What is missing, for a person.
    reasons: Vec<String>,
    document: Value,
}

/// Who is asked.
enum Source {
    Controller(Asker),
    #[cfg(feature = "kubernetes")]
    Objects(objects::Objects),
}

fn key(text: &str) -> Result<Key, String> {
    Key::parse(text, DEFAULT_PREFIX).map_err(|error| error.to_string())
}

/// `90s`, `5m`, `1h30m`; a bare number is seconds.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 90s, 5m or 1h");
    let (mut seconds, mut number) = (0_u64, None::<u64>);
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                let digit = u64::from(character.to_digit(10).unwrap_or_default());
                let grown =
                    number.unwrap_or_default().checked_mul(10).and_then(|tens| tens.checked_add(digit));
                number = Some(grown.ok_or_else(wrong)?);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let part = number.take().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
    }
    let all =
        seconds.checked_add(number.unwrap_or_default()).filter(|_| !text.is_empty()).ok_or_else(wrong)?;
    // A week is more than any pipeline, and what clocks can add up.
    if all > 7 * 86_400 {
        Err("the longest is a week, 168h".to_owned())
    } else {
        Ok(Duration::from_secs(all))
    }
}

/// Waits, and says what came of it.
pub(crate) fn run(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waited = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(wait(options)));
    match waited {
        Ok(standing) => ended(options, &standing),
        Err(error) => out::fail(&format!("{error:#}")),
    }
}

fn ended(options: &Options, standing: &Standing) -> ExitCode {
    let (key, goal) = (options.key, options.goal.word());
    let said = match (options.json, standing.reached) {
        (true, _) => out::say(&standing.document.to_string()),
        (false, true) => {
            let url = standing.document.get("url").and_then(Value::as_str);
            out::say(&format!(
                "preview {key} is {goal}{}",
                url.map(|url| format!(": {url}")).unwrap_or_default()
            ))
        }
        (false, false) => ExitCode::SUCCESS,
    };
    if standing.reached {
        return said;
    }
    let reasons = standing.reasons.join("\n  ");
    out::fail(&format!("preview {key} is not {goal} after {} s:\n  {reasons}", options.timeout.as_secs()))
}

/// Asks until it is so, or time is over.
async fn wait(options: &Options) -> anyhow::Result<Standing> {
    let end = Instant::now() + options.timeout;
    let source = source(options).await?;
    let mut told = Vec::new();
    loop {
        let standing = source.standing(options.key, options.goal).await?;
        if standing.reached || Instant::now() + PAUSE > end {
            return Ok(standing);
        }
        if standing.reasons != told {
            crate::out::tell(&format!(
                "waiting for preview {}: {}",
                options.key,
                standing.reasons.join("; ")
            ));
            told = standing.reasons;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn source(options: &Options) -> anyhow::Result<Source> {
    if let Some(asker) = options.controller.asker(options.token_file.as_deref())? {
        return Ok(Source::Controller(asker));
    }
    #[cfg(feature = "kubernetes")]
    return Ok(Source::Objects(objects::Objects::connect().await?));
    #[cfg(not(feature = "kubernetes"))]
    anyhow::bail!(
        "name the controller with --controller https://HOST:PORT or in SIDETRACK_CONTROLLER; this build can't read the \
         cluster through a kubeconfig, that takes the feature `kubernetes`"
    )
}

impl Source {
    async fn standing(&self, key: Key, goal: Goal) -> anyhow::Result<Standing> {
        match self {
            Self::Controller(asker) => Ok(match asker.ask(&format!("/v1/previews/{key}")).await? {
                Said::Document(status, document) => by_controller(status, document, goal),
                Said::NotNow(why) => Standing {
                    reached: false,
                    document: serde_json::json!({"key": key.as_str(), "ready": false, "reasons": [why]}),
                    reasons: vec![format!("the controller does not answer: {why}")],
                },
            }),
            #[cfg(feature = "kubernetes")]
            Self::Objects(objects) => objects.standing(key, goal).await,
        }
    }
}

fn by_controller(status: StatusCode, document: Value, goal: Goal) -> Standing {
    let is = |name: &str| document.get(name).and_then(Value::as_bool) == Some(true);
    let reasons = document.get("reasons").and_then(Value::as_array).into_iter().flatten();
    let mut reasons: Vec<String> = reasons.filter_map(Value::as_str).map(str::to_owned).collect();
    let reached = match goal {
        Goal::Ready => status == StatusCode::OK && is("ready"),
        Goal::Deleted => is("deleted"),
    };
    if goal == Goal::Deleted {
        match document.get("hash") {
            Some(hash) if !hash.is_null() => reasons = vec!["it is still in the table".to_owned()],
            // What keeps it from being ready is not what is missing here; the gateways are.
            _ => reasons.retain(|reason| reason.contains("gateway") || reason.contains("controller replica")),
        }
    }
    Standing { reached, reasons, document }
}

impl Goal {
    const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Deleted => "deleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("5m", 300), ("1h30m", 5400), ("45", 45), ("0", 0), ("168h", 604_800)]
        {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "m", "5x", "-1s", "1.5h", "169h", "99999999999999999999s", "\u{664}s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ready_is_what_the_controller_says_and_deleted_is_the_gateways() {
        let waiting = json!({"ready": false, "deleted": false, "hash": null,
            "reasons": ["nothing asks for it", "gateway gw-1 has not acknowledged it"]});
        let standing = by_controller(StatusCode::NOT_FOUND, waiting.clone(), Goal::Ready);
        assert_eq!((standing.reached, standing.reasons.len()), (false, 2));
        let standing = by_controller(StatusCode::NOT_FOUND, waiting, Goal::Deleted);
        assert_eq!(standing.reasons, ["gateway gw-1 has not acknowledged it"]);
        let there = json!({"ready": true, "deleted": false, "hash": "0123456789abcdef", "reasons": []});
        assert!(by_controller(StatusCode::OK, there.clone(), Goal::Ready).reached);
        let standing = by_controller(StatusCode::OK, there.clone(), Goal::Deleted);
        assert_eq!(
            (standing.reached, standing.reasons),
            (false, vec!["it is still in the table".to_owned()])
        );
        assert!(!by_controller(StatusCode::NOT_FOUND, there, Goal::Ready).reached);
        assert!(!by_controller(StatusCode::OK, json!({}), Goal::Ready).reached, "silence is not consent");
    }
}
