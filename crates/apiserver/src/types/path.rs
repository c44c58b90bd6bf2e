//! Where in an object a reader is, on the stack: nothing is allocated until somebody must be told.

use std::fmt;

/// A place in an object. It prints as unknown fields are named: `spec.containers[0].image`.
pub(crate) enum Path<'a> {
    Root,
    /// A field of a struct.
    Field(&'a Path<'a>, &'a str),
    /// A key of a map.
    Key(&'a Path<'a>, &'a str),
    /// An element of a list.
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) | Path::Key(Path::Root, name) => f.write_str(name),
            Path::Field(of, name) | Path::Key(of, name) => write!(f, "{of}.{name}"),
            Path::Index(of, index) => write!(f, "{of}[{index}]"),
        }
    }
}

impl Path<'_> {
    /// The fields alone, as Go's decoder names the place in a struct: `spec.containers.image`.
    pub(crate) fn fields(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Field(Path::Root, name) => (*name).to_owned(),
            Path::Field(of, name) => format!("{}.{name}", of.fields()),
            Path::Key(of, _) | Path::Index(of, _) => of.fields(),
        }
    }
}
