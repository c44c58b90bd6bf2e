//! Expressions, dashboards and rules against a small schema.

use proptest::prelude::*;

use super::*;

fn schema() -> Schema {
    let mut schema = Schema::default();
    let labels = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
    schema.record("requests_total", labels("code method pod"));
    schema.record("latency_bucket", labels("le verb pod"));
    schema.record("up", labels("pod job"));
    schema
}

/// What is not there, in words.
fn told(expression: &str) -> Vec<String> {
    let found = check_expression(expression, &schema()).unwrap();
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
        ("{__name__=~\"(old_)?requests_total\",code=\"404\"}", vec![]),
        ("topk(3, requests_total{code=~\"5..\"})", vec![]),
        ("absent(up{job=\"x\"}) or vector(0)", vec![]),
        // Two names for two releases: one is enough.
        ("sum by (code) (old_requests_total or requests_total)", vec![]),
        ("sum by (job) (requests_total or up)", vec![]),
        ("gone or nowhere", vec!["there is no metric gone", "there is no metric nowhere"]),
        ("up{cluster=\"$cluster\"} and on ($group) $metric{a=\"b\"}", vec![]),
        ("count by (__name__) ({__name__=~\".+_total\"})", vec![]),
        ("sum by (version) (count_values(\"version\", up))", vec![]),
        ("rate(${prefix}_total[5m]) > $limit", vec![]),
    ] {
        assert_eq!(told(expression), expected, "{expression}");
    }
    assert!(check_expression("sum(", &schema()).is_err());
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
    let report = check(&readers(dashboard).unwrap(), &schema());
    let told: Vec<String> = report.broken.iter().map(|one| format!("{} {}: {}", one.line, one.reader, one.finding)).collect();
    assert_eq!(
        told,
        ["6 panel \"errors\": there is no metric gone", "1 variable \"x\": up has no label node, which by (node) asks for",]
    );
    assert_eq!(report.unread, ["latency_bucket"]);

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
    let report = check(&readers(rules).unwrap(), &schema());
    let told: Vec<String> = report.broken.iter().map(|one| format!("{} {}: {}", one.line, one.reader, one.finding)).collect();
    assert_eq!(told, ["6 alert Burst: the result has no label zone, which an annotation shows"]);
    let unknown = "groups: [{name: g, rules: [{record: age, expr: absent(up)}, {record: oldest, expr: max by (pod) (age)}]}]";
    assert_eq!(check(&readers(unknown).unwrap(), &schema()).broken, []);
    let loki = r#"{"panels": [{"datasource": {"type": "loki"}, "targets": [{"expr": "{app=\"x\"} |= \"y\""}]}]}"#;
    assert_eq!(readers(loki).unwrap(), []);
    assert_eq!(readers("{\"a\": ").unwrap_err().at, Some((1, 6)));
}

proptest! {
    #[test]
    fn whatever_is_written_nothing_panics(expression in "[a-z_{}()\\[\\]\"=~$ 0-9.,]{0,40}") {
        let _ = check_expression(&expression, &schema());
    }

    #[test]
    fn a_selector_of_what_is_there_is_fine(code in "[0-9<>a-z]{1,8}") {
        let expression = format!("sum by (pod) (rate(requests_total{{code={code:?}}}[5m]))");
        prop_assert!(check_expression(&expression, &schema()).unwrap().findings.is_empty());
    }
}
