//! Faults on a Kubernetes API: which requests, what happens to them, how often, and a record of all of it.
//!
//! A [`Rule`] has a matcher, an effect and a budget. The [`Engine`] keeps an ordered list of rules; the first that matches and
//! has budget left decides over a request. Every decision, "pass" included, is an entry in the [`Ledger`]. The [`Proxy`]
//! applies decisions to real connections and hands passed requests to an [`Upstream`].
//!
//! Architecture invariant: this crate knows Kubernetes requests, but neither KubeVirt nor Prometheus; engine and ledger take
//! the time as an argument and do no I/O.

mod engine;
mod ledger;
mod proxy;
mod rule;
mod tamper;
mod tls;

pub use engine::{ArmedRule, Decision, Engine};
pub use ledger::{Client, Entry, Ledger, LedgerKey, Outcome, Snapshot};
pub use proxy::{PodDirectory, PodIdentity, Proxy, Upstream};
pub use rule::{
    BandwidthEffect, BodyEffect, BreakEffect, Budget, ClientMatch, DelayEffect, Effect, HangEffect, Matcher, OneOrMany, Phase,
    Rule, RuleError, StatusEffect, TlsEffect, Unit, WatchEffect,
};
pub use tls::WrongIdentities;
