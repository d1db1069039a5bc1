//! The tokens of one key: what comes in a second, up to a burst.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use hyper::header::HeaderValue;

use super::rate_limit::{Rate, RateLimited, RateState, Unit, policy};

/// The tokens of one key.
pub struct Bucket<C: Clock = DefaultClock> {
    rate: Rate,
    unit: Unit,
    policy: HeaderValue,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, unit: Unit) -> Bucket {
        Bucket::with_clock(rate, unit, DefaultClock::default())
    }
}

impl<C: Clock> Bucket<C> {
    fn with_clock(rate: Rate, unit: Unit, clock: C) -> Bucket<C> {
        let quota = Quota::with_period(rate.interval())
            .unwrap_or(Quota::per_second(rate.per_second()))
            .allow_burst(rate.burst());
        Bucket {
            rate,
            unit,
            policy: policy(rate, unit),
            limiter: RateLimiter::direct_with_clock(quota, clock).with_middleware(),
        }
    }

    /// Whether this is a bucket of this rate and unit.
    pub fn is_for(&self, rate: Rate, unit: Unit) -> bool {
        (self.rate, self.unit) == (rate, unit)
    }

    /// Spends all or nothing.
    ///
    /// # Errors
    /// [`RateLimited`]: not now, or not ever.
    pub fn spend(&self, count: NonZeroU32) -> Result<RateState, RateLimited> {
        let state = |remaining| RateState::new(self.policy.clone(), self.unit, remaining);
        match self.limiter.check_n(count) {
            Ok(Ok(taken)) => Ok(state(taken.remaining_burst_capacity())),
            Ok(Err(not_yet)) => {
                let wait = not_yet.wait_time_from(self.limiter.clock().now());
                // The tokens that are still to come until this request passes are those that it lacks now.
                let lacking = wait.as_nanos().div_ceil(self.rate.interval().as_nanos());
                let lacking = u32::try_from(lacking).unwrap_or(u32::MAX);
                Err(RateLimited::Wait {
                    seconds: whole_seconds(wait),
                    state: state(count.get().saturating_sub(lacking)),
                })
            }
            Err(_) => Err(self.never(count.get() as usize)),
        }
    }

    /// How many may come at once.
    pub fn burst(&self) -> usize {
        self.rate.burst().get() as usize
    }

    /// The error for more than may ever come at once.
    pub fn never(&self, count: usize) -> RateLimited {
        let burst = self.rate.burst().get();
        RateLimited::Never { count, burst }
    }
}

/// Rounded up, at least 1.
fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_nanos().div_ceil(1_000_000_000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::rate_limit::{BURST_MAX, RATE_MAX};
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    type TestBucket = Bucket<FakeRelativeClock>;

    fn bucket(per_second: u32, burst: u32, unit: Unit) -> (TestBucket, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = Rate::new(per_second, Some(burst)).unwrap();
        (Bucket::with_clock(rate, unit, clock.clone()), clock)
    }

    fn spend(bucket: &TestBucket, count: u32) -> Result<RateState, RateLimited> {
        bucket.spend(NonZeroU32::new(count).unwrap())
    }

    fn wait(outcome: Result<RateState, RateLimited>) -> (u32, u32) {
        match outcome {
            Err(RateLimited::Wait { seconds, state }) => (seconds, state.remaining()),
            other => panic!("not asked to wait: {other:?}"),
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let (bucket, clock) = bucket(10, 100, Unit::Events);
        assert_eq!(spend(&bucket, 60).unwrap().remaining(), 40);
        assert_eq!(wait(spend(&bucket, 50)), (1, 40));
        assert_eq!(spend(&bucket, 40).unwrap().remaining(), 0);
        assert_eq!(wait(spend(&bucket, 1)), (1, 0));
        assert_eq!(wait(spend(&bucket, 100)), (10, 0));
        clock.advance(Duration::from_millis(1_050));
        assert_eq!(wait(spend(&bucket, 11)), (1, 10));
        assert_eq!(spend(&bucket, 10).unwrap().remaining(), 0);
    }

    #[test]
    fn an_idle_key_gathers_no_more_than_its_burst() {
        let (bucket, clock) = bucket(10, 100, Unit::Events);
        spend(&bucket, 100).unwrap();
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(spend(&bucket, 1).unwrap().remaining(), 99);
    }

    #[test]
    fn what_is_larger_than_the_burst_never_passes_and_takes_nothing() {
        let (bucket, _) = bucket(10, 100, Unit::Events);
        let never = spend(&bucket, 101).unwrap_err();
        let (count, burst) = (101, 100);
        assert_eq!(never, RateLimited::Never { count, burst });
        assert_eq!(
            never.to_string(),
            "101 events at once are more than this key may ever send; send at most 100 at once"
        );
        assert_eq!(spend(&bucket, 100).unwrap().remaining(), 0);
    }

    #[test]
    fn threads_share_one_bucket() {
        let (bucket, _) = bucket(1, 10_000, Unit::Events);
        let passed = std::thread::scope(|scope| {
            let takers = [(); 4].map(|()| scope.spawn(|| (0..5_000).filter(|_| spend(&bucket, 1).is_ok()).count()));
            takers.map(|taker| taker.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!(passed, 10_000);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_passes(
            per_second in 1..=RATE_MAX,
            burst in 1..=BURST_MAX,
            steps in prop::collection::vec((0_u64..3_000_000_000, 1..=BURST_MAX), 1..50),
        ) {
            let (bucket, clock) = bucket(per_second, burst, Unit::Events);
            let (mut passed, mut nanoseconds) = (0_u128, 0_u128);
            for (pause, wanted) in steps {
                clock.advance(Duration::from_nanos(pause));
                nanoseconds += u128::from(pause);
                let count = 1 + wanted % burst;
                match spend(&bucket, count) {
                    Ok(_) => passed += u128::from(count),
                    // Exactly what is said to be left passes, and not one more.
                    Err(limited) => {
                        let (_, left) = wait(Err(limited));
                        prop_assert!(left < count);
                        if left > 0 {
                            prop_assert_eq!(spend(&bucket, left).unwrap().remaining(), 0);
                            passed += u128::from(left);
                        }
                        prop_assert!(spend(&bucket, 1).is_err());
                    }
                }
                let allowed = u128::from(burst) * 1_000_000_000 + u128::from(per_second) * nanoseconds;
                prop_assert!(passed * 1_000_000_000 <= allowed);
            }
        }

        #[test]
        fn a_client_that_waits_as_long_as_asked_passes_and_a_second_earlier_does_not(
            per_second in 1..=1_000_u32,
            burst in 1..=100_000_u32,
            first in any::<u32>(),
            second in any::<u32>(),
        ) {
            let (first, second) = (1 + first % burst, 1 + second % burst);
            let (bucket, clock) = bucket(per_second, burst, Unit::Events);
            spend(&bucket, first).unwrap();
            if let Err(limited) = spend(&bucket, second) {
                let (seconds, _) = wait(Err(limited));
                clock.advance(Duration::from_secs(u64::from(seconds) - 1));
                prop_assert!(spend(&bucket, second).is_err());
                clock.advance(Duration::from_secs(1));
                prop_assert!(spend(&bucket, second).is_ok());
            }
        }
    }
}
