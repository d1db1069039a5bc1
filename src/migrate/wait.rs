//! Waiting for what others make at the same time, servers, users and grants: a failure that may pass is tried again,
//! every other ends at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::output::print_line;
use crate::clickhouse;
use crate::kafka::{AccessDenied, Transient};

/// Between attempts. Each is a few connections.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct WaitArgs {
    /// Wait up to SECONDS for what others make: names that do not resolve yet, servers that do not answer yet, the
    /// topic, and users, passwords and rights that are refused. The reason is printed once; after SECONDS it is the
    /// error. Never for what contradicts the settings, such as a certificate, a table, a number of partitions
    /// or a retired topic
    #[arg(
        long,
        env = "CAPTCHA_WAIT",
        value_name = "SECONDS",
        default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(..=86_400)
    )]
    wait: u64,
}

/// Tries until it succeeds, fails with an error that does not pass, or the time is over. A reason is printed once until
/// another one follows.
///
/// # Errors
/// Those of the last attempt.
pub async fn retry_until_done(args: &WaitArgs, attempt: impl AsyncFn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (start, limit) = (Instant::now(), Duration::from_secs(args.wait));
    let mut last = None;
    loop {
        let failure = match attempt().await {
            Err(failure) if is_awaited(&failure) && !limit.is_zero() => failure,
            other => return other,
        };
        if start.elapsed() + RETRY_INTERVAL > limit {
            return Err(failure.context(format!("gave up after {} s", args.wait)));
        }
        let reason = format!("{failure:#}");
        if last.as_ref() != Some(&reason) {
            print_line(format_args!("waiting up to {} s: {reason}", args.wait));
            last = Some(reason);
        }
        sleep(RETRY_INTERVAL).await;
    }
}

fn is_awaited(failure: &anyhow::Error) -> bool {
    match failure.downcast_ref::<clickhouse::Error>() {
        Some(error) => error.is_transient() || error.is_denied(),
        None => failure.is::<Transient>() || failure.is::<AccessDenied>(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[tokio::test]
    async fn what_passes_is_tried_again_and_what_does_not_ends_it() {
        let passing = || anyhow::Error::from(Transient::new("away".to_string()));
        let tries = std::cell::Cell::new(0);
        let args = WaitArgs { wait: 3_600 };
        let done = retry_until_done(&args, async || {
            tries.set(tries.get() + 1);
            match tries.get() {
                1 => Err(passing()).context("in the middle"),
                _ => Err(anyhow!("wrong")),
            }
        })
        .await;
        assert_eq!((done.unwrap_err().to_string(), tries.get()), ("wrong".to_string(), 2));
        let args = WaitArgs { wait: 0 };
        let at_once = retry_until_done(&args, async || Err(passing())).await;
        assert_eq!(at_once.unwrap_err().to_string(), "away");
    }
}
