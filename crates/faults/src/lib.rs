//! Faults on a Kubernetes API: which requests, what happens to them, how often, and a record of all of it.
//!
//! A [`Rule`] has a matcher, an effect and a budget. The [`Engine`] keeps an ordered list of rules; the first that matches and
//! has budget left decides over a request. Every decision, "pass" included, is an entry in the [`Ledger`]. The [`Proxy`]
//! applies decisions to real connections and hands passed requests to an [`Upstream`].
//!
//! Architecture invariant: this crate knows Kubernetes requests, but neither KubeVirt nor Prometheus; engine and ledger take
//! the time as an argument and do no I/O.

mod client;
mod control;
mod engine;
mod ledger;
mod proxy;
mod rule;
mod stale;
mod tamper;
mod tls;
mod upstream;

pub use client::Client;
pub use control::{Control, bears_token, control_answer, control_refusal};
pub use engine::{ArmedRule, Decision, Engine};
pub use ledger::{Entry, Ledger, LedgerKey, Outcome, Protocol, Snapshot};
pub use proxy::{PodDirectory, PodIdentity, Proxy, Upstream};
pub use rule::{
    Asked, BandwidthEffect, BodyEffect, BreakEffect, Budget, ClientMatch, DelayEffect, Effect, HangEffect, Matcher, Numbers,
    OneOrMany, Pause, Phase, Rule, RuleError, StaleEffect, StatusEffect, StreamCode, TlsEffect, Unit, WatchEffect, glob,
    read_located, read_rules,
};
pub use tls::WrongIdentities;
pub use upstream::{Credentials, NetworkUpstream};
