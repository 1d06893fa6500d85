//! The time that a route gives a whole exchange: its head is waited for so long, and its body is cut where that is over.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::decision::Decision;
use crate::error::{Code, Failure};
use crate::respond::Answer;

/// The answer of `work`, which is large and stays where it is, within the time of the decision's route.
///
/// # Errors
/// Those of `work`, and `upstream_timeout` where its head is not there in time.
pub async fn within(
    decision: &Decision<'_>,
    work: Pin<&mut impl Future<Output = Result<Answer, Failure>>>,
) -> Result<Answer, Failure> {
    let limit = decision.rule.timeouts.request.unwrap_or(Duration::ZERO);
    if limit.is_zero() {
        return work.await;
    }
    let deadline = Instant::now() + limit;
    match timeout_at(deadline, work).await {
        Ok(answer) => {
            let answer = answer?;
            Ok(Answer { body: answer.body.until(deadline), ..answer })
        }
        Err(_) => {
            let detail = format!("service {} did not answer within {limit:?}", decision.service.name);
            Err(Failure::new(Code::UpstreamTimeout, detail))
        }
    }
}
