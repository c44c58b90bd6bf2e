//! Command lines of Prometheus and Alertmanager: one row an argument, in the operator's order.

use kubeapi::object;
use serde_json::Value;

use super::pod::text;
use crate::version::Version;

/// An argument: its name, the versions that know it (from one, to before another), and its value.
struct Row {
    name: &'static str,
    since: (u32, u32),
    until: (u32, u32),
    /// Nothing for no argument; an empty text for one without a value.
    value: fn(&Value) -> Option<String>,
}

const ALWAYS: (u32, u32) = (0, 0);
const NEVER: (u32, u32) = (u32::MAX, 0);

const fn row(name: &'static str, value: fn(&Value) -> Option<String>) -> Row {
    Row { name, since: ALWAYS, until: NEVER, value }
}

const fn since(name: &'static str, since: (u32, u32), value: fn(&Value) -> Option<String>) -> Row {
    Row { name, since, until: NEVER, value }
}

const fn between(name: &'static str, since: (u32, u32), until: (u32, u32), value: fn(&Value) -> Option<String>) -> Row {
    Row { name, since, until, value }
}

fn given(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn flag(set: bool) -> Option<String> {
    set.then(String::new)
}

fn list(value: &Value) -> Option<String> {
    let items: Vec<&str> = value.as_array()?.iter().filter_map(Value::as_str).collect();
    (!items.is_empty()).then(|| items.join(","))
}

fn always(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// A level or format that differs from what the program does by itself.
fn other_than(value: &Value, default: &str) -> Option<String> {
    given(value).filter(|given| given != default)
}

fn positive(value: &Value) -> Option<String> {
    value.as_i64().filter(|number| *number > 0).map(|number| number.to_string())
}

fn messages(spec: &Value) -> Option<String> {
    let full = |version: &Value| if version == "V2.0" { "io.prometheus.write.v2.Request" } else { "prometheus.WriteRequest" };
    let versions = spec["remoteWriteReceiverMessageVersions"].as_array().filter(|versions| !versions.is_empty())?;
    (spec["enableRemoteWriteReceiver"] == true).then(|| versions.iter().map(full).collect::<Vec<_>>().join(","))
}

fn otlp(spec: &Value) -> bool {
    spec["enableOTLPReceiver"].as_bool().unwrap_or_else(|| !spec["otlp"].is_null())
}

/// Retention by time: a day, unless something else bounds it.
fn retention(spec: &Value) -> Option<String> {
    let day = || given(&spec["retentionSize"]).is_none().then(|| "24h".to_owned());
    given(&spec["retention"]).or_else(day)
}

fn uploads(spec: &Value) -> bool {
    let thanos = &spec["thanos"];
    !thanos["objectStorageConfig"].is_null() || !thanos["objectStorageConfigFile"].is_null()
}

/// The length of blocks where Prometheus may not compact them.
fn block(spec: &Value) -> Option<String> {
    let fixed = spec["disableCompaction"] == true || uploads(spec);
    fixed.then(|| text(&spec["thanos"], "blockSize").unwrap_or("2h").to_owned())
}

fn overlapping(spec: &Value) -> Option<String> {
    flag(block(spec).is_some() && !spec["tsdb"]["outOfOrderTimeWindow"].is_null())
}

const PROMETHEUS: &[Row] = &[
    row("config.file", |_| always("/etc/prometheus/config_out/prometheus.env.yaml")),
    between("web.console.templates", (2, 0), (3, 0), |_| always("/etc/prometheus/consoles")),
    between("web.console.libraries", (2, 0), (3, 0), |_| always("/etc/prometheus/console_libraries")),
    row("web.enable-lifecycle", |spec| flag(spec["reloadStrategy"] != "ProcessSignal")),
    since("web.page-title", (2, 6), |spec| given(&spec["web"]["pageTitle"])),
    row("web.max-connections", |spec| given(&spec["web"]["maxConnections"])),
    since("web.enable-remote-write-receiver", (2, 33), |spec| flag(spec["enableRemoteWriteReceiver"] == true)),
    since("web.remote-write-receiver.accepted-protobuf-messages", (2, 54), messages),
    between("enable-feature", (2, 54), (3, 4), |spec| {
        let second = spec["remoteWrite"].as_array()?.iter().any(|write| write["messageVersion"] == "V2.0");
        second.then(|| "metadata-wal-records".to_owned())
    }),
    since("web.enable-otlp-receiver", (3, 0), |spec| flag(otlp(spec))),
    between("enable-feature", (2, 47), (3, 0), |spec| otlp(spec).then(|| "otlp-write-receiver".to_owned())),
    since("enable-feature", (2, 25), |spec| list(&spec["enableFeatures"])),
    row("web.external-url", |spec| given(&spec["externalUrl"])),
    row("web.route-prefix", |spec| always(text(spec, "routePrefix").unwrap_or("/"))),
    row("log.level", |spec| other_than(&spec["logLevel"], "info")),
    since("log.format", (2, 6), |spec| other_than(&spec["logFormat"], "logfmt")),
    row("web.listen-address", |spec| (spec["listenLocal"] == true).then(|| "127.0.0.1:9090".to_owned())),
    between("storage.tsdb.retention", ALWAYS, (2, 7), |spec| always(text(spec, "retention").unwrap_or("24h"))),
    since("storage.tsdb.retention.time", (2, 7), retention),
    since("storage.tsdb.retention.size", (2, 7), |spec| given(&spec["retentionSize"])),
    row("storage.tsdb.path", |_| always("/prometheus")),
    row("web.enable-admin-api", |spec| flag(spec["enableAdminAPI"] == true)),
    since("rules.alert.for-outage-tolerance", (2, 4), |spec| given(&spec["rules"]["alert"]["forOutageTolerance"])),
    since("rules.alert.for-grace-period", (2, 4), |spec| given(&spec["rules"]["alert"]["forGracePeriod"])),
    since("rules.alert.resend-delay", (2, 4), |spec| given(&spec["rules"]["alert"]["resendDelay"])),
    row("query.lookback-delta", |spec| given(&spec["query"]["lookbackDelta"])),
    since("query.max-samples", (2, 5), |spec| positive(&spec["query"]["maxSamples"])),
    // One at a time cannot be asked for before 0.88.
    row("query.max-concurrency", |spec| positive(&spec["query"]["maxConcurrency"]).filter(|number| number != "1")),
    row("query.timeout", |spec| given(&spec["query"]["timeout"])),
    between("storage.tsdb.allow-overlapping-blocks", (2, 11), (2, 39), |spec| flag(spec["allowOverlappingBlocks"] == true)),
    since("storage.tsdb.wal-compression", (2, 11), |spec| flag(spec["walCompression"] == true)),
    since("no-storage.tsdb.wal-compression", (2, 11), |spec| flag(spec["walCompression"] == false)),
    row("storage.tsdb.max-block-duration", block),
    row("storage.tsdb.min-block-duration", block),
    since("no-storage.tsdb.allow-overlapping-compaction", (2, 55), overlapping),
    since("web.config.file", (2, 24), |_| always("/etc/prometheus/web_config/web-config.yaml")),
];

/// Alertmanager's before and after those of its cluster's peers.
const ALERTMANAGER: [&[Row]; 2] = [
    &[
        row("config.file", |_| always("/etc/alertmanager/config_out/alertmanager.env.yaml")),
        row("storage.path", |_| always("/alertmanager")),
        row("data.retention", |spec| always(text(spec, "retention").unwrap_or("120h"))),
        row("cluster.listen-address=", |spec| flag(!clustered(spec))),
        row("cluster.listen-address", |spec| clustered(spec).then(|| "[$(POD_IP)]:9094".to_owned())),
        row("web.listen-address", |spec| always(if spec["listenLocal"] == true { "127.0.0.1:9093" } else { ":9093" })),
        row("web.external-url", |spec| given(&spec["externalUrl"])),
        since("enable-feature", (0, 27), |spec| list(&spec["enableFeatures"])),
        row("web.route-prefix", |spec| always(text(spec, "routePrefix").unwrap_or("/"))),
        since("web.get-concurrency", (0, 17), |spec| given(&spec["web"]["getConcurrency"])),
        since("web.timeout", (0, 17), |spec| given(&spec["web"]["timeout"])),
        since("silences.max-silences", (0, 28), |spec| given(&spec["limits"]["maxSilences"])),
        since("silences.max-per-silence-bytes", (0, 28), |spec| bytes(&spec["limits"]["maxPerSilenceBytes"])),
        row("log.level", |spec| other_than(&spec["logLevel"], "info")),
        since("log.format", (0, 16), |spec| other_than(&spec["logFormat"], "logfmt")),
        row("cluster.advertise-address", |spec| given(&spec["clusterAdvertiseAddress"])),
        row("cluster.gossip-interval", |spec| given(&spec["clusterGossipInterval"])),
        row("cluster.pushpull-interval", |spec| given(&spec["clusterPushpullInterval"])),
        row("cluster.peer-timeout", |spec| given(&spec["clusterPeerTimeout"])),
    ],
    &[
        row("cluster.reconnect-timeout", |_| always("5m")),
        since("web.config.file", (0, 22), |_| always("/etc/alertmanager/web_config/web-config.yaml")),
    ],
];

/// How many Alertmanagers are wanted.
pub(crate) fn replicas(spec: &Value) -> i64 {
    spec["replicas"].as_i64().unwrap_or(1).max(0)
}

fn clustered(spec: &Value) -> bool {
    replicas(spec) != 1 || spec["forceEnableClusterMode"] == true
}

/// A size such as `4KB` in bytes; all units are powers of 1024.
fn bytes(size: &Value) -> Option<String> {
    let text = size.as_str().filter(|text| !text.is_empty())?;
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_end_matches('B').trim_end_matches('i');
    let power = ["", "K", "M", "G", "T", "P", "E"].iter().position(|name| *name == unit)?;
    Some(number.checked_mul(1024u64.checked_pow(u32::try_from(power).ok()?)?)?.to_string())
}

type Pairs = Vec<(String, String)>;

fn rows(rows: &[Row], spec: &Value, version: Version) -> Pairs {
    let known =
        rows.iter().filter(|row| version.at_least(row.since.0, row.since.1) && !version.at_least(row.until.0, row.until.1));
    known.filter_map(|row| Some((row.name.to_owned(), (row.value)(spec)?))).collect()
}

/// The arguments as a container has them, the user's own last.
fn written(mut pairs: Pairs, spec: &Value) -> Result<Vec<String>, String> {
    let own = |argument: &Value| {
        let part = |key: &str| argument[key].as_str().unwrap_or_default().to_owned();
        (part("name"), part("value"))
    };
    let more: Pairs = spec["additionalArgs"].as_array().into_iter().flatten().map(own).collect();
    let managed = |name: &str| pairs.iter().any(|(known, _)| known == name);
    let clashes = |name: &str| {
        let negated = name.strip_prefix("no-").map_or_else(|| format!("no-{name}"), str::to_owned);
        managed(name) || managed(&negated)
    };
    let clashing: Vec<&str> = more.iter().map(|(name, _)| name.as_str()).filter(|name| clashes(name)).collect();
    if !clashing.is_empty() {
        return Err(format!("can't set arguments which are already managed by the operator: {}", clashing.join(",")));
    }
    pairs.extend(more);
    let one = |(name, value): (String, String)| if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") };
    Ok(pairs.into_iter().map(one).collect())
}

/// The command line of a Prometheus.
///
/// # Errors
/// When the user's own arguments are some of the operator's.
pub(crate) fn prometheus_arguments(spec: &Value) -> Result<Vec<String>, String> {
    written(rows(PROMETHEUS, spec, Version::of(spec)), spec)
}

/// The command line of an Alertmanager.
///
/// # Errors
/// When the user's own arguments are some of the operator's.
pub(crate) fn alertmanager_arguments(alertmanager: &Value) -> Result<Vec<String>, String> {
    let spec = &alertmanager["spec"];
    let version = Version::of_alertmanager(spec);
    let name = object::name(alertmanager);
    let mut pairs = rows(ALERTMANAGER[0], spec, version);
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
    if version.at_least(0, 26) {
        let label = spec["clusterLabel"].as_str().map(str::to_owned);
        add("cluster.label", label.unwrap_or_else(|| object::key(alertmanager)));
    }
    let service = text(spec, "serviceName").unwrap_or("alertmanager-operated");
    for index in 0..replicas(spec) {
        add("cluster.peer", format!("alertmanager-{name}-{index}.{service}:9094"));
    }
    for peer in spec["additionalPeers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        add("cluster.peer", peer.to_owned());
    }
    pairs.extend(rows(ALERTMANAGER[1], spec, version));
    written(pairs, spec)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_of_a_prometheus_has_its_argument() {
        let with = |version: &str, spec: Value| {
            let mut spec = spec;
            spec["version"] = version.into();
            prometheus_arguments(&spec).unwrap()
        };
        for (version, spec, expected) in [
            ("v3.7.3", json!({}), "--web.enable-lifecycle"),
            ("v3.7.3", json!({}), "--storage.tsdb.retention.time=24h"),
            ("v3.11.0", json!({"retention": "3d"}), "--storage.tsdb.retention.time=3d"),
            ("v3.7.3", json!({"retentionSize": "10GB"}), "--storage.tsdb.retention.size=10GB"),
            ("v2.6.0", json!({"retentionSize": "10GB"}), "--storage.tsdb.retention=24h"),
            ("v2.53.3", json!({}), "--web.console.templates=/etc/prometheus/consoles"),
            ("v3.7.3", json!({"externalUrl": "http://p/"}), "--web.external-url=http://p/"),
            ("v3.7.3", json!({"routePrefix": "/p"}), "--web.route-prefix=/p"),
            ("v3.7.3", json!({"enableFeatures": ["a", "b"]}), "--enable-feature=a,b"),
            ("v3.3.0", json!({"remoteWrite": [{"messageVersion": "V2.0"}]}), "--enable-feature=metadata-wal-records"),
            ("v2.55.1", json!({"otlp": {}}), "--enable-feature=otlp-write-receiver"),
            ("v3.0.0", json!({"enableOTLPReceiver": true}), "--web.enable-otlp-receiver"),
            ("v3.7.3", json!({"query": {"maxSamples": 5, "timeout": "1m"}}), "--query.max-samples=5"),
            ("v3.7.3", json!({"query": {"maxConcurrency": 2}}), "--query.max-concurrency=2"),
            ("v3.7.3", json!({"walCompression": false}), "--no-storage.tsdb.wal-compression"),
            ("v2.30.0", json!({"allowOverlappingBlocks": true}), "--storage.tsdb.allow-overlapping-blocks"),
            ("v3.7.3", json!({"disableCompaction": true}), "--storage.tsdb.max-block-duration=2h"),
            ("v3.7.3", json!({"listenLocal": true}), "--web.listen-address=127.0.0.1:9090"),
            ("v3.7.3", json!({"logLevel": "debug"}), "--log.level=debug"),
            ("v3.7.3", json!({"rules": {"alert": {"resendDelay": "2m"}}}), "--rules.alert.resend-delay=2m"),
            (
                "v3.7.3",
                json!({"enableRemoteWriteReceiver": true, "remoteWriteReceiverMessageVersions": ["V1.0", "V2.0"]}),
                "--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest,io.prometheus.write.v2.Request",
            ),
            ("v3.7.3", json!({"additionalArgs": [{"name": "x", "value": "1"}, {"name": "y"}]}), "--y"),
        ] {
            let found = with(version, spec);
            assert!(found.iter().any(|argument| argument == expected), "{expected} in {found:?}");
        }
        for (version, spec, unexpected) in [
            ("v3.7.3", json!({"retentionSize": "10GB"}), "--storage.tsdb.retention.time"),
            ("v3.7.3", json!({}), "--web.console"),
            ("v3.7.3", json!({"reloadStrategy": "ProcessSignal"}), "--web.enable-lifecycle"),
            ("v3.4.0", json!({"remoteWrite": [{"messageVersion": "V2.0"}]}), "--enable-feature"),
            ("v3.7.3", json!({"enableOTLPReceiver": false, "otlp": {}}), "--web.enable-otlp"),
            ("v3.7.3", json!({"logLevel": "info", "logFormat": "logfmt"}), "--log"),
            ("v2.53.0", json!({"allowOverlappingBlocks": true}), "--storage.tsdb.allow"),
        ] {
            let found = with(version, spec);
            assert!(!found.iter().any(|argument| argument.starts_with(unexpected)), "{unexpected} in {found:?}");
        }
        assert_eq!(with("v2.53.3", json!({})).iter().position(|argument| argument.contains("console.libraries")), Some(2));
    }

    #[test]
    fn the_users_arguments_may_not_be_the_operators() {
        let spec =
            json!({"walCompression": true, "additionalArgs": [{"name": "no-storage.tsdb.wal-compression"}, {"name": "a"}]});
        assert_eq!(
            prometheus_arguments(&spec).unwrap_err(),
            "can't set arguments which are already managed by the operator: no-storage.tsdb.wal-compression"
        );
    }

    #[test]
    fn each_field_of_an_alertmanager_has_its_argument() {
        let with =
            |spec: Value| alertmanager_arguments(&json!({"metadata": {"name": "main", "namespace": "m"}, "spec": spec})).unwrap();
        let one = with(json!({"version": "0.28.1"}));
        assert_eq!(
            one,
            [
                "--config.file=/etc/alertmanager/config_out/alertmanager.env.yaml",
                "--storage.path=/alertmanager",
                "--data.retention=120h",
                "--cluster.listen-address=",
                "--web.listen-address=:9093",
                "--web.route-prefix=/",
                "--cluster.label=m/main",
                "--cluster.peer=alertmanager-main-0.alertmanager-operated:9094",
                "--cluster.reconnect-timeout=5m",
                "--web.config.file=/etc/alertmanager/web_config/web-config.yaml",
            ]
        );
        assert!(!with(json!({"version": "0.25.0"})).iter().any(|argument| argument.starts_with("--cluster.label")));
        let more = with(json!({
            "version": "0.28.1", "replicas": 2, "clusterLabel": "c", "additionalPeers": ["other:9094"], "serviceName": "s",
            "limits": {"maxSilences": 7, "maxPerSilenceBytes": "4KB"}, "externalUrl": "http://a/",
        }));
        for expected in [
            "--cluster.listen-address=[$(POD_IP)]:9094",
            "--cluster.label=c",
            "--cluster.peer=alertmanager-main-1.s:9094",
            "--cluster.peer=other:9094",
            "--silences.max-silences=7",
            "--silences.max-per-silence-bytes=4096",
            "--web.external-url=http://a/",
        ] {
            assert!(more.iter().any(|argument| argument == expected), "{expected} in {more:?}");
        }
    }
}
