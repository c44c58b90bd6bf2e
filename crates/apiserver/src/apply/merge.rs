//! The merge of an applied configuration into a live object, and the removal of what its manager no longer sends.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{Set, Step, step_of};
use super::layout::{Node, Relation};

/// `live` with what `config` says (`TypedValue.Merge`).
pub(crate) fn merge(live: &Value, config: &Value, node: Node<'_>) -> Value {
    match (live, config) {
        (Value::Object(old), Value::Object(new)) if node.relation(config) == Relation::Granular => {
            let mut out = old.clone();
            for (name, value) in new {
                let merged = match old.get(name) {
                    Some(earlier) => merge(earlier, value, node.child(name)),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Value::Array(old), Value::Array(new)) if matches!(node.relation(config), Relation::Set | Relation::Keys(_)) => {
            Value::Array(merge_lists(old, new, config, node))
        }
        _ => config.clone(),
    }
}

/// Elements of the new list in its order, those that only the old one has where they stood between them.
fn merge_lists(old: &[Value], new: &[Value], list: &Value, node: Node<'_>) -> Vec<Value> {
    let step = |index: usize, element: &Value| step_of(element, node, list).unwrap_or(Step::Index(index as u64));
    let old: Vec<(Step, &Value)> = old.iter().enumerate().map(|(index, element)| (step(index, element), element)).collect();
    let new: Vec<(Step, &Value)> = new.iter().enumerate().map(|(index, element)| (step(index, element), element)).collect();
    let in_new: BTreeMap<&Step, ()> = new.iter().map(|(step, _)| (step, ())).collect();
    let by_step: BTreeMap<&Step, &Value> = old.iter().map(|(step, element)| (step, *element)).collect();
    let mut done: BTreeMap<&Step, ()> = BTreeMap::new();
    let mut out = Vec::with_capacity(old.len().max(new.len()));
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if let Some((step, element)) = old.get(left) {
            if !in_new.contains_key(step) {
                out.push((*element).clone());
                left += 1;
                continue;
            }
            if done.contains_key(step) {
                left += 1;
                continue;
            }
        }
        let Some((step, element)) = new.get(right) else { break };
        out.push(match by_step.get(step) {
            Some(earlier) => merge(earlier, element, node.element()),
            None => (*element).clone(),
        });
        done.insert(step, ());
        right += 1;
    }
    out
}

/// Takes out of `merged` what `before` has and no one owns any more. What others own below it stays, with its keys.
pub(crate) fn prune(merged: &mut Value, node: Node<'_>, before: &Set, owned: &Set) {
    prune_at(merged, node, Some(before), Some(owned), false);
}

/// `orphaned`: the surroundings were removed, only what is owned stays. Returns whether anything is left.
fn prune_at(value: &mut Value, node: Node<'_>, before: Option<&Set>, owned: Option<&Set>, orphaned: bool) {
    let relation = node.relation(value);
    match value {
        Value::Object(fields) if relation == Relation::Granular => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                let step = Step::Field(name.as_str().into());
                let (was, of) = (before.and_then(|set| set.get(&step)), owned.and_then(|set| set.get(&step)));
                match verdict(was, of, orphaned) {
                    Verdict::Keep => {}
                    Verdict::Drop => {
                        fields.remove(&name);
                    }
                    Verdict::Descend(orphaned) => {
                        let Some(inner) = fields.get_mut(&name) else { continue };
                        let had_content = has_content(inner);
                        prune_at(inner, node.child(&name), was, of, orphaned);
                        // A map that only held what is gone goes too, unless someone owns it.
                        let owned_itself = of.is_some_and(|set| set.member);
                        let was_itself = was.is_some_and(|set| set.member);
                        if had_content && !has_content(inner) && !owned_itself && (was_itself || of.is_none_or(Set::is_empty)) {
                            fields.remove(&name);
                        }
                    }
                }
            }
        }
        Value::Array(elements) if matches!(relation, Relation::Set | Relation::Keys(_)) => {
            let list = Value::Array(elements.clone());
            let old = std::mem::take(elements);
            for (index, mut element) in old.into_iter().enumerate() {
                let step = step_of(&element, node, &list).unwrap_or(Step::Index(index as u64));
                let (was, of) = (before.and_then(|set| set.get(&step)), owned.and_then(|set| set.get(&step)));
                match verdict(was, of, orphaned) {
                    Verdict::Keep => elements.push(element),
                    Verdict::Drop => {}
                    Verdict::Descend(orphaned) => {
                        let keys = key_fields(&step, &element);
                        prune_at(&mut element, node.element(), was, of, orphaned);
                        if let Some(fields) = element.as_object_mut() {
                            for (name, value) in keys {
                                fields.entry(name).or_insert(value);
                            }
                        }
                        elements.push(element);
                    }
                }
            }
        }
        _ => {}
    }
}

enum Verdict {
    Keep,
    Drop,
    Descend(bool),
}

fn verdict(was: Option<&Set>, of: Option<&Set>, orphaned: bool) -> Verdict {
    let is_owned = of.is_some_and(|set| !set.is_empty());
    let is_member = of.is_some_and(|set| set.member);
    let removed = orphaned || was.is_some_and(|set| set.member);
    match (removed, is_owned) {
        (true, false) => Verdict::Drop,
        // Owned itself: the rest of its inside follows what was sent before.
        (true, true) if is_member => Verdict::Descend(false),
        (true, true) => Verdict::Descend(true),
        (false, _) if was.is_some() => Verdict::Descend(false),
        (false, _) => Verdict::Keep,
    }
}

fn key_fields(step: &Step, element: &Value) -> Map<String, Value> {
    match step {
        Step::Key(keys) => keys.iter().filter_map(|(name, _)| Some((name.to_string(), element.get(&**name)?.clone()))).collect(),
        Step::Field(_) | Step::Value(_) | Step::Index(_) => Map::new(),
    }
}

fn has_content(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Null => false,
        _ => true,
    }
}
