//! The API server without sockets: `(now, user, request) -> reply`.
//!
//! Promises: every write is atomic and has its own revision; nothing here waits, reads a clock or opens a file. Randomness
//! (uids, generated names) comes from a seeded generator, so a server built with a seed is deterministic.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use jiff::Timestamp;
use kubeapi::{Identity, RequestInfo, Status, Verb};
use serde_json::{Value, json};

use crate::aggregate;
use crate::auth::{self, Tokens};
use crate::convert;
use crate::defaults::ServiceAddresses;
use crate::fairness::Flows;
use crate::rbac::{self, Attributes, Rbac};
use crate::resource::{Registry, Resource, StorageKey};
use crate::store::{Store, Stored};
use crate::watch::Watcher;
use crate::webhook::{Admitted, Hooks, Review};

/// The version that the server reports; its API is shaped after this release.
pub(crate) const VERSION: &str = "v1.36.2";

/// What a request comes to.
pub(crate) enum Reply {
    /// One object in its stored form.
    Stored(u16, Arc<Stored>),
    /// Any JSON.
    Value(u16, Value),
    /// JSON that is encoded already.
    Json(Bytes),
    /// A list: the items in order, the list's revision, and where to go on.
    List(List),
    /// A stream of events.
    Watch(Box<Watcher>),
    /// Text.
    Text(u16, String),
    /// Webhooks must be asked first; nothing was done.
    Admit(Box<Review>),
}

/// A list of objects in their stored form.
pub(crate) struct List {
    pub(crate) items: Vec<Arc<Stored>>,
    pub(crate) revision: u64,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<usize>,
}

/// A request with its body read.
pub(crate) struct Call<'a> {
    pub(crate) who: &'a Identity,
    pub(crate) method: &'a http::Method,
    pub(crate) info: &'a RequestInfo,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) user_agent: &'a str,
    /// What webhooks said, once they were asked.
    pub(crate) admitted: Option<&'a Admitted>,
    /// What goes into `Warning` headers.
    pub(crate) warnings: &'a Mutex<Vec<String>>,
}

impl Call<'_> {
    pub(crate) fn warn(&self, warnings: Vec<String>) {
        if !warnings.is_empty() {
            self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(warnings);
        }
    }
}

pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) addresses: ServiceAddresses,
    rbac: Arc<Rbac>,
    rbac_stale: bool,
    /// Admission webhooks, as their configurations have them.
    pub(crate) hooks: Arc<Hooks>,
    /// FlowSchemas, as far as they refuse.
    pub(crate) flows: Arc<Flows>,
}

/// The whole server's state.
pub(crate) struct Core {
    state: RwLock<State>,
    pub(crate) tokens: Tokens,
    /// What the server shows to the servers of aggregated APIs.
    pub(crate) front_proxy: OnceLock<wire::pki::Identity>,
    /// Whether pods get their ServiceAccount's name on creation.
    pub(crate) service_account_admission: bool,
    random: Mutex<u64>,
}

impl Core {
    pub(crate) fn new(seed: u64, service_network: [u8; 2], token_key: &[u8], service_account_admission: bool) -> Self {
        Self {
            state: RwLock::new(State {
                store: Store::new(),
                registry: Registry::new(),
                addresses: ServiceAddresses::new(service_network),
                rbac: Arc::default(),
                rbac_stale: true,
                hooks: Arc::default(),
                flows: Arc::default(),
            }),
            front_proxy: OnceLock::new(),
            service_account_admission,
            tokens: Tokens::new(token_key),
            random: Mutex::new(seed),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic is answered with 500 and changes nothing: objects are stored last, and whole.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next random number (splitmix64).
    fn random(&self) -> u64 {
        let mut state = self.random.lock().expect("no panic while held");
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&self) -> String {
        let (a, b) = (self.random(), self.random());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | ((b >> 48) & 0x3fff),
            b & 0xffff_ffff_ffff
        )
    }

    /// The suffix of a generated name, in the alphabet of apimachinery `pkg/util/rand` (no vowels, no look-alikes).
    pub(crate) fn suffix(&self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut number = self.random();
        (0..5)
            .map(|_| {
                let letter = ALPHABET[(number % ALPHABET.len() as u64) as usize] as char;
                number /= ALPHABET.len() as u64;
                letter
            })
            .collect()
    }

    /// Rebuilds everything that is kept beside the objects.
    pub(crate) fn reload(&self) {
        let mut state = self.write();
        let definitions: Vec<Value> = state
            .store
            .list(&StorageKey::new("apiextensions.k8s.io", "customresourcedefinitions"), "", None)
            .map(|stored| stored.value())
            .collect();
        for definition in &definitions {
            state.registry.define(definition);
        }
        state.rbac_stale = true;
        state.hooks = Arc::new(Hooks::of(&state));
        state.flows = Arc::new(Flows::of(&state));
        state.registry.remotes = Arc::new(aggregate::remotes(&state));
    }

    /// Rebuilds what is kept beside the objects of some kinds.
    pub(crate) fn note_write(state: &mut State, storage: &StorageKey) {
        if storage.0.starts_with("rbac.authorization.k8s.io/") {
            state.rbac_stale = true;
        } else if storage.0.starts_with("admissionregistration.k8s.io/") {
            state.hooks = Arc::new(Hooks::of(state));
        } else if storage.0.starts_with("flowcontrol.apiserver.k8s.io/") {
            state.flows = Arc::new(Flows::of(state));
        } else if storage.0.starts_with("apiregistration.k8s.io/") {
            state.registry.remotes = Arc::new(aggregate::remotes(state));
        }
    }

    /// The index of roles and bindings.
    pub(crate) fn rbac_of(state: &State) -> Arc<Rbac> {
        if !state.rbac_stale {
            return state.rbac.clone();
        }
        let all = |plural: &str| -> Vec<Value> {
            let storage = StorageKey::new("rbac.authorization.k8s.io", plural);
            state.store.list(&storage, "", None).map(|stored| stored.value()).collect()
        };
        Arc::new(Rbac::build(&all("roles"), &all("clusterroles"), &all("rolebindings"), &all("clusterrolebindings")))
    }

    fn rbac(&self) -> Arc<Rbac> {
        {
            let state = self.read();
            if !state.rbac_stale {
                return state.rbac.clone();
            }
        }
        let mut state = self.write();
        state.rbac = Self::rbac_of(&state);
        state.rbac_stale = false;
        state.rbac.clone()
    }

    /// Whether what a token belongs to is still there: its ServiceAccount, and the pod that it is bound to. Whoever has no
    /// token of that kind is there.
    pub(crate) fn is_there(&self, who: &Identity) -> bool {
        let Some((namespace, name)) = who.as_service_account().filter(|_| !who.uid.is_empty()) else { return true };
        let state = self.read();
        let has = |plural: &str, name: &str, uid: &str| {
            let stored = state.store.get(&StorageKey::new("", plural), namespace, name);
            stored.is_some_and(|stored| uid.is_empty() || *stored.uid == *uid)
        };
        let extra = |key: &str| {
            let values = who.extra.iter().find(|(name, _)| name.strip_prefix("authentication.kubernetes.io/") == Some(key));
            values.and_then(|(_, values)| values.first()).map(String::as_str)
        };
        has("serviceaccounts", name, &who.uid)
            && extra("pod-name").is_none_or(|pod| has("pods", pod, extra("pod-uid").unwrap_or_default()))
    }

    /// Whether a user may do something.
    pub(crate) fn allows(&self, who: &Identity, wanted: &Attributes<'_>) -> bool {
        who.is_in("system:masters") || self.rbac().allows(who, wanted)
    }

    /// 403 unless the request is allowed.
    pub(crate) fn authorize(&self, call: &Call<'_>) -> Result<(), Status> {
        self.demand(call.who, &Attributes::of(call.info, call.method))
    }

    /// 403 unless a user may do something.
    pub(crate) fn demand(&self, who: &Identity, wanted: &Attributes<'_>) -> Result<(), Status> {
        if self.allows(who, wanted) { Ok(()) } else { Err(rbac::forbidden(who, wanted)) }
    }

    /// The resource that a request is about.
    pub(crate) fn resource(&self, info: &RequestInfo) -> Result<Arc<Resource>, Status> {
        self.read().registry.find(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_resource)
    }

    /// Answers an authorised request. Streams that need sockets (logs, exec) are the shell's.
    pub(crate) fn answer(self: &Arc<Self>, now: Timestamp, call: &Call<'_>) -> Result<Reply, Status> {
        // Nothing that a client sends may bring the server down: what was not foreseen is logged and answered with 500.
        let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.dispatch(now, call)));
        answered.unwrap_or_else(|_| {
            tracing::error!(method = %call.method, path = call.info.path, "a request made the server panic");
            Err(Status::new(500, "Internal error occurred: the request could not be handled"))
        })
    }

    fn dispatch(self: &Arc<Self>, now: Timestamp, call: &Call<'_>) -> Result<Reply, Status> {
        let info = call.info;
        if !info.is_resource {
            return crate::discovery::answer(&self.read().registry, call);
        }
        let resource = self.resource(info)?;
        if resource.group == "authentication.k8s.io" || resource.group == "authorization.k8s.io" {
            return self.review(now, call, &resource);
        }
        check_method(call, &resource)?;
        if resource.namespaced && info.namespace.is_empty() && !matches!(info.verb, Verb::List | Verb::Watch) {
            return Err(Status::no_such_resource());
        }
        // The path of a namespace reads as if it lay in itself, and in no other.
        let is_itself = resource.group.is_empty() && resource.plural == "namespaces" && info.namespace == info.name;
        if !resource.namespaced && !info.namespace.is_empty() && !is_itself {
            return Err(Status::no_such_resource());
        }
        let namespace = if resource.namespaced { info.namespace.as_str() } else { "" };
        match (info.subresource.as_str(), info.verb) {
            ("", Verb::Get) => self.get(&resource, namespace, &info.name).map(|stored| Reply::Stored(200, stored)),
            ("", Verb::List) => self.list(&resource, namespace, &info.query).map(Reply::List),
            ("", Verb::Watch) => crate::watch::open(self.clone(), &resource, info).map(|watcher| Reply::Watch(Box::new(watcher))),
            ("", Verb::Create) if resource.plural == "bindings" && resource.group.is_empty() => self.bind(now, call),
            ("", Verb::Create) => self.create(now, call, &resource, namespace),
            ("", Verb::Update) => self.update(now, call, &resource, namespace, ""),
            ("", Verb::Patch) => self.patch(now, call, &resource, namespace, ""),
            ("", Verb::Delete) => self.delete(now, call, &resource, namespace),
            ("", Verb::DeleteCollection) => self.delete_collection(now, call, &resource, namespace),
            ("status", Verb::Get) if resource.has_subresource("status") => {
                self.get(&resource, namespace, &info.name).map(|stored| Reply::Stored(200, stored))
            }
            ("status", Verb::Update) if resource.has_subresource("status") => {
                self.update(now, call, &resource, namespace, "status")
            }
            ("status", Verb::Patch) if resource.has_subresource("status") => {
                self.patch(now, call, &resource, namespace, "status")
            }
            ("scale", Verb::Get | Verb::Update | Verb::Patch) if resource.has_subresource("scale") => {
                self.scale(now, call, &resource, namespace)
            }
            ("token", Verb::Create) if resource.plural == "serviceaccounts" => self.token(now, call),
            ("binding", Verb::Create) if resource.plural == "pods" => self.bind(now, call),
            ("eviction", Verb::Create) if resource.plural == "pods" => self.delete(now, call, &resource, namespace),
            ("finalize", Verb::Update) if resource.plural == "namespaces" => {
                self.update(now, call, &resource, namespace, "finalize")
            }
            ("ephemeralcontainers" | "resize" | "approval", verb) if resource.has_subresource(&info.subresource) => match verb {
                Verb::Get => self.get(&resource, namespace, &info.name).map(|stored| Reply::Stored(200, stored)),
                Verb::Update => self.update(now, call, &resource, namespace, &info.subresource),
                Verb::Patch => self.patch(now, call, &resource, namespace, &info.subresource),
                Verb::List | Verb::Watch | Verb::Create | Verb::Delete | Verb::DeleteCollection | Verb::Connect => {
                    Err(method_not_allowed())
                }
            },
            _ => Err(Status::no_such_resource()),
        }
    }

    /// The reviews: they store nothing and answer at once.
    fn review(&self, now: Timestamp, call: &Call<'_>, resource: &Resource) -> Result<Reply, Status> {
        if call.info.verb != Verb::Create {
            return Err(method_not_allowed());
        }
        let mut review = crate::body::read(call)?.value;
        if !review.is_object() {
            return Err(Status::bad_request("the body is not an object"));
        }
        let spec = review["spec"].clone();
        let status = match resource.kind.as_str() {
            "TokenReview" => {
                let wanted: Vec<String> = match spec["audiences"].as_array() {
                    Some(list) if !list.is_empty() => list.iter().filter_map(|of| of.as_str().map(str::to_owned)).collect(),
                    _ => auth::default_audiences(),
                };
                let token = spec["token"].as_str().unwrap_or_default();
                // The audiences that were asked for and that the token has.
                let found =
                    wanted.iter().filter_map(|audience| Some((audience, self.tokens.verify(now, token, Some(audience))?)));
                let (audiences, mut identities): (Vec<&String>, Vec<Identity>) = found.unzip();
                match identities.pop().filter(|identity| self.is_there(identity)) {
                    Some(identity) => {
                        json!({"authenticated": true, "user": auth::user_info(&identity), "audiences": audiences})
                    }
                    None => json!({"user": {}, "error": "invalid bearer token"}),
                }
            }
            "SelfSubjectReview" => json!({"userInfo": auth::user_info(call.who)}),
            "SelfSubjectRulesReview" => {
                let namespace = spec["namespace"].as_str().unwrap_or_default();
                self.rbac().rules_of(call.who, namespace)
            }
            _ => {
                let who = if resource.kind == "SelfSubjectAccessReview" { call.who.clone() } else { reviewed(&spec) };
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let attributes = &spec["resourceAttributes"];
                let resource_path = match attributes["subresource"].as_str() {
                    Some(sub) if !sub.is_empty() => format!("{}/{sub}", text(&attributes["resource"])),
                    _ => text(&attributes["resource"]),
                };
                let (group, namespace, name) =
                    (text(&attributes["group"]), text(&attributes["namespace"]), text(&attributes["name"]));
                let (verb, path) = if attributes.is_object() {
                    (text(&attributes["verb"]), String::new())
                } else {
                    (text(&spec["nonResourceAttributes"]["verb"]), text(&spec["nonResourceAttributes"]["path"]))
                };
                let wanted = Attributes {
                    verb: &verb,
                    group: &group,
                    resource: if attributes.is_object() { resource_path } else { String::new() },
                    namespace: &namespace,
                    name: &name,
                    path: &path,
                };
                json!({"allowed": self.allows(&who, &wanted)})
            }
        };
        review["apiVersion"] = resource.api_version().into();
        review["kind"] = resource.kind.as_str().into();
        review["metadata"]["creationTimestamp"] = Value::Null;
        review["status"] = status;
        Ok(Reply::Value(201, review))
    }
}

/// 405 for a method that the path does not have.
fn check_method(call: &Call<'_>, resource: &Resource) -> Result<(), Status> {
    let info = call.info;
    let fits = match (call.method.as_str(), info.name.is_empty(), info.subresource.is_empty()) {
        ("GET" | "DELETE", _, true) | ("POST", true, true) | ("PUT" | "PATCH", false, true) => true,
        (_, _, true) => false,
        _ => true,
    };
    let verb = info.verb;
    let served = verb == Verb::Connect || !info.subresource.is_empty() || resource.verbs.contains(&verb.as_str());
    if fits && served { Ok(()) } else { Err(method_not_allowed()) }
}

fn method_not_allowed() -> Status {
    Status::new(405, "the server does not allow this method on the requested resource").with_details(json!({}))
}

fn reviewed(spec: &Value) -> Identity {
    let groups = spec["groups"].as_array().into_iter().flatten().filter_map(|group| group.as_str().map(str::to_owned)).collect();
    let name = spec["user"].as_str().unwrap_or_default().to_owned();
    let mut identity = Identity { name, groups, ..Identity::default() };
    // Who asks about a ServiceAccount by name alone means it with its groups only if he says so; kubectl does.
    if identity.groups.is_empty() && identity.as_service_account().is_some() {
        identity.groups.push("system:authenticated".to_owned());
    }
    identity
}

/// A time as the API writes it: whole seconds, UTC.
pub(crate) fn timestamp(time: Timestamp) -> String {
    thread_local! {
        /// The second that was written last: writes come many in a second.
        static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    LAST.with_borrow_mut(|(second, text)| {
        if *second != time.as_second() {
            *second = time.as_second();
            *text = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        }
        text.clone()
    })
}

/// Bytes of an object as one version of its resource shows it.
pub(crate) fn encode(stored: &Stored, resource: &Resource) -> Bytes {
    let api_version = resource.api_version();
    if *stored.api_version == *api_version {
        return stored.json.clone();
    }
    serde_json::to_vec(&convert::shown(stored, resource)).unwrap_or_default().into()
}
