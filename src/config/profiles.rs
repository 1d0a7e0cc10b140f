//! What the values of keys that nobody gave follow from.
//!
//! `paper` is NATv2 as published (with NAT's own counts where the method is `nat`); `quick` is the
//! default, the same method in about two minutes on two cores with the built-in digits; `tiny` is
//! for tests. Data and weights are the built-in ones in all of them.

use super::search::Method;
use super::training::Schedule;
use super::words;
use crate::space::sample::Policy;

words!(
    /// A set of values for all keys.
    Profile {
        /// The published settings.
        Paper = "paper",
        /// A search of two minutes on two cores.
        Quick = "quick",
        /// A search of seconds, for tests.
        Tiny = "tiny",
    }
);

/// What decides the other values.
pub(super) struct Given<'a> {
    pub(super) command: &'a str,
    pub(super) profile: Profile,
    pub(super) method: Method,
    pub(super) archive: Option<usize>,
    pub(super) candidates: Option<usize>,
    pub(super) train: Schedule,
    pub(super) warmup: Schedule,
}

impl Given<'_> {
    /// The profile's value.
    pub(super) fn of<T>(&self, paper: T, quick: T, tiny: T) -> T {
        match self.profile {
            Profile::Paper => paper,
            Profile::Quick => quick,
            Profile::Tiny => tiny,
        }
    }

    /// A value that is set in the profile for tests alone.
    pub(super) fn in_tiny<T>(&self, value: T) -> Option<T> {
        self.of(None, None, Some(value))
    }

    /// The method's value.
    pub(super) fn nat_or<T>(&self, nat: T, natv2: T) -> T {
        match self.method {
            Method::Nat => nat,
            Method::Natv2 | Method::Random => natv2,
        }
    }

    /// Which method the parts of the search follow.
    pub(super) fn policy(&self) -> Policy {
        self.nat_or(Policy::Nat, Policy::NatV2)
    }

    /// The usual size of the archive. NAT's starts with 100 networks and grows by 8 a round.
    pub(super) fn archive(&self) -> usize {
        self.of(self.nat_or(100, 300), 60, 12)
    }
}
