//! Gathers what an explanation needs, from any cluster that a kubeconfig reaches.
//!
//! Everything goes through the API server: objects, reviews of what Prometheus may do, pages of metrics and Prometheus itself by the
//! proxy of pods. So the same works in an embedded lab and in a cluster far away.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, stream};
use kube::client::Body;
use kubeapi::object;
use metrics::{Client, Fetch, Fetched};
use operator::Input;
use serde_json::{Value, json};
use why::{Facts, MonitorKind, Page, Question, Rename, Review, Seen};

use crate::exit::{Exit, Failure};

/// How many pages are read at a time, and at most.
const AT_ONCE: usize = 16;
const MAX_PAGES: usize = 400;
/// How long a page may take.
const PAGE: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
const MONITORING: &str = "/apis/monitoring.coreos.com/v1";

/// A client for a kubeconfig: no proxies, and no retries that would hide what happens.
///
/// # Errors
/// When the kubeconfig names what is not there.
pub async fn client(kubeconfig: kube::config::Kubeconfig, context: Option<&str>) -> Result<kube::Client> {
    let options = kube::config::KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.proxy_url = None;
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

/// A cluster's API.
#[derive(Clone)]
pub struct Cluster(kube::Client);

impl Cluster {
    /// A cluster that a client reaches.
    pub fn new(client: kube::Client) -> Self {
        Self(client)
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<(u16, Vec<u8>)> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))?;
        let response = self.0.send(request).await?;
        let code = response.status().as_u16();
        let bytes = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
        let bytes = http_body_util::BodyExt::collect(bytes).await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        Ok((code, bytes.to_vec()))
    }

    /// The objects of a collection, apiVersion and kind included; none where the kind is not served.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let (code, bytes) = self.send("GET", path, Vec::new()).await?;
        if code == 404 {
            return Ok(Vec::new());
        }
        let list: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if code != 200 {
            let why = list["message"].as_str().unwrap_or("no reason given").to_owned();
            bail!(Failure::new(Exit::EnvironmentMissing, format!("cannot list {path}: {why}")));
        }
        Ok(install::items(list))
    }

    /// Whether a ServiceAccount may do something.
    async fn allows(&self, account: (&str, &str), review: &Review) -> Result<bool> {
        let (namespace, name) = account;
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": format!("system:serviceaccount:{namespace}:{name}"),
                "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
                "resourceAttributes": {
                    "verb": review.verb, "group": review.group, "resource": review.resource, "namespace": review.namespace,
                },
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let (_, bytes) = self.send("POST", path, body.to_string().into_bytes()).await?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        // A person who may not ask gets no answer; then nothing is said about rights.
        Ok(answer["status"]["allowed"] != false)
    }

    /// A page of metrics, by HTTPS or HTTP.
    pub(crate) async fn page(&self, namespace: &str, pod: &str, port: u16) -> Result<metrics::Exposition, String> {
        let mut why = String::new();
        for scheme in ["https:", ""] {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{scheme}{pod}:{port}/proxy/metrics");
            match tokio::time::timeout(PAGE, self.send("GET", &path, Vec::new())).await {
                Ok(Ok((200, bytes))) => {
                    return metrics::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| error.to_string());
                }
                Ok(Ok((code, _))) => why = format!("HTTP status {code}"),
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = format!("no answer within {} s", PAGE.as_secs()),
            }
        }
        Err(why)
    }

    /// The Prometheus of a Prometheus object, through the proxy of its first pod.
    pub fn prometheus(&self, prometheus: &Value) -> Client {
        let pod = format!("prometheus-{}-0", object::name(prometheus));
        let base = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy", object::namespace(prometheus));
        Client::through(Arc::new(Proxied { cluster: self.clone(), base }))
    }

    /// The Prometheus object that is meant: the one that is named, or the only one.
    ///
    /// # Errors
    /// When there is none, or more than one and none is named.
    pub async fn prometheus_object(&self, named: Option<&str>) -> Result<Value> {
        let all = self.list(&format!("{MONITORING}/prometheuses")).await?;
        let keys: Vec<String> = all.iter().map(object::key).collect();
        let chosen = match named {
            Some(named) => all.into_iter().find(|found| object::key(found) == named),
            None if all.len() == 1 => all.into_iter().next(),
            None => None,
        };
        chosen.ok_or_else(|| {
            let failure = match (named, keys.len()) {
                (_, 0) => Failure::new(Exit::EnvironmentMissing, "this cluster has no Prometheus object"),
                (Some(named), _) => Failure::new(Exit::Usage, format!("there is no Prometheus {named:?}")),
                (None, _) => Failure::new(Exit::Usage, "there is more than one Prometheus; say which with --prometheus"),
            };
            failure.hint(format!("there are: {}", keys.join(", "))).into()
        })
    }
}

struct Proxied {
    cluster: Cluster,
    base: String,
}

impl Fetch for Proxied {
    fn get(&self, path: String) -> Fetched<'_> {
        Box::pin(async move {
            let (code, bytes) = self.cluster.send("GET", &format!("{}{path}", self.base), Vec::new()).await?;
            Ok((code, String::from_utf8_lossy(&bytes).into_owned()))
        })
    }

    fn place(&self) -> String {
        self.base.clone()
    }
}

/// The renames of the project's data. A family's parts have its new name too.
fn renames() -> Vec<Rename> {
    let told = |rename: &kubevirt::Rename, part: &str| {
        let source = if rename.source.is_empty() { String::new() } else { format!(" ({})", rename.source) };
        Rename {
            before: format!("{}{part}", rename.before),
            after: format!("{}{part}", rename.after),
            since: format!("KubeVirt {}{source}", rename.release),
        }
    };
    let all = kubevirt::Release::renames().unwrap_or_default();
    all.iter().flat_map(|rename| ["", "_bucket", "_sum", "_count"].map(|part| told(rename, part))).collect()
}

/// Ports of a pod that may have metrics: those that a Service leads to, and those with a telling name.
fn ports(pod: &Value, services: &[Value]) -> Vec<u16> {
    let behind: Vec<&Value> = services
        .iter()
        .filter(|service| {
            let selector = kubeapi::LabelSelector::from_map(&service["spec"]["selector"]);
            object::namespace(service) == object::namespace(pod)
                && !selector.is_empty()
                && selector.matches(&pod["metadata"]["labels"])
        })
        .collect();
    let led_to = |name: &str, number: &Value| {
        let mut ports = behind.iter().flat_map(|service| service["spec"]["ports"].as_array().into_iter().flatten());
        ports.any(|port| {
            let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
            target == number || (!name.is_empty() && target == name)
        })
    };
    let telling = |name: &str| ["metrics", "prom", "web", "http"].iter().any(|word| name.contains(word));
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let declared = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let mut found: Vec<u16> = declared
        .filter(|port| {
            let name = port["name"].as_str().unwrap_or_default();
            telling(name) || led_to(name, &port["containerPort"])
        })
        .filter_map(|port| u16::try_from(port["containerPort"].as_u64()?).ok())
        .collect();
    // A Service may lead to a port by number that no container declares.
    let targets = behind.iter().flat_map(|service| service["spec"]["ports"].as_array().into_iter().flatten());
    let numbers = targets.filter(|port| port["protocol"] != "UDP").filter_map(|port| port["targetPort"].as_u64());
    found.extend(numbers.filter_map(|number| u16::try_from(number).ok()));
    found.sort_unstable();
    found.dedup();
    found
}

async fn pages(cluster: &Cluster, pods: &[Value], services: &[Value]) -> Vec<Page> {
    let places: Vec<(String, String, u16)> = pods
        .iter()
        .filter(|pod| pod["status"]["phase"] == "Running")
        .flat_map(|pod| {
            let (namespace, name) = (object::namespace(pod).to_owned(), object::name(pod).to_owned());
            ports(pod, services).into_iter().map(move |port| (namespace.clone(), name.clone(), port))
        })
        .take(MAX_PAGES)
        .collect();
    let mut read: Vec<Page> = stream::iter(places)
        .map(|(namespace, pod, port)| async move {
            let page = cluster.page(&namespace, &pod, port).await;
            Page { namespace, pod, port, page }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    read.sort_by(|a, b| (&a.namespace, &a.pod, a.port).cmp(&(&b.namespace, &b.pod, b.port)));
    read
}

/// The last line of Prometheus' log that tells why a reload failed.
async fn reload_error(cluster: &Cluster, prometheus: &Value) -> String {
    let pod = format!("prometheus-{}-0", object::name(prometheus));
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/log?container=prometheus&tailLines=500", object::namespace(prometheus));
    let log = cluster.send("GET", &path, Vec::new()).await.map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned());
    let log = log.unwrap_or_default();
    load_error(&log).unwrap_or_else(|| "see the log of Prometheus".to_owned())
}

/// Why the last configuration could not be loaded, of a log of Prometheus. What is wrong with a rule file comes before the line that says
/// that something is wrong.
fn load_error(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().collect();
    let tries = lines.split(|line| line.contains("Loading configuration file")).rev();
    let errors = |lines: &[&str]| -> Vec<(bool, String)> {
        let with_error = lines.iter().filter_map(|line| Some((line.contains("loading groups failed"), logged(line, "err")?)));
        with_error.filter(|(of_rules, why)| *of_rules || why.contains("config") || why.contains("load")).collect()
    };
    let errors = tries.map(errors).find(|errors| !errors.is_empty())?;
    let is_summary =
        |why: &str| why.starts_with("one or more errors occurred") || why.starts_with("error loading rules, previous");
    let told = errors.iter().find(|(of_rules, _)| *of_rules).or_else(|| errors.iter().rev().find(|(_, why)| !is_summary(why)));
    let why = &told.or(errors.last())?.1;
    let why = match why.split_once("parsing YAML file ") {
        // The path is the reloader's; what is wrong comes after it.
        Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, rest)| rest).replace('\n', ""),
        None => without_folder(why).to_owned(),
    };
    Some(why.chars().take(300).collect())
}

/// A message that begins with a path, without the folders of it: those of a pod are not those of this machine.
fn without_folder(why: &str) -> &str {
    let Some((path, _)) = why.split_once(": ").filter(|(path, _)| path.starts_with('/')) else { return why };
    path.rfind('/').map_or(why, |end| &why[end + 1..])
}

/// The value of a key in a line of logfmt.
fn logged(line: &str, key: &str) -> Option<String> {
    let rest = line.split_once(&format!(" {key}=")).map(|(_, rest)| rest)?;
    let Some(quoted) = rest.strip_prefix('"') else { return rest.split(' ').next().map(str::to_owned) };
    let mut out = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Some(out),
            '\\' => match letters.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    // The line was cut off.
    Some(out)
}

/// Gathers what the question needs.
///
/// # Errors
/// When the cluster does not answer, or the person may not look.
pub async fn gather(cluster: &Cluster, prometheus: Value, question: &Question) -> Result<Facts> {
    let kinds = ["servicemonitors", "podmonitors", "probes", "prometheusrules"].map(|plural| format!("{MONITORING}/{plural}"));
    let scrape_configs = "/apis/monitoring.coreos.com/v1alpha1/scrapeconfigs".to_owned();
    let core = ["namespaces", "secrets", "configmaps"].map(|plural| format!("/api/v1/{plural}"));
    let mut objects = Vec::new();
    for path in kinds.into_iter().chain([scrape_configs]).chain(core) {
        objects.extend(cluster.list(&path).await?);
    }
    let input = Input::of(objects);
    let services = cluster.list("/api/v1/services").await?;
    let pods = cluster.list("/api/v1/pods").await?;
    let mut facts = Facts {
        endpoints: cluster.list("/api/v1/endpoints").await?,
        slices: cluster.list("/apis/discovery.k8s.io/v1/endpointslices").await?,
        pages: match question {
            Question::Series(_) => pages(cluster, &pods, &services).await,
            Question::Monitor { .. } => Vec::new(),
        },
        services,
        pods,
        input,
        prometheus,
        renames: renames(),
        ..Facts::default()
    };
    ask_prometheus(cluster, &mut facts, question).await?;
    let account = facts.prometheus["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
    let namespace = object::namespace(&facts.prometheus).to_owned();
    for review in why::reviews(&facts) {
        if !cluster.allows((&namespace, &account), &review).await? {
            facts.denied.push(review);
        }
    }
    Ok(facts)
}

/// Fills in what Prometheus leaves out when it shows its rules: there, what is empty is missing, and what is missing is not the default.
fn complete(config: &mut Value) {
    for scrape in config["scrape_configs"].as_array_mut().into_iter().flatten() {
        for list in ["relabel_configs", "metric_relabel_configs"] {
            for rule in scrape[list].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                for key in ["separator", "replacement"] {
                    rule.entry(key).or_insert_with(|| "".into());
                }
            }
        }
    }
}

/// What Prometheus itself knows; nothing of it when it does not answer.
async fn ask_prometheus(cluster: &Cluster, facts: &mut Facts, question: &Question) -> Result<()> {
    let client = cluster.prometheus(&facts.prometheus);
    facts.version = match client.version().await {
        Ok(version) => version,
        Err(error) => {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            facts.unanswered = Some(format!("{error}{cause}"));
            return Ok(());
        }
    };
    let mut config: Value = wire::yaml::strict(&client.config().await?).map_err(|error| anyhow::anyhow!("{error}"))?;
    complete(&mut config);
    facts.interval = config["global"]["scrape_interval"].as_str().and_then(why::seconds).unwrap_or(60.0);
    facts.running = Some(config["scrape_configs"].as_array().cloned().unwrap_or_default());
    if !client.reloaded().await? {
        facts.reload_failed = Some(reload_error(cluster, &facts.prometheus).await);
    }
    facts.targets = client.targets().await?;
    facts.rules = client.rules().await?;
    facts.names = client.names().await?;
    if let Question::Series(selector) = question {
        let by_name = format!("{{__name__={:?}}}", selector.name());
        let named = |samples: Vec<metrics::Sample>| {
            let of = |sample: metrics::Sample| {
                let mut series = sample.series;
                selector.name().clone_into(&mut series.name);
                Seen { series, age: sample.value }
            };
            samples.into_iter().map(of).collect()
        };
        let now = client.query(&format!("time() - timestamp({by_name})")).await;
        facts.now = named(now.context("cannot ask for the metric")?);
        facts.recent = recent(&client, &by_name).await.unwrap_or_default();
    }
    Ok(())
}

/// The series of the last hour with the age of their last sample. Raw samples are read: steps of a query would miss a series that
/// lived between two of them.
async fn recent(client: &metrics::Client, selector: &str) -> Result<Vec<Seen>> {
    let data = client.get("query", &[("query", &format!("{selector}[1h]"))]).await?;
    let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
    let series = data["result"].as_array().into_iter().flatten().filter_map(|entry| {
        let last = entry["values"].as_array()?.last()?[0].as_f64()?;
        let labels = serde_json::from_value(entry["metric"].clone()).ok()?;
        Some(Seen { series: metrics::Series::from_labels(labels), age: (now - last).max(0.0) })
    });
    Ok(series.collect())
}

/// Explains, with a cluster that a client reaches.
///
/// # Errors
/// As [`gather`].
pub async fn explain(client: kube::Client, prometheus: Option<&str>, question: &Question) -> Result<why::Explanation> {
    let cluster = Cluster::new(client);
    let prometheus = cluster.prometheus_object(prometheus).await?;
    let facts = gather(&cluster, prometheus, question).await?;
    Ok(why::explain(question, &facts))
}

/// The resources that a question may be about, for messages.
pub fn resources() -> String {
    MonitorKind::ALL.map(|kind| kind.name().to_lowercase()).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_says_of_a_configuration_that_is_not_loaded() {
        let summary = r#"level=ERROR msg="Error reloading config" err="one or more errors occurred while applying the new configuration (--config.file=\"/etc/p.yml\")""#;
        let rules = r#"level=ERROR msg="loading groups failed" component="rule manager" err="/labs/x/prometheus-k8s-rulefiles-0/a-r-1.yaml: 4:9: group \"g\", rule 0: could not parse expression: unknown function""#;
        let applied = r#"level=ERROR msg="Failed to apply configuration" err="error loading rules, previous rule set restored""#;
        let parsing = r#"level=ERROR msg="Error reloading config" err="couldn't load configuration (--config.file=\"/etc/p.yml\"): parsing YAML file /etc/p.yml: relabel configuration for replace action requires 'target_label' value""#;
        let begins = r#"level=INFO msg="Loading configuration file" filename=/etc/p.yml"#;
        for (log, expected) in [
            (
                vec![begins, rules, applied, summary],
                Some("a-r-1.yaml: 4:9: group \"g\", rule 0: could not parse expression: unknown function"),
            ),
            (vec![begins, parsing], Some("relabel configuration for replace action requires 'target_label' value")),
            // What is over does not count.
            (
                vec![begins, rules, applied, summary, begins, parsing],
                Some("relabel configuration for replace action requires 'target_label' value"),
            ),
            // The last try is under way.
            (
                vec![begins, rules, applied, summary, begins],
                Some("a-r-1.yaml: 4:9: group \"g\", rule 0: could not parse expression: unknown function"),
            ),
            (
                vec![begins, applied, summary],
                Some("one or more errors occurred while applying the new configuration (--config.file=\"/etc/p.yml\")"),
            ),
            (vec![begins, r#"level=ERROR msg="Error sending alerts" err="connection refused""#], None),
        ] {
            assert_eq!(load_error(&log.join("\n")).as_deref(), expected, "{log:?}");
        }
    }
}
