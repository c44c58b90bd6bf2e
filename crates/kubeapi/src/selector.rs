//! Label and field selectors: the query strings of list and watch, and the `LabelSelector` objects of specs.

use std::collections::BTreeMap;

use serde_json::Value;

/// A selector that cannot be understood.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Greater,
    Less,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let compare =
            |other: &str| -> Option<std::cmp::Ordering> { Some(value?.parse::<i64>().ok()?.cmp(&other.parse::<i64>().ok()?)) };
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.iter().any(|wanted| wanted == value)),
            Operator::NotIn => value.is_none_or(|value| self.values.iter().all(|wanted| wanted != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Greater => compare(&self.values[0]) == Some(std::cmp::Ordering::Greater),
            Operator::Less => compare(&self.values[0]) == Some(std::cmp::Ordering::Less),
        }
    }
}

/// A requirement that labels do not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The requirement as a query writes it.
    pub requirement: String,
    /// The label that it is about.
    pub key: String,
    /// What the labels have there.
    pub found: Option<String>,
}

/// A label selector; all requirements must hold. The empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    matches_nothing: bool,
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
    ///
    /// # Errors
    /// When the text is not a selector; the message names the part.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = split_at_comma(rest)?;
            let (part, tail) = rest.split_at(end);
            requirements.push(parse_requirement(part.trim())?);
            rest = tail.strip_prefix(',').unwrap_or(tail).trim();
        }
        Ok(Self { requirements, matches_nothing: false })
    }

    /// Reads a `metav1.LabelSelector`. Null selects nothing, `{}` everything, as controllers have it.
    ///
    /// # Errors
    /// When an operator is unknown or values are missing.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        if selector.is_null() {
            return Ok(Self { requirements: Vec::new(), matches_nothing: true });
        }
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values: vec![value] });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values: Vec<String> = expression["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect();
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError(format!("\"{other}\" is not a valid label selector operator"))),
            };
            if matches!(operator, Operator::In | Operator::NotIn) && values.is_empty() {
                return Err(SelectorError(format!("{key}: for 'in', 'notin' operators, values set can't be empty")));
            }
            requirements.push(Requirement { key, operator, values });
        }
        Ok(Self { requirements, matches_nothing: false })
    }

    /// A selector for exactly these labels (`spec.selector` of a Service).
    pub fn from_map(labels: &Value) -> Self {
        let requirements = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        Self { requirements, matches_nothing: false }
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.matches_nothing
    }

    /// Whether labels, looked up by `get`, fit.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.matches_nothing && self.requirements.iter().all(|requirement| requirement.matches(get(&requirement.key)))
    }

    /// The first requirement, by its key, that the labels of an object's metadata do not meet; of a selector that matches nothing,
    /// itself.
    pub fn unmet(&self, labels: &Value) -> Option<Unmet> {
        if self.matches_nothing {
            return Some(Unmet { requirement: "null".to_owned(), key: String::new(), found: None });
        }
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        let mut unmet: Vec<&Requirement> =
            self.requirements.iter().filter(|requirement| !requirement.matches(value(&requirement.key))).collect();
        unmet.sort_by(|a, b| a.key.cmp(&b.key));
        unmet.first().map(|requirement| Unmet {
            requirement: Self { requirements: vec![(*requirement).clone()], matches_nothing: false }.to_string(),
            key: requirement.key.clone(),
            found: value(&requirement.key).map(str::to_owned),
        })
    }

    /// How many requirements the labels do not meet.
    pub fn distance(&self, labels: &Value) -> usize {
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        self.requirements.iter().filter(|requirement| !requirement.matches(value(&requirement.key))).count()
    }

    /// Whether the labels of an object's metadata fit.
    pub fn matches(&self, labels: &Value) -> bool {
        self.matches_with(|key| labels.get(key).and_then(Value::as_str))
    }
}

impl std::fmt::Display for LabelSelector {
    /// As a query string has it, sorted by key (apimachinery `pkg/labels` `Requirement.String`).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted: Vec<&Requirement> = self.requirements.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        for (index, requirement) in sorted.into_iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let key = &requirement.key;
            let mut values = requirement.values.clone();
            values.sort();
            match requirement.operator {
                Operator::In if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Operator::In => write!(f, "{key} in ({})", values.join(","))?,
                Operator::NotIn if values.len() == 1 => write!(f, "{key}!={}", values[0])?,
                Operator::NotIn => write!(f, "{key} notin ({})", values.join(","))?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::Greater => write!(f, "{key}>{}", values[0])?,
                Operator::Less => write!(f, "{key}<{}", values[0])?,
            }
        }
        Ok(())
    }
}

/// The end of the first requirement: a comma outside parentheses.
fn split_at_comma(text: &str) -> Result<usize, SelectorError> {
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| SelectorError(format!("unable to parse requirement: found ')', expected: '(' in {text:?}")))?;
            }
            ',' if depth == 0 => return Ok(at),
            _ => {}
        }
    }
    if depth > 0 {
        return Err(SelectorError(format!("unable to parse requirement: found '', expected: ')' in {text:?}")));
    }
    Ok(text.len())
}

fn parse_requirement(part: &str) -> Result<Requirement, SelectorError> {
    let make = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        check_key(key)?;
        Ok(Requirement { key: key.to_owned(), operator, values })
    };
    if let Some(key) = part.strip_prefix('!') {
        return make(key, Operator::DoesNotExist, Vec::new());
    }
    for (symbol, operator) in
        [("!=", Operator::NotIn), ("==", Operator::In), ("=", Operator::In), (">", Operator::Greater), ("<", Operator::Less)]
    {
        if let Some((key, value)) = part.split_once(symbol) {
            let value = value.trim();
            check_value(value)?;
            if matches!(operator, Operator::Greater | Operator::Less) && value.parse::<i64>().is_err() {
                return Err(SelectorError("for 'Gt', 'Lt' operators, the value must be an integer".to_owned()));
            }
            return make(key, operator, vec![value.to_owned()]);
        }
    }
    if let Some(open) = part.find('(') {
        let head: Vec<&str> = part[..open].split_whitespace().collect();
        let list = part[open + 1..].trim_end().strip_suffix(')').unwrap_or_default();
        let values: Vec<String> = list.split(',').map(|value| value.trim().to_owned()).collect();
        for value in &values {
            check_value(value)?;
        }
        return match head.as_slice() {
            [key, "in"] => make(key, Operator::In, values),
            [key, "notin"] => make(key, Operator::NotIn, values),
            _ => {
                Err(SelectorError(format!("unable to parse requirement: found {part:?}, expected: in, notin, =, ==, !=, gt, lt")))
            }
        };
    }
    if part.contains(char::is_whitespace) {
        let found = part.split_whitespace().nth(1).unwrap_or_default();
        return Err(SelectorError(format!(
            "unable to parse requirement: found '{found}', expected: in, notin, =, ==, !=, gt, lt"
        )));
    }
    make(part, Operator::Exists, Vec::new())
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let name = key.rsplit('/').next().unwrap_or_default();
    let good = !name.is_empty()
        && name.len() <= 63
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character));
    if good {
        Ok(())
    } else {
        Err(SelectorError(format!(
            "unable to parse requirement: <nil>: Invalid value: \"{key}\": name part must consist of alphanumeric \
             characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        )))
    }
}

fn check_value(value: &str) -> Result<(), SelectorError> {
    if value.len() <= 63 && value.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character)) {
        Ok(())
    } else {
        Err(SelectorError(format!("unable to parse requirement: values[0]: Invalid value: \"{value}\"")))
    }
}

/// A field selector: `metadata.name=x,spec.nodeName!=y`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSelector {
    terms: Vec<(String, bool, String)>,
}

impl FieldSelector {
    /// Parses the query parameter.
    ///
    /// # Errors
    /// When a term has no operator.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for term in text.split(',').filter(|term| !term.is_empty()) {
            let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (field, true, value)
            } else {
                return Err(SelectorError(format!("invalid selector: '{term}'; can't understand '{term}'")));
            };
            terms.push((field.to_owned(), equal, value.to_owned()));
        }
        Ok(Self { terms })
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The fields it speaks of.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|(field, _, _)| field.as_str())
    }

    /// The value that `field` must equal, if it must.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|(name, equal, _)| *equal && name == field).map(|(_, _, value)| value.as_str())
    }

    /// Whether an object fits; a missing field counts as the empty string.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|(field, equal, wanted)| {
            let mut value = object;
            for key in field.split('.') {
                value = &value[key];
            }
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            };
            // Go's zero values are left out of JSON, and selected by what they are.
            let is_zero = value.is_null() && matches!(wanted.as_str(), "false" | "0");
            (text == *wanted || is_zero) == *equal
        })
    }
}

/// Labels of an object as an ordered map.
pub(crate) fn string_map(value: &Value) -> BTreeMap<String, String> {
    value.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors_match_as_written() {
        let labels = json!({"app": "virt-api", "tier": "2", "prometheus.kubevirt.io": ""});
        for (text, expected) in [
            ("", true),
            ("app=virt-api", true),
            ("app==virt-api,tier=2", true),
            ("app!=virt-api", false),
            ("missing!=x", true),
            ("app in (a, virt-api)", true),
            ("app notin (a,virt-api)", false),
            ("missing notin (a)", true),
            ("app", true),
            ("!app", false),
            ("!missing", true),
            ("prometheus.kubevirt.io=", true),
            ("prometheus.kubevirt.io", true),
            ("tier>1", true),
            ("tier<2", false),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
        for text in ["app in (a", "a b", "app)", "=x", "app in a)", "x>y"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn selector_objects() {
        let labels = json!({"a": "1"});
        for (selector, expected) in [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"a": "1"}}), true),
            (json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["2"]}]}), false),
            (json!({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}), true),
        ] {
            assert_eq!(LabelSelector::from_object(&selector).unwrap().matches(&labels), expected, "{selector}");
        }
    }

    #[test]
    fn field_selectors() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}});
        for (text, expected) in [
            ("metadata.name=p", true),
            ("metadata.name!=p", false),
            ("spec.nodeName==n,metadata.name=p", true),
            ("status.phase=", true),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(&pod), expected, "{text}");
        }
        assert!(FieldSelector::parse("metadata.name").is_err());
    }

    /// A requirement as text, and what it means for a label that is there or not.
    #[derive(Clone, Debug)]
    enum Requirement {
        Is(String, String),
        IsNot(String, String),
        In(String, Vec<String>),
        NotIn(String, Vec<String>),
        Exists(String),
        Missing(String),
    }

    impl Requirement {
        fn text(&self) -> String {
            match self {
                Self::Is(key, value) => format!("{key}={value}"),
                Self::IsNot(key, value) => format!("{key} != {value}"),
                Self::In(key, values) => format!("{key} in ({})", values.join(", ")),
                Self::NotIn(key, values) => format!("{key} notin ({})", values.join(",")),
                Self::Exists(key) => key.clone(),
                Self::Missing(key) => format!("!{key}"),
            }
        }

        fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
            match self {
                Self::Is(key, value) => labels.get(key) == Some(value),
                Self::IsNot(key, value) => labels.get(key) != Some(value),
                Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
                Self::NotIn(key, values) => !labels.get(key).is_some_and(|value| values.contains(value)),
                Self::Exists(key) => labels.contains_key(key),
                Self::Missing(key) => !labels.contains_key(key),
            }
        }
    }

    fn requirement() -> impl proptest::strategy::Strategy<Value = Requirement> {
        use proptest::prelude::*;
        let (key, value) = ("[ab]", "[xyz]");
        let values = || proptest::collection::vec(value, 1..3);
        prop_oneof![
            (key, value).prop_map(|(key, value)| Requirement::Is(key, value)),
            (key, value).prop_map(|(key, value)| Requirement::IsNot(key, value)),
            (key, values()).prop_map(|(key, values)| Requirement::In(key, values)),
            (key, values()).prop_map(|(key, values)| Requirement::NotIn(key, values)),
            key.prop_map(Requirement::Exists),
            key.prop_map(Requirement::Missing),
        ]
    }

    proptest::proptest! {
        #[test]
        fn selectors_mean_what_each_of_their_requirements_means(
            requirements in proptest::collection::vec(requirement(), 0..5),
            labels in proptest::collection::btree_map("[abc]", "[xyz]", 0..3),
        ) {
            let text: Vec<String> = requirements.iter().map(Requirement::text).collect();
            let selector = LabelSelector::parse(&text.join(",")).unwrap();
            let expected = requirements.iter().all(|requirement| requirement.holds(&labels));
            let object = json!(labels);
            proptest::prop_assert_eq!(selector.matches(&object), expected, "{:?} {}", text, object);
            // Written and read again it is the same selector.
            let again = LabelSelector::parse(&selector.to_string()).unwrap();
            proptest::prop_assert_eq!(again.matches(&object), expected, "{}", selector);
        }

        #[test]
        fn no_text_makes_a_selector_panic(text in ".{0,40}") {
            let _ = (LabelSelector::parse(&text), FieldSelector::parse(&text));
        }
    }
}
