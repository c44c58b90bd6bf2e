//! What is no matter of Prometheus: logs, components' own pages, objects of the API, and what expressions read.

use metrics::{Sample, Series};
use serde_json::Value;

use wire::{counted, counted_as};

use super::{Held, Look, Session, list};
use crate::catalogue::fill;
use crate::lab::PageAnswer;
use crate::model::{ContractCheck, LogCheck, ObjectCheck, PageCheck, WhyCheck};

/// What one page has of a metric.
#[derive(Default)]
struct OfMetric {
    /// The samples that are meant.
    meant: Vec<Sample>,
    /// How many others the metric has.
    others: usize,
}

impl Session<'_> {
    pub(super) async fn logs(&self, wanted: &LogCheck) -> Look {
        let logs = self.lab.logs(&wanted.pod, wanted.container.as_deref()).await.map_err(|error| error.to_string())?;
        if logs.is_empty() {
            return Err(format!("no pod is called {}*, so there is no log", wanted.pod));
        }
        let parts: Vec<String> = wanted.contains.iter().map(|part| fill(part, self.lab)).collect();
        let all = logs.iter().flat_map(|log| log.text.lines().map(move |line| (log.pod.as_str(), line)));
        let (mut lines, mut read) = (Vec::new(), 0);
        for (pod, line) in all {
            read += 1;
            if parts.iter().all(|part| line.contains(part)) {
                lines.push(format!("{pod}: {line}"));
            }
        }
        let head = format!("{} in {}", counted(lines.len(), "such line"), counted(logs.len(), "log"));
        let shown = if lines.is_empty() { head } else { format!("{head}\n{}", lines.join("\n")) };
        if !wanted.count.map_or(!lines.is_empty(), |count| lines.len() == count) {
            return Err(shown);
        }
        if lines.is_empty() {
            let otherwise = match read {
                0 => Err("the logs are empty".to_owned()),
                read => Ok(format!("{} of {} were read", counted(read, "line"), counted(logs.len(), "pod"))),
            };
            return Held::absent(shown, otherwise);
        }
        Ok(Held::There(shown))
    }

    pub(super) async fn why(&self, wanted: &WhyCheck) -> Look {
        let said = self.lab.why(fill(&wanted.ask, self.lab)).await.map_err(|error| error.to_string())?;
        if said.contains(&fill(&wanted.contains, self.lab)) { Ok(Held::There(said)) } else { Err(said) }
    }

    pub(super) async fn contract(&self, wanted: &ContractCheck) -> Look {
        let reads: Vec<String> = wanted.reads.iter().map(|expression| fill(expression, self.lab)).collect();
        let findings = self.lab.contract(&reads).await.map_err(|error| error.to_string())?;
        if findings.is_empty() { Ok(Held::There("all that is read is there".to_owned())) } else { Err(findings.join("\n")) }
    }

    /// The answers of a component's pods.
    pub(super) async fn page(&self, wanted: &PageCheck) -> Look {
        let at_once = wanted.at_once.max(1);
        let answers = self.lab.pages(&wanted.pod, at_once).await.map_err(|error| error.to_string())?;
        if answers.is_empty() {
            return Err(format!("no pod is called {}*", wanted.pod));
        }
        let mut rounds: Vec<OfMetric> = (0..at_once).map(|_| OfMetric::default()).collect();
        for (index, answer) in answers.iter().enumerate() {
            let OfMetric { meant, others } = self.of_answer(wanted, answer)?;
            let round = &mut rounds[index % at_once];
            round.meant.extend(meant);
            round.others += others;
        }
        let mut seen = Err("nothing was looked at".to_owned());
        for round in rounds {
            seen = Ok(self.of_round(wanted, &round)?);
        }
        seen
    }

    /// What a page has of the metric.
    fn of_answer(&self, wanted: &PageCheck, answer: &PageAnswer) -> Result<OfMetric, String> {
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
        let fits = |series: &Series| wanted.labels.iter().all(|(name, pattern)| self.fits(pattern, series.label(name)));
        let of_metric = page.samples.into_iter().filter(|sample| sample.series.name == wanted.metric);
        let (meant, others): (Vec<Sample>, Vec<Sample>) = of_metric.partition(|sample| fits(&sample.series));
        Ok(OfMetric { meant, others: others.len() })
    }

    fn of_round(&self, wanted: &PageCheck, round: &OfMetric) -> Look {
        let samples = &round.meant;
        let sum: f64 = samples.iter().map(|sample| sample.value).sum();
        let count =
            wanted.series.map_or(!samples.is_empty() || wanted.at_most_series.is_some(), |wanted| samples.len() == wanted)
                && wanted.at_most_series.is_none_or(|most| samples.len() <= most);
        let values = samples.iter().all(|sample| wanted.equals.is_none_or(|wanted| sample.value == wanted))
            && wanted.sum_at_least.is_none_or(|least| sum >= least);
        let seen = match samples.len() {
            0 => "no series".to_owned(),
            many => format!("{many} series\n{}", list(samples)),
        };
        if !count || !values {
            return Err(seen);
        }
        if samples.is_empty() {
            let otherwise = match round.others {
                0 if self.lab.declares(&wanted.metric) => Ok(format!("the release declares {}", wanted.metric)),
                0 => Err(format!("the pages have no {}, and the release does not declare it", wanted.metric)),
                others => Ok(format!("{} has {} with other labels", wanted.metric, counted_as(others, "series", "series"))),
            };
            return Held::absent(seen, otherwise);
        }
        Ok(Held::There(seen))
    }

    pub(super) async fn object(&self, wanted: &ObjectCheck) -> Look {
        let asked = ObjectCheck { namespace: fill(&wanted.namespace, self.lab), ..wanted.clone() };
        let objects = self.lab.objects(&asked).await.map_err(|error| error.to_string())?;
        let fitting = objects
            .iter()
            .filter(|object| {
                wanted.fields.iter().all(|(path, pattern)| self.fits(pattern, &text(field(object, path))))
                    && wanted.contains.as_ref().is_none_or(|part| object.to_string().contains(part.as_str()))
            })
            .count();
        let of_one = |object: &Value| {
            let fields: Vec<String> = wanted.fields.keys().map(|path| format!(" {path}={}", text(field(object, path)))).collect();
            format!("{}/{}{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]), fields.concat())
        };
        let mut seen = format!("{fitting} of {} {}", objects.len(), wanted.resource);
        for object in objects.iter().take(5) {
            seen = format!("{seen}\n{}", of_one(object));
        }
        if objects.len() > 5 {
            seen = format!("{seen}\nand {} more", objects.len() - 5);
        }
        if !wanted.count.map_or(fitting > 0, |count| fitting == count) {
            return Err(seen);
        }
        if fitting == 0 {
            return Held::absent(seen, self.object_could_be(&asked, objects.len()).await);
        }
        Ok(Held::There(seen))
    }

    /// What shows that an object could have been there. That its kind is served the list has shown already.
    async fn object_could_be(&self, asked: &ObjectCheck, others: usize) -> Result<String, String> {
        if others > 0 {
            return Ok(format!("{} of the kind were looked at", counted(others, "object")));
        }
        if asked.namespace.is_empty() {
            return Ok(format!("{} are served", asked.resource));
        }
        let namespaces = ObjectCheck {
            group: String::new(),
            resource: "namespaces".to_owned(),
            namespace: String::new(),
            name: Some(asked.namespace.clone()),
            fields: Default::default(),
            contains: None,
            count: None,
        };
        match self.lab.objects(&namespaces).await.map_err(|error| error.to_string())?.is_empty() {
            true => Err(format!("there is no namespace {}", asked.namespace)),
            false => Ok(format!("{} are served, and the namespace {} is there", asked.resource, asked.namespace)),
        }
    }
}

/// A field by its path; `metadata.labels.a` and the like.
fn field<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, part| match part.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        Ok(_) | Err(_) => &value[part],
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
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
