//! Waiting for servers that start at the same time: what may pass is tried again, everything else ends at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::output::print_line;
use crate::clickhouse;
use crate::kafka::Transient;

/// Between tries. Each is a few connections.
const TRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct WaitArgs {
    /// Wait up to SECONDS for names that do not resolve, servers that do not answer, and a topic that is made by
    /// somebody else; never for what must be put right, such as a password, a grant or a table
    #[arg(long, env = "CAPTCHA_WAIT", value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
}

/// Tries until it is done, or fails with what does not pass, or too late. Each reason is said once until there is
/// another one.
///
/// # Errors
/// Those of the last try.
pub async fn until_done(args: &WaitArgs, attempt: impl AsyncFn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (began, limit) = (Instant::now(), Duration::from_secs(args.wait));
    let mut last = None;
    loop {
        let failure = match attempt().await {
            Err(failure) if is_transient(&failure) && !limit.is_zero() => failure,
            other => return other,
        };
        if began.elapsed() + TRY_INTERVAL > limit {
            return Err(failure.context(format!("waited {} s in vain", args.wait)));
        }
        let reason = format!("{failure:#}");
        if last.as_ref() != Some(&reason) {
            print_line(format_args!("waiting up to {} s: {reason}", args.wait));
            last = Some(reason);
        }
        sleep(TRY_INTERVAL).await;
    }
}

fn is_transient(failure: &anyhow::Error) -> bool {
    let of_store = failure.downcast_ref::<clickhouse::Error>();
    failure.is::<Transient>() || of_store.is_some_and(clickhouse::Error::is_transient)
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
        let done = until_done(&args, async || {
            tries.set(tries.get() + 1);
            match tries.get() {
                1 => Err(passing()).context("in the middle"),
                _ => Err(anyhow!("wrong")),
            }
        })
        .await;
        assert_eq!((done.unwrap_err().to_string(), tries.get()), ("wrong".to_string(), 2));
        let args = WaitArgs { wait: 0 };
        let at_once = until_done(&args, async || Err(passing())).await;
        assert_eq!(at_once.unwrap_err().to_string(), "away");
    }
}
