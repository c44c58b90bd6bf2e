//! Steps, each of exactly one kind.

use serde_json::Value;

use super::Resolver;
use crate::file::{DeleteFile, StepFile, WaitFile};
use crate::model::{Check, Delete, Placed, Releases, State, Step, TargetCheck, Wait, Which};
use crate::place::{Located, Place};

/// The one value that is set.
pub(super) enum One<T> {
    /// It.
    Just(T),
    /// No value is set.
    None,
    /// More than one is.
    Many,
}

impl<T> One<T> {
    /// Of all that may be set.
    pub(super) fn of(all: impl IntoIterator<Item = Option<T>>) -> Self {
        let mut set = all.into_iter().flatten();
        match (set.next(), set.next()) {
            (Some(one), None) => Self::Just(one),
            (None, _) => Self::None,
            (Some(_), Some(_)) => Self::Many,
        }
    }
}

/// A step's only key.
enum Key {
    Wait(Box<Located<WaitFile>>),
    Fault(Box<faults::Rule>),
    ClearFault(String),
    ClearFaults(bool),
    Delete(DeleteFile),
    Apply(Value),
}

/// A wait's only state.
enum Waited {
    Up(bool),
    Targets(bool),
    FaultSpent(String),
    Check(Box<super::checks::Kind>),
}

impl Resolver<'_> {
    pub(super) fn steps(&mut self, written: Vec<Located<StepFile>>) -> Vec<Placed<Step>> {
        let mut steps = Vec::new();
        for Located { at, value } in written {
            if let Some(step) = self.step(at, value) {
                steps.push(Placed { at, value: step });
            }
        }
        steps
    }

    fn step(&mut self, at: Option<Place>, written: StepFile) -> Option<Step> {
        let StepFile { wait, fault, clear_fault, clear_faults, delete, apply } = written;
        let one = One::of([
            wait.map(|wait| Key::Wait(Box::new(wait))),
            fault.map(|rule| Key::Fault(Box::new(rule))),
            clear_fault.map(Key::ClearFault),
            clear_faults.map(Key::ClearFaults),
            delete.map(Key::Delete),
            apply.map(Key::Apply),
        ]);
        match one {
            One::None => {
                self.problem(at, "a step needs one of wait, fault, clearFault, clearFaults, delete, apply");
                None
            }
            One::Many => {
                self.problem(at, "a step has one key; write two steps");
                None
            }
            One::Just(Key::Wait(wait)) => self.wait(*wait).map(Step::Wait),
            One::Just(Key::Fault(rule)) => {
                if let Err(error) = rule.check() {
                    self.problem(at, error.to_string());
                }
                if !self.armed.insert(rule.name.clone()) {
                    self.problem(at, format!("a fault {:?} is armed already; give this one another name", rule.name));
                }
                Some(Step::Fault(rule))
            }
            One::Just(Key::ClearFault(name)) => {
                self.is_armed(at, &name);
                self.armed.remove(&name);
                Some(Step::ClearFault(name))
            }
            One::Just(Key::ClearFaults(true)) => {
                if self.armed.is_empty() {
                    self.problem(at, "no step before this one arms a fault, so there is nothing to clear");
                }
                self.armed.clear();
                Some(Step::ClearFaults)
            }
            One::Just(Key::ClearFaults(false)) => {
                self.problem(at, "`clearFaults: false` does nothing; leave the step out");
                None
            }
            One::Just(Key::Delete(delete)) => self.delete(at, delete).map(Step::Delete),
            One::Just(Key::Apply(object)) => self.object(at, object).map(Step::Apply),
        }
    }

    /// Checks that a step before arms a fault of this name.
    fn is_armed(&mut self, at: Option<Place>, name: &str) {
        if !self.armed.contains(name) {
            let near = crate::catalogue::meant(name, self.armed.iter().map(String::as_str));
            self.problem(at, format!("no step before this one arms a fault {name:?}{near}"));
        }
    }

    fn object(&mut self, at: Option<Place>, object: Value) -> Option<Value> {
        if !object.is_object() {
            self.problem(at, "invalid object in `apply`; expected a mapping with apiVersion, kind and metadata");
            return None;
        }
        for path in ["/apiVersion", "/kind", "/metadata/name"] {
            if object.pointer(path).and_then(Value::as_str).is_none_or(str::is_empty) {
                let field = path.trim_start_matches('/').replace('/', ".");
                self.problem(at, format!("the object to apply has no {field}"));
            }
        }
        Some(object)
    }

    fn delete(&mut self, at: Option<Place>, written: DeleteFile) -> Option<Delete> {
        let DeleteFile { group, resource, namespace, name, labels } = written;
        self.resource(at, &group, &resource);
        let which = match (name, labels) {
            (Some(name), None) if !name.is_empty() => Which::Named(name),
            (None, Some(labels)) if !labels.trim().is_empty() => Which::Labelled(labels),
            (Some(_) | None, Some(_) | None) => {
                self.problem(at, "a delete needs a name or labels, and not both");
                return None;
            }
        };
        Some(Delete { group, resource, namespace, which })
    }

    fn wait(&mut self, written: Located<WaitFile>) -> Option<Wait> {
        let Located { at, value } = written;
        let WaitFile { up, targets, query, notification, fault_spent, page, object, within } = value;
        let within = self.read_some(within.as_ref());
        let one = One::of([
            up.map(Waited::Up),
            targets.map(Waited::Targets),
            fault_spent.map(Waited::FaultSpent),
            query.map(|query| Waited::Check(Box::new(super::checks::Kind::Query(query)))),
            notification.map(|notification| Waited::Check(Box::new(super::checks::Kind::Notification(notification)))),
            page.map(|page| Waited::Check(Box::new(super::checks::Kind::Page(page)))),
            object.map(|object| Waited::Check(Box::new(super::checks::Kind::Object(object)))),
        ]);
        let state = match one {
            One::None | One::Many => {
                self.problem(at, "a wait needs one of up, targets, query, notification, faultSpent, page, object");
                return None;
            }
            One::Just(Waited::Up(true)) => State::Up,
            One::Just(Waited::Up(false)) => {
                self.problem(at, "`up: false` waits for nothing; wait for what is to be gone with `object: {…, count: 0}`");
                return None;
            }
            One::Just(Waited::Targets(true)) => State::Holds(Check::Targets(TargetCheck::AllUp)),
            One::Just(Waited::Targets(false)) => {
                self.problem(at, "`targets: false` waits for nothing; expect `targets: {count: 0}` instead");
                return None;
            }
            One::Just(Waited::FaultSpent(name)) => {
                self.is_armed(at, &name);
                State::FaultSpent(name)
            }
            One::Just(Waited::Check(kind)) => {
                let releases = Releases::Each(self.releases.clone());
                State::Holds(self.check(at, *kind, &releases)?)
            }
        };
        Some(Wait { state, within })
    }
}
