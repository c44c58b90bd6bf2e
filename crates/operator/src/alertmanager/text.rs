//! Durations, URLs and matcher values as the operator and Alertmanager read and print them, with the words in which they refuse them.

/// The units of a duration, longest first, in milliseconds; those marked print only what they divide evenly.
const UNITS: [(&str, u64, bool); 7] = [
    ("y", 365 * 86_400_000, true),
    ("w", 7 * 86_400_000, true),
    ("d", 86_400_000, false),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1_000, false),
    ("ms", 1, false),
];

/// The expression that a route's durations must match, as messages name it.
pub(super) const DURATION: &str = "^(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?$";

/// A duration in milliseconds: numbers with units, each unit at most once, from the longest to the shortest.
pub(super) fn units(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    promql::parse_duration(text).ok().and_then(|duration| u64::try_from(duration.as_millis()).ok())
}

/// A duration as Prometheus' library reads it.
///
/// # Errors
/// In that library's words.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    promql::parse_duration(text).map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A duration as that library prints it: `90s` is `1m30s`.
pub(super) fn print_duration(milliseconds: u64) -> String {
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    let (mut rest, mut out) = (milliseconds, String::new());
    for (unit, length, whole) in UNITS {
        if rest >= length && (!whole || rest.is_multiple_of(length)) {
            out.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    out
}

/// Scheme and host of a URL, as Go takes it apart.
///
/// # Errors
/// In Go's words.
pub(super) fn parse_url(text: &str) -> Result<(String, String), String> {
    let wrong = |why: String| Err(format!("parse {text:?}: {why}"));
    if text.chars().any(|character| character.is_ascii_control()) {
        return wrong("net/url: invalid control character in URL".to_owned());
    }
    let plain = text.split(['#', '?']).next().unwrap_or_default();
    let known = |character: char| character.is_ascii_alphanumeric() || "+-.".contains(character);
    let (scheme, rest) = match plain.find(|character| !known(character)) {
        Some(0) if plain.starts_with(':') => return wrong("missing protocol scheme".to_owned()),
        Some(end) if plain[end..].starts_with(':') && plain.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            (plain[..end].to_ascii_lowercase(), &plain[end + 1..])
        }
        _ => (String::new(), plain),
    };
    if let Some(escape) = bad_escape(rest) {
        return wrong(format!("invalid URL escape {escape:?}"));
    }
    let Some(rest) = rest.strip_prefix("//") else {
        let first = rest.split('/').next().unwrap_or_default();
        if scheme.is_empty() && first.contains(':') {
            return wrong("first path segment in URL cannot contain colon".to_owned());
        }
        return Ok((scheme, String::new()));
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if let Some(odd) = host.chars().find(|character| " <>\"{}|\\^`".contains(*character)) {
        return wrong(format!("invalid character {:?} in host name", odd.to_string()));
    }
    let behind = host.rfind(']').map_or(host, |end| &host[end + 1..]);
    if let Some(at) = behind.find(':')
        && !behind[at + 1..].chars().all(|digit| digit.is_ascii_digit())
    {
        return wrong(format!("invalid port {:?} after host", &behind[at..]));
    }
    Ok((scheme, host.to_owned()))
}

/// The first percent sign that no two hexadecimal digits follow, with what stands there.
fn bad_escape(text: &str) -> Option<String> {
    text.match_indices('%').find_map(|(at, _)| {
        let escape: String = text[at..].chars().take(3).collect();
        let good = escape.len() == 3 && escape[1..].chars().all(|digit| digit.is_ascii_hexdigit());
        (!good).then_some(escape)
    })
}

/// Whether Alertmanager takes a URL: of the web, with a host.
///
/// # Errors
/// In Alertmanager's words.
pub(super) fn check_url(text: &str) -> Result<(), String> {
    // The operator puts the text between quotes and reads it as JSON.
    if let Some(control) = text.chars().find(char::is_ascii_control) {
        return Err(format!("invalid character '{}' in string literal", control.escape_default()));
    }
    let (scheme, host) = parse_url(text)?;
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(format!("unsupported scheme {scheme:?} for URL"));
    }
    if host.is_empty() { Err("missing host for URL".to_owned()) } else { Ok(()) }
}

/// The same of a URL that an object holds.
///
/// # Errors
/// In the operator's words.
pub(super) fn valid_url(text: &str) -> Result<(), String> {
    check_url(text).map_err(|why| format!("validate url from string failed for {text}: {why}"))
}

/// The same of a URL that a Secret holds, which is not repeated.
///
/// # Errors
/// In the operator's words.
pub(super) fn valid_secret_url(text: &str) -> Result<(), String> {
    check_url(text)
        .map_err(|why| format!("validate url from string failed with error: {}", why.replace(&format!("{text:?}"), "[REDACTED]")))
}

/// Whether a text is `host:port`, and which.
///
/// # Errors
/// In Go's words.
pub(super) fn host_port(text: &str) -> Result<(&str, &str), String> {
    let wrong = |why: &str| Err(format!("address {text}: {why}"));
    let Some((host, port)) = text.rsplit_once(':') else { return wrong("missing port in address") };
    if let Some(host) = host.strip_prefix('[') {
        return host.strip_suffix(']').map(|host| (host, port)).map_or_else(|| wrong("missing ']' in address"), Ok);
    }
    if host.contains(':') { wrong("too many colons in address") } else { Ok((host, port)) }
}

/// The value of a matcher between quotes: only the backslash, the quote and the end of a line are escaped.
pub(super) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// `apiURL` as `api_url`: each run of capitals is one word.
pub(super) fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (index, letter) in letters.iter().enumerate() {
        if letter.is_ascii_uppercase() {
            let before = index.checked_sub(1).and_then(|before| letters.get(before));
            let after = letters.get(index + 1);
            let begins = before.is_some_and(|before| !before.is_ascii_uppercase())
                || (before.is_some() && after.is_some_and(char::is_ascii_lowercase));
            if begins {
                out.push('_');
            }
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_snake_case() {
        for (name, expected) in [
            ("sendResolved", "send_resolved"),
            ("apiURL", "api_url"),
            ("callbackId", "callback_id"),
            ("mrkdwnIn", "mrkdwn_in"),
            ("forceImplicitTLS", "force_implicit_tls"),
            ("html", "html"),
            ("clientURL", "client_url"),
            ("topicARN", "topic_arn"),
            ("messageThreadID", "message_thread_id"),
        ] {
            assert_eq!(snake(name), expected);
        }
    }

    #[test]
    fn durations_are_read_and_printed() {
        for (text, expected) in [
            ("60s", "1m"),
            ("90s", "1m30s"),
            ("24h", "1d"),
            ("7d", "1w"),
            ("8d", "8d"),
            ("1500ms", "1s500ms"),
            ("0", "0s"),
            ("", "empty duration string"),
            ("1m1h", "not a valid duration string: \"1m1h\""),
            ("5", "not a valid duration string: \"5\""),
        ] {
            let found = duration(text).map(print_duration).unwrap_or_else(|why| why);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn urls_that_alertmanager_refuses() {
        for (text, expected) in [
            ("http://a/", ""),
            ("https://user:p@a.b:80/c?d=e", ""),
            ("http://[::1]:80/", ""),
            ("nowhere", "unsupported scheme \"\" for URL"),
            ("localhost:9093", "unsupported scheme \"localhost\" for URL"),
            ("http:///a", "missing host for URL"),
            ("http://a b/", "parse \"http://a b/\": invalid character \" \" in host name"),
            ("http://a:b/", "parse \"http://a:b/\": invalid port \":b\" after host"),
            ("http://a/%zz", "parse \"http://a/%zz\": invalid URL escape \"%zz\""),
            ("127.0.0.1:9093", "parse \"127.0.0.1:9093\": first path segment in URL cannot contain colon"),
            ("http://a/\n", "invalid character '\\n' in string literal"),
        ] {
            assert_eq!(check_url(text).err().unwrap_or_default(), expected, "{text}");
        }
        let secret = valid_secret_url("http://a b/").unwrap_err();
        assert_eq!(secret, "validate url from string failed with error: parse [REDACTED]: invalid character \" \" in host name");
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("a:25", Ok(("a", "25"))),
            ("[::1]:25", Ok(("::1", "25"))),
            ("a", Err("address a: missing port in address".to_owned())),
            ("::1:25", Err("address ::1:25: too many colons in address".to_owned())),
        ] {
            assert_eq!(host_port(text), expected, "{text}");
        }
    }
}
