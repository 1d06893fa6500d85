//! Time-outs of a rule, in the durations of the Gateway API (GEP-2257).

use sidetrack_config::stream::RouteTimeouts;

use super::gateway_conditions::Problem;
use super::http_route_match::unsupported;
use crate::gateway_api::RuleTimeouts;

/// Reads the time-outs of a rule; zero is none.
pub(super) fn read(written: Option<&RuleTimeouts>) -> Result<RouteTimeouts, Problem> {
    let Some(written) = written else { return Ok(RouteTimeouts::default()) };
    let one = |text: &Option<String>| text.as_deref().map(millis).transpose();
    let (request, backend_request) = (one(&written.request)?, one(&written.backend_request)?);
    if let (Some(whole @ 1..), Some(part)) = (request, backend_request)
        && part > whole
    {
        return Err(unsupported(
            "`timeouts.backendRequest` is longer than `timeouts.request`, which holds it",
        ));
    }
    Ok(RouteTimeouts { request, backend_request })
}

/// `1h30m`, `500ms`: at most four numbers of at most five digits, each with its unit.
fn millis(text: &str) -> Result<u64, Problem> {
    let bad = || unsupported(format!("`{text}` is no duration; write one as in `10s`, `500ms` or `1h30m`"));
    let mut rest = text;
    let mut sum = 0_u64;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at_checked(digits).ok_or_else(bad)?;
        if number.len() > 5 {
            return Err(bad());
        }
        let number: u64 = number.parse().map_err(|_| bad())?;
        // `ms` first, since `m` begins it.
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        let (next, factor) = units
            .iter()
            .find_map(|(name, factor)| Some((unit.strip_prefix(name)?, factor)))
            .ok_or_else(bad)?;
        sum += number * factor;
        rest = next;
        if rest.is_empty() {
            return Ok(sum);
        }
    }
    Err(bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_gateway_api() {
        let cases = [
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1m1ms", 60_001),
            ("1h1m1s1ms", 3_661_001),
            ("99999h", 359_996_400_000),
        ];
        for (text, expected) in cases {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5s", "100000s", "1h1m1s1ms1s", "1d", "1s ", " 1s", "1S", "1ss"]
        {
            assert!(millis(text).is_err(), "{text}");
        }
    }
}
