//! Resources that all clients share, such as memory or connections. The rule: no client holds more than it leaves free.
//!
//! One greedy client gets half of a pool, two get a third each, nine a tenth each, and as much as each of them has is
//! still free for whoever comes next. This is the dynamic threshold that switches use for their buffers (Choudhury and
//! Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998), with a factor of 1.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// Bits of an IPv6 address that name one client: a network is given to each, of which it may use any address
/// (RFC 6177).
const IPV6_CLIENT_BITS: u32 = 64;

/// The holder of shares of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder(Option<Ipv6Addr>);

impl Holder {
    /// Many clients whose addresses are not known yet, as behind a proxy: what they hold together has no bound but the
    /// pool itself.
    pub const MANY: Holder = Holder(None);

    /// The client with this address; of IPv6, everybody in its network of 64 bits.
    pub fn of(address: IpAddr) -> Holder {
        Holder(Some(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => {
                let host_bits = u128::MAX >> IPV6_CLIENT_BITS;
                Ipv6Addr::from_bits(address.to_bits() & !host_bits)
            }
        }))
    }
}

/// An amount that all clients share.
#[derive(Debug)]
pub struct Pool {
    amount: usize,
    /// The most that one holder may have, however much is free.
    held_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    held: HashMap<Ipv6Addr, usize>,
}

/// A part of a pool, which goes back when it is dropped.
#[derive(Debug)]
pub struct Share {
    pool: Arc<Pool>,
    holder: Holder,
    amount: usize,
}

impl Pool {
    pub fn new(amount: usize) -> Arc<Pool> {
        Pool::with_cap(amount, amount)
    }

    /// A pool of which no holder has more than `held_max`.
    pub fn with_cap(amount: usize, held_max: usize) -> Arc<Pool> {
        Arc::new(Pool {
            amount,
            held_max,
            state: Mutex::default(),
        })
    }

    /// An empty share, which may grow.
    pub fn share(self: &Arc<Pool>, holder: Holder) -> Share {
        Share {
            pool: Arc::clone(self),
            holder,
            amount: 0,
        }
    }

    /// A share, if the pool and the rule allow it.
    pub fn acquire(self: &Arc<Pool>, holder: Holder, amount: usize) -> Option<Share> {
        let mut share = self.share(holder);
        share.grow(amount).then_some(share)
    }

    /// The amount that is in use.
    pub fn used(&self) -> usize {
        self.state().used
    }

    /// Whether half of it is free, so that there is enough for optional uses.
    pub fn is_half_free(&self) -> bool {
        self.used() <= self.amount / 2
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn grow(&self, holder: Holder, more: usize) -> bool {
        let mut state = self.state();
        let Some(left) = self.amount.checked_sub(state.used) else {
            return false;
        };
        let Some(left) = left.checked_sub(more) else {
            return false;
        };
        if let Holder(Some(address)) = holder {
            let before = state.held.get(&address).copied().unwrap_or(0);
            let held = before + more;
            // A holder without anything may have its first, also where it is the last.
            if held > self.held_max || (held > left && before > 0) {
                return false;
            }
            if held > 0 {
                state.held.insert(address, held);
            }
        }
        state.used += more;
        true
    }

    fn give_back(&self, holder: Holder, amount: usize) {
        let mut state = self.state();
        state.used -= amount;
        if let Holder(Some(address)) = holder
            && let Some(held) = state.held.get_mut(&address)
        {
            *held -= amount;
            if *held == 0 {
                state.held.remove(&address);
            }
        }
    }
}

impl Share {
    /// Acquires this much more, and returns whether the pool allows it.
    pub fn grow(&mut self, more: usize) -> bool {
        let grown = more == 0 || self.pool.grow(self.holder, more);
        if grown {
            self.amount += more;
        }
        grown
    }

    /// Grows to this amount, and returns whether the pool allows it.
    pub fn grow_to(&mut self, amount: usize) -> bool {
        self.grow(amount.saturating_sub(self.amount))
    }

    /// Gives back what is beyond this amount.
    pub fn shrink_to(&mut self, amount: usize) {
        let less = self.amount.saturating_sub(amount);
        if less > 0 {
            self.pool.give_back(self.holder, less);
            self.amount -= less;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder(last: u8) -> Holder {
        Holder::of(IpAddr::from([192, 0, 2, last]))
    }

    /// How much a holder gets that acquires as much as it can, one by one.
    fn greedy(pool: &Arc<Pool>, holder: Holder) -> Vec<Share> {
        std::iter::from_fn(|| pool.acquire(holder, 1)).collect()
    }

    #[test]
    fn one_gets_half_and_the_next_half_of_what_is_left() {
        let pool = Pool::new(100);
        let first = greedy(&pool, holder(1));
        assert_eq!(first.len(), 50);
        assert_eq!(greedy(&pool, holder(2)).len(), 25);
        drop(first);
        assert_eq!(pool.used(), 0);
        assert!(pool.state().held.is_empty());
    }

    #[test]
    fn those_who_take_in_turn_get_the_same_and_leave_as_much() {
        let pool = Pool::new(100);
        let mut shares = Vec::new();
        while let Some(more) = (1..=9).map(|last| pool.acquire(holder(last), 1)).collect() {
            let more: Vec<Share> = more;
            shares.extend(more);
        }
        assert_eq!(shares.len() / 9, 10);
        assert!(pool.acquire(holder(10), 5).is_some());
    }

    #[test]
    fn many_behind_a_proxy_get_all_and_a_cap_is_a_cap() {
        let pool = Pool::with_cap(100, 20);
        assert_eq!(greedy(&pool, holder(1)).len(), 20);
        assert_eq!(greedy(&pool, Holder::MANY).len(), 100);
    }

    #[test]
    fn the_last_one_is_had_by_whoever_has_none() {
        let pool = Pool::new(1);
        let only = pool.acquire(holder(1), 1);
        assert!(only.is_some());
        assert!(pool.acquire(holder(2), 1).is_none());
        drop(only);
        assert!(pool.acquire(holder(2), 1).is_some());
    }

    #[test]
    fn a_share_grows_and_shrinks() {
        let pool = Pool::new(100);
        let mut share = pool.share(holder(1));
        assert!(share.grow_to(40) && share.grow_to(30));
        assert!(!share.grow(20), "60 of 100 leave 40");
        assert_eq!(pool.used(), 40);
        share.shrink_to(10);
        assert_eq!(pool.used(), 10);
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_ipv6() {
        let of = |text: &str| Holder::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }

    proptest! {
        #[test]
        fn nothing_is_ever_lost_or_taken_twice(steps in prop::collection::vec((0_u8..4, 0_usize..40), 0..200)) {
            let pool = Pool::new(100);
            let mut shares = Vec::new();
            for (number, amount) in steps {
                if let Some(share) = pool.acquire(holder(number), amount) {
                    shares.push(share);
                }
                if amount % 3 == 0 && !shares.is_empty() {
                    shares.swap_remove(amount % shares.len());
                }
                let taken: usize = shares.iter().map(|share| share.amount).sum();
                prop_assert_eq!(pool.used(), taken);
                prop_assert!(taken <= 100);
                for number in 0..4 {
                    let theirs = shares.iter().filter(|share| share.holder == holder(number));
                    let held: usize = theirs.map(|share| share.amount).sum();
                    let Holder(Some(address)) = holder(number) else { unreachable!() };
                    prop_assert_eq!(pool.state().held.get(&address).copied().unwrap_or(0), held);
                }
            }
            drop(shares);
            prop_assert_eq!(pool.used(), 0);
            prop_assert!(pool.state().held.is_empty());
        }
    }
}
