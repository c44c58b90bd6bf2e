//! A base configuration as Alertmanager itself would check it before the operator touches it: in its order and its words, as far as the
//! rules are about what is there and what is missing.

use serde_json::{Map, Value};

use super::schema::Faults;
use super::types::CONFIG;
use super::versions::given;
use super::{told, validate};
use crate::config::is_empty;

/// What a kind of receiver must have: one of the fields, else these words.
const REQUIRED: [(&str, &[&str], &str); 16] = [
    ("webex_configs", &["room_id"], "missing room_id on webex_config"),
    ("discord_configs", &["webhook_url", "webhook_url_file"], "one of webhook_url or webhook_url_file must be configured"),
    ("email_configs", &["to"], "missing to address in email config"),
    (
        "pagerduty_configs",
        &["routing_key", "service_key", "routing_key_file", "service_key_file"],
        "missing service or routing key in PagerDuty config",
    ),
    ("webhook_configs", &["url", "url_file"], "one of url or url_file must be configured"),
    ("incidentio_configs", &["url", "url_file"], "one of url or url_file must be configured"),
    ("victorops_configs", &["routing_key"], "missing Routing key in VictorOps config"),
    ("pushover_configs", &["user_key", "user_key_file"], "one of user_key or user_key_file must be configured"),
    ("pushover_configs", &["token", "token_file"], "one of token or token_file must be configured"),
    ("telegram_configs", &["bot_token", "bot_token_file"], "missing bot_token or bot_token_file on telegram_config"),
    ("telegram_configs", &["chat_id", "chat_id_file"], "missing chat_id on telegram_config"),
    ("msteams_configs", &["webhook_url", "webhook_url_file"], "one of webhook_url or webhook_url_file must be configured"),
    ("msteamsv2_configs", &["webhook_url", "webhook_url_file"], "one of webhook_url or webhook_url_file must be configured"),
    ("jira_configs", &["project"], "missing project in jira_config"),
    ("jira_configs", &["issue_type"], "missing issue_type in jira_config"),
    (
        "sns_configs",
        &["target_arn", "topic_arn", "phone_number"],
        "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config",
    ),
];

/// Fields of which a kind of receiver, or the global part, must not have both.
const EXCLUSIVE: [(&str, &str, &str); 21] = [
    ("", "slack_api_url", "slack_api_url_file"),
    ("", "opsgenie_api_key", "opsgenie_api_key_file"),
    ("", "victorops_api_key", "victorops_api_key_file"),
    ("", "smtp_auth_password", "smtp_auth_password_file"),
    ("", "rocketchat_token", "rocketchat_token_file"),
    ("", "rocketchat_token_id", "rocketchat_token_id_file"),
    ("discord_configs", "webhook_url", "webhook_url_file"),
    ("pagerduty_configs", "routing_key", "routing_key_file"),
    ("pagerduty_configs", "service_key", "service_key_file"),
    ("slack_configs", "api_url", "api_url_file"),
    ("webhook_configs", "url", "url_file"),
    ("incidentio_configs", "url", "url_file"),
    ("incidentio_configs", "alert_source_token", "alert_source_token_file"),
    ("opsgenie_configs", "api_key", "api_key_file"),
    ("victorops_configs", "api_key", "api_key_file"),
    ("pushover_configs", "user_key", "user_key_file"),
    ("pushover_configs", "token", "token_file"),
    ("telegram_configs", "bot_token", "bot_token_file"),
    ("msteamsv2_configs", "webhook_url", "webhook_url_file"),
    ("rocketchat_configs", "token", "token_file"),
    ("rocketchat_configs", "token_id", "token_id_file"),
];

/// What a kind of receiver takes from the global part when it has none of its own fields, which then must have one of these.
const INHERITED: [(&str, &[&str], &[&str], &str); 10] = [
    ("email_configs", &["smarthost"], &["smtp_smarthost"], "no global SMTP smarthost set"),
    ("email_configs", &["from"], &["smtp_from"], "no global SMTP from set"),
    (
        "slack_configs",
        &["api_url", "api_url_file"],
        &["slack_api_url", "slack_api_url_file"],
        "no global Slack API URL set either inline or in a file",
    ),
    (
        "opsgenie_configs",
        &["api_key", "api_key_file"],
        &["opsgenie_api_key", "opsgenie_api_key_file"],
        "no global OpsGenie API Key set either inline or in a file",
    ),
    ("wechat_configs", &["api_secret"], &["wechat_api_secret"], "no global Wechat ApiSecret set"),
    ("wechat_configs", &["corp_id"], &["wechat_api_corp_id"], "no global Wechat CorpID set"),
    (
        "victorops_configs",
        &["api_key", "api_key_file"],
        &["victorops_api_key", "victorops_api_key_file"],
        "no global VictorOps API Key set",
    ),
    ("jira_configs", &["api_url"], &["jira_api_url"], "no global Jira Cloud URL set"),
    (
        "rocketchat_configs",
        &["token_id", "token_id_file"],
        &["rocketchat_token_id", "rocketchat_token_id_file"],
        "no global Rocketchat TokenID set either inline or in a file",
    ),
    (
        "rocketchat_configs",
        &["token", "token_file"],
        &["rocketchat_token", "rocketchat_token_file"],
        "no global Rocketchat Token set either inline or in a file",
    ),
];

/// Reads and checks a base configuration, and prints it anew.
///
/// # Errors
/// Why Alertmanager would refuse it, or the operator.
pub(super) fn load(text: &str) -> Result<Map<String, Value>, String> {
    let read: Value = wire::yaml::strict(text).map_err(|error| unreadable(&error))?;
    if read.is_null() {
        return told("no route provided in config");
    }
    let mut faults = Faults::of(Some(text));
    let config = CONFIG.read("", &read, &mut faults);
    for rule in list(config.get("inhibit_rules")) {
        ["source_matchers", "target_matchers"].iter().for_each(|side| check_matchers(&rule[*side], &mut faults));
    }
    if let Some(route) = config.get("route") {
        check_route(route, &mut faults);
    }
    faults.told()?;
    let global = config.get("global").and_then(Value::as_object).cloned().unwrap_or_default();
    global.get("http_config").map_or(Ok(()), check_http)?;
    check_own_fields(&config)?;
    exclusive("", &global)?;
    check_receivers(&config, &global)?;
    check_tree(&config)?;
    Ok(config)
}

/// Why a text is no YAML; a key that is there twice is told as what does not fit.
fn unreadable(error: &wire::yaml::YamlError) -> String {
    let twice = error.message.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.split(',').next());
    match (twice, error.at) {
        (Some(key), Some((line, _))) => {
            format!("yaml: unmarshal errors:\n  line {line}: field {key} already set in type config.plain")
        }
        _ => format!("yaml: {error}"),
    }
}

fn list(of: Option<&Value>) -> impl Iterator<Item = &Value> {
    of.and_then(Value::as_array).into_iter().flatten()
}

/// What is wrong with a route by itself, and with its children.
fn check_route(route: &Value, faults: &mut Faults<'_>) {
    for child in list(route.get("routes")) {
        check_route(child, faults);
    }
    check_matchers(&route["matchers"], faults);
    let groups: Vec<&str> = list(route.get("group_by")).filter_map(Value::as_str).collect();
    if groups.contains(&"...") && groups.iter().any(|group| *group != "...") {
        faults.wrong("cannot have wildcard group_by (`...`) and other labels at the same time".to_owned());
    }
    if let Some((_, twice)) =
        groups.iter().enumerate().find(|(index, group)| **group != "..." && groups[..*index].contains(group))
    {
        faults.wrong(format!("duplicated label {twice:?} in group_by"));
    }
}

fn check_matchers(matchers: &Value, faults: &mut Faults<'_>) {
    for matcher in list(Some(matchers)).filter_map(Value::as_str) {
        let Some(at) = matcher.find(['=', '!', '~']).filter(|at| !matcher[..*at].trim().is_empty()) else {
            faults.wrong(format!("bad matcher format: {matcher}"));
            continue;
        };
        let rest = &matcher[at..];
        let value = rest.strip_prefix("=~").or_else(|| rest.strip_prefix("!~"));
        if !rest.starts_with('=') && !rest.starts_with("!=") && value.is_none() {
            faults.wrong(format!("bad matcher format: {matcher}"));
        }
        let pattern = value.unwrap_or_default().trim().trim_matches('"');
        if let Err(why) = metrics::go_regex::check(&format!("^(?:{pattern})$")) {
            faults.wrong(format!("error parsing regexp: {why}"));
        }
    }
}

/// The configurations of a receiver with the lists that they are in.
fn configs(receiver: &Value) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    let lists = receiver.as_object().into_iter().flatten();
    lists.flat_map(|(name, list)| list.as_array().into_iter().flatten().filter_map(move |one| Some((name, one.as_object()?))))
}

/// What each receiver must have by itself.
fn check_own_fields(config: &Map<String, Value>) -> Result<(), String> {
    for receiver in list(config.get("receivers")) {
        for (kind, one) in configs(receiver) {
            for (_, fields, why) in REQUIRED.iter().filter(|(of, ..)| of == kind) {
                if !fields.iter().any(|field| given(one, field)) {
                    return told(why);
                }
            }
            exclusive(kind, one)?;
            special(kind, one)?;
            one.get("http_config").map_or(Ok(()), check_http)?;
            let authorized = one.get("http_config").is_some_and(|http| http["authorization"].is_object());
            if kind == "webex_configs" && !authorized {
                return told("missing webex_configs.http_config.authorization");
            }
        }
        if receiver["name"].as_str().unwrap_or_default().is_empty() {
            return told("missing name in receiver");
        }
    }
    Ok(())
}

/// What is peculiar to a kind.
fn special(kind: &str, one: &Map<String, Value>) -> Result<(), String> {
    let text = |of: &'_ Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    match kind {
        // Its fields have the same names in objects, and the words are the same.
        "slack_configs" => validate::slack(&Value::Object(one.clone())),
        "opsgenie_configs" => list(one.get("responders")).try_for_each(|responder| {
            let [id, name, user, kind] = ["id", "name", "username", "type"].map(|field| text(responder, field));
            let who = format!("opsGenieConfig responder {{{id} {name} {user} {kind}}}");
            if id.is_empty() && name.is_empty() && user.is_empty() {
                return Err(format!("{who} has to have at least one of id, username or name specified"));
            }
            if kind.contains("{{") || validate::RESPONDERS.contains(&kind.to_lowercase().as_str()) {
                return Ok(());
            }
            Err(format!("{who} type does not match valid options ^({})$", validate::RESPONDERS.join("|")))
        }),
        "victorops_configs" => {
            let fields = one.get("custom_fields").and_then(Value::as_object);
            match validate::RESERVED.iter().find(|name| fields.is_some_and(|fields| fields.contains_key(**name))) {
                Some(name) => Err(format!(
                    "victorOps config contains custom field {name} which cannot be used as it conflicts with the fixed/static fields"
                )),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Whether the settings of an HTTP client fit together.
fn check_http(http: &Value) -> Result<(), String> {
    let is = |field: &str| !is_empty(&http[field]) || http[field].is_object();
    let both = |of: &str, one: &str, two: &str| !is_empty(&http[of][one]) && !is_empty(&http[of][two]);
    let bearer = is("bearer_token") || is("bearer_token_file");
    let basic = http["authorization"]["type"].as_str().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("basic"));
    let given = ["basic_auth", "oauth2", "authorization"].into_iter().filter(|field| is(field)).count();
    let oauth2 = |field: &str| is("oauth2") && is_empty(&http["oauth2"][field]);
    for (wrong, why) in [
        (is("bearer_token") && is("bearer_token_file"), "at most one of bearer_token & bearer_token_file must be configured"),
        (
            (is("basic_auth") || is("oauth2")) && bearer,
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        ),
        (
            both("basic_auth", "password", "password_file"),
            "at most one of basic_auth password, password_file & password_ref must be configured",
        ),
        (is("authorization") && bearer, "authorization is not compatible with bearer_token & bearer_token_file"),
        (
            both("authorization", "credentials", "credentials_file"),
            "at most one of authorization credentials & credentials_file must be configured",
        ),
        (basic, "authorization type cannot be set to \"basic\", use \"basic_auth\" instead"),
        (given > 1, "at most one of basic_auth, oauth2 & authorization must be configured"),
        (oauth2("client_id"), "oauth2 client_id must be configured"),
        (oauth2("token_url"), "oauth2 token_url must be configured"),
    ] {
        if wrong {
            return told(why);
        }
    }
    Ok(())
}

fn exclusive(kind: &str, of: &Map<String, Value>) -> Result<(), String> {
    match EXCLUSIVE.iter().find(|(other, one, two)| *other == kind && given(of, one) && given(of, two)) {
        Some((_, one, two)) => Err(format!("at most one of {one} & {two} must be configured")),
        None => Ok(()),
    }
}

/// Names that come twice, and what is nowhere, neither at the receiver nor in the global part.
fn check_receivers(config: &Map<String, Value>, global: &Map<String, Value>) -> Result<(), String> {
    let mut names = Vec::new();
    for receiver in list(config.get("receivers")) {
        let name = receiver["name"].as_str().unwrap_or_default();
        if names.contains(&name) {
            return Err(format!("notification config name {name:?} is not unique"));
        }
        names.push(name);
        for (kind, one) in configs(receiver) {
            for (_, own, inherited, why) in INHERITED.iter().filter(|(of, ..)| of == kind) {
                if !own.iter().any(|field| given(one, field)) && !inherited.iter().any(|field| given(global, field)) {
                    return told(why);
                }
            }
        }
    }
    Ok(())
}

/// The tree of routes: its root, and that what it names is defined.
fn check_tree(config: &Map<String, Value>) -> Result<(), String> {
    let Some(root) = config.get("route").and_then(Value::as_object) else { return told("no routes provided") };
    for (fields, why) in [
        (&["match", "match_re", "matchers"][..], "root route must not have any matchers"),
        (&["mute_time_intervals"][..], "root route must not have any mute time intervals"),
        (&["active_time_intervals"][..], "root route must not have any active time intervals"),
    ] {
        if !given(root, "receiver") {
            return told("root route must specify a default receiver");
        }
        if fields.iter().any(|field| given(root, field)) {
            return told(why);
        }
    }
    let root = Value::Object(root.clone());
    let names = |key: &str| -> Vec<&str> { list(config.get(key)).filter_map(|one| one["name"].as_str()).collect() };
    check_names(&root, &names("receivers"))?;
    let mut intervals = Vec::new();
    for (key, what) in [("mute_time_intervals", "mute time interval"), ("time_intervals", "time interval")] {
        for name in names(key) {
            if intervals.contains(&name) {
                return Err(format!("{what} {name:?} is not unique"));
            }
            intervals.push(name);
        }
    }
    check_intervals(&root, &intervals)?;
    if root["continue"] == true { told("cannot have continue in root route") } else { Ok(()) }
}

fn check_names(route: &Value, receivers: &[&str]) -> Result<(), String> {
    list(route.get("routes")).try_for_each(|child| check_names(child, receivers))?;
    match route["receiver"].as_str() {
        Some(name) if !receivers.contains(&name) => Err(format!("undefined receiver {name:?} used in route")),
        _ => Ok(()),
    }
}

fn check_intervals(route: &Value, intervals: &[&str]) -> Result<(), String> {
    list(route.get("routes")).try_for_each(|child| check_intervals(child, intervals))?;
    let named = ["active_time_intervals", "mute_time_intervals"].into_iter().flat_map(|key| list(route.get(key)));
    match named.filter_map(Value::as_str).find(|name| !intervals.contains(name)) {
        Some(name) => Err(format!("undefined time interval {name:?} used in route")),
        None => Ok(()),
    }
}
