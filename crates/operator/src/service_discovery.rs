//! The kinds of service discovery that a ScrapeConfig may have, as tables: what each field is called, how it is written, and what is
//! refused (prometheus-operator `pkg/prometheus/promcfg.go` and `resource_selector.go`).

mod kinds;
mod kubernetes;

use serde_json::{Value, json};

use crate::checks::within;
use crate::config::{Config, filled, is_empty, lower};
use crate::credentials::{safe, without_file};
use crate::scrape::Scope;
use crate::scrape_config::check_labels;
use kinds::{KINDS, Kind};

/// How a field is written.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// As it is, if it is given.
    Given,
    /// As it is, if Prometheus is new enough.
    Since(u32, u32, u32),
    /// As it is; an empty text where it is not given.
    Text,
    /// As it is; an empty list where it is not given.
    List,
    /// If it is not empty.
    Filled,
    /// In lower case, always.
    Lower,
    /// In lower case, if it is given.
    LowerIfGiven,
    /// What a Secret's key holds, if there is a reference.
    Secret,
    /// Filters, by their names.
    Filters,
    /// Access and secret key, if both are given; the other field.
    Pair(&'static str),
}

/// A field: its name in ScrapeConfigs, in Prometheus, and how it is written.
type Field = (&'static str, &'static str, How);

fn field(scope: Scope<'_>, from: &Value, (name, key, how): Field, config: &mut Config) {
    let value = &from[name];
    let credentials = scope.credentials();
    match how {
        How::Given => config.set(key, value.clone()),
        How::Since(major, minor, patch) if scope.version.since((major, minor, patch)) => config.set(key, value.clone()),
        How::Since(..) => {}
        How::Text => config.set(key, value.as_str().unwrap_or_default()),
        How::List => config.set(key, if value.is_array() { value.clone() } else { json!([]) }),
        How::Filled => config.copy_filled(from, &[(name, key)]),
        How::Lower => config.set(key, value.as_str().unwrap_or_default().to_lowercase()),
        How::LowerIfGiven => config.set(key, lower(value)),
        How::Secret => credentials.set_secret(config, key, value),
        How::Pair(other) if from[other].is_object() => credentials.set_secret(config, key, value),
        How::Pair(_) => {}
        How::Filters => {
            let mut filters: Vec<Value> = value.as_array().cloned().unwrap_or_default();
            filters.sort_by_key(|filter| filter["name"].as_str().unwrap_or_default().to_owned());
            if !filters.is_empty() {
                config.set(key, filters);
            }
        }
    }
}

/// The HTTP settings of an entry, of the sorts that its kind has.
fn http(scope: Scope<'_>, kind: &Kind, from: &Value, config: &mut Config) {
    let credentials = scope.credentials();
    for sort in kind.http.split(' ') {
        match sort {
            "basic" => credentials.basic(config, &from["basicAuth"]),
            "authorization" => credentials.authorization(config, &without_file(&from["authorization"])),
            "oauth2" => credentials.oauth2(config, &from["oauth2"]),
            "oauth2-unchecked" => credentials.oauth2_if_loaded(config, &from["oauth2"]),
            "proxy" => credentials.proxy(config, from),
            "tls" => credentials.tls(config, &safe(&from["tlsConfig"])),
            "redirects" => config.copy(
                from,
                &[("followRedirects", "follow_redirects"), ("enableHTTP2", "enable_http2"), ("enableHttp2", "enable_http2")],
            ),
            _ => {}
        }
    }
}

/// Checks an entry's credentials, of the sorts that its kind has.
fn check_http(scope: Scope<'_>, kind: &Kind, from: &Value) -> Result<(), String> {
    let checks = scope.checks();
    for sort in kind.http.split(' ') {
        match sort {
            "basic" => checks.basic(&from["basicAuth"])?,
            "authorization" => checks.authorization(&from["authorization"])?,
            "oauth2" | "oauth2-checked" => checks.oauth2(&from["oauth2"])?,
            "proxy" => checks.proxy(from)?,
            "tls" | "tls-checked" => checks.safe_tls(&from["tlsConfig"])?,
            _ => {}
        }
    }
    for (name, _, how) in kind.fields {
        if matches!(how, How::Secret | How::Pair(_)) {
            checks.key(&from[*name])?;
        }
    }
    Ok(())
}

/// All kinds of discovery of a ScrapeConfig.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn write(scope: Scope<'_>, spec: &Value, config: &mut Config) -> Result<(), String> {
    static_configs(scope, &spec["staticConfigs"], config)?;
    for kind in KINDS {
        if let Some((since, what)) = kind.since
            && !scope.version.at_least(since.0, since.1)
        {
            let (major, minor) = since;
            return Err(format!("{}: {what} is only supported for Prometheus version >= {major}.{minor}.0", kind.named));
        }
        let entries = spec[kind.field].as_array().map_or(&[][..], Vec::as_slice);
        let mut made = Vec::new();
        for (index, from) in entries.iter().enumerate() {
            within(kind.named, (kind.check)(scope, from, index))?;
            within(kind.named, within(&format!("[{index}]"), check_http(scope, kind, from)))?;
            let mut entry = config.section();
            http(scope, kind, from, &mut entry);
            kind.fields.iter().for_each(|of| field(scope, from, *of, &mut entry));
            (kind.finish)(scope, from, &mut entry);
            made.push(entry.finish());
        }
        if !made.is_empty() {
            config.set(kind.key, made);
        }
    }
    Ok(())
}

fn static_configs(scope: Scope<'_>, entries: &Value, config: &mut Config) -> Result<(), String> {
    if is_empty(entries) {
        return Ok(());
    }
    let mut made = Vec::new();
    for (index, from) in entries.as_array().into_iter().flatten().enumerate() {
        within("staticConfigs", within(&format!("[{index}]"), check_labels(scope, &from["labels"])))?;
        let targets = if from["targets"].is_array() { from["targets"].clone() } else { json!([]) };
        let labels = if from["labels"].is_object() { from["labels"].clone() } else { json!({}) };
        made.push(json!({"targets": targets, "labels": labels}));
    }
    config.set("static_configs", made);
    Ok(())
}

/// A URL with a scheme and a host.
fn has_host(url: &str) -> bool {
    url.split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.split('/').next().unwrap_or_default().is_empty())
}

/// Whether a field is given that this Prometheus does not know yet.
fn unknown(scope: Scope<'_>, value: &Value, since: (u32, u32, u32)) -> bool {
    (filled(value).is_some() || (!value.is_null() && !value.is_string())) && !scope.version.since(since)
}
