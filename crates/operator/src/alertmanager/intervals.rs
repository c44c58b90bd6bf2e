//! Time intervals: the operator reads them into numbers and prints them anew, so months become numbers and a range of one is no range.

use serde_json::{Map, Value, json};

use super::schema::Faults;

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] =
    ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];

/// A range of numbers, both ends included.
type Range = (i64, i64);

/// `a:b`, or `a` where both are the same.
fn printed((start, end): Range, name: impl Fn(i64) -> String) -> Value {
    if start == end { name(start).into() } else { format!("{}:{}", name(start), name(end)).into() }
}

/// The two ends of a text such as `monday:friday`.
fn ends(text: &str) -> Result<(&str, &str), String> {
    match text.split(':').collect::<Vec<&str>>()[..] {
        [one] => Ok((one, one)),
        [start, end] => Ok((start, end)),
        _ => Err(format!("invalid range provided {text}")),
    }
}

fn minutes(text: &str) -> Result<i64, String> {
    let wrong = || format!("couldn't parse timestamp {text}, invalid format");
    let digits =
        text.len() == 5 && text.chars().enumerate().all(|(at, one)| if at == 2 { one == ':' } else { one.is_ascii_digit() });
    if !digits {
        return Err(wrong());
    }
    let number = |part: &str| part.parse::<i64>().map_err(|_| wrong());
    let (hours, minutes) = (number(&text[..2])?, number(&text[3..])?);
    if (hours < 24 && minutes < 60) || (hours, minutes) == (24, 0) { Ok(hours * 60 + minutes) } else { Err(wrong()) }
}

fn times(start: &str, end: &str) -> Result<Range, String> {
    if start.is_empty() || end.is_empty() {
        return Err("start and end are required".to_owned());
    }
    let start = minutes(start).map_err(|why| format!("start time invalid: {why}"))?;
    let end = minutes(end).map_err(|why| format!("end time invalid: {why}"))?;
    if start >= end {
        return Err(format!("start time {start} cannot be equal or greater than end time {end}"));
    }
    Ok((start, end))
}

fn weekdays(text: &str) -> Result<Range, String> {
    let one = |name: &str| {
        let lower = name.to_lowercase();
        let known = WEEKDAYS.iter().position(|day| *day == lower).and_then(|day| i64::try_from(day).ok());
        known.or_else(|| lower.parse().ok()).ok_or_else(|| format!("{name} is an invalid weekday"))
    };
    let (first, last) = ends(text)?;
    let start = one(first).map_err(|why| format!("failed to parse start day from weekday range: {why}"))?;
    let end = one(last).map_err(|why| format!("failed to parse end day from weekday range: {why}"))?;
    if start > end {
        return Err("start day cannot be before end day".to_owned());
    }
    for (day, name) in [(start, first), (end, last)] {
        if !(0..=6).contains(&day) {
            return Err(format!("{name} is not a valid day of the week: out of range"));
        }
    }
    Ok((start, end))
}

fn months(text: &str) -> Result<Range, String> {
    let one = |name: &str| {
        let lower = name.to_lowercase();
        let known = MONTHS.iter().position(|month| *month == lower).and_then(|month| i64::try_from(month + 1).ok());
        let number = lower.parse().ok().filter(|number| (1..=12).contains(number));
        known.or(number).ok_or_else(|| format!("failed to parse start month from month range: {name} is an invalid month"))
    };
    let (first, last) = ends(text)?;
    let (start, end) = (one(first)?, one(last)?);
    if start > end { Err(format!("end month {last} is before start month {first}")) } else { Ok((start, end)) }
}

fn years(text: &str) -> Result<Range, String> {
    let one = |what: &str, name: &str| {
        let why = || format!("{what} year cannot be {name} parsed: strconv.Atoi: parsing {name:?}: invalid syntax");
        name.parse::<i64>().map_err(|_| why())
    };
    let (first, last) = ends(text)?;
    let (start, end) = (one("start", first)?, one("end", last)?);
    if start > end { Err(format!("end year {end} is before start year {start}")) } else { Ok((start, end)) }
}

fn days((start, end): Range) -> Result<Range, String> {
    for day in [start, end] {
        if day == 0 || !(-31..=31).contains(&day) {
            return Err(format!("{day} is not a valid day of the month: out of range"));
        }
    }
    if start < 0 && end > 0 {
        return Err("end day must be negative if start day is negative".to_owned());
    }
    // Counted from the end of the shortest month.
    let least = |day: i64| if day < 0 { 28 + day } else { day };
    if least(start) > least(end) {
        return Err(format!("end day {end} is always before start day {start}"));
    }
    Ok((start, end))
}

/// What an interval consists of: how it is called in messages, in the object, and in Alertmanager's file.
const PARTS: [(&str, &str, &str); 5] = [
    ("time range", "times", "times"),
    ("weekday range", "weekdays", "weekdays"),
    ("mute time interval is invalid - day of month range", "daysOfMonth", "days_of_month"),
    ("month range", "months", "months"),
    ("year range", "years", "years"),
];

/// One entry of a part as the file has it.
fn entry(part: &str, value: &Value) -> Result<Value, String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let either =
        |names: [&str; 2]| names.iter().map(|name| &value[*name]).find(|value| !value.is_null()).map_or_else(String::new, text);
    let number = |number: i64| number.to_string();
    Ok(match part {
        "times" => {
            let (start, end) = times(&either(["startTime", "start_time"]), &either(["endTime", "end_time"]))?;
            let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            json!({"start_time": clock(start), "end_time": clock(end)})
        }
        "weekdays" => {
            let name =
                |day: i64| usize::try_from(day).ok().and_then(|day| WEEKDAYS.get(day)).copied().unwrap_or_default().to_owned();
            printed(weekdays(&text(value))?, name)
        }
        "months" => printed(months(&text(value))?, number),
        "years" => printed(years(&text(value))?, number),
        _ if value.is_object() => {
            let end = |name: &str| value[name].as_i64().unwrap_or(0);
            printed(days((end("start"), end("end")))?, number)
        }
        _ => {
            let text = text(value);
            let (first, last) = ends(&text)?;
            let one = |name: &str| name.parse::<i64>().map_err(|_| format!("unable to parse day of the month {name:?}"));
            printed(days((one(first)?, one(last)?))?, number)
        }
    })
}

/// One interval, given in the object's words or in those of the file.
fn interval(from: &Value, index: usize) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    for (told, field, part) in PARTS {
        let given = if from[field].is_null() { &from[part] } else { &from[field] };
        let all: Vec<Value> = given
            .as_array()
            .into_iter()
            .flatten()
            .map(|value| entry(part, value))
            .collect::<Result<_, _>>()
            .map_err(|why| format!("{told} at {index} is invalid: {why}"))?;
        if !all.is_empty() {
            out.insert(part.to_owned(), all.into());
        }
    }
    Ok(out)
}

/// A named interval of an object, under the name that it gets.
///
/// # Errors
/// What is wrong with it, in the operator's words.
pub(super) fn convert(name: String, from: &Value) -> Result<Value, String> {
    if from["name"].as_str().unwrap_or_default().is_empty() {
        return Err("empty name field for mute time interval".to_owned());
    }
    let all = from["timeIntervals"].as_array().into_iter().flatten().enumerate();
    let made: Vec<Value> = all.map(|(index, one)| interval(one, index).map(Value::Object)).collect::<Result<_, _>>()?;
    // The operator names an interval while it converts what is in it, so an empty one has no name.
    let name = if made.is_empty() { String::new() } else { name };
    Ok(json!({"name": name, "time_intervals": made}))
}

/// What Alertmanager says where the operator says something else: how that begins, and what is said instead.
const WORDS: [(&str, &str); 2] = [
    ("start and end are required", "both start and end times must be provided"),
    ("start time ", "start time cannot be equal or greater than end time"),
];

/// A reason of the operator's in Alertmanager's words.
fn in_its_words(why: &str) -> String {
    let inner = why.rsplit(" is invalid: ").next().unwrap_or(why);
    let bare = if inner.ends_with(": out of range") { inner } else { inner.rsplit(": ").next().unwrap_or(inner) };
    let known = WORDS.iter().find(|(begin, _)| bare.starts_with(begin));
    known.map_or_else(|| bare.replace(" is an invalid ", " is not a valid "), |(_, words)| (*words).to_owned())
}

/// A named interval of a base configuration, printed anew.
pub(super) fn reprint(from: &Value, faults: &mut Faults<'_>) -> Value {
    let name = from["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        faults.wrong("missing name in mute time interval".to_owned());
    }
    let mut made = Vec::new();
    for (index, one) in from["time_intervals"].as_array().into_iter().flatten().enumerate() {
        match interval(one, index) {
            Ok(mut interval) => {
                if let Some(location) = one["location"].as_str().filter(|location| !location.is_empty()) {
                    interval.insert("location".to_owned(), location.into());
                }
                made.push(Value::Object(interval));
            }
            Err(why) => faults.wrong(in_its_words(&why)),
        }
    }
    json!({"name": name, "time_intervals": made})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_printed_anew() {
        for (from, expected) in [
            (json!({"months": ["january:march", "May", "1:March", "2"]}), json!({"months": ["1:3", "5", "1:3", "2"]})),
            (
                json!({"weekdays": ["Monday:friday", "sunday", "monday:monday", "6"]}),
                json!({"weekdays": ["monday:friday", "sunday", "monday", "saturday"]}),
            ),
            (
                json!({"daysOfMonth": [{"start": 5, "end": 5}, {"start": -3, "end": -1}]}),
                json!({"days_of_month": ["5", "-3:-1"]}),
            ),
            (json!({"years": ["2030:2030", "2026:2030"]}), json!({"years": ["2030", "2026:2030"]})),
            (
                json!({"times": [{"startTime": "08:00", "endTime": "24:00"}]}),
                json!({"times": [{"start_time": "08:00", "end_time": "24:00"}]}),
            ),
        ] {
            let made = convert("n/o/x".to_owned(), &json!({"name": "x", "timeIntervals": [from.clone()]}));
            assert_eq!(made, Ok(json!({"name": "n/o/x", "time_intervals": [expected]})), "{from}");
        }
        assert_eq!(convert("n/o/x".to_owned(), &json!({"name": "x"})), Ok(json!({"name": "", "time_intervals": []})));
    }

    #[test]
    fn intervals_that_cannot_be() {
        for (from, expected) in [
            (json!({"times": [{"startTime": "08:00"}]}), "time range at 0 is invalid: start and end are required"),
            (
                json!({"times": [{"startTime": "8:00", "endTime": "09:00"}]}),
                "time range at 0 is invalid: start time invalid: couldn't parse timestamp 8:00, invalid format",
            ),
            (
                json!({"times": [{"startTime": "09:00", "endTime": "09:00"}]}),
                "time range at 0 is invalid: start time 540 cannot be equal or greater than end time 540",
            ),
            (
                json!({"weekdays": ["someday"]}),
                "weekday range at 0 is invalid: failed to parse start day from weekday range: someday is an invalid weekday",
            ),
            (json!({"weekdays": ["friday:monday"]}), "weekday range at 0 is invalid: start day cannot be before end day"),
            (
                json!({"months": ["13"]}),
                "month range at 0 is invalid: failed to parse start month from month range: 13 is an invalid month",
            ),
            (json!({"months": ["may:april"]}), "month range at 0 is invalid: end month april is before start month may"),
            (json!({"years": ["2030:2026"]}), "year range at 0 is invalid: end year 2026 is before start year 2030"),
            (
                json!({"daysOfMonth": [{"start": 5}]}),
                "mute time interval is invalid - day of month range at 0 is invalid: 0 is not a valid day of the month: out of range",
            ),
            (
                json!({"daysOfMonth": [{"start": -1, "end": 1}]}),
                "mute time interval is invalid - day of month range at 0 is invalid: end day must be negative if start day is negative",
            ),
            (
                json!({"daysOfMonth": [{"start": 30, "end": -1}]}),
                "mute time interval is invalid - day of month range at 0 is invalid: end day -1 is always before start day 30",
            ),
        ] {
            let made = convert(String::new(), &json!({"name": "x", "timeIntervals": [from.clone()]}));
            assert_eq!(made.unwrap_err(), expected, "{from}");
        }
        assert_eq!(convert(String::new(), &json!({})).unwrap_err(), "empty name field for mute time interval");
    }
}
