//! The operator's loop: it watches monitoring objects, keeps what the compiler makes of them, and tells how that went.

mod keep;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use apiserver::{Client, Gr};
use cluster::{Informer, record_event};
use kubeapi::object;
use operator::{AlertmanagerCompiler, Compiler, Owned, Rejection, Shard, World};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use keep::{Keeper, Kept};
use told::Told;

const MONITORING: &str = "monitoring.coreos.com";
const PROMETHEUSES: Gr = Gr::of(MONITORING, "prometheuses");
const ALERTMANAGERS: Gr = Gr::of(MONITORING, "alertmanagers");
/// The longest pause after which everything is looked at again, for writes that failed.
const RETRY: Duration = Duration::from_secs(1);

/// The versions that a lab has. Objects that ask for others get these: a configuration must fit the program that reads it.
pub(crate) struct Versions {
    pub(crate) prometheus: String,
    pub(crate) alertmanager: Option<String>,
}

/// Everything that the operator watches.
pub(super) struct Informers {
    prometheuses: Informer,
    alertmanagers: Informer,
    service_monitors: Informer,
    pod_monitors: Informer,
    probes: Informer,
    scrape_configs: Informer,
    rules: Informer,
    alertmanager_configs: Informer,
    namespaces: Informer,
    secrets: Informer,
    config_maps: Informer,
    services: Informer,
    sets: Informer,
    pods: Informer,
}

impl Informers {
    fn new(client: &Client) -> Self {
        let monitoring = |plural| Informer::new(client, Gr::of(MONITORING, plural));
        let core = |plural| Informer::new(client, Gr::core(plural));
        Self {
            prometheuses: Informer::new(client, PROMETHEUSES),
            alertmanagers: Informer::new(client, ALERTMANAGERS),
            service_monitors: monitoring("servicemonitors"),
            pod_monitors: monitoring("podmonitors"),
            probes: monitoring("probes"),
            scrape_configs: monitoring("scrapeconfigs"),
            rules: monitoring("prometheusrules"),
            alertmanager_configs: monitoring("alertmanagerconfigs"),
            namespaces: core("namespaces"),
            secrets: core("secrets"),
            config_maps: core("configmaps"),
            services: core("services"),
            sets: Informer::new(client, Gr::of("apps", "statefulsets")),
            // Its own: of a user's there may be ten thousand.
            pods: Informer::labelled(client, Gr::core("pods"), "app.kubernetes.io/managed-by=prometheus-operator"),
        }
    }

    fn all(&mut self) -> [&mut Informer; 14] {
        [
            &mut self.prometheuses,
            &mut self.alertmanagers,
            &mut self.service_monitors,
            &mut self.pod_monitors,
            &mut self.probes,
            &mut self.scrape_configs,
            &mut self.rules,
            &mut self.alertmanager_configs,
            &mut self.namespaces,
            &mut self.secrets,
            &mut self.config_maps,
            &mut self.services,
            &mut self.sets,
            &mut self.pods,
        ]
    }

    fn sync(&mut self) {
        for informer in self.all() {
            informer.sync();
        }
    }

    async fn changed(&mut self) {
        let waits = self.all().into_iter().map(|informer| Box::pin(informer.changed()));
        futures_util::future::select_all(waits).await;
    }

    fn world(&self, fast_alerts: bool) -> World<'_> {
        World {
            namespaces: self.namespaces.all(),
            service_monitors: self.service_monitors.all(),
            pod_monitors: self.pod_monitors.all(),
            probes: self.probes.all(),
            scrape_configs: self.scrape_configs.all(),
            rules: self.rules.all(),
            alertmanager_configs: self.alertmanager_configs.all(),
            secrets: self.secrets.all(),
            config_maps: self.config_maps.all(),
            fast_alerts,
        }
    }

    /// The informer of a kind that the operator owns or selects.
    fn of(&self, kind: &str) -> Option<(Gr, &Informer)> {
        let monitoring = |plural| Gr::of(MONITORING, plural);
        Some(match kind {
            "Secret" => (Gr::core("secrets"), &self.secrets),
            "ConfigMap" => (Gr::core("configmaps"), &self.config_maps),
            "Service" => (Gr::core("services"), &self.services),
            "StatefulSet" => (Gr::of("apps", "statefulsets"), &self.sets),
            "ServiceMonitor" => (monitoring("servicemonitors"), &self.service_monitors),
            "PodMonitor" => (monitoring("podmonitors"), &self.pod_monitors),
            "Probe" => (monitoring("probes"), &self.probes),
            "ScrapeConfig" => (monitoring("scrapeconfigs"), &self.scrape_configs),
            "PrometheusRule" => (monitoring("prometheusrules"), &self.rules),
            "AlertmanagerConfig" => (monitoring("alertmanagerconfigs"), &self.alertmanager_configs),
            _ => return None,
        })
    }

    /// A StatefulSet with its pods.
    fn shard<'a>(&'a self, namespace: &'a str, name: &str) -> Shard<'a> {
        let key = format!("{namespace}/{name}");
        let set = self.sets.get(&key).map(|set| &**set);
        Shard::of(key, set, self.pods.in_namespace(namespace).map(|pod| &**pod))
    }
}

/// What is remembered of a Prometheus or Alertmanager object.
#[derive(Default)]
struct Managed<C> {
    namespace: String,
    name: String,
    compiler: C,
    owned: Owned,
    /// What the API refused of it.
    refused: Option<String>,
    told: Told,
    /// Whether the bindings of the objects that it selects may have to be written.
    unbound: bool,
}

/// The operator.
struct Operator {
    client: Client,
    versions: Versions,
    fast_alerts: bool,
    keeper: Keeper,
    prometheuses: BTreeMap<String, Managed<Compiler>>,
    alertmanagers: BTreeMap<String, Managed<AlertmanagerCompiler>>,
    told: BTreeSet<String>,
}

pub(crate) async fn run(client: Client, versions: Versions, fast_alerts: bool, stop: CancellationToken) {
    // The kinds are defined a moment after the lab starts.
    while !client.served().iter().any(|(group, plural)| group == MONITORING && plural == "prometheuses") {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
    }
    let mut informers = Informers::new(&client);
    let mut operator = Operator {
        keeper: Keeper::new(client.clone()),
        client,
        versions,
        fast_alerts,
        prometheuses: BTreeMap::new(),
        alertmanagers: BTreeMap::new(),
        told: BTreeSet::new(),
    };
    loop {
        informers.sync();
        let done = operator.look(&informers);
        tokio::select! {
            () = stop.cancelled() => return,
            () = informers.changed() => {}
            () = tokio::time::sleep(RETRY), if !done => {}
        }
    }
}

impl Operator {
    /// Brings the cluster nearer to what the objects say; whether everything could be done.
    fn look(&mut self, informers: &Informers) -> bool {
        let world = informers.world(self.fast_alerts);
        let mut done = true;
        let mut living = BTreeSet::new();
        for prometheus in informers.prometheuses.objects().filter(|prometheus| !object::is_deleting(prometheus)) {
            let uid = object::uid(prometheus).to_owned();
            let fitted = self.fitted(prometheus, &self.versions.prometheus.clone());
            let managed = managed(&mut self.prometheuses, &uid, prometheus);
            living.insert(uid);
            if prometheus["spec"]["paused"] != true {
                if managed.compiler.update(&fitted, world)
                    && let Some(compiled) = managed.compiler.compiled()
                {
                    managed.owned = operator::owned_objects(&fitted, compiled);
                    let rejected: Vec<&Rejection> = compiled.rejected.iter().chain(&compiled.rules.rejected).collect();
                    own_failure(&mut managed.owned, &rejected);
                    managed.told.tell(&self.client, &fitted, informers, &rejected);
                    managed.unbound = true;
                }
                done &= keep(&mut self.keeper, managed, &fitted, informers);
                if managed.unbound {
                    managed.unbound = !told::bind(&self.client, prometheus, &managed.compiler, informers);
                    done &= !managed.unbound;
                }
            }
            let namespace = object::namespace(prometheus);
            let names = operator::stateful_set_names(prometheus);
            let shards: Vec<Shard<'_>> = names.iter().map(|name| informers.shard(namespace, name)).collect();
            let status = |now: &str| operator::prometheus_status(prometheus, &shards, managed.outcome(), now);
            report(&self.client, PROMETHEUSES, prometheus, status);
        }
        let gone: Vec<String> = self.prometheuses.keys().filter(|uid| !living.contains(*uid)).cloned().collect();
        for uid in gone {
            if let Some(managed) = self.prometheuses.remove(&uid) {
                told::unbind(&self.client, (&managed.namespace, &managed.name), informers);
            }
        }
        living.clear();
        for alertmanager in informers.alertmanagers.objects().filter(|alertmanager| !object::is_deleting(alertmanager)) {
            let Some(version) = self.versions.alertmanager.clone() else { continue };
            let uid = object::uid(alertmanager).to_owned();
            let fitted = self.fitted(alertmanager, &version);
            let managed = managed(&mut self.alertmanagers, &uid, alertmanager);
            living.insert(uid);
            if alertmanager["spec"]["paused"] != true {
                if managed.compiler.update(&fitted, world)
                    && let Some(compiled) = managed.compiler.compiled()
                {
                    managed.owned = operator::alertmanager_objects(&fitted, compiled);
                    let rejected: Vec<&Rejection> = compiled.rejected.iter().collect();
                    managed.told.tell(&self.client, &fitted, informers, &rejected);
                }
                done &= keep(&mut self.keeper, managed, &fitted, informers);
            }
            let shard = informers.shard(object::namespace(alertmanager), &format!("alertmanager-{}", object::name(alertmanager)));
            let status = |now: &str| operator::alertmanager_status(alertmanager, &shard, managed.outcome(), now);
            report(&self.client, ALERTMANAGERS, alertmanager, status);
        }
        self.alertmanagers.retain(|uid, _| living.contains(uid));
        done
    }

    /// An object as it would be if it asked for the version that there is; whoever asks for another is told.
    fn fitted(&mut self, owner: &Value, version: &str) -> Value {
        let asked = owner["spec"]["version"].as_str().map(|asked| asked.trim_start_matches('v'));
        if let Some(asked) = asked.filter(|asked| *asked != version) {
            let message = format!("this lab has version {version}, which runs in place of {asked}");
            if self.told.insert(format!("{} {} {message}", object::kind(owner), object::key(owner))) {
                record_event(&self.client, owner, "prometheus-operator", "Warning", "OtherVersion", &message);
            }
        }
        let mut fitted = owner.clone();
        fitted["spec"]["version"] = version.into();
        fitted
    }
}

/// What is remembered of an object; nothing yet, when it is new.
fn managed<'a, C: Default>(all: &'a mut BTreeMap<String, Managed<C>>, uid: &str, object: &Value) -> &'a mut Managed<C> {
    all.entry(uid.to_owned()).or_insert_with(|| Managed {
        namespace: object::namespace(object).to_owned(),
        name: object::name(object).to_owned(),
        ..Managed::default()
    })
}

/// Keeps the objects of an owner; whether everything could be done.
fn keep<C>(keeper: &mut Keeper, managed: &mut Managed<C>, owner: &Value, informers: &Informers) -> bool {
    if let Some(class) = operator::storage_class(owner).filter(|class| !keeper.has_storage_class(class)) {
        managed.refused = Some(format!("storage class {class:?} does not exist"));
        return false;
    }
    let kept = match operator::governed(owner, |key| informers.services.get(key).map(|service| &**service)) {
        Ok(()) => keeper.keep(owner, &managed.owned, informers),
        Err(why) => {
            let kept = keeper.keep(owner, &managed.owned.without_sets(why.clone()), informers);
            Kept { failed: kept.failed.or(Some(why)), ..kept }
        }
    };
    managed.refused = kept.failed;
    kept.done
}

/// A fault of the Prometheus itself among the rejections counts as a failure, too.
fn own_failure(owned: &mut Owned, rejected: &[&Rejection]) {
    let own = rejected.iter().find(|rejection| rejection.kind == "Prometheus");
    if let (None, Some(own)) = (&owned.failed, own) {
        owned.objects.retain(|object| object::kind(object) == "ConfigMap");
        owned.failed = Some(format!("creating config failed: {}", own.reason));
    }
}

impl<C> Managed<C> {
    /// How the last reconciliation went.
    fn outcome(&self) -> Result<(), &str> {
        self.refused.as_deref().or(self.owned.failed.as_deref()).map_or(Ok(()), Err)
    }
}

/// Writes a status that differs from what there is.
fn report(client: &Client, gr: Gr, owner: &Value, status: impl Fn(&str) -> Value) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = status(&now);
    if owner["status"] == status {
        return;
    }
    // All fields are always there, so merging replaces them all.
    let patch = json!({"status": status});
    if let Err(error) = client.merge(gr, object::namespace(owner), object::name(owner), "status", &patch) {
        tracing::warn!(%error, object = object::key(owner), "cannot write a status");
    }
}
