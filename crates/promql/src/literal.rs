//! Literals of PromQL, and texts as Go quotes them.

use std::fmt::Write;
use std::time::Duration;

/// A text as Go's `%q` prints it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|letter| escape(letter, '"', &mut out));
    out.push('"');
    out
}

/// The first letters of a text as Go's `%.10q...` prints it, where there are more.
pub(crate) fn quote_first(text: &str, most: usize) -> String {
    // What is long is measured in bytes, what is shown in letters.
    if text.len() <= most {
        return quote(text);
    }
    let short: String = text.chars().take(most).collect();
    format!("{}...", quote(&short))
}

/// A letter as Go's `%q` prints it; the end of the text is no letter.
pub(crate) fn quote_letter(letter: Option<char>) -> String {
    let mut out = "'".to_owned();
    escape(letter.unwrap_or('\u{fffd}'), '\'', &mut out);
    out.push('\'');
    out
}

fn escape(letter: char, quote: char, out: &mut String) {
    match letter {
        '\\' => out.push_str("\\\\"),
        _ if letter == quote => out.extend(['\\', quote]),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        _ if (letter as u32) < 0x20 || letter == '\u{7f}' => drop(write!(out, "\\x{:02x}", letter as u32)),
        _ if letter.is_control() => drop(write!(out, "\\u{:04x}", letter as u32)),
        _ => out.push(letter),
    }
}

/// A letter as Go's `%#U` prints it.
pub(crate) fn code_point(letter: char) -> String {
    let number = letter as u32;
    if letter.is_control() { format!("U+{number:04X}") } else { format!("U+{number:04X} '{letter}'") }
}

/// What a quoted text says. The lexer has checked its escapes.
pub(crate) fn unquote(quoted: &str) -> Vec<u8> {
    let inner = &quoted[1..quoted.len() - 1];
    if quoted.starts_with('`') || !inner.contains('\\') {
        return inner.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    let number = |digits: &str, base: u32| u32::from_str_radix(digits, base).unwrap_or_default();
    while let Some(letter) = rest.next() {
        if letter != '\\' {
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let mut take = |count: usize| rest.by_ref().take(count).collect::<String>();
        let escaped = take(1);
        match escaped.as_str() {
            "a" => out.push(0x7),
            "b" => out.push(0x8),
            "f" => out.push(0xc),
            "n" => out.push(b'\n'),
            "r" => out.push(b'\r'),
            "t" => out.push(b'\t'),
            "v" => out.push(0xb),
            // One byte, whether it is a letter or not.
            "x" => out.push(number(&take(2), 16).to_le_bytes()[0]),
            "u" | "U" => {
                let code = number(&take(if escaped == "u" { 4 } else { 8 }), 16);
                let letter = char::from_u32(code).unwrap_or('\u{fffd}');
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            digit if digit.starts_with(|first: char| first.is_digit(8)) => {
                out.push(number(&format!("{digit}{}", take(2)), 8).to_le_bytes()[0]);
            }
            other => out.extend_from_slice(other.as_bytes()),
        }
    }
    out
}

/// A duration such as `1h30m`, as Prometheus reads it wherever one is configured (`model.ParseDuration` of prometheus/common).
///
/// # Errors
/// In Prometheus' words: units that are unknown or out of order, no unit, or more than 292 years.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000_000_000),
        ("w", 604_800_000_000_000),
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
    ];
    const MOST: u64 = 1 << 63;
    match text {
        "0" => return Ok(Duration::ZERO),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let invalid = || format!("not a valid duration string: {}", quote(text));
    let out_of_range = || "duration out of range".to_owned();
    let mut rest = text;
    let mut total: u64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(invalid)?;
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let (unit, after) = rest.split_at(rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len()));
        rest = after;
        let place = UNITS.iter().position(|(name, _)| *name == unit);
        let place = place.ok_or_else(|| format!("unknown unit {} in duration {}", quote(unit), quote(text)))?;
        if place < next_unit {
            return Err(invalid());
        }
        next_unit = place + 1;
        let size = UNITS[place].1;
        if count > MOST / size {
            return Err(out_of_range());
        }
        total = total.checked_add(count * size).filter(|total| *total < MOST).ok_or_else(out_of_range)?;
    }
    Ok(Duration::from_nanos(total))
}

/// A number (`strconv.ParseInt` with base 0, then `strconv.ParseFloat`); the lexer has seen to its digits.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let invalid = |why: &str| format!("error parsing number: strconv.ParseFloat: parsing {}: {why}", quote(text));
    let digits: String = lower.chars().filter(|letter| *letter != '_').collect();
    if let Some(hexadecimal) = digits.strip_prefix("0x") {
        return i64::from_str_radix(hexadecimal, 16).map(|number| number as f64).map_err(|_| invalid("invalid syntax"));
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(octal) = i64::from_str_radix(&digits, 8)
    {
        return Ok(octal as f64);
    }
    if let Ok(whole) = digits.parse::<i64>() {
        return Ok(whole as f64);
    }
    match digits.parse::<f64>() {
        Ok(number) if number.is_infinite() => Err(invalid("value out of range")),
        Ok(number) => Ok(number),
        Err(_) => Err(invalid("invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("1h30m", Ok(5_400_000)),
            ("0", Ok(0)),
            ("1y2w3d4h5m6s7ms", Ok(33_019_506_007)),
            ("292y", Ok(9_208_512_000_000)),
            ("293y", Err("duration out of range")),
            ("", Err("empty duration string")),
            ("5", Err("not a valid duration string: \"5\"")),
            ("1m1h", Err("not a valid duration string: \"1m1h\"")),
            ("-5m", Err("not a valid duration string: \"-5m\"")),
            ("1.5m", Err("unknown unit \".\" in duration \"1.5m\"")),
            ("99999999999999999999s", Err("not a valid duration string: \"99999999999999999999s\"")),
        ] {
            let found = parse_duration(text).map(|duration| duration.as_millis());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn texts_are_unquoted_and_quoted() {
        for (quoted, expected) in [(r#""a\n\x41\101\u00e9\U0001F600\"'""#, "a\nAAé😀\"'"), (r"'\''", "'"), (r"`\d`", r"\d")] {
            assert_eq!(String::from_utf8(unquote(quoted)).as_deref(), Ok(expected));
        }
        assert_eq!(quote("a\"\\\n\u{1}é"), r#""a\"\\\n\x01é""#);
        assert_eq!(quote_first("12345678901", 10), "\"1234567890\"...");
    }
}
