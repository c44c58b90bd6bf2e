//! Looking at what is no matter of Prometheus: components' own pages, objects of the API, and what expressions read.

use metrics::{Sample, Series};
use serde_json::Value;

use crate::file::{ContractExpectation, ObjectExpectation, PageExpectation};
use crate::lab::{Lab, PageAnswer};
use crate::run::{Seen, fill, fits, list};

/// The answers of a component's pods.
pub(crate) async fn page(wanted: &PageExpectation, lab: &dyn Lab) -> Seen {
    let at_once = wanted.at_once.unwrap_or(1);
    let answers = lab.pages(&wanted.pod, at_once).await.map_err(|error| error.to_string())?;
    if answers.is_empty() {
        return Err(format!("no pod is called {}*", wanted.pod));
    }
    let mut rounds: Vec<Vec<Sample>> = vec![Vec::new(); at_once];
    for (index, answer) in answers.iter().enumerate() {
        let samples = of_answer(wanted, answer, lab)?;
        rounds[index % at_once].extend(samples);
    }
    let mut seen = String::new();
    for samples in rounds {
        seen = held(wanted, &samples)?;
    }
    Ok(seen)
}

/// The series of a page that are meant.
fn of_answer(wanted: &PageExpectation, answer: &PageAnswer, lab: &dyn Lab) -> Result<Vec<Sample>, String> {
    let pod = &answer.pod;
    let (code, text) = answer.answer.as_ref().map_err(|why| format!("{pod}: {why}"))?;
    if *code != 200 {
        let first = text.lines().filter(|line| !line.is_empty()).take(3).collect::<Vec<_>>().join(" ");
        return Err(format!("{pod}: HTTP {code}: {first}"));
    }
    if let Some(wanted) = &wanted.content_type
        && !answer.content_type.starts_with(wanted.as_str())
    {
        return Err(format!("{pod}: the content type is {:?}", answer.content_type));
    }
    let page = metrics::parse(text).map_err(|error| format!("{pod}: {error}"))?;
    let meant = |series: &Series| {
        series.name == wanted.metric && wanted.labels.iter().all(|(name, pattern)| fits(&fill(pattern, lab), series.label(name)))
    };
    Ok(page.samples.into_iter().filter(|sample| meant(&sample.series)).collect())
}

fn held(wanted: &PageExpectation, samples: &[Sample]) -> Seen {
    let sum: f64 = samples.iter().map(|sample| sample.value).sum();
    let count = wanted.series.map_or(!samples.is_empty() || wanted.at_most_series.is_some(), |wanted| samples.len() == wanted)
        && wanted.at_most_series.is_none_or(|most| samples.len() <= most);
    let values = samples.iter().all(|sample| wanted.equals.is_none_or(|wanted| sample.value == wanted))
        && wanted.sum_at_least.is_none_or(|least| sum >= least);
    let seen = match samples.len() {
        0 => "no series".to_owned(),
        many => format!("{many} series\n{}", list(samples)),
    };
    if count && values { Ok(seen) } else { Err(seen) }
}

/// A field by its path; `metadata.labels.a` and the like.
fn field<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, part| match part.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[part],
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub(crate) async fn object(wanted: &ObjectExpectation, lab: &dyn Lab) -> Seen {
    let mut asked = wanted.clone();
    asked.namespace = fill(&wanted.namespace, lab);
    let objects = lab.objects(&asked).await.map_err(|error| error.to_string())?;
    let fitting = objects.iter().filter(|object| {
        wanted.fields.iter().all(|(path, pattern)| fits(&fill(pattern, lab), &text(field(object, path))))
            && wanted.contains.as_ref().is_none_or(|part| object.to_string().contains(part.as_str()))
    });
    let fitting = fitting.count();
    let of_one = |object: &Value| {
        let fields: Vec<String> = wanted.fields.keys().map(|path| format!(" {path}={}", text(field(object, path)))).collect();
        format!("{}/{}{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]), fields.concat())
    };
    let mut seen = format!("{fitting} of {} {}", objects.len(), wanted.resource);
    for object in objects.iter().take(5) {
        seen = format!("{seen}\n{}", of_one(object));
    }
    let fine = wanted.count.map_or(fitting > 0, |count| fitting == count);
    if fine { Ok(seen) } else { Err(seen) }
}

pub(crate) async fn contract(wanted: &ContractExpectation, lab: &dyn Lab) -> Seen {
    let reads: Vec<String> = wanted.reads.iter().map(|expression| fill(expression, lab)).collect();
    let findings = lab.contract(&reads).await.map_err(|error| error.to_string())?;
    if findings.is_empty() { Ok("all that is read is there".to_owned()) } else { Err(findings.join("\n")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_by_path() {
        let object = json!({"status": {"phase": "Running", "list": [{"a": 1}]}});
        for (path, expected) in [("status.phase", "Running"), ("status.list.0.a", "1"), ("status.none.a", "")] {
            assert_eq!(text(field(&object, path)), expected, "{path}");
        }
    }
}
