//! From a monitor to its targets.

use kubeapi::{LabelSelector, Unmet, object};
use metrics::{Target, relabel};
use operator::{Compiled, Unselected};
use serde_json::Value;
use wire::counted;

use crate::endpoint::{Endpoint, Focus, leads_to, monitors};
use crate::explanation::{Broken, Explanation, Link, LinkName, Verdict};
use crate::facts::{Facts, Review, find};
use crate::question::{MonitorKind, Question};
use crate::target;

/// Facts with what the operator makes of them.
pub(crate) struct View<'a> {
    pub(crate) facts: &'a Facts,
    compiled: Compiled,
}

/// The links that hold, and what is at their end: targets that are scraped, or the broken link.
pub(crate) struct Outcome<'a> {
    pub(crate) links: Vec<Link>,
    pub(crate) end: Result<Vec<&'a Target>, Box<Broken>>,
}

/// What to do about a configuration that Prometheus does not load.
pub(crate) const BAD_CONFIGURATION: &str =
    "find the object that makes the configuration bad, and correct it; see the log of config-reloader";

/// What is nearest to a selector, and the requirement that it does not meet.
fn nearest_text(kind: &str, nearest: &Value, unmet: &Unmet) -> String {
    let have = unmet.found.as_ref().map_or_else(|| "no such label".to_owned(), |value| format!("{}={value:?}", unmet.key));
    format!("nearest {kind} {} has {have}, wanted is {}", object::key(nearest), unmet.requirement)
}

fn broken(link: LinkName, what: String, object: String, field: impl Into<String>, fix: String) -> Box<Broken> {
    Box::new(Broken { link, what, object, field: field.into(), fix, details: Vec::new() })
}

/// Fields as the operator's messages name them, and as objects do.
const NAMED: [(&str, &str); 2] = [("relabelConfigs", "relabelings"), ("metricRelabelConfigs", "metricRelabelings")];

/// The field that a rejection is about: `endpoints[1]: relabelConfigs: [0]: …` is the first rule of the second endpoint.
fn rejected_field(endpoint: Endpoint<'_>, reason: &str) -> Option<String> {
    let rest = ["endpoints[", "endpoint["].into_iter().find_map(|start| reason.strip_prefix(start))?;
    let (index, rest) = rest.split_once("]: ")?;
    let mut parts = rest.split(": ");
    let word = parts.next().unwrap_or_default();
    let known = NAMED.iter().find(|(named, _)| *named == word).map(|(_, field)| *field);
    let is_field = |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric());
    let place = parts.next().filter(|place| known.is_some() && place.starts_with('[')).unwrap_or_default();
    let name = format!("{}{place}", known.unwrap_or(if is_field(word) { word } else { "" }));
    let endpoint = Endpoint { index: index.parse().ok()?, ..endpoint };
    Some(endpoint.path(&name).trim_end_matches('.').to_owned())
}

impl<'a> View<'a> {
    pub(crate) fn new(facts: &'a Facts) -> Self {
        Self { facts, compiled: operator::compile(&facts.prometheus, &facts.input) }
    }

    /// Why the operator leaves an object out, if it does.
    pub(crate) fn rejected(&self, kind: &str, candidate: &Value) -> Option<&str> {
        let key = object::key(candidate);
        let mut all = self.compiled.rejected.iter().chain(&self.compiled.rules.rejected);
        all.find(|found| found.kind == kind && found.key == key).map(|found| found.reason.as_str())
    }

    fn prometheus(&self) -> String {
        format!("Prometheus {}", object::key(&self.facts.prometheus))
    }

    /// The scrape configuration of a job as it runs.
    pub(crate) fn running(&self, job: &str) -> Option<&'a Value> {
        self.facts.running.as_ref()?.iter().find(|config| config["job_name"] == job)
    }

    /// Walks from an endpoint to its targets, to those of one pod if one is asked about.
    pub(crate) fn walk(&self, endpoint: Endpoint<'a>, focus: Option<Focus<'_>>) -> Outcome<'a> {
        let mut links = Vec::new();
        let end = self.links(endpoint, focus, &mut links).map_err(|broken| self.unless_outdated(endpoint, broken));
        Outcome { links, end }
    }

    /// A link that is broken in a configuration that is not the one that was written is not what is to be mended.
    fn unless_outdated(&self, endpoint: Endpoint<'_>, found: Box<Broken>) -> Box<Broken> {
        match &self.facts.reload_failed {
            Some(why) if found.link > LinkName::Configured => broken(
                LinkName::Configured,
                format!(
                    "an older configuration runs, with job {} as it was; the new one could not be loaded: {why}",
                    endpoint.job()
                ),
                self.prometheus(),
                "status",
                BAD_CONFIGURATION.to_owned(),
            ),
            _ => found,
        }
    }

    fn links(
        &self,
        endpoint: Endpoint<'a>,
        focus: Option<Focus<'_>>,
        links: &mut Vec<Link>,
    ) -> Result<Vec<&'a Target>, Box<Broken>> {
        let mut hold = |link: LinkName, seen: String| links.push(Link { link, seen });
        self.accepted(endpoint)?;
        self.selected(endpoint.kind.name(), endpoint.monitor)?;
        hold(LinkName::Selected, format!("{} by {}", endpoint.object(), self.prometheus()));
        let config = self.configured(endpoint)?;
        hold(LinkName::Configured, format!("job {}", endpoint.job()));
        self.permitted(config, focus)?;
        stray_dash(endpoint)?;
        hold(LinkName::Permitted, self.account());
        if endpoint.kind == MonitorKind::ServiceMonitor {
            let mut services = self.services(endpoint)?;
            // What is said of a Service is said of one that leads to the pod, and rather of one that is for metrics.
            let pod = focus.and_then(|focus| find(&self.facts.pods, focus.namespace, focus.pod));
            services.sort_by_key(|service| {
                let leads = pod.is_none_or(|pod| leads_to(service, pod));
                let ports = service["spec"]["ports"].as_array().into_iter().flatten();
                let metrics = ports.filter_map(|port| port["name"].as_str()).any(|name| name.contains("metrics"));
                (!leads, !metrics)
            });
            hold(LinkName::Matched, names_of("Service", &services));
            let services = Self::with_port(endpoint, &services)?;
            self.endpoints(&services)?;
            hold(LinkName::Endpoints, names_of("Service", &services));
        } else if endpoint.kind == MonitorKind::PodMonitor {
            let pods = self.pods(endpoint)?;
            hold(LinkName::Matched, names_of("Pod", &pods));
        }
        let targets = self.kept(endpoint, config, focus)?;
        hold(LinkName::Kept, counted(targets.len(), "target"));
        let targets = target::scraped(endpoint, &targets).map_err(|mut broken| {
            if endpoint.takes_every_port() {
                broken.details.push(format!("note    {}", every_port(endpoint)));
            }
            broken
        })?;
        hold(LinkName::Scraped, format!("{} up", counted(targets.len(), "target")));
        Ok(targets)
    }

    fn accepted(&self, endpoint: Endpoint<'_>) -> Result<(), Box<Broken>> {
        let Some(reason) = self.rejected(endpoint.kind.name(), endpoint.monitor) else { return Ok(()) };
        let field = rejected_field(endpoint, reason);
        Err(broken(
            LinkName::Accepted,
            format!("the operator rejects it: {reason}"),
            endpoint.object(),
            field.unwrap_or_else(|| "spec".to_owned()),
            "correct the field; all endpoints of the object come back together".to_owned(),
        ))
    }

    /// Whether the Prometheus selects a monitoring object.
    pub(crate) fn selected(&self, kind: &str, candidate: &Value) -> Result<(), Box<Broken>> {
        let prometheus = self.prometheus();
        let object = format!("{kind} {}", object::key(candidate));
        let (namespace, name) = (object::namespace(candidate), object::name(candidate));
        let resource = kind.to_lowercase();
        let shown = |key: &str, found: &Option<String>| match found {
            Some(value) => format!("{key}={value:?}"),
            None => format!("no label {key}"),
        };
        let Err(why) = operator::selects(&self.facts.prometheus, kind, &self.facts.input.namespaces, candidate) else {
            return Ok(());
        };
        Err(match why {
            Unselected::NoSelector { field } => broken(
                LinkName::Selected,
                format!("{prometheus} selects no {kind} at all: its {field} is null"),
                prometheus,
                format!("spec.{field}"),
                format!("set spec.{field} to {{}} to select every {kind}, or to the labels that {object} has"),
            ),
            Unselected::Labels { field, requirement, key, found } => {
                let mut broken = broken(
                    LinkName::Selected,
                    format!("{object} has {}, and {prometheus} selects {requirement}", shown(&key, &found)),
                    object,
                    format!("metadata.labels[{key:?}]"),
                    match equality(&requirement) {
                        Some((key, value)) => format!("kubectl label --overwrite {resource} -n {namespace} {name} {key}={value}"),
                        None => format!("give it labels that meet {requirement}"),
                    },
                );
                broken.details.push(format!("wanted  {requirement} (spec.{field} of {prometheus})"));
                broken
            }
            Unselected::OtherNamespace { field } => broken(
                LinkName::NamespaceSelected,
                format!("{prometheus} looks only into its own namespace: its {field} is null, and {object} is in {namespace}"),
                prometheus,
                format!("spec.{field}"),
                format!("set spec.{field} to {{}} for every namespace, or to labels of namespace {namespace}"),
            ),
            Unselected::NamespaceLabels { field, requirement, key, found } => {
                let mut broken = broken(
                    LinkName::NamespaceSelected,
                    format!("namespace {namespace} has {}, and {prometheus} selects {requirement}", shown(&key, &found)),
                    format!("Namespace {namespace}"),
                    format!("metadata.labels[{key:?}]"),
                    match equality(&requirement) {
                        Some((key, value)) => format!("kubectl label --overwrite namespace {namespace} {key}={value}"),
                        None => format!("give the namespace labels that meet {requirement}"),
                    },
                );
                broken.details.push(format!("wanted  {requirement} (spec.{field} of {prometheus})"));
                broken
            }
            Unselected::Unreadable { field, why } => broken(
                LinkName::Selected,
                format!("{prometheus} has a selector that cannot be read: {why}"),
                prometheus,
                format!("spec.{field}"),
                "correct the selector".to_owned(),
            ),
        })
    }

    fn unanswered(&self) -> String {
        self.facts.unanswered.as_ref().map_or_else(String::new, |why| format!(": {why}"))
    }

    fn configured(&self, endpoint: Endpoint<'_>) -> Result<&'a Value, Box<Broken>> {
        let (job, prometheus) = (endpoint.job(), self.prometheus());
        if let Some(config) = self.running(&job) {
            return Ok(config);
        }
        let (what, object, field, fix) = if let Some(why) = &self.compiled.failed {
            let fix = "correct the Prometheus object; until then the operator leaves the configuration as it was";
            (format!("the operator writes no configuration for {prometheus}: {why}"), prometheus, "spec", fix.to_owned())
        } else if self.facts.running.is_none() {
            let fix = "see the pod's log and `kubectl describe pod`";
            (format!("{prometheus} does not answer{}", self.unanswered()), prometheus, "status", fix.to_owned())
        } else if let Some(why) = &self.facts.reload_failed {
            let fix = BAD_CONFIGURATION;
            (format!("the configuration with job {job} could not be loaded: {why}"), prometheus, "status", fix.to_owned())
        } else if self.compiled.config["scrape_configs"].as_array().into_iter().flatten().any(|config| config["job_name"] == job)
        {
            let fix =
                "wait for operator, kubelet and config-reloader (a minute or two in a real cluster), then look at their logs";
            (format!("job {job} is not in the configuration that runs yet"), prometheus, "status", fix.to_owned())
        } else {
            let fix = "give the monitor an endpoint".to_owned();
            (format!("{} has no endpoint, so there is no job", endpoint.object()), endpoint.object(), "spec", fix)
        };
        Err(broken(LinkName::Configured, what, object, field, fix))
    }

    fn account(&self) -> String {
        let name = self.facts.prometheus["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        format!("ServiceAccount {}/{name}", object::namespace(&self.facts.prometheus))
    }

    fn permitted(&self, config: &Value, focus: Option<Focus<'_>>) -> Result<(), Box<Broken>> {
        let needed = needed_reviews(config);
        // Each namespace is discovered by itself.
        let here =
            |denied: &&Review| focus.is_none_or(|focus| denied.namespace.is_empty() || denied.namespace == focus.namespace);
        let denied: Vec<&Review> = self.facts.denied.iter().filter(|denied| needed.contains(denied)).filter(here).collect();
        let Some(first) = denied.first() else { return Ok(()) };
        let qualified = |review: &Review| match review.group.as_str() {
            "" => review.resource.clone(),
            group => format!("{}.{group}", review.resource),
        };
        let distinct = |mut all: Vec<String>| {
            all.sort_unstable();
            all.dedup();
            all
        };
        let here = || denied.iter().filter(|denied| denied.namespace == first.namespace);
        let verbs = distinct(here().map(|denied| denied.verb.clone()).collect()).join(" and ");
        let resources = distinct(here().map(|denied| qualified(denied)).collect());
        let may_not = format!("may not {verbs} {}", resources.join(", "));
        let account = self.account();
        let of = account.trim_start_matches("ServiceAccount ").to_owned();
        let name = of.split('/').nth(1).unwrap_or_default().to_owned();
        let subject = of.replace('/', ":");
        let resources = resources.join(",");
        let (place, fix) = if first.namespace.is_empty() {
            let make = format!("kubectl create clusterrole {name}-discovery --verb=get,list,watch --resource={resources}");
            let bind = format!("kubectl create clusterrolebinding {name}-discovery --clusterrole={name}-discovery");
            ("in all namespaces".to_owned(), format!("{make} && {bind} --serviceaccount={subject}"))
        } else {
            let namespace = &first.namespace;
            let make =
                format!("kubectl create role -n {namespace} {name}-discovery --verb=get,list,watch --resource={resources}");
            let bind = format!("kubectl create rolebinding -n {namespace} {name}-discovery --role={name}-discovery");
            (format!("in namespace {namespace}"), format!("{make} && {bind} --serviceaccount={subject}"))
        };
        let what = format!("{account} {may_not} {place}, so discovery there never begins");
        Err(broken(LinkName::Permitted, what, account, "rules of its Roles and ClusterRoles", fix))
    }

    fn services(&self, endpoint: Endpoint<'a>) -> Result<Vec<&'a Value>, Box<Broken>> {
        let facts = self.facts;
        let matched = endpoint.matched(facts);
        if !matched.is_empty() {
            return Ok(matched);
        }
        let selector = endpoint.selector();
        let object = endpoint.object();
        let inside = |found: &&Value| endpoint.looks_into(&facts.prometheus, object::namespace(found));
        let place = match endpoint.namespaces(&facts.prometheus) {
            Some(names) => format!("in namespace {}", names.join(", ")),
            None => "in any namespace".to_owned(),
        };
        // A Service elsewhere that fits means the wrong namespace; pods that fit mean labels of the wrong object.
        if let Some(elsewhere) = facts.services.iter().find(|found| selector.matches(&found["metadata"]["labels"])) {
            let namespace = object::namespace(elsewhere);
            return Err(broken(
                LinkName::Matched,
                format!("no Service matches {selector} {place}; Service {} does, in another namespace", object::key(elsewhere)),
                object,
                "spec.namespaceSelector",
                format!("set spec.namespaceSelector to {{matchNames: [{namespace}]}}"),
            ));
        }
        let nearest = facts
            .services
            .iter()
            .filter(inside)
            .min_by_key(|found| (selector.distance(&found["metadata"]["labels"]), object::key(found)));
        let pods = facts.pods.iter().filter(inside).find(|pod| selector.matches(&pod["metadata"]["labels"]));
        let mut found = broken(
            LinkName::Matched,
            format!("no Service matches {selector} {place}"),
            object.clone(),
            "spec.selector",
            "make the selector fit the labels of a Service".to_owned(),
        );
        if let Some(pod) = pods {
            found.details.push(format!(
                "note    Pod {} has these labels; a ServiceMonitor goes by those of the Service",
                object::key(pod)
            ));
        }
        if let Some(nearest) = nearest
            && let Some(unmet) = selector.unmet(&nearest["metadata"]["labels"])
        {
            found.details.push(nearest_text("Service", nearest, &unmet));
            if let Some(value) = &unmet.found {
                found.field = format!("spec.selector.matchLabels[{:?}]", unmet.key);
                found.fix = format!("write {}: {value:?} in the selector, or label the Service {}", unmet.key, unmet.requirement);
            } else {
                let (namespace, name) = (object::namespace(nearest), object::name(nearest));
                found.fix =
                    format!("kubectl label service -n {namespace} {name} {}, or make the selector fit", unmet.requirement);
            }
        } else if facts.services.iter().filter(inside).count() == 0 {
            found.details.push(format!("note    there is no Service at all {place}"));
            found.fix = "create the Service, or correct spec.namespaceSelector".to_owned();
        }
        Err(found)
    }

    /// The Services that have the endpoint's port.
    fn with_port(endpoint: Endpoint<'_>, services: &[&'a Value]) -> Result<Vec<&'a Value>, Box<Broken>> {
        let Some(port) = endpoint.spec()["port"].as_str().filter(|port| !port.is_empty()) else { return Ok(services.to_vec()) };
        let ports = |service: &'a Value| service["spec"]["ports"].as_array().into_iter().flatten();
        let with: Vec<&Value> =
            services.iter().copied().filter(|service| ports(service).any(|found| found["name"] == port)).collect();
        if !with.is_empty() {
            return Ok(with);
        }
        let Some(service) = services.first() else { return Ok(Vec::new()) };
        let all: Vec<&str> = ports(service).map(|found| found["name"].as_str().unwrap_or("")).collect();
        let number: Option<u64> = port.parse().ok();
        let is_number = |value: &Value| number.is_some() && value.as_u64() == number;
        let by_number = ports(service).find(|found| is_number(&found["port"]) || is_number(&found["targetPort"]));
        let lower = ports(service).find(|found| found["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(port)));
        let nearest = metrics::nearest(port, all.iter().copied()).first().copied();
        let wanted =
            by_number.or(lower).and_then(|found| found["name"].as_str()).or(nearest).or(all.first().copied()).unwrap_or("");
        let shown: Vec<String> = ports(service)
            .map(|found| format!("{} ({})", found["name"].as_str().unwrap_or("without a name"), found["port"]))
            .collect();
        let key = object::key(service);
        let fix = if wanted.is_empty() {
            format!("give the port of Service {key} the name {port:?}; `port` of an endpoint is a name of a Service's port")
        } else {
            format!("write port: {wanted}; `port` is the name of a Service's port, `targetPort` that of a container's")
        };
        let mut found = broken(
            LinkName::Port,
            format!("Service {key} has no port with the name {port:?}"),
            endpoint.object(),
            endpoint.path("port"),
            fix,
        );
        found.details.push(format!("there   {}", shown.join(", ")));
        Err(found)
    }

    fn endpoints(&self, services: &[&'a Value]) -> Result<(), Box<Broken>> {
        let facts = self.facts;
        let has_addresses = |service: &Value| {
            let (namespace, name) = (object::namespace(service), object::name(service));
            let list = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
            let of_endpoints = find(&facts.endpoints, namespace, name).is_some_and(|found| {
                let subsets = found["subsets"].as_array().into_iter().flatten();
                subsets.into_iter().any(|subset| list(&subset["addresses"]) || list(&subset["notReadyAddresses"]))
            });
            let of_slices = facts.slices.iter().any(|slice| {
                object::namespace(slice) == namespace
                    && object::label(slice, "kubernetes.io/service-name") == Some(name)
                    && list(&slice["endpoints"])
            });
            of_endpoints || of_slices
        };
        if services.iter().any(|service| has_addresses(service)) {
            return Ok(());
        }
        let Some(service) = services.first() else { return Ok(()) };
        let (key, namespace) = (object::key(service), object::namespace(service));
        let selector = LabelSelector::from_map(&service["spec"]["selector"]);
        let of_service = format!("Service {key}");
        if selector.is_empty() {
            let fix = "give the Service a selector, or create Endpoints for it".to_owned();
            let what = format!("{of_service} has no selector and no endpoints");
            return Err(broken(LinkName::Endpoints, what, of_service, "spec.selector", fix));
        }
        let behind: Vec<&Value> = facts.pods.iter().filter(|pod| leads_to(service, pod)).collect();
        if let Some(pod) = behind.first() {
            let fix = format!("kubectl describe pod -n {namespace} {}", object::name(pod));
            let what = format!("the pods of {of_service} have no address: {} is {}", object::name(pod), pod_state(pod));
            return Err(broken(LinkName::Endpoints, what, format!("Pod {}", object::key(pod)), "status.podIP", fix));
        }
        let inside = facts.pods.iter().filter(|pod| object::namespace(pod) == namespace);
        let nearest = inside.min_by_key(|pod| (selector.distance(&pod["metadata"]["labels"]), object::key(pod)));
        let mut found = broken(
            LinkName::Endpoints,
            format!("{of_service} selects {selector}, and no pod in namespace {namespace} has these labels"),
            of_service,
            "spec.selector",
            "make the Service's selector fit the labels of its pods, or start the pods".to_owned(),
        );
        if let Some((pod, unmet)) = nearest.and_then(|pod| Some((pod, selector.unmet(&pod["metadata"]["labels"])?))) {
            found.details.push(nearest_text("Pod", pod, &unmet));
            found.field = format!("spec.selector[{:?}]", unmet.key);
        }
        Err(found)
    }

    fn pods(&self, endpoint: Endpoint<'a>) -> Result<Vec<&'a Value>, Box<Broken>> {
        let matched = endpoint.matched(self.facts);
        if !matched.is_empty() {
            return Ok(matched);
        }
        let selector = endpoint.selector();
        let inside = self.facts.pods.iter().filter(|pod| endpoint.looks_into(&self.facts.prometheus, object::namespace(pod)));
        let nearest = inside.min_by_key(|pod| (selector.distance(&pod["metadata"]["labels"]), object::key(pod)));
        let mut found = broken(
            LinkName::Matched,
            format!("no pod matches {selector}"),
            endpoint.object(),
            "spec.selector",
            "make the selector fit the labels of the pods".to_owned(),
        );
        if let Some((pod, unmet)) = nearest.and_then(|pod| Some((pod, selector.unmet(&pod["metadata"]["labels"])?))) {
            found.details.push(nearest_text("Pod", pod, &unmet));
        }
        Err(found)
    }

    fn kept(&self, endpoint: Endpoint<'a>, config: &Value, focus: Option<Focus<'_>>) -> Result<Vec<&'a Target>, Box<Broken>> {
        let job = endpoint.job();
        let of_focus = |target: &&Target| {
            let discovered = |label: &str| target.discovered_labels.get(label).map_or("", String::as_str);
            let port = || discovered("__address__").rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            focus.is_none_or(|focus| {
                discovered("__meta_kubernetes_pod_name") == focus.pod
                    && discovered("__meta_kubernetes_namespace") == focus.namespace
                    && port() == Some(focus.port)
            })
        };
        let targets: Vec<&Target> =
            self.facts.targets.active_targets.iter().filter(|target| target.scrape_pool == job).filter(of_focus).collect();
        if !targets.is_empty() {
            return Ok(targets);
        }
        let matched = endpoint.matched(self.facts);
        let of_matched = |target: &&Target| {
            let service = target.discovered_labels.get("__meta_kubernetes_service_name");
            endpoint.kind != MonitorKind::ServiceMonitor
                || service.is_some_and(|service| matched.iter().any(|found| object::name(found) == service))
        };
        let dropped: Vec<&Target> = self
            .facts
            .targets
            .dropped_targets
            .iter()
            .filter(|target| target.discovered_labels.get("job") == Some(&job))
            .filter(of_focus)
            .filter(of_matched)
            .collect();
        let names = relabel::Names::of_version(&self.facts.version);
        let rules = relabel::Rule::read_all(&config["relabel_configs"], names).unwrap_or_default();
        let furthest = dropped
            .iter()
            .filter_map(|target| relabel::relabel(&target.discovered_labels, &rules).err())
            .max_by_key(|dropped| dropped.index);
        let Some(by) = furthest else {
            return Err(broken(
                LinkName::Discovered,
                format!("Prometheus has discovered nothing for job {job}, though there are endpoints"),
                self.prometheus(),
                "status",
                "wait: discovery hands on what it has every 5 s, and after a refusal it asks again within 60 s; then see Prometheus' log"
                    .to_owned(),
            ));
        };
        Err(Box::new(target::dropped(endpoint, config, &rules, &by)))
    }
}

/// That an endpoint takes every port.
fn every_port(endpoint: Endpoint<'_>) -> String {
    let behind = if endpoint.kind == MonitorKind::PodMonitor { "that it selects" } else { "behind the Services that it selects" };
    format!(
        "{} names neither port nor targetPort, so it takes every port of every pod {behind}",
        endpoint.path("").trim_end_matches('.')
    )
}

/// An endpoint without a port, beside others: mostly a dash before what belongs to the endpoint above.
fn stray_dash(endpoint: Endpoint<'_>) -> Result<(), Box<Broken>> {
    let all = Endpoint::of(endpoint.kind, endpoint.monitor);
    if all.len() < 2 || !endpoint.takes_every_port() {
        return Ok(());
    }
    let other = Endpoint { index: if endpoint.index == 0 { 1 } else { endpoint.index - 1 }, ..endpoint };
    let other = other.path("").trim_end_matches('.').to_owned();
    // Which fields are meant, but for those that an API server fills in.
    let fields: Vec<&str> = endpoint.spec().as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let fields = if fields.is_empty() { "fields".to_owned() } else { fields.join(", ") };
    let fix = format!(
        "was this meant for {other}? Then remove the dash before it, so that {fields} belong there; else give the endpoint a port"
    );
    let what = format!("{}; its {fields} do not apply to {other}", every_port(endpoint));
    Err(broken(LinkName::Port, what, endpoint.object(), endpoint.path("port"), fix))
}

/// A requirement of one label and one value; nothing for others.
fn equality(requirement: &str) -> Option<(&str, &str)> {
    requirement.split_once('=').filter(|(key, _)| !key.contains(' ') && !key.ends_with('!'))
}

/// What is wrong with a pod, in a word.
fn pod_state(pod: &Value) -> String {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let waiting = statuses.into_iter().find_map(|status| status["state"]["waiting"]["reason"].as_str());
    waiting.or_else(|| pod["status"]["phase"].as_str()).unwrap_or("not known").to_owned()
}

fn names_of(kind: &str, objects: &[&Value]) -> String {
    let all: Vec<String> = objects.iter().take(3).map(|found| object::key(found)).collect();
    let more = objects.len().saturating_sub(all.len());
    format!("{kind} {}{}", all.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}

/// What Prometheus must be allowed for a scrape configuration: list and watch, by role and namespace.
pub(crate) fn needed_reviews(config: &Value) -> Vec<Review> {
    let mut reviews = Vec::new();
    for discovery in config["kubernetes_sd_configs"].as_array().into_iter().flatten() {
        let endpoints = |group: &'static str, name: &'static str| vec![("", "services"), ("", "pods"), (group, name)];
        let resources = match discovery["role"].as_str().unwrap_or_default() {
            "endpointslice" => endpoints("discovery.k8s.io", "endpointslices"),
            "endpoints" => endpoints("", "endpoints"),
            "service" => vec![("", "services")],
            "pod" => vec![("", "pods")],
            "node" => vec![("", "nodes")],
            "ingress" => vec![("networking.k8s.io", "ingresses")],
            _ => Vec::new(),
        };
        let names: Vec<&str> =
            discovery["namespaces"]["names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let namespaces = if names.is_empty() { vec![""] } else { names };
        for namespace in namespaces {
            for (group, resource) in &resources {
                for verb in ["list", "watch"] {
                    reviews.push(Review {
                        verb: verb.to_owned(),
                        group: (*group).to_owned(),
                        resource: (*resource).to_owned(),
                        namespace: namespace.to_owned(),
                    });
                }
            }
        }
    }
    reviews
}

/// The outcome that went furthest: the first that succeeded, else the one with the latest broken link.
pub(crate) fn furthest<'a>(outcomes: Vec<(Endpoint<'a>, Outcome<'a>)>) -> Option<(Endpoint<'a>, Outcome<'a>)> {
    outcomes.into_iter().rev().max_by_key(|(_, outcome)| match &outcome.end {
        Ok(_) => (1, None),
        Err(broken) => (0, Some(broken.link)),
    })
}

pub(crate) fn explain_monitor(kind: MonitorKind, namespace: &str, name: &str, facts: &Facts) -> Explanation {
    let question = Question::Monitor { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    let view = View::new(facts);
    let mut links = Vec::new();
    let verdict = match find(monitors(facts, kind), namespace, name) {
        None => {
            let all = monitors(facts, kind);
            let elsewhere = all.iter().find(|found| object::name(found) == name).map(object::key);
            let near = metrics::nearest(name, all.iter().map(object::name)).first().map(|near| (*near).to_owned());
            let object = format!("{} {namespace}/{name}", kind.name());
            let mut missing = broken(
                LinkName::Accepted,
                format!("there is no {object}"),
                object,
                "",
                format!("kubectl get {}s -A shows those that there are", kind.resource()),
            );
            missing.details.extend(elsewhere.or(near).map(|near| format!("nearest {near}")));
            Verdict::Broken(vec![*missing])
        }
        Some(monitor) => {
            let endpoints = Endpoint::of(kind, monitor);
            let outcomes: Vec<_> = endpoints.into_iter().map(|endpoint| (endpoint, view.walk(endpoint, None))).collect();
            let mut all: Vec<Broken> = Vec::new();
            let mut up = 0;
            for (_, outcome) in &outcomes {
                match &outcome.end {
                    Ok(targets) => up += targets.len(),
                    Err(broken) if !all.contains(broken) => all.push(broken.as_ref().clone()),
                    Err(_) => {}
                }
            }
            if let Some((_, outcome)) = furthest(outcomes) {
                links = outcome.links;
            }
            if all.is_empty() {
                Verdict::Unexplained(format!(
                    "All links hold: {} up. Ask about a series to follow it from there.",
                    counted(up, "target")
                ))
            } else {
                Verdict::Broken(all)
            }
        }
    };
    Explanation { question: question.to_string(), links, verdict }
}
