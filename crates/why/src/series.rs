//! From a metric to the pods that expose it, through the chain, to its labels.

use kubeapi::object;
use metrics::relabel::{Names, Rule, labels_text, relabel};
use metrics::{Labels, Series, Target};
use serde_json::Value;

use crate::chain::{BAD_CONFIGURATION, View, furthest};
use crate::endpoint::{Endpoint, Focus, leads_to, monitors};
use crate::explanation::{Broken, Explanation, Link, LinkName, Verdict};
use crate::facts::{Facts, Page, Seen, find};
use crate::question::{MonitorKind, SeriesSelector, takes, unmet};
use crate::target;

/// Series that Prometheus makes itself for each target.
const OF_TARGETS: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// Labels that a target gives its series.
const OF_A_TARGET: [&str; 7] = ["container", "endpoint", "instance", "job", "namespace", "pod", "service"];

pub(crate) fn explain(selector: &SeriesSelector, facts: &Facts) -> Explanation {
    let question = format!("Why is there no {}?", selector.text());
    let recorded = facts.input.rules.iter().any(|object| records(object, selector.name()));
    // Rules have intervals of their own.
    let now: Vec<&Series> = if recorded { facts.now.iter().map(|seen| &seen.series).collect() } else { facts.fresh().collect() };
    let there = now.into_iter().filter(|series| unmet(selector.matchers(), series).is_none()).count();
    let mut search = Search { selector, facts, view: View::new(facts), links: Vec::new() };
    if there > 0 {
        let ending = search.run().err().filter(|broken| broken.link.is_of_objects()).map(|broken| *broken);
        let verdict = Verdict::There { series: there, ending: ending.into_iter().collect() };
        return Explanation { question, links: Vec::new(), verdict };
    }
    let verdict = match search.run() {
        Err(broken) => Verdict::Broken(vec![*search.aged(broken)]),
        Ok(left) => Verdict::Unexplained(left),
    };
    Explanation { question, links: search.links, verdict }
}

struct Search<'a> {
    selector: &'a SeriesSelector,
    facts: &'a Facts,
    view: View<'a>,
    links: Vec<Link>,
}

/// A pod that exposes the metric.
struct Exposer<'a> {
    page: &'a Page,
    pod: &'a Value,
    /// Its series of the metric.
    series: Vec<Series>,
}

fn broken(link: LinkName, what: String, object: String, field: String, fix: String) -> Box<Broken> {
    Box::new(Broken { link, what, object, field, fix, details: Vec::new() })
}

/// Seconds as people say them.
fn ago(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    if whole >= 120 { format!("{} minutes", whole / 60) } else { format!("{whole} seconds") }
}

impl<'a> Search<'a> {
    fn hold(&mut self, link: LinkName, seen: String) {
        self.links.push(Link { link, seen });
    }

    /// A matcher's wish for a label, if it has one.
    fn wants(&self, label: &str, value: &str) -> bool {
        self.selector.matchers().iter().filter(|matcher| matcher.name == label).all(|matcher| takes(matcher, value))
    }

    /// Walks; the text is what is left to say when every link holds.
    fn run(&mut self) -> Result<String, Box<Broken>> {
        let name = self.selector.name();
        let mut recording: Vec<&Value> = self.facts.input.rules.iter().filter(|object| records(object, name)).collect();
        // One that is selected and accepted is enough.
        recording.sort_by_key(|object| {
            (self.view.selected("PrometheusRule", object).is_err(), self.view.rejected("PrometheusRule", object).is_some())
        });
        let recording = recording.first().copied();
        if let Some(object) = recording {
            return self.recorded(object);
        }
        let exposers = self.exposers();
        if exposers.is_empty() {
            return Err(self.unexposed());
        }
        let pods: Vec<String> =
            exposers.iter().map(|exposer| format!("{}:{}", object::key(exposer.pod), exposer.page.port)).collect();
        let more = if pods.len() > 3 { format!(" and {} more", pods.len() - 3) } else { String::new() };
        self.hold(LinkName::Exposed, format!("{}{more}", pods[..pods.len().min(3)].join(", ")));
        let mut first = None;
        for exposer in &exposers {
            match self.follow(exposer) {
                Ok(left) => return Ok(left),
                Err((links, broken)) => {
                    // The one that went furthest tells most, unless it is only not the target that was asked for.
                    let rank = if self.is_other_target(&broken) { None } else { Some(broken.link) };
                    if first.as_ref().is_none_or(|(old, ..): &(Option<LinkName>, Vec<Link>, Box<Broken>)| rank > *old) {
                        first = Some((rank, links, broken));
                    }
                }
            }
        }
        match first {
            Some((_, links, broken)) => {
                self.links.extend(links);
                Err(broken)
            }
            None => Ok("All links hold.".to_owned()),
        }
    }

    /// Whether a target is whole, and only another one than was asked for.
    fn is_other_target(&self, broken: &Broken) -> bool {
        broken.link == LinkName::Labelled
            && OF_A_TARGET.iter().any(|label| {
                self.selector
                    .matchers()
                    .iter()
                    .any(|matcher| matcher.name == *label && broken.what.contains(&matcher.to_string()))
            })
    }

    /// The pods whose pages have the metric, of those that the matchers allow.
    fn exposers(&self) -> Vec<Exposer<'a>> {
        let within = self.exposers_in(true);
        // A page may have a namespace of its own, which is that of what it tells about.
        if within.is_empty() { self.exposers_in(false) } else { within }
    }

    fn exposers_in(&self, namespace: bool) -> Vec<Exposer<'a>> {
        let name = self.selector.name();
        let any = OF_TARGETS.contains(&name);
        let facts = self.facts;
        facts
            .pages
            .iter()
            .filter(|page| self.wants("pod", &page.pod) && (!namespace || self.wants("namespace", &page.namespace)))
            .filter_map(|page| {
                let samples = &page.page.as_ref().ok()?.samples;
                let series: Vec<Series> =
                    samples.iter().map(|sample| &sample.series).filter(|series| any || series.name == name).cloned().collect();
                let series = if any { vec![Series { name: name.to_owned(), labels: Labels::new() }] } else { series };
                let pod = find(&facts.pods, &page.namespace, &page.pod)?;
                (!series.is_empty()).then_some(Exposer { page, pod, series })
            })
            .collect()
    }

    /// Nobody exposes it.
    fn unexposed(&self) -> Box<Broken> {
        let name = self.selector.name();
        // Others may: then it is the pod that was asked for that does not.
        let exposes =
            |page: &&Page| page.page.as_ref().is_ok_and(|page| page.samples.iter().any(|sample| sample.series.name == name));
        let mut others: Vec<&str> = self.facts.pages.iter().filter(exposes).map(|page| page.pod.as_str()).collect();
        others.dedup();
        if let Some(matcher) = self.selector.matchers().iter().find(|matcher| matcher.name == "pod")
            && !others.is_empty()
        {
            let what = format!("no pod with {matcher} exposes {name}");
            let fix = "ask for one of these pods, or without the label".to_owned();
            let mut found = broken(LinkName::Exposed, what, String::new(), String::new(), fix);
            found.details.push(format!("others  {}", others.join(", ")));
            return found;
        }
        let unread: Vec<&Page> =
            self.facts.pages.iter().filter(|page| page.page.is_err() && self.wants("pod", &page.pod)).collect();
        let read = self.facts.pages.len() - unread.len();
        let exposed = self.facts.pages.iter().filter_map(|page| page.page.as_ref().ok());
        let names = exposed.flat_map(|page| page.samples.iter().map(|sample| sample.series.name.as_str()));
        let mut all: Vec<&str> = names.chain(self.facts.names.iter().map(String::as_str)).collect();
        all.sort_unstable();
        all.dedup();
        let mut found = broken(
            LinkName::Exposed,
            match unread.len() {
                0 => format!("no pod exposes {name} ({read} pages were read)"),
                some => format!("no page that can be read has {name} ({read} were read, {some} could not be)"),
            },
            String::new(),
            String::new(),
            "see whether the program has the metric, and whether it shows it before it is first used".to_owned(),
        );
        let renamed = self.facts.renames.iter().find_map(|rename| {
            let there = |other: &String| all.contains(&other.as_str());
            if rename.before == name && there(&rename.after) {
                Some((&rename.after, rename))
            } else if rename.after == name && there(&rename.before) {
                Some((&rename.before, rename))
            } else {
                None
            }
        });
        if let Some((other, rename)) = renamed {
            found.what = format!("no pod exposes {name}; here it is called {other}");
            found.details.push(format!("renamed {} became {} in {}", rename.before, rename.after, rename.since));
            found.fix = format!(
                "ask for {other}; a dashboard for both releases asks for {{__name__=~\"{}|{}\"}}",
                rename.before, rename.after
            );
            return found;
        }
        let near = metrics::nearest(name, all.iter().copied());
        if let Some(first) = near.first() {
            found.details.push(format!("nearest {}", near.join(", ")));
            found.fix = format!("did you mean {first}?");
        }
        for page in unread.iter().take(3) {
            let why = page.page.as_ref().err().map_or("", String::as_str);
            found.details.push(format!("unread  {}/{}:{}: {why}", page.namespace, page.pod, page.port));
        }
        found
    }

    /// From a pod to its series in Prometheus.
    fn follow(&self, exposer: &Exposer<'a>) -> Result<String, (Vec<Link>, Box<Broken>)> {
        let candidates = self.candidates(exposer).map_err(|broken| (Vec::new(), broken))?;
        let focus = Focus { namespace: object::namespace(exposer.pod), pod: object::name(exposer.pod), port: exposer.page.port };
        let outcomes: Vec<_> = candidates.into_iter().map(|endpoint| (endpoint, self.view.walk(endpoint, Some(focus)))).collect();
        let Some((endpoint, outcome)) = furthest(outcomes) else { return Ok("No monitor leads there.".to_owned()) };
        let mut links = outcome.links;
        let targets = outcome.end.map_err(|broken| (links.clone(), broken))?;
        let Some(target) = targets.first() else { return Ok("No target is up.".to_owned()) };
        let made = self.ingested(endpoint, target, exposer).map_err(|broken| (links.clone(), broken))?;
        links.push(Link { link: LinkName::Ingested, seen: format!("{} series", made.len()) });
        self.labelled(endpoint, &made).map_err(|broken| (links.clone(), broken))?;
        let interval = self.view.running(&endpoint.job()).and_then(|config| config["scrape_interval"].as_str()).unwrap_or("30s");
        Ok(format!(
            "All links hold: target {} is up and its page has the series. It appears with the next scrape (every {interval}).",
            target.scrape_url
        ))
    }

    /// The endpoints of monitors that lead to a pod's port.
    fn candidates(&self, exposer: &Exposer<'a>) -> Result<Vec<Endpoint<'a>>, Box<Broken>> {
        let facts = self.facts;
        let mut found: Vec<Endpoint<'a>> = Vec::new();
        for kind in [MonitorKind::ServiceMonitor, MonitorKind::PodMonitor] {
            for monitor in monitors(facts, kind) {
                let endpoints = Endpoint::of(kind, monitor);
                if endpoints.first().is_some_and(|endpoint| endpoint.aims_at(facts, exposer.pod)) {
                    found.extend(endpoints);
                }
            }
        }
        if found.is_empty() { Err(self.unmonitored(exposer)) } else { Ok(found) }
    }

    /// No monitor leads to a pod.
    fn unmonitored(&self, exposer: &Exposer<'a>) -> Box<Broken> {
        let (facts, pod) = (self.facts, exposer.pod);
        let key = object::key(pod);
        let services: Vec<&Value> = facts.services.iter().filter(|service| leads_to(service, pod)).collect();
        let Some(service) = services.first() else {
            return broken(
                LinkName::Monitored,
                format!("no Service leads to pod {key}, and no PodMonitor selects it"),
                format!("Pod {key}"),
                "metadata.labels".to_owned(),
                "make a Service whose selector fits the pod, or a PodMonitor".to_owned(),
            );
        };
        // The monitor that fails by the least: its own explanation is the answer.
        let nearest = monitors(facts, MonitorKind::ServiceMonitor)
            .iter()
            .flat_map(|monitor| {
                services.iter().map(move |service| {
                    let selector = kubeapi::LabelSelector::from_object(&monitor["spec"]["selector"]).unwrap_or_default();
                    (selector.distance(&service["metadata"]["labels"]), monitor)
                })
            })
            .min_by_key(|(distance, monitor)| (*distance, object::key(monitor)));
        if let Some((distance, monitor)) = nearest
            && distance <= 1
            && let Some(endpoint) = Endpoint::of(MonitorKind::ServiceMonitor, monitor).first()
            && endpoint.looks_into(&facts.prometheus, object::namespace(pod))
            && let Err(mut nearly) = self.view.walk(*endpoint, None).end
            && nearly.link <= LinkName::Matched
        {
            nearly.details.insert(0, format!("nearest {} leads to no Service of pod {key}", endpoint.object()));
            return nearly;
        }
        let labels: Labels = object::labels(service);
        let mut found = broken(
            LinkName::Monitored,
            format!("no ServiceMonitor selects Service {}, which leads to pod {key}", object::key(service)),
            format!("Service {}", object::key(service)),
            "metadata.labels".to_owned(),
            "make a ServiceMonitor that selects these labels and looks into this namespace".to_owned(),
        );
        found.details.push(format!("labels  {}", labels_text(&labels, |_| true)));
        found
    }

    /// The pod's series as Prometheus would keep them.
    fn ingested(&self, endpoint: Endpoint<'_>, target: &Target, exposer: &Exposer<'_>) -> Result<Vec<Series>, Box<Broken>> {
        let config = self.view.running(&endpoint.job());
        let honour = config.is_some_and(|config| config["honor_labels"] == true);
        // What Prometheus makes itself passes no rule.
        let own = OF_TARGETS.contains(&self.selector.name());
        let rules = config.filter(|_| !own).map_or(&Value::Null, |config| &config["metric_relabel_configs"]);
        let rules = Rule::read_all(rules, Names::of_version(&self.facts.version)).unwrap_or_default();
        let mut made = Vec::new();
        let mut last = None;
        for series in &exposer.series {
            let mut labels = scraped_labels(series, &target.labels, honour);
            labels.insert("__name__".to_owned(), series.name.clone());
            match relabel(&labels, &rules) {
                Ok(labels) => made.push(Series::from_labels(labels)),
                Err(dropped) => last = Some(dropped),
            }
        }
        let name = self.selector.name();
        if made.iter().any(|series| series.name == name) {
            return Ok(made);
        }
        if let Some(dropped) = last {
            let rule = &rules[dropped.index];
            return Err(Box::new(Broken {
                link: LinkName::Ingested,
                what: format!("a rule drops {name} after the scrape"),
                object: endpoint.object(),
                field: target::metric_rule(endpoint, &rules, dropped.index),
                fix: "correct the rule, or remove it".to_owned(),
                details: vec![
                    format!("rule    {}", rule.describe()),
                    format!("before  {}", labels_text(&dropped.before, |_| true)),
                ],
            }));
        }
        let renamed = made.first().map_or_else(String::new, ToString::to_string);
        Err(Box::new(Broken {
            link: LinkName::Ingested,
            what: format!("a rule gives {name} another name"),
            object: endpoint.object(),
            field: endpoint.path("metricRelabelings"),
            fix: "ask for the new name, or correct the rule".to_owned(),
            details: vec![format!("now     {renamed}")],
        }))
    }

    /// Whether the labels are those that were asked for.
    fn labelled(&self, endpoint: Endpoint<'_>, made: &[Series]) -> Result<(), Box<Broken>> {
        let matchers = self.selector.matchers();
        let all: Vec<&Series> = made.iter().chain(self.facts.fresh()).collect();
        if made.iter().any(|series| unmet(matchers, series).is_none()) {
            return Ok(());
        }
        let met = |series: &Series| matchers.iter().filter(|matcher| takes(matcher, series.label(&matcher.name))).count();
        let Some(nearest) = all.iter().max_by_key(|series| met(series)) else { return Ok(()) };
        let Some(matcher) = unmet(matchers, nearest) else { return Ok(()) };
        let label = &matcher.name;
        let exported = format!("exported_{label}");
        let wanted = matcher.to_string();
        if all.iter().any(|series| !series.label(&exported).is_empty() && takes(matcher, series.label(&exported))) {
            return Err(Box::new(Broken {
                link: LinkName::Labelled,
                what: format!("the page has its own label {label}, which became {exported}, for the target has one too"),
                object: endpoint.object(),
                field: endpoint.path("honorLabels"),
                fix: format!("ask for {}, or set honorLabels: true", wanted.replacen(label.as_str(), &exported, 1)),
                details: vec![format!("now     {nearest}")],
            }));
        }
        let mut values: Vec<&str> = all.iter().map(|series| series.label(label)).filter(|value| !value.is_empty()).collect();
        values.sort_unstable();
        values.dedup();
        let shown =
            if values.is_empty() { "no series has that label".to_owned() } else { format!("there is {}", values.join(", ")) };
        Err(Box::new(Broken {
            link: LinkName::Labelled,
            what: format!("no series of {} has {wanted}: {shown}", self.selector.name()),
            object: String::new(),
            field: String::new(),
            fix: if values.is_empty() {
                format!("ask without {label}")
            } else {
                format!("ask for one of these values of {label}")
            },
            details: vec![format!("nearest {nearest}")],
        }))
    }

    /// A series that a rule records.
    fn recorded(&mut self, object: &'a Value) -> Result<String, Box<Broken>> {
        let name = self.selector.name();
        let key = object::key(object);
        self.view.selected("PrometheusRule", object)?;
        let of_object = format!("PrometheusRule {key}");
        if let Some(why) = self.view.rejected("PrometheusRule", object) {
            let what = format!("the operator rejects it: {why}");
            let fix = "correct the rule; the other rules of the object come back with it".to_owned();
            return Err(broken(LinkName::Accepted, what, of_object, "spec.groups".to_owned(), fix));
        }
        self.hold(LinkName::Selected, format!("PrometheusRule {key} records it"));
        if let Some(why) = &self.facts.reload_failed {
            return Err(self.not_loaded(object, why));
        }
        let Some(state) = self.facts.rules.iter().find(|rule| rule.name == name) else {
            let what = format!("Prometheus does not have the rule that records {name} yet");
            let fix = "look for Events on the PrometheusRule, and at the log of config-reloader".to_owned();
            return Err(broken(LinkName::Configured, what, of_object, "spec.groups".to_owned(), fix));
        };
        if state.health == "err" {
            let what = format!("the rule that records {name} fails: {}", state.last_error);
            let fix = format!("correct its expression: {}", state.query);
            return Err(broken(LinkName::Evaluated, what, of_object, "spec.groups".to_owned(), fix));
        }
        if self.facts.now.is_empty() {
            let what = format!("the rule that records {name} is evaluated, and its expression yields nothing");
            let mut found = broken(
                LinkName::Evaluated,
                what,
                of_object,
                "spec.groups".to_owned(),
                "ask why about the metrics in it".to_owned(),
            );
            found.details.push(format!("expr    {}", state.query));
            return Err(found);
        }
        let of_now: Vec<Series> = self.facts.now.iter().map(|seen| seen.series.clone()).collect();
        let nothing = Value::Null;
        let endpoint = Endpoint { kind: MonitorKind::ScrapeConfig, monitor: &nothing, index: 0 };
        self.labelled(endpoint, &of_now).map_err(|mut broken| {
            broken.object = of_object;
            broken.field = "spec.groups".to_owned();
            broken
        })?;
        Ok("The rule is evaluated; the series comes with the next evaluation.".to_owned())
    }

    /// Prometheus could not load its configuration or its rules: it goes on with those that it had, and a rule that is in order does not
    /// arrive.
    fn not_loaded(&self, asked: &Value, why: &str) -> Box<Broken> {
        let of = |object: &Value| format!("PrometheusRule {}", object::key(object));
        let Some(guilty) = self.facts.input.rules.iter().find(|object| why.contains(&operator::rule_file_name(object))) else {
            let what = format!("Prometheus could not load its configuration, and goes on with the rules that it had: {why}");
            let object = format!("Prometheus {}", object::key(&self.facts.prometheus));
            return broken(LinkName::Configured, what, object, "status".to_owned(), BAD_CONFIGURATION.to_owned());
        };
        let (guilty_name, key) = (of(guilty), object::key(guilty));
        let what = format!("Prometheus could not load its rules, and goes on with those that it had: {why}");
        let fix = format!(
            "correct {guilty_name}, or delete it: kubectl delete prometheusrule -n {} {}",
            object::namespace(guilty),
            object::name(guilty)
        );
        let mut found = broken(LinkName::Configured, what, guilty_name, "spec.groups".to_owned(), fix);
        if object::key(asked) != key {
            found.details.push(format!(
                "note    {} is in order; no rule that is new or changed arrives until this is corrected",
                of(asked)
            ));
        }
        found
    }

    /// Adds when the series was last seen; what is only old is told as that.
    fn aged(&self, mut broken: Box<Broken>) -> Box<Broken> {
        let wanted = self.facts.recent.iter().filter(|recent| unmet(self.selector.matchers(), &recent.series).is_none());
        // Series of one scrape are equally old: the first by name and labels stands for them, whatever order Prometheus told them in.
        let newest = |a: &&Seen, b: &&Seen| a.age.total_cmp(&b.age).then_with(|| a.series.cmp(&b.series));
        let Some(last) = wanted.min_by(newest) else { return broken };
        let pod = last.series.label("pod");
        let namespace = last.series.label("namespace");
        if broken.link == LinkName::Exposed && !pod.is_empty() && find(&self.facts.pods, namespace, pod).is_none() {
            return Box::new(Broken {
                link: LinkName::Fresh,
                what: format!("its last sample is {} old: pod {namespace}/{pod} is gone", ago(last.age)),
                object: format!("Pod {namespace}/{pod}"),
                field: String::new(),
                fix: "a counter begins anew in a new pod; ask for a time in which the pod lived, or without its labels"
                    .to_owned(),
                details: vec![format!("was     {}", last.series)],
            });
        }
        let still = if self.facts.now.is_empty() { "" } else { "; queries show it until it is five minutes old" };
        broken.details.push(format!("last    a sample {} ago{still}", ago(last.age)));
        broken
    }
}

/// Whether a PrometheusRule records a metric.
fn records(object: &Value, name: &str) -> bool {
    let groups = object["spec"]["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).any(|rule| rule["record"] == name)
}

/// A series' labels with those of its target, as a scrape joins them (`scrape/scrape.go`, `mutateSampleLabels`).
fn scraped_labels(series: &Series, of_target: &Labels, honour: bool) -> Labels {
    let mut labels = series.labels.clone();
    for (name, value) in of_target.iter().filter(|(name, _)| !name.starts_with("__")) {
        if honour {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
            continue;
        }
        if let Some(old) = labels.insert(name.clone(), value.clone()) {
            let mut exported = format!("exported_{name}");
            while labels.contains_key(&exported) || of_target.contains_key(&exported) {
                exported = format!("exported_{exported}");
            }
            labels.insert(exported, old);
        }
    }
    labels
}
