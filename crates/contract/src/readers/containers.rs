//! What dashboards and rules come in: objects of Kubernetes and lists of them, ConfigMaps and Secrets with files inside, answers of APIs.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Gatherer, Without, documents, grafana, grafana_v2, perses, rules};

/// How deep documents may be in one another: a list of ConfigMaps with lists of dashboards has four levels.
const MAX_DEPTH: usize = 8;
/// The most that a packed dashboard may become, in bytes.
const MAX_UNPACKED: u64 = 64 << 20;

/// Groups of the Kubernetes API of which no kind reads series, but for those that are looked for before.
const NEVER_READ: [&str; 15] = [
    "apps",
    "autoscaling",
    "batch",
    "cert-manager.io",
    "extensions",
    "grafana.integreatly.org",
    "helm.toolkit.fluxcd.io",
    "kubevirt.io",
    "kustomize.toolkit.fluxcd.io",
    "monitoring.coreos.com",
    "operators.coreos.com",
    "perses.dev",
    "policy",
    "route.openshift.io",
    "source.toolkit.fluxcd.io",
];

/// Keys that only files of other programs have: Prometheus, Alertmanager, blackbox exporter, Grafana's provisioning, Helm, Kustomize.
const OTHER_FILES: [(&str, &str, &str); 8] = [
    ("scrape_configs", "", "a configuration of Prometheus"),
    ("route", "receivers", "a configuration of Alertmanager"),
    ("modules", "", "a configuration of an exporter"),
    ("providers", "apiVersion", "a list of folders of dashboards"),
    ("datasources", "apiVersion", "a list of data sources"),
    ("contactPoints", "apiVersion", "contact points of Grafana"),
    ("policies", "apiVersion", "notification policies of Grafana"),
    ("resources", "", "a kustomization"),
];

/// What a document without dashboards and rules is.
fn without(document: &Value) -> Without {
    let kind = document["kind"].as_str().unwrap_or_default();
    let group = document["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    let of_core = document["apiVersion"] == "v1" && !kind.is_empty();
    // Of Argo, analyses of rollouts ask Prometheus.
    let of_argo = group == "argoproj.io" && matches!(kind, "Application" | "ApplicationSet" | "AppProject");
    let of_group = of_argo
        || group.ends_with(".k8s.io")
        || NEVER_READ.iter().any(|known| group == *known || group.ends_with(&format!(".{known}")));
    if of_core || of_group && !kind.is_empty() {
        return Without { what: kind.to_owned(), never_reads: true };
    }
    let other =
        OTHER_FILES.iter().find(|(one, more, _)| !document[*one].is_null() && (more.is_empty() || !document[*more].is_null()));
    match other {
        Some((_, _, what)) => Without { what: (*what).to_owned(), never_reads: true },
        None => Without { what: if kind.is_empty() { "a document" } else { kind }.to_owned(), never_reads: false },
    }
}

/// The name of an object.
fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Whether a name is one of a file that can hold dashboards or rules.
fn is_file(key: &str) -> bool {
    [".json", ".yaml", ".yml", ".rules", ".rule"].iter().any(|end| key.ends_with(end))
}

/// A text that was packed with gzip and written in base 64.
fn unpacked(text: &str) -> Result<String, String> {
    let text: String = text.split_whitespace().collect();
    let packed = STANDARD.decode(text).map_err(|error| format!("it is no base 64: {error}"))?;
    let mut whole = String::new();
    let read = flate2::read::MultiGzDecoder::new(packed.as_slice()).take(MAX_UNPACKED + 1).read_to_string(&mut whole);
    read.map_err(|error| format!("it is no gzip of a text: {error}"))?;
    if whole.len() as u64 > MAX_UNPACKED { Err("it unpacks to more than 64 MiB".to_owned()) } else { Ok(whole) }
}

impl Gatherer<'_> {
    /// Goes through a document. Whatever it is, a reader, a dashboard without readers or a word in `without` comes of it.
    pub(super) fn document(&mut self, document: &Value, depth: usize) {
        if depth > MAX_DEPTH {
            return self.add_unreadable("document".to_owned(), format!("it is more than {MAX_DEPTH} levels deep in others"));
        }
        if self.known(document, depth) {
            return;
        }
        let without = without(document);
        if !self.contents.without.contains(&without) {
            self.contents.without.push(without);
        }
    }

    /// Goes through a document of a form that is known; says whether it is.
    fn known(&mut self, document: &Value, depth: usize) -> bool {
        match document {
            Value::Null => return true,
            // Answers of APIs are lists, such as that of Grafana's alert rules.
            Value::Array(items) => {
                items.iter().for_each(|item| self.document(item, depth + 1));
                return !items.is_empty();
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => return false,
            Value::Object(_) => {}
        }
        let kind = document["kind"].as_str().unwrap_or_default();
        let version = document["apiVersion"].as_str().unwrap_or_default();
        let spec = &document["spec"];
        if let Some(items) = document["items"].as_array().filter(|_| kind.ends_with("List")) {
            items.iter().for_each(|item| self.document(item, depth + 1));
            return true;
        }
        match kind {
            "ConfigMap" | "Secret" if version == "v1" => return self.files(document, depth),
            // Its rules are in the language of Loki.
            "AlertingRule" | "RecordingRule" if version.starts_with("loki.grafana.com") => {
                self.contents.without.push(Without { what: format!("{kind} of Loki"), never_reads: true });
                return true;
            }
            "GrafanaDashboard" | "GrafanaLibraryPanel" => {
                self.grafana_object(document, depth);
                return true;
            }
            "GlobalVariable" | "Variable" if spec["kind"].is_string() => {
                self.contents.found += 1;
                self.perses_variable(spec);
                return true;
            }
            "PersesDashboard" if perses::is_dashboard(&spec["config"]) => {
                self.perses(&spec["config"]);
                return true;
            }
            // Of Amazon's service: a whole rule file as a text.
            "RuleGroupsNamespace" if spec["configuration"].is_string() => {
                self.file(
                    &format!("{kind} {:?}", name(document)),
                    spec["configuration"].as_str().unwrap_or_default(),
                    depth,
                    true,
                );
                return true;
            }
            _ => {}
        }
        if grafana_v2::is_dashboard(spec) {
            self.grafana_v2(spec);
        } else if grafana_v2::is_dashboard(document) {
            self.grafana_v2(document);
        } else if perses::is_dashboard(spec) {
            self.perses(spec);
        } else if kind == "Dashboard" && grafana::is_dashboard(spec) {
            self.grafana(spec);
        } else if document["dashboard"].is_object() {
            // What Grafana's API hands out has the dashboard one level down.
            self.document(&document["dashboard"], depth + 1);
        } else if rules::is_groups(&spec["groups"]) {
            self.groups(&spec["groups"]);
        } else if rules::is_groups(&document["groups"]) {
            self.groups(&document["groups"]);
        } else if rules::is_test(document) {
            self.test(document);
        } else if rules::is_managed(document) {
            self.contents.found += 1;
            self.managed(document);
        } else if document["model"].is_object() && document["kind"] == 1 {
            self.grafana_library_panel(&document["model"]);
        } else if document["result"]["model"].is_object() {
            self.grafana_library_panel(&document["result"]["model"]);
        } else if grafana::is_dashboard(document) {
            self.grafana(document);
        } else if spec["rules"].as_array().is_some_and(|rules| !rules.is_empty() && rules.iter().all(rules::is_managed)) {
            // GrafanaAlertRuleGroup.
            self.groups(&serde_json::json!([{"rules": spec["rules"]}]));
        } else if matches!(kind, "PrometheusRule" | "VMRule") || document["groups"].as_array().is_some_and(Vec::is_empty) {
            // Rules, but none in it.
            self.contents.found += 1;
        } else {
            return false;
        }
        true
    }

    /// An object of grafana-operator (`api/v1beta1/grafanadashboard_types.go`): the dashboard is a text in it, or elsewhere.
    fn grafana_object(&mut self, object: &Value, depth: usize) {
        let (spec, named) = (&object["spec"], format!("{} {:?}", object["kind"].as_str().unwrap_or_default(), name(object)));
        if let Some(text) = spec["json"].as_str() {
            self.dashboard_text(&named, text, depth);
        } else if let Some(packed) = spec["gzipJson"].as_str() {
            match unpacked(packed) {
                Ok(text) => self.dashboard_text(&named, &text, depth),
                Err(why) => self.add_unreadable(named, format!("gzipJson: {why}")),
            }
        } else {
            let elsewhere = ["url", "configMapRef", "grafanaCom", "jsonnet", "jsonnetLib", "oci"];
            let why = match elsewhere.iter().find(|field| !spec[**field].is_null()) {
                Some(field) => format!("its dashboard is not in the file, but named by {field}"),
                None => "it has no dashboard".to_owned(),
            };
            self.add_unreadable(named, why);
        }
    }

    /// A dashboard that is a text: if it is none, somebody expects one there.
    fn dashboard_text(&mut self, named: &str, text: &str, depth: usize) {
        match serde_json::from_str::<Value>(text) {
            // Panels of libraries are no dashboards.
            Ok(panel) if panel["targets"].is_array() && !grafana::is_dashboard(&panel) => self.grafana_library_panel(&panel),
            Ok(document) => {
                if !self.known(&document, depth + 1) {
                    self.add_unreadable(named.to_owned(), "there is no dashboard in it");
                }
            }
            Err(error) => self.add_unreadable(named.to_owned(), format!("its dashboard is no JSON: {error}")),
        }
    }

    /// The files of a ConfigMap or Secret; says whether any holds a dashboard or rules, or may hold them.
    fn files(&mut self, object: &Value, depth: usize) -> bool {
        let before = (self.contents.found, self.contents.readers.len());
        let is_secret = object["kind"] == "Secret";
        let label = |wanted: &str| {
            object["metadata"]["labels"].as_object().is_some_and(|labels| labels.keys().any(|key| key.contains(wanted)))
        };
        let expected = label("dashboard") || label("grafana_alert");
        for field in ["data", "stringData", "binaryData"] {
            for (key, value) in object[field].as_object().into_iter().flatten() {
                let named = format!("{} {:?}, {key}", object["kind"].as_str().unwrap_or_default(), name(object));
                let Some(text) = value.as_str().filter(|_| is_file(key)) else { continue };
                if field == "binaryData" || is_secret && field == "data" {
                    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                    match decoded {
                        Some(text) => self.file(&named, &text, depth, expected),
                        None => self.add_unreadable(named, "it is no text"),
                    }
                } else {
                    self.file(&named, text, depth, expected);
                }
            }
        }
        before != (self.contents.found, self.contents.readers.len())
    }

    /// A file in an object.
    fn file(&mut self, named: &str, text: &str, depth: usize, expected: bool) {
        let documents = match documents(text) {
            Ok(documents) => documents,
            Err(error) => return self.add_unreadable(named.to_owned(), error.message.lines().next().unwrap_or_default()),
        };
        for document in &documents {
            if self.known(document, depth + 1) {
                continue;
            }
            let without = without(document);
            if expected || !without.never_reads {
                self.add_unreadable(named.to_owned(), "there is no dashboard or rule in it");
            }
        }
    }
}
