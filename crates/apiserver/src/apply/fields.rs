//! Sets of fields, as `metadata.managedFields` keeps them (structured-merge-diff `fieldpath`, FieldsV1).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::layout::{Keys, Node, Relation};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `f:NAME`.
    Field(Box<str>),
    /// `k:{...}`: an element by its keys, sorted by name.
    Key(Vec<(Box<str>, Value)>),
    /// `v:...`: an element of a set.
    Value(Value),
    /// `i:N`: an element by position.
    Index(u64),
}

impl Step {
    fn rank(&self) -> u8 {
        match self {
            Step::Field(_) => 0,
            Step::Key(_) => 1,
            Step::Value(_) => 2,
            Step::Index(_) => 3,
        }
    }

    /// The name in FieldsV1.
    fn encode(&self) -> String {
        match self {
            Step::Field(name) => format!("f:{name}"),
            Step::Key(keys) => {
                let object: Map<String, Value> = keys.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
                format!("k:{}", Value::Object(object))
            }
            Step::Value(value) => format!("v:{value}"),
            Step::Index(index) => format!("i:{index}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Step::Field(rest.into())),
            "v" => serde_json::from_str(rest).ok().map(Step::Value),
            "i" => rest.parse().ok().map(Step::Index),
            "k" => {
                let object: Map<String, Value> = serde_json::from_str(rest).ok()?;
                let mut keys: Vec<(Box<str>, Value)> = object.into_iter().map(|(name, value)| (name.into(), value)).collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Some(Step::Key(keys))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Field(name) => write!(f, ".{name}"),
            Step::Key(keys) => {
                f.write_str("[")?;
                for (index, (name, value)) in keys.iter().enumerate() {
                    write!(f, "{}{name}={value}", if index > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Step::Value(value) => write!(f, "[={value}]"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Step::Field(a), Step::Field(b)) => a.cmp(b),
            (Step::Key(a), Step::Key(b)) => {
                let names = |keys: &[(Box<str>, Value)]| -> Vec<(Box<str>, String)> {
                    keys.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
                };
                names(a).cmp(&names(b))
            }
            (Step::Value(a), Step::Value(b)) => a.to_string().cmp(&b.to_string()),
            (Step::Index(a), Step::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// A set of paths. The path to a node belongs to it where `member` is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) member: bool,
    pub(crate) below: BTreeMap<Step, Set>,
}

impl Set {
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.below.values().all(Set::is_empty)
    }

    pub(crate) fn get(&self, step: &Step) -> Option<&Set> {
        self.below.get(step)
    }

    /// The subset under a field, made if it is not there.
    pub(crate) fn at(&mut self, step: Step) -> &mut Set {
        self.below.entry(step).or_default()
    }

    fn tidy(mut self) -> Self {
        self.below.retain(|_, set| !set.is_empty());
        self
    }

    pub(crate) fn union(&self, other: &Set) -> Set {
        let mut out = self.clone();
        out.absorb(other);
        out
    }

    pub(crate) fn absorb(&mut self, other: &Set) {
        self.member |= other.member;
        for (step, set) in &other.below {
            self.below.entry(step.clone()).or_default().absorb(set);
        }
    }

    pub(crate) fn difference(&self, other: &Set) -> Set {
        let below = self.below.iter().map(|(step, set)| {
            let rest = other.below.get(step).map_or_else(|| set.clone(), |gone| set.difference(gone));
            (step.clone(), rest)
        });
        Set { member: self.member && !other.member, below: below.collect() }.tidy()
    }

    pub(crate) fn intersection(&self, other: &Set) -> Set {
        let below = self.below.iter().filter_map(|(step, set)| Some((step.clone(), set.intersection(other.below.get(step)?))));
        Set { member: self.member && other.member, below: below.collect() }.tidy()
    }

    /// Paths as people read them, in order.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths("", &mut out);
        out
    }

    fn collect_paths(&self, at: &str, out: &mut Vec<String>) {
        if self.member {
            out.push(at.to_owned());
        }
        for (step, set) in &self.below {
            set.collect_paths(&format!("{at}{step}"), out);
        }
    }

    /// FieldsV1.
    pub(crate) fn encode(&self) -> Value {
        let mut out = Map::new();
        for (step, set) in &self.below {
            let mut below = set.encode();
            if set.member
                && !set.below.is_empty()
                && let Some(fields) = below.as_object_mut()
            {
                fields.insert(".".to_owned(), Value::Object(Map::new()));
            }
            out.insert(step.encode(), below);
        }
        Value::Object(out)
    }

    /// Reads FieldsV1; nothing if it is none.
    pub(crate) fn decode(value: &Value) -> Option<Self> {
        let mut set = Set::default();
        for (name, below) in value.as_object()? {
            if name == "." {
                set.member = true;
                continue;
            }
            let mut inner = Set::decode(below)?;
            if inner.below.is_empty() {
                inner.member = true;
            }
            set.below.insert(Step::decode(name)?, inner);
        }
        Some(set)
    }

    /// The fields of a value that is applied (`TypedValue.ToFieldSet`).
    pub(crate) fn of(value: &Value, node: Node<'_>) -> Result<Set, String> {
        let mut set = Set::default();
        fill(value, node, &mut set, "")?;
        Ok(set)
    }
}

impl Set {
    /// What a new object adds: `Comparison::new` with an empty one, in one go.
    pub(crate) fn of_new(object: &Value, node: Node<'_>) -> Set {
        let mut set = Set::default();
        add_new(object, node, true, &mut set);
        set
    }
}

/// `by_value`: see [`compare`].
fn add_new(value: &Value, node: Node<'_>, by_value: bool, set: &mut Set) {
    let is_empty = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    };
    if is_empty || node.relation(value) == Relation::Atomic {
        set.member = !(by_value && is_empty && value.is_object());
        return;
    }
    match value {
        Value::Object(fields) => {
            let is_struct = matches!(node, Node::Struct(_));
            for (name, value) in fields {
                let held = by_value && is_struct && crate::types::is_by_value(name);
                let mut below = Set::default();
                add_new(value, node.child(name), held, &mut below);
                if below.member || !below.below.is_empty() {
                    set.below.insert(Step::Field(name.as_str().into()), below);
                }
            }
        }
        Value::Array(list) => {
            for (index, element) in list.iter().enumerate() {
                let step = step_of(element, node, value).unwrap_or(Step::Index(index as u64));
                add_new(element, node.element(), false, set.at(step));
            }
        }
        _ => {}
    }
    set.member = !by_value;
}

/// Adds what `value` sets below a place.
fn fill(value: &Value, node: Node<'_>, set: &mut Set, at: &str) -> Result<(), String> {
    match value {
        Value::Object(fields) if node.relation(value) == Relation::Granular => {
            for (name, value) in fields {
                let below = set.at(Step::Field(name.as_str().into()));
                fill(value, node.child(name), below, &format!("{at}.{name}"))?;
                if value.is_null() || value.as_object().is_some_and(Map::is_empty) || !node.declares(name) {
                    below.member = true;
                }
            }
        }
        Value::Array(list) => match node.relation(value) {
            Relation::Set | Relation::Keys(_) => {
                for element in list {
                    let step = step_of(element, node, value).map_err(|why| format!("{at}: {why}"))?;
                    if set.below.contains_key(&step) {
                        return Err(format!("{at}: duplicate entries for key {}", step.to_string().trim_matches(['[', ']'])));
                    }
                    let below = set.at(step);
                    fill(element, node.element(), below, at)?;
                    below.member = true;
                }
            }
            Relation::Granular | Relation::Atomic => set.member = true,
        },
        Value::Null => {}
        _ => set.member = true,
    }
    Ok(())
}

/// Which element of a set or associative list this is.
pub(crate) fn step_of(element: &Value, node: Node<'_>, list: &Value) -> Result<Step, String> {
    match node.relation(list) {
        Relation::Set => Ok(Step::Value(element.clone())),
        Relation::Keys(keys) => key_of(element, node, keys),
        Relation::Granular | Relation::Atomic => Err("not an associative list".to_owned()),
    }
}

fn key_of(element: &Value, node: Node<'_>, keys: Keys<'_>) -> Result<Step, String> {
    if !element.is_object() {
        return Err("element: associative list with keys may not have non-map elements".to_owned());
    }
    let mut found = Vec::new();
    for key in keys.names() {
        let value = match element.get(key) {
            Some(value) => value.clone(),
            None => match node.key_default(key) {
                Some(value) => value,
                None => {
                    return Err(format!(
                        "element 0: associative list with keys has an element that omits key field \"{key}\" (and doesn't have default value)"
                    ));
                }
            },
        };
        found.push((Box::from(key), value));
    }
    found.sort_by(|a: &(Box<str>, Value), b| a.0.cmp(&b.0));
    Ok(Step::Key(found))
}

/// How two versions of an object differ.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

impl Comparison {
    pub(crate) fn new(old: &Value, new: &Value, node: Node<'_>) -> Self {
        let mut out = Comparison::default();
        compare(Some(old), Some(new), node, &mut out, true);
        out.added = out.added.tidy();
        out.modified = out.modified.tidy();
        out.removed = out.removed.tidy();
        out
    }

    pub(crate) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, Some(_)) => self.added.member = true,
            (Some(_), None) => self.removed.member = true,
            (Some(old), Some(new)) if old != new => self.modified.member = true,
            _ => {}
        }
    }

    /// The comparison of one step down.
    fn down(&mut self, step: Step, run: impl FnOnce(&mut Comparison)) {
        let mut inner = Comparison::default();
        run(&mut inner);
        for (set, below) in
            [(&mut self.added, inner.added), (&mut self.modified, inner.modified), (&mut self.removed, inner.removed)]
        {
            if below.member || !below.below.is_empty() {
                set.below.insert(step.clone(), below);
            }
        }
    }
}

/// `by_value`: the place exists in every object, if only empty.
fn compare(old: Option<&Value>, new: Option<&Value>, node: Node<'_>, out: &mut Comparison, by_value: bool) {
    if let (Some(old), Some(new)) = (old, new)
        && old == new
    {
        return;
    }
    let some = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let sample = if some(new) { new } else { old };
    let Some(sample) = sample else { return };
    let same_kind = match (old, new) {
        (Some(old), Some(new)) if !old.is_null() && !new.is_null() => {
            old.is_object() == new.is_object() && old.is_array() == new.is_array()
        }
        _ => true,
    };
    let is_empty = |value: Option<&Value>| match value {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        _ => true,
    };
    let relation = node.relation(sample);
    let is_leaf = !(sample.is_object() || sample.is_array())
        || relation == Relation::Atomic
        || !same_kind
        || (is_empty(old) && is_empty(new));
    if is_leaf {
        if !(by_value && is_empty(old) && is_empty(new) && sample.is_object()) {
            out.leaf(old, new);
        }
        return;
    }
    if let Value::Object(_) = sample {
        let (before, after) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        let is_struct = matches!(node, Node::Struct(_));
        for (name, value) in after.into_iter().flatten() {
            let earlier = before.and_then(|fields| fields.get(name));
            if earlier == Some(value) {
                continue;
            }
            let held = by_value && is_struct && crate::types::is_by_value(name);
            out.down(Step::Field(name.as_str().into()), |out| compare(earlier, Some(value), node.child(name), out, held));
        }
        for (name, value) in before.into_iter().flatten() {
            if after.is_none_or(|fields| !fields.contains_key(name)) {
                out.down(Step::Field(name.as_str().into()), |out| compare(Some(value), None, node.child(name), out, false));
            }
        }
    } else {
        let elements = |value: Option<&Value>| -> Vec<(Step, Value)> {
            let list = value.and_then(Value::as_array).into_iter().flatten();
            list.enumerate()
                .map(|(index, element)| {
                    let step = step_of(element, node, sample).unwrap_or(Step::Index(index as u64));
                    (step, element.clone())
                })
                .collect()
        };
        let (before, after) = (elements(old), elements(new));
        for (step, value) in &after {
            let earlier = before.iter().find(|(of, _)| of == step).map(|(_, value)| value);
            out.down(step.clone(), |out| compare(earlier, Some(value), node.element(), out, false));
        }
        for (step, value) in &before {
            if !after.iter().any(|(of, _)| of == step) {
                out.down(step.clone(), |out| compare(Some(value), None, node.element(), out, false));
            }
        }
    }
    if !by_value {
        match (old, new) {
            (None, Some(_)) => out.added.member = true,
            (Some(_), None) => out.removed.member = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::Registry;

    #[test]
    fn a_new_object_adds_what_a_comparison_with_nothing_says() {
        let registry = Registry::new();
        for (group, plural, object) in [
            ("", "configmaps", json!({"metadata": {"name": "a", "labels": {"x": "1"}, "finalizers": ["f"]}, "data": {"a": "b"}})),
            (
                "apps",
                "deployments",
                json!({"metadata": {}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "strategy": {},
                    "template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1}], "resources": {},
                        "env": [{"name": "E", "value": ""}], "args": ["x"]}], "securityContext": {}}}}, "status": {}}),
            ),
            ("", "services", json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}, "clusterIPs": ["None"]}})),
        ] {
            let resource = registry.find_any_version(group, plural).unwrap();
            let node = Node::root(&resource);
            let compared = Comparison::new(&json!({}), &object, node);
            assert_eq!(Set::of_new(&object, node), compared.added, "{plural}");
        }
    }
}
