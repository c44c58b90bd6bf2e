//! What is known of a part of an expression once it is read: its type, where it is, and the first thing that is wrong with it.

use crate::ValueType;

/// What is wrong, and where in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) message: String,
    /// A selector that would select everything; `info` allows it.
    pub(crate) selects_all: bool,
}

impl Fault {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), selects_all: false }
    }
}

/// What may be set once only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Modifiers {
    /// An offset other than zero.
    pub(crate) offset: Offset,
    /// `@` and a time.
    pub(crate) time: bool,
    /// `@ start()` or `@ end()`.
    pub(crate) edge: bool,
}

/// An offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Offset {
    /// None, or one of nothing.
    #[default]
    Zero,
    Time,
    /// An expression such as `step()`.
    Expression,
}

/// What may follow a part depends on what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// A selector of instant vectors, and whether its name is outside of the braces.
    Selector {
        modifiers: Modifiers,
        named: bool,
    },
    Range(Modifiers),
    Subquery(Modifiers),
    /// `step()` where a value is expected.
    Duration,
    Other,
}

/// A part of an expression.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    pub(crate) value: ValueType,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What is wrong with the types in it, in the order in which Prometheus looks.
    pub(crate) fault: Option<Fault>,
}

impl Node {
    pub(crate) fn other(value: ValueType, start: usize, end: usize, fault: Option<Fault>) -> Self {
        Self { shape: Shape::Other, value, start, end, fault }
    }

    /// What is wrong where a type is expected.
    pub(crate) fn expect(&self, wanted: ValueType, context: &str) -> Option<Fault> {
        self.fault.clone().or_else(|| {
            let found = self.value.name();
            let wrong = || Fault::new(self.start, format!("expected type {} in {context}, got {found}", wanted.name()));
            (self.value != wanted).then(wrong)
        })
    }
}
