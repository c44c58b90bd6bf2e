//! Targets: the rule that drops one, and why a scrape fails.

use metrics::Target;
use metrics::relabel::{DroppedBy, Names, Rule, labels_text};
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::explanation::{Broken, LinkName};
use crate::question::{MonitorKind, visible};

/// The rules for targets that a monitor's endpoint has, and the field that holds them.
fn target_rules(endpoint: Endpoint<'_>) -> (String, &Value) {
    if endpoint.kind != MonitorKind::Probe {
        return (endpoint.path("relabelings"), &endpoint.spec()["relabelings"]);
    }
    let targets = &endpoint.spec()["targets"];
    let kind = if targets["staticConfig"].is_object() { "staticConfig" } else { "ingress" };
    (endpoint.path(&format!("targets.{kind}.relabelingConfigs")), &targets[kind]["relabelingConfigs"])
}

/// A user's rule in Prometheus' words.
fn translated(rule: &Value) -> Value {
    let pairs = [
        ("sourceLabels", "source_labels"),
        ("targetLabel", "target_label"),
        ("separator", "separator"),
        ("regex", "regex"),
        ("modulus", "modulus"),
        ("replacement", "replacement"),
        ("action", "action"),
    ];
    let given = pairs.into_iter().filter(|(from, _)| !rule[*from].is_null());
    given.map(|(from, to)| (to.to_owned(), rule[from].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// Which rule of the user's a rule of the configuration is, if it is one: the last run of rules that are the user's. What the operator
/// puts before and after them differs from version to version.
fn users_rule((field, written): (String, &Value), rules: &[Rule], index: usize) -> Option<String> {
    let written = written.as_array()?;
    let own: Vec<String> =
        written.iter().filter_map(|rule| Some(Rule::read(&translated(rule), Names::Utf8).ok()?.describe())).collect();
    let all: Vec<String> = rules.iter().map(Rule::describe).collect();
    if own.is_empty() || own.len() != written.len() {
        return None;
    }
    let first = (0..=all.len().checked_sub(own.len())?).rev().find(|&first| all[first..first + own.len()] == own[..])?;
    let place = index.checked_sub(first).filter(|place| *place < own.len())?;
    Some(format!("{field}[{place}]"))
}

/// The rule that drops a target.
pub(crate) fn dropped(endpoint: Endpoint<'_>, config: &Value, rules: &[Rule], by: &DroppedBy) -> Broken {
    let rule = &rules[by.index];
    let own = users_rule(target_rules(endpoint), rules, by.index);
    let saw = labels_text(&by.read_by(rule), |_| true);
    let mut details = vec![format!("rule    {}", rule.describe()), format!("saw     {saw}, together {:?}", by.value)];
    let before = visible(&by.before);
    if before != "{}" {
        details.push(format!("before  {before}"));
    }
    let job = config["job_name"].as_str().unwrap_or_default();
    let (object, field, fix) = match own {
        Some(field) => (endpoint.object(), field, "correct the rule, or remove it".to_owned()),
        None => {
            let place = format!("relabel_configs[{}] of job {job}", by.index);
            (endpoint.object(), place, operators_rule(&by.read_by(rule)))
        }
    };
    let what = format!("a relabelling rule drops every target of job {job}");
    Broken { link: LinkName::Kept, what, object, field, fix, details }
}

/// What to do about a rule that the operator wrote, by what it reads.
fn operators_rule(read: &metrics::Labels) -> String {
    let reads = |part: &str| read.keys().any(|name| name.contains(part));
    let fix = if reads("_port_name") || reads("_port_number") {
        "make port or targetPort of the endpoint that of the Service or container"
    } else if reads("pod_phase") {
        "the pod has ended; set filterRunning: false to scrape it all the same"
    } else if reads("tmp_hash") {
        "the target belongs to another shard of this Prometheus"
    } else if reads("_label") {
        "make spec.selector fit the labels; note that a label with an empty value is compared as such"
    } else {
        "see which rule of the scrape class or of the operator it is: `kubectl get prometheus -o yaml`"
    };
    fix.to_owned()
}

/// The targets that are up; the broken link when none is.
pub(crate) fn scraped<'a>(endpoint: Endpoint<'_>, targets: &[&'a Target]) -> Result<Vec<&'a Target>, Box<Broken>> {
    let up: Vec<&Target> = targets.iter().copied().filter(|target| target.health == "up").collect();
    if !up.is_empty() {
        return Ok(up);
    }
    let failing = targets.iter().find(|target| !target.last_error.is_empty());
    let Some(target) = failing.or(targets.first()) else { return Ok(up) };
    let (field, fix) = if target.last_error.is_empty() {
        (String::new(), "wait for the first scrape; it comes within an interval".to_owned())
    } else {
        diagnose(endpoint, &target.last_error)
    };
    let what = match target.last_error.as_str() {
        "" => format!("{} has not been scraped yet", target.scrape_url),
        error => format!("the scrape of {} fails: {error}", target.scrape_url),
    };
    let details = vec![format!("target  {}", visible(&target.labels))];
    Err(Box::new(Broken { link: LinkName::Scraped, what, object: endpoint.object(), field, fix, details }))
}

/// The field and the remedy for an error of a scrape, by the words that Go and Prometheus use.
fn diagnose(endpoint: Endpoint<'_>, error: &str) -> (String, String) {
    let has = |part: &str| error.contains(part);
    let table: [(&[&str], &str, &str); 21] = [
        (&["gave HTTP response to HTTPS client"], "scheme", "write scheme: http; the port speaks no TLS"),
        (&["HTTP status 400", "malformed HTTP response"], "scheme", "write scheme: https; the port speaks TLS"),
        (
            &["doesn't contain any IP SANs", "certificate is valid for", "certificate is not valid for any names"],
            "tlsConfig.serverName",
            "name the server as its certificate does, or set insecureSkipVerify: true",
        ),
        (
            &["signed by unknown authority"],
            "tlsConfig.ca",
            "give the authority that signed the certificate, or set insecureSkipVerify: true",
        ),
        (&["certificate has expired"], "tlsConfig", "renew the server's certificate"),
        (
            &["certificate required", "bad certificate", "tls: certificate"],
            "tlsConfig.cert",
            "give a client certificate and its key (tlsConfig.cert, tlsConfig.keySecret)",
        ),
        (&["HTTP status 401"], "authorization", "give credentials: authorization, basicAuth or bearerTokenSecret"),
        (
            &["HTTP status 403"],
            "authorization",
            "the credentials are not enough; give the ServiceAccount a right to get /metrics",
        ),
        (&["HTTP status 404"], "path", "correct the path; /metrics is asked for without one"),
        (&["HTTP status 5"], "path", "the server fails; see the log of its pod"),
        (&["sample limit exceeded", "sample_limit"], "sampleLimit", "raise sampleLimit of the monitor, or expose less"),
        (
            &["label_limit", "label_name_length_limit", "label_value_length_limit"],
            "labelLimit",
            "raise the limit on labels, or expose fewer",
        ),
        (&["body size limit exceeded"], "bodySizeLimit", "raise enforcedBodySizeLimit or bodySizeLimit, or expose less"),
        (&["target_limit"], "targetLimit", "raise targetLimit of the monitor"),
        (&["connection refused"], "port", "nothing listens there: see the container's ports, and whether the process runs"),
        (
            &["context deadline exceeded", "i/o timeout", "Client.Timeout"],
            "scrapeTimeout",
            "raise scrapeTimeout, or look for a NetworkPolicy that drops the connection",
        ),
        (&["no such host"], "port", "the name does not resolve; see the target's address"),
        (
            &["unsupported Content-Type", "no Content-Type"],
            "fallbackScrapeProtocol",
            "set fallbackScrapeProtocol: PrometheusText0.0.4 on the monitor",
        ),
        (&["connection reset", "EOF"], "port", "the server hangs up: see the log of its pod"),
        (&["no route to host", "network is unreachable"], "port", "the address cannot be reached from Prometheus' pod"),
        (&["expected", "invalid", "parse"], "path", "what is served is no page of metrics; see it with curl"),
    ];
    // Limits stand in the monitor's spec, the rest in its endpoint.
    let found = table.into_iter().find(|(words, _, _)| words.iter().any(|word| has(word)));
    match found {
        Some((_, field, fix)) if field.ends_with("Limit") || field == "fallbackScrapeProtocol" => {
            (format!("spec.{field}"), fix.to_owned())
        }
        Some((_, field, fix)) => (endpoint.path(field), fix.to_owned()),
        None => (String::new(), "see the error".to_owned()),
    }
}

/// The rule that drops a series, or renames it.
pub(crate) fn metric_rule(endpoint: Endpoint<'_>, rules: &[Rule], index: usize) -> String {
    let written = (endpoint.path("metricRelabelings"), &endpoint.spec()["metricRelabelings"]);
    users_rule(written, rules, index).unwrap_or_else(|| format!("metric_relabel_configs[{index}] of job {}", endpoint.job()))
}
