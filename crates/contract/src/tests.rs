//! Expressions, dashboards and rules against a small schema.

use std::collections::BTreeSet;

use proptest::prelude::*;
use regex::Regex;

use super::*;

fn labels(names: &str) -> Vec<String> {
    names.split(' ').map(str::to_owned).collect()
}

fn schema() -> Schema {
    let mut schema = Schema::default();
    schema.record("requests_total", labels("code method pod"));
    schema.record("latency_bucket", labels("le verb pod"));
    schema.record("up", labels("pod job"));
    let status = Values::Closed(labels("running stopped paused").into_iter().collect());
    let any = labels("name pod label_*").into_iter().map(|label| (label, Values::Any));
    schema.record_values("info", any.chain([("status".to_owned(), status)]));
    schema
}

fn all() -> AtHand {
    AtHand::from(schema())
}

/// The page of one job among others, `own` by name; what begins with `own_` is its own.
fn one_job() -> AtHand {
    let mut schema = schema();
    schema.record("own_info", labels("name pod"));
    let owned = Owned {
        pattern: Some(Regex::new("(^|:)own_").unwrap()),
        except: Some(Regex::new("own_other_").unwrap()),
        names: BTreeSet::from(["rest_client_old".to_owned()]),
        words: BTreeSet::new(),
    };
    let target = [("job", "own-metrics"), ("pod", "own-api-*"), ("container", "own-api")];
    let target = target.map(|(label, value)| (label.to_owned(), vec![value.to_owned()])).into();
    AtHand { pages: vec![Page { schema, target, owned }], complete: false }
}

/// What is not there, in words.
fn findings(expression: &str) -> Vec<String> {
    let found =
        check_expression(expression, Some(&Variables::default()), &all()).unwrap_or_else(|why| panic!("{expression}: {why}"));
    found.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn metrics_and_labels_that_are_not_there() {
    for (expression, expected) in [
        ("sum by (code) (rate(requests_total[5m]))", vec![]),
        ("count(rate(request_total{code=\"404\"}[5m]))", vec!["there is no metric request_total; nearest is requests_total"]),
        ("rate(requests_total{status=\"404\"}[5m])", vec!["requests_total has no label status, which status=\"404\" asks for"]),
        // A matcher that takes a series without the label asks for nothing.
        ("requests_total{status!=\"404\",other=\"\"}", vec![]),
        ("sum by (status) (requests_total)", vec!["requests_total has no label status, which by (status) asks for"]),
        // What was aggregated away is gone.
        ("sum by (pod) (sum by (code) (requests_total))", vec!["requests_total has no label pod, which by (pod) asks for"]),
        ("sum without (code) (requests_total) * on (pod) group_left (job) up", vec![]),
        ("requests_total * on (pod) group_left (node) up", vec!["up has no label node, which group (node) asks for"]),
        ("requests_total / on (job) up", vec!["requests_total has no label job, which on (job) asks for"]),
        ("histogram_quantile(0.9, sum by (le) (rate(latency_bucket[5m])))", vec![]),
        (
            "histogram_quantile(0.9, sum by (verb) (rate(latency_bucket[5m])))",
            vec!["latency_bucket has no label le, which histogram_quantile (le) asks for"],
        ),
        ("sum by (made) (label_replace(up, \"made\", \"$1\", \"job\", \"(.*)\"))", vec![]),
        (
            "label_replace(up, \"made\", \"$1\", \"jobs\", \"(.*)\")",
            vec!["up has no label jobs, which label_replace (jobs) asks for"],
        ),
        // It leaves the label that is there alone.
        ("label_replace(up, \"pod\", \"$1\", \"instance\", \"(.+)\")", vec![]),
        ("{__name__=~\"(old_)?requests_total\",code=\"404\"}", vec![]),
        ("topk(3, requests_total{code=~\"5..\"})", vec![]),
        ("topk(scalar(gone), up)", vec!["there is no metric gone"]),
        ("absent(up{job=\"x\"}) or vector(0)", vec![]),
        // Two names for two releases: one is enough. Nothing is no name.
        ("sum by (code) (old_requests_total or requests_total)", vec![]),
        ("sum by (job) (requests_total or up)", vec![]),
        ("gone or nowhere", vec!["there is no metric gone", "there is no metric nowhere"]),
        ("sum(gone) or vector(0)", vec!["there is no metric gone"]),
        ("count by (__name__) ({__name__=~\".+_total\"})", vec![]),
        ("sum by (version) (count_values(\"version\", up))", vec![]),
        // Without a name it is the labels that have to be somewhere.
        ("count({code=\"404\"})", vec![]),
        ("count({nowhere=\"404\"})", vec!["there is no metric {nowhere=\"404\"}"]),
        // Labels of users.
        ("sum by (label_app) (info{label_tier=\"x\"})", vec![]),
        // Values.
        ("info{status=\"Running\"}", vec!["info has no status=\"Running\"; there is running, paused, stopped"]),
        (
            "max_over_time(info{status!=\"Running\", name!=\"\"}[10m]) == 1",
            vec!["info has no status=\"Running\", which status!=\"Running\" excludes; there is running, paused, stopped"],
        ),
        ("info{status=~\"Run.*|Stop.*\"}", vec!["info has no status=~\"Run.*|Stop.*\"; there is running, stopped, paused"]),
        (
            "info{status!~\"gone\"}",
            vec!["info has no status=~\"gone\", which status!~\"gone\" excludes; there is paused, running, stopped"],
        ),
        ("info{status=~\"running|Gone\",name=\"Any\"}", vec![]),
        ("info{status=\"Running\"} or info{status=\"running\"}", vec![]),
        (
            "info{status=\"Running\"} or info{status=\"paused\"}",
            vec!["info has no status=\"Running\"; there is running, paused, stopped"],
        ),
        ("absent(info{status=\"RUNNING\"})", vec!["info has no status=\"RUNNING\"; there is running, paused, stopped"]),
    ] {
        assert_eq!(findings(expression), expected, "{expression}");
    }
    assert!(check_expression("sum(", None, &all()).is_err());
}

#[test]
fn variables_stand_for_anything_but_not_for_everything() {
    for (expression, expected) in [
        ("up{cluster=\"$cluster\"} and on ($group) requests_total{a=~\"$b\"}", Ok(vec![])),
        ("rate(${prefix}_total[5m]) > $limit", Ok(vec![])),
        ("rate(gone_${part}_total[5m])", Ok(vec!["there is no metric gone_$part_total"])),
        ("{__name__=~\"gone_$x.*\"}", Ok(vec!["there is no metric {__name__=~\"gone_$x.*\"}"])),
        ("{__name__=~\"$x_total|requests_.*\"}", Ok(vec![])),
        ("topk($top, gone)", Ok(vec!["there is no metric gone"])),
        ("sum(gone{$matchers})", Ok(vec!["there is no metric gone"])),
        ("rate(gone[[[range]]]) offset $shift", Ok(vec!["there is no metric gone"])),
        ("sum by ($group) (requests_total{stat=\"x\"})", Ok(vec!["requests_total has no label stat, which stat=\"x\" asks for"])),
        // What is in a group that nobody knows is not known either.
        ("sum by (pod) (sum by ($group) (requests_total))", Ok(vec![])),
        // Something is missing, whatever the rest is.
        ("gone / $metric{a=\"b\"}", Ok(vec!["there is no metric gone"])),
        ("info{status=\"$status\"}", Ok(vec![])),
        // Where a part is wrong, the rest can be missing all the same.
        ("rate(gone[5m]) offset 1h", Ok(vec!["there is no metric gone"])),
        (
            "rate(up[5m]) offset $shift",
            Err("offset modifier must be preceded by an vector selector or matrix selector or a subquery"),
        ),
        ("$query", Err("what it reads is in a variable")),
        ("$a / $b", Err("what it reads is in a variable")),
        ("sum($metric{a=\"b\"})", Err("the name of a metric is a variable: $metric")),
        ("up + rate($metric[5m])", Err("the name of a metric is a variable: $metric")),
        ("count({$matchers})", Err("which metrics it reads is in variables: {$matchers=\"$matchers\"}")),
        ("{__name__=\"$metric\"}", Err("the name of a metric is a variable: {__name__=\"$metric\"}")),
        ("up{a=\"b\" or c=\"d\"}", Err("\"or\" between matchers is not PromQL")),
    ] {
        let found = check_expression(expression, Some(&Variables::default()), &all());
        let said = found.map(|found| found.findings.iter().map(ToString::to_string).collect::<Vec<_>>());
        let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>()).map_err(str::to_owned);
        assert_eq!(said, expected, "{expression}");
    }
}

#[test]
fn series_of_other_jobs_are_neither_there_nor_missing() {
    // What is missing, and what was not looked for.
    for (expression, missing, elsewhere) in [
        ("own_info", vec![], vec![]),
        ("own_gone", vec!["own_gone"], vec![]),
        ("a:own_gone:sum", vec!["a:own_gone:sum"], vec![]),
        ("{__name__=~\"own_gone.*\"}", vec!["{__name__=~\"own_gone.*\"}"], vec![]),
        ("own_gone{job=\"whatever\"}", vec!["own_gone"], vec![]),
        ("own_gone{job=\"$job\"}", vec!["own_gone"], vec![]),
        ("own_other_gone", vec![], vec!["own_other_gone"]),
        ("haproxy_up", vec![], vec!["haproxy_up"]),
        ("haproxy_$x", vec![], vec!["haproxy_$x"]),
        ("haproxy_up{job=\"own-metrics\"}", vec!["haproxy_up"], vec![]),
        // Names of libraries: it depends on who is asked.
        ("rest_client_old", vec!["rest_client_old"], vec![]),
        ("rest_client_old{job=~\"a|b\"}", vec![], vec!["rest_client_old of job a|b"]),
        ("rest_client_old{job=\"$job\"}", vec![], vec!["rest_client_old of job $job"]),
        ("rest_client_old{job!=\"own-metrics\"}", vec![], vec!["rest_client_old"]),
        ("rest_client_old{pod!~\"own-api.*|x\"}", vec![], vec!["rest_client_old"]),
        ("rest_client_old{pod=~\"own-api-.*\"}", vec!["rest_client_old"], vec![]),
        ("rest_client_old{pod=~\"own-api-6.*\"}", vec!["rest_client_old"], vec![]),
        ("rest_client_old{pod=\"other-0\"}", vec![], vec!["rest_client_old"]),
        ("rest_client_old{job=~\".*\"}", vec!["rest_client_old"], vec![]),
        ("workqueue_depth", vec![], vec!["workqueue_depth"]),
        ("workqueue_depth{job=~\"own.*\"}", vec!["workqueue_depth"], vec![]),
        ("up{job=\"kubelet\",metrics_path=\"/metrics\"}", vec![], vec!["up of job kubelet"]),
        ("up{metrics_path=\"/metrics\"}", vec![], vec!["up"]),
        ("up{job=\"own-metrics\",path=\"/metrics\"}", vec!["up"], vec![]),
        ("up{job=\"own-metrics\"} + haproxy_up", vec![], vec!["haproxy_up"]),
        ("sum by (zone) (up)", vec![], vec![]),
        // What cannot be read can name what is missing all the same.
        ("sum(own_gone{", vec!["own_gone"], vec![]),
        ("sum by (own_label) (rate(own_gone + $a $b $c $d", vec!["own_gone"], vec![]),
    ] {
        let found = check_expression(expression, Some(&Variables::default()), &one_job()).unwrap();
        let metric = |finding: &Finding| match finding {
            Finding::NoMetric { metric, .. } | Finding::NoLabel { metric, .. } | Finding::NoValue { metric, .. } => {
                metric.clone()
            }
            Finding::NoTemplateLabel { label } => label.clone(),
        };
        assert_eq!(found.findings.iter().map(metric).collect::<Vec<_>>(), missing, "{expression}");
        assert_eq!(found.not_at_hand.iter().map(ToString::to_string).collect::<Vec<_>>(), elsewhere, "{expression}");
    }
}

#[test]
fn a_page_that_is_given_has_all_of_its_names() {
    let mut at_hand = one_job();
    let mut schema = Schema::default();
    schema.record("haproxy_up", labels("proxy"));
    let owned = Owned::of_names(schema.names());
    at_hand.pages.push(Page { schema, target: [("job".to_owned(), vec!["haproxy".to_owned()])].into(), owned });
    for (expression, missing, elsewhere) in [
        ("haproxy_up{proxy=\"x\"}", 0, 0),
        ("haproxy_up{prox=\"x\"}", 1, 0),
        ("haproxy_upp", 1, 0),
        ("node_load1", 0, 1),
        ("node_load1{job=\"haproxy\"}", 1, 0),
        ("own_info", 0, 0),
    ] {
        let found = check_expression(expression, None, &at_hand).unwrap();
        assert_eq!((found.findings.len(), found.not_at_hand.len()), (missing, elsewhere), "{expression}");
    }
}

/// What comes of a text: each reader with its line and how it ended.
fn checked(text: &str) -> Vec<String> {
    let told = |one: Checked| match &one.outcome {
        Outcome::There { .. } => format!("{} {}: there", one.line, one.reader),
        Outcome::Broken { findings, .. } => {
            let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
            format!("{} {}: {}", one.line, one.reader, all.join(", "))
        }
        Outcome::NotAtHand { .. } => format!("{} {}: elsewhere", one.line, one.reader),
        Outcome::NotRead { why } => format!("{} {}: not read: {why}", one.line, one.reader),
    };
    check(&readers(text).unwrap_or_else(|error| panic!("{text}: {error:?}")).readers, &all()).into_iter().map(told).collect()
}

#[test]
fn dashboards_and_rules_with_their_lines() {
    let dashboard = r#"{
  "panels": [
    {"title": "row", "panels": [
      {"title": "errors", "targets": [
        {"expr": "sum(rate(requests_total{code=\"<error>\"}[$__rate_interval]))"},
        {"expr": "sum(gone)"}]}]}],
  "templating": {"list": [{"name": "pod", "query": "label_values(up, pod)"}, {"name": "x", "query": {"query": "label_values(up, node)"}}]}
}"#;
    assert_eq!(
        checked(dashboard),
        [
            "5 panel \"errors\": there",
            "6 panel \"errors\": there is no metric gone",
            "7 variable \"pod\": there",
            "7 variable \"x\": up has no label node, which by (node) asks for",
        ]
    );
    let rules = r#"
groups:
  - name: g
    rules:
      - alert: Burst
        expr: job:errors:rate5m > 0.8
        annotations: {summary: "{{ $labels.pod }} of {{ $labels.zone }}"}
      - record: job:errors:rate5m
        expr: sum by (pod) (rate(requests_total{code=~"5.."}[5m]))
        labels: {team: x}
"#;
    assert_eq!(
        checked(rules),
        ["6 alert Burst: the result has no label zone, which an annotation shows", "9 rule job:errors:rate5m: there"]
    );
    let unknown = "groups: [{name: g, rules: [{record: age, expr: absent(up)}, {record: oldest, expr: max by (pod) (age)}]}]";
    assert_eq!(checked(unknown), ["1 rule age: there", "1 rule oldest: there"]);
    assert_eq!(readers("{\"a\": ").unwrap_err().at, Some((1, 6)));
    // Values go with labels through what is recorded.
    let recorded = "groups: [{name: g, rules: [{record: 'a:info:count', expr: count by (status) (info)}, {alert: A, expr: 'a:info:count{status=\"Paused\"}'}]}]";
    assert_eq!(
        checked(recorded),
        ["1 rule a:info:count: there", "1 alert A: a:info:count has no status=\"Paused\"; there is paused, running, stopped"]
    );
}

/// Each form in which a dashboard or a rule comes has one panel that reads what is not there, and is read.
#[test]
fn forms_of_dashboards_and_rules() {
    let panel = r#"{"title": "p", "targets": [{"expr": "gone"}]}"#;
    let board = format!(r#"{{"title": "t", "panels": [{panel}]}}"#);
    let in_string = serde_json::Value::from(board.as_str()).to_string();
    let perses = "{panels: {k: {kind: Panel, spec: {display: {name: p}, queries: [{kind: TimeSeriesQuery, spec: {plugin: {kind: PrometheusTimeSeriesQuery, spec: {query: gone}}}}]}}}}";
    let group = "[{name: g, rules: [{alert: p, expr: gone}]}]";
    let managed = r#"{"uid": "u", "title": "p", "condition": "B", "data": [{"refId": "A", "datasourceUid": "prom", "model": {"expr": "gone"}}, {"refId": "B", "datasourceUid": "__expr__", "model": {"type": "math", "expression": "$A > 1"}}]}"#;
    let v2 = |query: &str| {
        format!(
            r#"{{"title": "t", "layout": {{}}, "elements": {{"panel-1": {{"kind": "Panel", "spec": {{"title": "p", "data": {{"kind": "QueryGroup", "spec": {{"queries": [{{"kind": "PanelQuery", "spec": {{"query": {query}}}}}]}}}}}}}}}}}}"#
        )
    };
    let v2beta1 = v2(r#"{"kind": "DataQuery", "group": "prometheus", "version": "v0", "spec": {"expr": "gone"}}"#);
    let v2alpha1 = v2(r#"{"kind": "prometheus", "spec": {"expr": "gone"}}"#);
    let packed = {
        use base64::Engine as _;
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(board.as_bytes()).unwrap();
        base64::engine::general_purpose::STANDARD.encode(gzip.finish().unwrap())
    };
    let encoded = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&board)
    };
    let config_map = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m}}, data: {{d.json: {in_string}}}}}");
    let forms = [
        board.clone(),
        format!("\u{feff}{board}"),
        format!("\u{feff}groups: {group}"),
        format!("{{\"dashboard\": {board}, \"meta\": {{}}}}"),
        format!("[{board}]"),
        format!("{{\"title\": \"t\", \"rows\": [{{\"panels\": [{panel}]}}]}}"),
        format!("{{\"panels\": [{{\"type\": \"row\", \"collapsed\": true, \"panels\": [{panel}]}}]}}"),
        format!(
            "{{\"panels\": [{{\"title\": \"l\", \"libraryPanel\": {{\"uid\": \"u\", \"name\": \"n\"}}}}], \"__elements\": {{\"u\": {{\"uid\": \"u\", \"kind\": 1, \"model\": {panel}}}}}}}"
        ),
        format!("{{\"name\": \"n\", \"kind\": 1, \"model\": {panel}}}"),
        format!("{{\"apiVersion\": \"dashboard.grafana.app/v1beta1\", \"kind\": \"Dashboard\", \"spec\": {board}}}"),
        format!("{{\"apiVersion\": \"dashboard.grafana.app/v2beta1\", \"kind\": \"Dashboard\", \"spec\": {v2beta1}}}"),
        v2alpha1,
        format!(
            "{{apiVersion: grafana.integreatly.org/v1beta1, kind: GrafanaDashboard, metadata: {{name: d}}, spec: {{json: {in_string}}}}}"
        ),
        format!("{{apiVersion: grafana.integreatly.org/v1beta1, kind: GrafanaDashboard, spec: {{gzipJson: {packed}}}}}"),
        format!(
            "{{apiVersion: grafana.integreatly.org/v1beta1, kind: GrafanaLibraryPanel, spec: {{json: {}}}}}",
            serde_json::Value::from(panel)
        ),
        format!("{{apiVersion: grafana.integreatly.org/v1beta1, kind: GrafanaAlertRuleGroup, spec: {{rules: [{managed}]}}}}"),
        config_map.clone(),
        format!("{{apiVersion: v1, kind: ConfigMapList, items: [{config_map}]}}"),
        format!("{{apiVersion: v1, kind: List, items: [{config_map}]}}"),
        format!("{{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: List, items: [{config_map}]}}]}}"),
        format!("{{apiVersion: v1, kind: ConfigMap, data: {{rules.yaml: 'groups: {group}'}}}}"),
        format!("{{apiVersion: v1, kind: Secret, data: {{d.json: {encoded}}}}}"),
        format!("{{apiVersion: v1, kind: ConfigMap, binaryData: {{d.json: {encoded}}}}}"),
        format!("{{kind: Dashboard, metadata: {{name: d}}, spec: {perses}}}"),
        format!("{{apiVersion: perses.dev/v1alpha1, kind: PersesDashboard, spec: {perses}}}"),
        format!("{{apiVersion: perses.dev/v1alpha2, kind: PersesDashboard, spec: {{config: {perses}}}}}"),
        format!(
            "{{apiVersion: v1, kind: List, items: [{{apiVersion: perses.dev/v1alpha2, kind: PersesDashboard, spec: {{config: {perses}}}}}]}}"
        ),
        format!("groups: {group}"),
        format!("namespace: n\ngroups: {group}"),
        r#"{"groups": [{"name": "g", "rules": [{"alert": "p", "expr": "gone"}]}]}"#.to_owned(),
        format!("{{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, spec: {{groups: {group}}}}}"),
        format!(
            "{{apiVersion: v1, kind: Service}}\n---\n{{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, spec: {{groups: {group}}}}}"
        ),
        format!("{{apiVersion: operator.victoriametrics.com/v1beta1, kind: VMRule, spec: {{groups: {group}}}}}"),
        format!("{{apiVersion: monitoring.openshift.io/v1, kind: AlertingRule, spec: {{groups: {group}}}}}"),
        format!(
            "{{apiVersion: prometheusservice.services.k8s.aws/v1alpha1, kind: RuleGroupsNamespace, spec: {{configuration: 'groups: {group}'}}}}"
        ),
        format!("{{\"apiVersion\": 1, \"groups\": [{{\"name\": \"g\", \"rules\": [{managed}]}}]}}"),
        format!("apiVersion: 1\ngroups:\n- name: g\n  rules: [{managed}]\n"),
        format!("[{managed}]"),
        "tests: [{input_series: [{series: up, values: 1x5}], promql_expr_test: [{expr: gone, eval_time: 1m}]}]".to_owned(),
        "tests: [{input_series: [{series: 'gone{a=\"b\"}', values: 1x5}]}]".to_owned(),
    ];
    for form in forms {
        let found = checked(&form);
        let missing: Vec<&String> = found.iter().filter(|one| one.contains("there is no metric gone")).collect();
        let others = found.iter().filter(|one| one.contains("not read")).count();
        assert_eq!((missing.len(), others), (1, 0), "{form}: {found:?}");
        let names = ["panel \"p\"", "alert p", "input series", "test of an expression"];
        assert!(names.iter().any(|name| missing[0].contains(name)), "{form}: {found:?}");
    }
}

/// Where else a dashboard asks.
#[test]
fn annotations_and_variables_of_dashboards() {
    for (part, expected) in [
        (r#""annotations": {"list": [{"name": "a", "expr": "gone"}]}"#, "annotation \"a\""),
        (
            r#""annotations": {"list": [{"name": "a", "datasource": {"type": "prometheus"}, "target": {"expr": "gone"}}]}"#,
            "annotation \"a\"",
        ),
        (r#""templating": {"list": [{"name": "v", "type": "query", "query": "label_values(gone, pod)"}]}"#, "variable \"v\""),
        (
            r#""templating": {"list": [{"name": "v", "type": "query", "query": "label_values(gone{a=\"$b\"}, pod)"}]}"#,
            "variable \"v\"",
        ),
        (
            r#""templating": {"list": [{"name": "v", "type": "query", "query": {"query": "query_result(topk($n, gone))", "refId": "A"}}]}"#,
            "variable \"v\"",
        ),
        (
            r#""templating": {"list": [{"name": "v", "type": "query", "query": {"qryType": 1}, "definition": "label_values(gone, pod)"}]}"#,
            "variable \"v\"",
        ),
        (r#""templating": {"list": [{"name": "v", "type": "query", "query": "metrics(gone_.*)"}]}"#, "variable \"v\""),
        (r#""templating": {"list": [{"name": "v", "type": "query", "query": "gone{a=\"b\"}"}]}"#, "variable \"v\""),
    ] {
        let found = checked(&format!("{{\"panels\": [], {part}}}"));
        assert!(matches!(&found[..], [one] if one.contains(expected) && one.contains("there is no metric")), "{part}: {found:?}");
    }
    let v2 = r#"{"title": "t", "layout": {}, "elements": {},
      "annotations": [{"kind": "AnnotationQuery", "spec": {"name": "a", "query": {"kind": "DataQuery", "group": "prometheus", "spec": {"expr": "gone"}}}}],
      "variables": [{"kind": "QueryVariable", "spec": {"name": "v", "query": {"kind": "DataQuery", "group": "prometheus", "spec": {"query": "label_values(gone, pod)"}}}},
        {"kind": "QueryVariable", "spec": {"name": "w", "query": {"kind": "prometheus", "spec": {"__legacyStringValue": "label_values(gone, pod)"}}}},
        {"kind": "QueryVariable", "spec": {"name": "x", "query": "label_values(gone, pod)"}},
        {"kind": "CustomVariable", "spec": {"name": "c", "query": "a,b"}}]}"#;
    assert_eq!(checked(v2).iter().filter(|one| one.contains("there is no metric gone")).count(), 4);
    let perses = "{kind: Dashboard, spec: {panels: {}, variables: [
      {kind: ListVariable, spec: {name: v, plugin: {kind: PrometheusLabelValuesVariable, spec: {labelName: pod, matchers: [gone, 'gone{a=\"$b\"}']}}}},
      {kind: ListVariable, spec: {name: w, plugin: {kind: PrometheusLabelNamesVariable, spec: {matchers: [gone]}}}},
      {kind: ListVariable, spec: {name: x, plugin: {kind: PrometheusPromQLVariable, spec: {expr: 'group by (a) (gone)'}}}},
      {kind: ListVariable, spec: {name: y, plugin: {kind: PrometheusLabelValuesVariable, spec: {labelName: pod}}}},
      {kind: ListVariable, spec: {name: z, plugin: {kind: StaticListVariable, spec: {values: [a]}}}},
      {kind: TextVariable, spec: {name: t, value: a}}],
      annotations: [{spec: {display: {name: n}, plugin: {kind: PrometheusPromQLAnnotation, spec: {expr: gone}}}}]}}";
    let found = checked(perses);
    assert_eq!((found.len(), found.iter().filter(|one| one.contains("there is no metric gone")).count()), (5, 5), "{found:?}");
}

/// What cannot be read is said with the reason, whatever it is.
#[test]
fn what_cannot_be_read_is_said() {
    for (text, expected) in [
        (r#"{"panels": [{"title": "p", "targets": [{"expr": "sum("}]}]}"#, "1 panel \"p\": not read: "),
        (
            r#"{"panels": [{"title": "p", "libraryPanel": {"uid": "u", "name": "n"}}]}"#,
            "panel \"n\": not read: it is a library panel",
        ),
        (
            r#"{"title": "t", "layout": {}, "elements": {"a": {"kind": "LibraryPanel", "spec": {"title": "l"}}}}"#,
            "it is a library panel",
        ),
        (
            r#"{"title": "t", "layout": {}, "elements": {"a": {"kind": "Other", "spec": {}}}}"#,
            "elements of kind Other are not known",
        ),
        (
            r#"{"panels": [], "templating": {"list": [{"name": "v", "type": "query", "query": "values_of(up, pod)"}]}}"#,
            "variable \"v\": not read",
        ),
        (
            r#"{"panels": [], "templating": {"list": [{"name": "v", "type": "query", "query": {"other": 1}}]}}"#,
            "it has no query that is known",
        ),
        ("groups: [{name: g, rules: [{expr: up}]}]", "rule of group \"g\": not read: it has neither alert nor record"),
        ("groups: [{name: g, rules: [{alert: a}]}]", "alert a: not read: it has no expression"),
        ("groups: [{name: g, rules: [{alert: a, expr: 'up{job=\"$job\"} > $x'}]}]", "alert a: not read"),
        (
            "{kind: GrafanaDashboard, metadata: {name: d}, spec: {url: 'https://x'}}",
            "GrafanaDashboard \"d\": not read: its dashboard is not in the file, but named by url",
        ),
        ("{kind: GrafanaDashboard, metadata: {name: d}, spec: {json: '{'}}", "its dashboard is no JSON"),
        ("{kind: GrafanaDashboard, metadata: {name: d}, spec: {json: '{}'}}", "there is no dashboard in it"),
        ("{kind: GrafanaDashboard, metadata: {name: d}, spec: {gzipJson: 'aaaa'}}", "gzipJson: "),
        ("{kind: GrafanaDashboard, metadata: {name: d}, spec: {}}", "it has no dashboard"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {d.json: '{'}}", "ConfigMap \"m\", d.json: not read"),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {d.json: '{\"a\": 1}'}}",
            "there is no dashboard or rule in it",
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: m, labels: {grafana_dashboard: '1'}}, data: {d.yaml: '{datasources: [], apiVersion: 1}'}}",
            "there is no dashboard or rule in it",
        ),
        (
            "{kind: Dashboard, spec: {panels: {k: {kind: Panel, spec: {queries: [{spec: {plugin: {kind: NewQuery, spec: {query: x}}}}]}}}}}",
            "queries of plugin \"NewQuery\" are not known",
        ),
        (
            "{kind: Dashboard, spec: {panels: {}, variables: [{kind: ListVariable, spec: {name: v, plugin: {kind: NewVariable}}}]}}",
            "variables of plugin \"NewVariable\" are not known",
        ),
        (
            "{kind: Dashboard, spec: {panels: {}, variables: [{kind: OtherVariable, spec: {name: v}}]}}",
            "variables of kind \"OtherVariable\" are not known",
        ),
        ("a: 1\n---\ngroups: [{name: g, rules: []}]", "a document: not read: there is no dashboard or rule in it"),
        ("tests: [{promql_expr_test: [{eval_time: 1m}]}]", "test of an expression: not read: it has no expression"),
    ] {
        let found = checked(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
    }
    let deep = format!("{}gone{}", "(".repeat(300), ")".repeat(300));
    assert!(check_expression(&deep, None, &all()).is_err_and(|why| why.contains("nested more than")));
    for long in ["-".repeat(5000), "up + ".repeat(5000), "(".repeat(5000), "up or ".repeat(5000), "up[5m:".repeat(5000)] {
        assert!(check_expression(&format!("{long} up"), None, &all()).is_err_and(|why| why.contains("more than 4000")));
    }
    // Just short of that, the parser's stack has to do.
    for long in ["-".repeat(3990), "up + ".repeat(3990), "(".repeat(3990), "up or ".repeat(3990)] {
        let _ = check_expression(&format!("{long} up"), None, &all());
    }
}

#[test]
fn other_languages_read_no_series() {
    for part in [
        r#"{"datasource": {"type": "loki"}, "targets": [{"expr": "{app=\"x\"} |= \"y\""}]}"#,
        r#"{"targets": [{"datasource": {"type": "loki", "uid": "l"}, "expr": "{app=\"x\"} |= \"y\""}]}"#,
        r#"{"datasource": "${DS_LOKI}", "targets": [{"expr": "{app=\"x\"} |= \"y\""}]}"#,
        r#"{"datasource": {"uid": "$logs"}, "targets": [{"expr": "{app=\"x\"} |= \"y\""}]}"#,
        r#"{"datasource": {"type": "datasource", "uid": "-- Dashboard --"}, "targets": [{"panelId": 1}]}"#,
        r#"{"targets": [{"datasource": {"type": "__expr__", "uid": "__expr__"}, "expression": "$A > 1"}]}"#,
    ] {
        let board = format!(
            r#"{{"panels": [{part}], "__inputs": [{{"name": "DS_LOKI", "pluginId": "loki"}}],
              "templating": {{"list": [{{"name": "logs", "type": "datasource", "query": "loki"}}]}}}}"#
        );
        assert_eq!(readers(&board).unwrap().readers, [], "{part}");
    }
    let loki = "{apiVersion: loki.grafana.com/v1, kind: AlertingRule, spec: {groups: [{rules: [{alert: a, expr: 'x'}]}]}}";
    let found = readers(loki).unwrap();
    assert!(found.readers.is_empty() && found.without[0].never_reads);
}

#[test]
fn documents_without_dashboards_and_rules_are_named() {
    for (text, what, never_reads) in [
        ("{apiVersion: apps/v1, kind: Deployment}", "Deployment", true),
        ("{apiVersion: v1, kind: Service}", "Service", true),
        ("{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor}", "ServiceMonitor", true),
        ("{apiVersion: rbac.authorization.k8s.io/v1, kind: Role}", "Role", true),
        ("{apiVersion: instancetype.kubevirt.io/v1beta1, kind: VirtualMachineInstancetype}", "VirtualMachineInstancetype", true),
        ("{apiVersion: keda.sh/v1alpha1, kind: ScaledObject}", "ScaledObject", false),
        ("{kind: Unknown}", "Unknown", false),
        ("{apiVersion: argoproj.io/v1alpha1, kind: Application}", "Application", true),
        ("{apiVersion: argoproj.io/v1alpha1, kind: AnalysisTemplate}", "AnalysisTemplate", false),
        ("resources: [a.yaml]", "a kustomization", true),
        ("a: b", "a document", false),
        ("{\"name\": \"x\", \"version\": \"1\"}", "a document", false),
        ("route: {}\nreceivers: []", "a configuration of Alertmanager", true),
    ] {
        let found = readers(text).unwrap();
        assert_eq!(found.without, [Without { what: what.to_owned(), never_reads }], "{text}");
        assert_eq!((found.found, found.readers.len()), (0, 0), "{text}");
    }
    // Dashboards and groups that read nothing are there all the same.
    for text in ["{\"panels\": []}", "groups: []", "{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, spec: {}}"] {
        let found = readers(text).unwrap();
        assert_eq!((found.found, found.without.len()), (1, 0), "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_is_written_nothing_panics(expression in "[a-z_{}()\\[\\]\"=~$ 0-9.,:]{0,40}") {
        let _ = check_expression(&expression, Some(&Variables::default()), &all());
        let _ = check_expression(&expression, None, &one_job());
    }

    #[test]
    fn whatever_a_text_is_nothing_panics(text in "[a-z{}\\[\\]\":, \n-]{0,60}") {
        let _ = readers(&text);
    }

    #[test]
    fn a_selector_of_what_is_there_is_fine(code in "[0-9<>a-z]{1,8}") {
        let expression = format!("sum by (pod) (rate(requests_total{{code={code:?}}}[5m]))");
        prop_assert!(check_expression(&expression, None, &all()).unwrap().findings.is_empty());
    }

    /// A variable may stand for any of these without hiding that the metric is missing.
    #[test]
    fn no_variable_hides_what_is_missing(
        before in prop::sample::select(vec!["", "topk($n, ", "sum by ($g) (", "$n * (", "sum("]),
        matchers in prop::sample::select(vec!["", "{$m}", "{a=\"$b\"}", "{a=\"b\", $m}", "{$l=~\"x\"}"]),
        after in prop::sample::select(vec!["", " offset $o", " > $t", " $op 3"]),
    ) {
        let close = if before.ends_with('(') || before.ends_with(", ") { ")" } else { "" };
        let expression = format!("{before}gone{matchers}{close}");
        let expression = if close.is_empty() || !after.contains("offset") { format!("{expression}{after}") } else { expression };
        let found = check_expression(&expression, Some(&Variables::default()), &all());
        prop_assert!(found.as_ref().is_ok_and(|found| found.findings.len() == 1), "{} {:?}", expression, found);
    }
}
