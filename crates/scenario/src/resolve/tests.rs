//! What is refused, each with its place.

use std::collections::BTreeSet;

use super::parse;
use crate::catalogue::{Catalogue, Reads};
use crate::model::Scenario;

/// A catalogue of two releases, one of which has one metric more.
pub(crate) struct Few;

impl Catalogue for Few {
    fn releases(&self) -> Vec<String> {
        vec!["v1.9.0".to_owned(), "v1.8.0".to_owned()]
    }

    fn defects(&self) -> Vec<String> {
        vec!["one".to_owned(), "two".to_owned()]
    }

    fn words(&self, _: &str) -> (String, String) {
        ("kubevirt".to_owned(), "kubevirt_rest_client_requests_total".to_owned())
    }

    fn metrics(&self, release: &str) -> BTreeSet<String> {
        let new = (release == "v1.9.0").then_some("kubevirt_vmi_new");
        ["kubevirt_info", "kubevirt_rest_client_requests_total"].into_iter().chain(new).map(str::to_owned).collect()
    }

    fn labels(&self, release: &str, metric: &str) -> Option<BTreeSet<String>> {
        self.metrics(release).contains(metric).then(|| ["code", "verb"].map(str::to_owned).into())
    }

    fn rules(&self, _: &str) -> BTreeSet<String> {
        ["VirtAPIDown", "VirtHandlerDown", "kubevirt_virt_api_up"].map(str::to_owned).into()
    }

    fn components(&self, _: &str) -> BTreeSet<String> {
        ["virt-api", "virt-handler"].map(str::to_owned).into()
    }

    fn resources(&self) -> BTreeSet<(String, String)> {
        [("", "pods"), ("", "namespaces"), ("apps", "deployments"), ("rbac.authorization.k8s.io", "roles")]
            .map(|(group, plural)| (group.to_owned(), plural.to_owned()))
            .into()
    }

    fn reads(&self, release: &str, expression: &str) -> Result<Reads, String> {
        promql_parser::parser::parse(expression)?;
        let words = expression.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let known = self.metrics(release);
        let missing = words.filter(|word| word.starts_with("kubevirt_") && !known.contains(*word));
        let missing = missing.map(|word| (word.to_owned(), format!("there is no metric {word}"))).collect();
        Ok(Reads { missing, findings: Vec::new(), labels: None })
    }
}

/// A scenario that is right.
pub(crate) fn scenario(text: &str) -> Scenario {
    match parse("s.yaml", text, &Few) {
        Ok(scenario) => scenario,
        Err(problems) => panic!("{problems:#?}"),
    }
}

fn problems(text: &str) -> Vec<String> {
    match parse("s.yaml", text, &Few) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A scenario with this expectation and nothing else that could be wrong; the expectation is in line 4.
fn expecting(expectation: &str) -> String {
    format!("description: x\nsteps: [{{wait: {{up: true}}}}]\nexpect:\n  - {expectation}\n")
}

/// The same with a step, in line 3.
fn stepping(step: &str) -> String {
    format!("description: x\nsteps:\n  - {step}\n  - wait: {{up: true}}\n")
}

#[test]
fn a_good_file_has_no_problem() {
    for text in [
        "description: x\nsteps:\n  - wait: {up: true}\n".to_owned(),
        "description: x\ngiven: {kubevirt: any}\nsteps:\n  - wait: {up: true}\n".to_owned(),
        "description: x\ngiven: {kubevirt: '>=1.8'}\nsteps:\n  - wait: {up: true}\n".to_owned(),
        expecting("targets: {allUp: true, count: expected}"),
        expecting("query: {expr: 'absent({requests}{code=\"500\"})', equals: 1}"),
        expecting("notification: {alert: 'Virt*D*wn', count: 0}"),
        expecting("object: {group: apps, resource: deployments, count: 0}"),
        "description: x\ngiven: {kubevirt: [v1.9.0, v1.8.0]}\nsteps: [{wait: {up: true}}]\nexpect:\n  - query: {expr: kubevirt_vmi_new}\n"
            .to_owned(),
        "description: x\nsteps:\n  - apply: {apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: a}, \
         spec: {groups: [{rules: [{alert: Mine}, {record: 'kubevirt_mine'}]}]}}\n  - wait: {query: {expr: kubevirt_mine}}\n\
         expect:\n  - alerts: {names: [Mine], state: firing}\n"
            .to_owned(),
    ] {
        assert_eq!(problems(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn every_vacuous_line_is_refused() {
    for (text, expected) in [
        (expecting("targets: {}"), "s.yaml:4:5: `targets: {}` expects nothing; write `allUp: true`"),
        (expecting("targets: {allUp: false}"), "s.yaml:4:5: `allUp: false` expects nothing"),
        (expecting("targets: {allUp: true, count: 0}"), "s.yaml:4:5: no target is up where there is none"),
        (expecting("targets: {count: many}"), "s.yaml:4:5: invalid count \"many\"; expected a number"),
        (expecting("alerts: {names: [], state: firing}"), "s.yaml:4:5: no alert is named"),
        (expecting("alerts: {names: [''], state: firing}"), "s.yaml:4:"),
        (expecting("alerts: {names: [VirtAPIDwn], state: firing}"), "s.yaml:4:22: there is no rule \"VirtAPIDwn\" in KubeVirt v1.9.0; did you mean \"VirtAPIDown\"?"),
        (expecting("alerts: {names: [VirtAPIDown], state: loud}"), "s.yaml:4:43: invalid state of an alert \"loud\"; expected one of"),
        (expecting("alerts: {names: [VirtAPIDown], state: inactive, labels: {a: b}}"), "s.yaml:4:43: an inactive alert has no labels"),
        (expecting("notification: {alert: VirtApiGone}"), "s.yaml:4:27: there is no rule \"VirtApiGone\""),
        (expecting("notification: {alert: VirtAPIDown, status: loud}"), "s.yaml:4:48: invalid status of a notification"),
        (expecting("rules: {health: bad}"), "s.yaml:4:21: invalid health of rules \"bad\"; expected one of ok"),
        (expecting("rules: {health: ok, count: 0}"), "s.yaml:4:5: rules that are not there have no health"),
        (expecting("logs: {pod: virt-api, contains: []}"), "s.yaml:4:5: `contains` is empty"),
        (expecting("logs: {pod: virt-api, contains: ['']}"), "s.yaml:4:38: an empty text is in everything"),
        (expecting("logs: {pod: '', contains: [a]}"), "s.yaml:4:17: an empty text is in everything"),
        (expecting("why: {ask: up, contains: ''}"), "s.yaml:4:30: an empty text is in everything"),
        (expecting("contract: {reads: []}"), "s.yaml:4:5: `reads` is empty"),
        (expecting("contract: {reads: ['sum(']}"), "s.yaml:4:24: invalid PromQL \"sum(\""),
        (expecting("query: {expr: 'sum('}"), "s.yaml:4:19: invalid PromQL \"sum(\""),
        (expecting("query: {expr: kubevirt_inf}"), "s.yaml:4:19: there is no metric kubevirt_inf"),
        (expecting("query: {expr: up, series: 0, equals: 1}"), "s.yaml:4:19: `series: 0` leaves no series"),
        (expecting("query: {expr: up, equals: 1, atLeast: 1}"), "s.yaml:4:19: `equals` says it all"),
        (expecting("query: {expr: up, atLeast: 2, atMost: 1}"), "s.yaml:4:19: no value is at least 2 and at most 1"),
        (expecting("page: {pod: virt-api, metric: kubevirt_infos}"), "s.yaml:4:35: KubeVirt v1.9.0 has no metric kubevirt_infos; did you mean \"kubevirt_info\"?"),
        (expecting("page: {pod: virt-api, metric: kubevirt_info, labels: {cod: a}}"), "s.yaml:4:64: kubevirt_info has no label cod; did you mean \"code\"?"),
        (expecting("page: {pod: vrt-api, metric: kubevirt_info}"), "s.yaml:4:17: no component of KubeVirt has pods that begin with \"vrt-api\"; did you mean \"virt-api\"?"),
        (expecting("page: {pod: virt-api, metric: kubevirt_info, atOnce: 0}"), "s.yaml:4:5: `atOnce: 0` asks nobody"),
        (expecting("object: {resource: pod}"), "s.yaml:4:5: there is no resource pod; did you mean \"pods\"?"),
        (expecting("object: {resource: roles}"), "s.yaml:4:5: there is no resource roles; there is roles.rbac.authorization.k8s.io"),
        (expecting("object: {resource: pods, contains: ''}"), "s.yaml:4:40: an empty text is in everything"),
        (expecting("{}"), "s.yaml:4:5: an expectation needs one of"),
        (expecting("{query: {expr: up}, targets: {allUp: true}}"), "s.yaml:4:5: an expectation needs one of"),
        (expecting("{query: {expr: up}, only: [v1.8.0]}"), "s.yaml:4:32: the scenario does not run on KubeVirt v1.8.0, so this is never looked at"),
        (expecting("{query: {expr: up}, within: soon}"), "s.yaml:4:33: invalid duration \"soon\"; expected e.g. 500ms"),
        (stepping("{}"), "s.yaml:3:5: a step needs one of"),
        (stepping("wait: {up: false}"), "s.yaml:3:11: `up: false` waits for nothing"),
        (stepping("wait: {targets: false}"), "s.yaml:3:11: `targets: false` waits for nothing"),
        (stepping("wait: {}"), "s.yaml:3:11: a wait needs one of"),
        (stepping("wait: {up: true, within: soon}"), "s.yaml:3:30: invalid duration \"soon\""),
        (stepping("clearFaults: false"), "s.yaml:3:5: `clearFaults: false` does nothing"),
        (stepping("clearFaults: true"), "s.yaml:3:5: no step before this one arms a fault"),
        (stepping("clearFault: a"), "s.yaml:3:5: no step before this one arms a fault \"a\""),
        (stepping("wait: {faultSpent: a}"), "s.yaml:3:11: no step before this one arms a fault \"a\""),
        (stepping("apply: text"), "s.yaml:3:5: invalid object in `apply`; expected a mapping"),
        (stepping("apply: {kind: Pod, metadata: {name: a}}"), "s.yaml:3:5: the object to apply has no apiVersion"),
        (stepping("apply: {apiVersion: v1, kind: Pod, metadata: {}}"), "s.yaml:3:5: the object to apply has no metadata.name"),
        (stepping("delete: {resource: pods}"), "s.yaml:3:5: a delete needs a name or labels"),
        (stepping("delete: {resource: pods, labels: ''}"), "s.yaml:3:5: a delete needs a name or labels"),
        (stepping("delete: {resource: pds, name: a}"), "s.yaml:3:5: there is no resource pds; did you mean \"pods\"?"),
        (stepping("fault: {name: a, effect: {status: {code: 200}}}"), "s.yaml:3:5: fault \"a\": status code 200 is no failure"),
        (stepping("fault: {name: a, effect: {}}"), "s.yaml:3:"),
        ("description: x\nsteps:\n  - apply: {apiVersion: v1, kind: Pod, metadata: {name: a}}\n".to_owned(), "s.yaml:3:3: nothing is waited for or expected"),
        ("description: x\nstep: []\n".to_owned(), "s.yaml:2:1: unknown field `step`"),
        ("description: x\nsteps: 5\n".to_owned(), "s.yaml:2:8: "),
        ("description: x\nsteps: []\n".to_owned(), "s.yaml:2:8: there are no steps"),
        ("description: x\ngiven: {kubevirt: [v9]}\nsteps:\n  - wait: {up: true}\n".to_owned(), "s.yaml:2:19: KubeVirt v9 is not simulated; there are v1.9.0, v1.8.0"),
        ("description: x\ngiven: {kubevirt: []}\nsteps:\n  - wait: {up: true}\n".to_owned(), "s.yaml:2:19: the list of releases is empty"),
        ("description: x\ngiven: {kubevirt: '>=3'}\nsteps:\n  - wait: {up: true}\n".to_owned(), "s.yaml:2:19: no known release of KubeVirt is >=3"),
        ("description: x\ngiven: {stack: big}\nsteps:\n  - wait: {up: true}\n".to_owned(), "s.yaml:2:16: invalid stack \"big\"; expected one of none, small, full"),
        ("description: x\ngiven: {defects: [three]}\nsteps:\n  - wait: {up: true}\n".to_owned(), "s.yaml:2:19: there is no defect \"three\"; there are one, two"),
        ("description: x\nsteps:\n  - wait: {up: true}\nreconcile: false\n".to_owned(), "s.yaml:4:12: `reconcile: false` checks nothing"),
        ("description: x\nsteps:\n  - wait: {up: true}\nbroken: {fails: [{expect: a, says: b}]}\n".to_owned(), "s.yaml:4:9: a regression has two variants"),
        ("description: x\nsteps:\n  - wait: {up: true}\nbroken: {}\nmended: {}\n".to_owned(), "s.yaml:4:9: write in `fails`"),
        ("description: x\nsteps:\n  - wait: {up: true}\nexpect: [{targets: {allUp: true}}]\nbroken: {fails: [{expect: al targets, says: b}]}\nmended: {}\n".to_owned(), "s.yaml:5:18: no expectation's line contains \"al targets\"; the lines are all targets up"),
        ("description: x\nsteps:\n  - wait: {up: true}\nexpect: [{targets: {allUp: true}}]\nbroken: {fails: [{expect: all targets, says: ''}]}\nmended: {}\n".to_owned(), "s.yaml:5:46: an empty text is in everything"),
        ("description: x\nsteps:\n  - wait: {up: true}\nsnapshot:\n  - {name: a, metrics: kubevirt_nothing}\n".to_owned(), "s.yaml:5:5: KubeVirt v1.9.0 has no metric \"kubevirt_nothing\""),
        ("description: x\nsteps:\n  - wait: {up: true}\nsnapshot:\n  - {name: ../a, metrics: kubevirt_info}\n".to_owned(), "s.yaml:5:5: the name \"../a\" is no part of a file name"),
        ("description: x\nsteps:\n  - wait: {up: true}\nparity:\n  - {differs: wait for al pods, reason: r}\n".to_owned(), "s.yaml:5:5: no line of the report is \"wait for al pods\"; did you mean \"wait for all pods\"?"),
        ("description: x\nsteps:\n  - wait: {up: true}\nparity:\n  - {differs: wait for all pods, on: moon, reason: r}\n".to_owned(), "s.yaml:5:38: invalid provider \"moon\"; expected one of embedded"),
    ] {
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{text}\nexpected: {expected}\nfound: {found:#?}");
    }
}

#[test]
fn all_problems_of_a_file_are_reported() {
    let text = "description: x\ngiven: {kubevirt: [v9], stack: big}\nsteps:\n  - {}\n  - wait: {up: true, within: soon}\nexpect:\n  - targets: {}\n";
    let lines: Vec<String> =
        problems(text).iter().map(|problem| problem.split(": ").next().unwrap_or_default().to_owned()).collect();
    assert_eq!(lines, ["s.yaml:2:19", "s.yaml:2:32", "s.yaml:4:5", "s.yaml:5:30", "s.yaml:7:5"]);
}

#[test]
fn the_schema_has_the_words_of_the_types_and_of_the_catalogue() {
    let schema = crate::schema(&Few).to_string();
    for words in [
        r#"["v1.9.0","v1.8.0"]"#,
        r#"["one","two"]"#,
        r#"["inactive","pending","firing","resolved"]"#,
        r#"["none","small","full",null]"#,
    ] {
        assert!(schema.contains(words), "{words}");
    }
    for effect in <faults::Effect as wire::OneKey>::KEYS {
        assert!(schema.contains(&format!("\"required\":[\"{effect}\"]")), "{effect}");
    }
}
