//! The vocabulary of the Kubernetes API without a server: what a request asks for, who asks, selectors, `Status`
//! bodies, and access to object metadata.
//!
//! Everything here is a function of its arguments. The API server, the fault engine, the operator and the controllers
//! share it, so that a fault rule and an RBAC rule mean the same thing by "list pods".

mod identity;
pub mod object;
mod quantity;
mod request;
mod selector;
mod status;

pub use identity::{Identity, claims};
pub use quantity::quantity;
pub use request::{Query, RequestInfo, Verb, percent_decode};
pub use selector::{FieldSelector, LabelSelector, SelectorError, Unmet};
pub use status::Status;
