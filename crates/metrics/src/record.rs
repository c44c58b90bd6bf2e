//! Many series in normal form, with little memory: what [`crate::render`] of all of them would be, made while pages are read.
//!
//! A series is kept as its labels' text in one arena, bucket bounds aside; those that are the same in normal form are one. Nothing else
//! is kept, so a million series need little more than their own text.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::exposition::ParseError;
use crate::nodes::Nodes;
use crate::normal::{Normaliser, Role, is_no_node, is_suspect};
use crate::order;
use crate::rendering::Bound;
use crate::scan::{Line, Scanner, unescaped};
use crate::series::Series;

/// Values of one label that are remembered in normal form; more than this are made anew each time.
const REMEMBERED: usize = 100_000;

/// No place in a page.
const NOWHERE: u32 = u32::MAX;

/// A series of a family: where its text is, and its bucket bounds by their number, each with the place of its line in the page that is read.
struct Entry {
    hash: u64,
    family: u32,
    from: u32,
    to: u32,
    /// The place of its line, where it has no bounds.
    line: u32,
    bounds: Vec<(u16, u32)>,
}

/// Takes series in and writes them in normal form.
#[derive(Default)]
pub struct Recorder {
    /// Labels of all series: name, 0, value, 0, and so on, in order of the names.
    arena: Vec<u8>,
    entries: Vec<Entry>,
    names: BTreeMap<String, u32>,
    /// Numbers of entries by the hash of family and text.
    known: HashTable<u32>,
    bounds: Vec<String>,
    bound_numbers: HashMap<String, u16>,
    values: Values,
    hasher: DefaultHashBuilder,
    notices: Vec<String>,
    /// The pairs of the series at hand, reused.
    scratch: Vec<u8>,
}

/// A value that was put into normal form; nothing where it is that already.
struct Known {
    hash: u64,
    label: String,
    value: String,
    normal: Option<String>,
}

/// Puts values into normal form, those that it knows without thinking.
#[derive(Default)]
struct Values {
    normaliser: Normaliser,
    known: HashTable<Known>,
    hasher: DefaultHashBuilder,
}

impl Values {
    /// Writes a value in normal form.
    fn write(&mut self, label: &str, value: &str, out: &mut Vec<u8>) {
        let hash = self.hasher.hash_one((label, value));
        if let Some(known) = self.known.find(hash, |known| known.value == value && known.label == label) {
            out.extend_from_slice(known.normal.as_deref().unwrap_or(value).as_bytes());
            return;
        }
        let found = self.normaliser.value(label, value);
        out.extend_from_slice(found.as_bytes());
        if self.known.len() < REMEMBERED {
            let normal = if let std::borrow::Cow::Owned(new) = found { Some(new) } else { None };
            let new = Known { hash, label: label.to_owned(), value: value.to_owned(), normal };
            self.known.insert_unique(hash, new, |known| known.hash);
        }
    }
}

/// A label at its place among the labels of a line.
#[derive(Default)]
struct Place<'a> {
    label: &'a str,
    treatment: Treatment,
    /// The value that it had last, and its normal form.
    raw: &'a str,
    normal: Vec<u8>,
}

/// How a label of this name is to be treated.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Treatment {
    /// Its value is replaced only where it has a shape that is replaced everywhere.
    #[default]
    ByShape,
    /// Its name says what its value is, or the user wants it replaced.
    ByName,
    Bound,
    LeftOut,
}

impl Recorder {
    /// One that writes this normal form.
    pub fn new(normaliser: Normaliser) -> Self {
        Self { values: Values { normaliser, ..Values::default() }, ..Self::default() }
    }

    /// Takes the samples of a page in whose metric names `wanted` takes.
    ///
    /// # Errors
    /// At the first line that is not of the format, or has a series that an earlier line has with the same timestamp.
    pub fn page(&mut self, text: &str, wanted: &dyn Fn(&str) -> bool) -> Result<(), ParseError> {
        let mut scanner = Scanner::new(text);
        let mut seen = Seen::default();
        // At most so many series, and most pages have few that are one in normal form.
        let likely = memchr::memchr_iter(b'\n', text.as_bytes()).count();
        self.known.reserve(likely, |index| self.entries[*index as usize].hash);
        self.entries.reserve(likely / 2);
        self.arena.reserve(text.len() / 2);
        // Most lines have the labels of the line before, in the same places, and many of them the same values.
        let mut places: Vec<Place<'_>> = Vec::new();
        // Samples of a family follow each other: the one at hand is looked up once.
        let mut family: (&str, Option<u32>) = ("", None);
        while let Some(line) = scanner.next()? {
            let Line::Sample { name, .. } = line else { continue };
            if !scanner.sorted {
                scanner.labels.sort_unstable_by_key(|pair| pair.0);
            }
            if family.0 != name {
                let is_wanted = wanted(name) && self.values.normaliser.redactor().takes(name);
                family = (name, is_wanted.then(|| self.family(name)));
            }
            let Some(number) = family.1 else { continue };
            let mut bound = None;
            self.scratch.clear();
            places.resize_with(places.len().max(scanner.labels.len()), Place::default);
            for (place, (label, raw, escaped)) in places.iter_mut().zip(&scanner.labels) {
                if place.label != *label {
                    *place = Place { label, treatment: self.treatment(label), ..Place::default() };
                }
                // A label without a value is none.
                if raw.is_empty() {
                    continue;
                }
                let begun = self.scratch.len();
                self.scratch.extend_from_slice(label.as_bytes());
                self.scratch.push(0);
                match place.treatment {
                    Treatment::ByName => {}
                    Treatment::ByShape if is_suspect(raw) => {}
                    Treatment::ByShape if *escaped => {
                        self.scratch.extend_from_slice(unescaped(raw, true).as_bytes());
                        self.scratch.push(0);
                        continue;
                    }
                    Treatment::ByShape => {
                        self.scratch.extend_from_slice(raw.as_bytes());
                        self.scratch.push(0);
                        continue;
                    }
                    Treatment::Bound => {
                        bound = Some(unescaped(raw, *escaped));
                        self.scratch.truncate(begun);
                        continue;
                    }
                    Treatment::LeftOut => {
                        self.scratch.truncate(begun);
                        continue;
                    }
                }
                if place.raw != *raw {
                    place.raw = raw;
                    let value = unescaped(raw, *escaped);
                    place.normal.clear();
                    self.values.write(label, &value, &mut place.normal);
                }
                if place.normal.is_empty() {
                    self.scratch.truncate(begun);
                    continue;
                }
                self.scratch.extend_from_slice(&place.normal);
                self.scratch.push(0);
            }
            // A page of more than 4 GiB is not looked at so closely.
            let place = u32::try_from(scanner.start).unwrap_or(NOWHERE);
            if let Some(earlier) = self.enter(number, bound.as_deref(), place) {
                seen.again(text, [earlier, place])?;
            }
        }
        self.notices.append(&mut scanner.notices);
        for entry in &mut self.entries {
            entry.line = NOWHERE;
            entry.bounds.iter_mut().for_each(|(_, line)| *line = NOWHERE);
        }
        Ok(())
    }

    /// Takes a series in, if the user wants it.
    pub fn series(&mut self, series: &Series) {
        if !self.values.normaliser.redactor().takes(&series.name) {
            return;
        }
        let number = self.family(&series.name);
        self.scratch.clear();
        let mut bound = None;
        for (label, value) in series.labels.iter().filter(|(_, value)| !value.is_empty()) {
            match self.treatment(label) {
                Treatment::LeftOut => continue,
                Treatment::Bound => {
                    bound = Some(value.clone());
                    continue;
                }
                Treatment::ByShape | Treatment::ByName => {}
            }
            let begun = self.scratch.len();
            self.scratch.extend_from_slice(label.as_bytes());
            self.scratch.push(0);
            let before = self.scratch.len();
            self.values.write(label, value, &mut self.scratch);
            if self.scratch.len() == before {
                self.scratch.truncate(begun);
                continue;
            }
            self.scratch.push(0);
        }
        let _ = self.enter(number, bound.as_deref(), NOWHERE);
    }

    /// What was left out of pages.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn treatment(&self, label: &str) -> Treatment {
        let redactor = self.values.normaliser.redactor();
        // What is an identifier of a container, or no address, has a shape too.
        let has_shape = || matches!(Role::of(label), Role::Other | Role::Container | Role::OtherVersion);
        if redactor.drops(label) {
            Treatment::LeftOut
        } else if label == "le" {
            Treatment::Bound
        } else if has_shape() && !redactor.replaces(label) {
            Treatment::ByShape
        } else {
            Treatment::ByName
        }
    }

    fn family(&mut self, name: &str) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.insert(name.to_owned(), number);
        number
    }

    /// The series at hand is of this family. The place of an earlier line of the page that is the same in normal form, bounds included.
    fn enter(&mut self, family: u32, bound: Option<&str>, place: u32) -> Option<u32> {
        let hash = self.hasher.hash_one((family, self.scratch.as_slice()));
        let bound = bound.map(|bound| self.bound(bound));
        let (entries, arena, scratch) = (&mut self.entries, &mut self.arena, &self.scratch);
        let same = |index: &u32| {
            let entry = &entries[*index as usize];
            entry.hash == hash && entry.family == family && arena[entry.from as usize..entry.to as usize] == **scratch
        };
        if let Some(index) = self.known.find(hash, same) {
            let entry = &mut entries[*index as usize];
            let line = match bound {
                None => &mut entry.line,
                Some(bound) => match entry.bounds.iter().position(|(known, _)| *known == bound) {
                    Some(index) => &mut entry.bounds[index].1,
                    None => {
                        entry.bounds.push((bound, place));
                        return None;
                    }
                },
            };
            let earlier = *line;
            if earlier == NOWHERE {
                *line = place;
                return None;
            }
            return (place != NOWHERE).then_some(earlier);
        }
        let from = arena.len() as u32;
        arena.extend_from_slice(scratch);
        let (line, bounds) = bound.map_or((place, Vec::new()), |bound| (NOWHERE, vec![(bound, place)]));
        entries.push(Entry { hash, family, from, to: arena.len() as u32, line, bounds });
        let index = (entries.len() - 1) as u32;
        self.known.insert_unique(hash, index, |index| self.entries[*index as usize].hash);
        None
    }

    fn bound(&mut self, text: &str) -> u16 {
        if let Some(number) = self.bound_numbers.get(text) {
            return *number;
        }
        let normal = self.values.normaliser.value("le", text).into_owned();
        let number = self.bounds.iter().position(|known| *known == normal).unwrap_or_else(|| {
            self.bounds.push(normal);
            self.bounds.len() - 1
        });
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        self.bound_numbers.insert(text.to_owned(), number);
        number
    }

    fn text(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.from as usize..entry.to as usize]
    }

    fn bounds(&self, entry: &Entry) -> Vec<Bound<'_>> {
        let mut bounds: Vec<Bound<'_>> = entry.bounds.iter().map(|(number, _)| Bound(&self.bounds[*number as usize])).collect();
        bounds.sort();
        bounds
    }

    /// The labels of each series in which a node is, with its number; nothing where there is no node.
    fn numbered(&self) -> Option<Vec<Option<Vec<u8>>>> {
        let normaliser = &self.values.normaliser;
        let mut nodes = Nodes::default();
        // Most labels are looked at once: those of one family have the same names.
        let mut roles: HashMap<&[u8], (bool, bool)> = HashMap::new();
        let mut role = |label| {
            *roles.entry(label).or_insert_with(|| {
                let name = std::str::from_utf8(label).unwrap_or_default();
                (normaliser.is_node(name, "a"), normaliser.may_be_node(name))
            })
        };
        for entry in &self.entries {
            for (label, value) in pairs(self.text(entry)) {
                let (is_node, may_be_node) = role(label);
                let text = || std::str::from_utf8(value).unwrap_or_default();
                if (is_node && !is_no_node(text())) || (may_be_node && normaliser.knows_node(text())) {
                    nodes.add(value);
                }
            }
        }
        if nodes.is_empty() {
            return None;
        }
        let mut families = vec![0; self.names.len()];
        self.names.values().zip(0u32..).for_each(|(number, place)| families[*number as usize] = place);
        for entry in &self.entries {
            let of_entry = pairs(self.text(entry)).map(|(label, value)| {
                let (is_node, may_be_node) = role(label);
                (label, value, is_node || may_be_node)
            });
            nodes.occur(of_entry, |text| (families[entry.family as usize], text, self.bounds(entry), Vec::<u64>::new()));
        }
        let numbers = nodes.numbers();
        let mut renamed = |entry| {
            let text = self.text(entry);
            let mut out = Vec::with_capacity(text.len() + 8);
            let mut is_other = false;
            for (label, value) in pairs(text) {
                let (is_node, may_be_node) = role(label);
                let number = numbers.get(value).filter(|_| is_node || may_be_node);
                is_other |= number.is_some();
                out.extend_from_slice(label);
                out.push(0);
                out.extend_from_slice(number.map_or(value, |number| number.as_bytes()));
                out.push(0);
            }
            is_other.then_some(out)
        };
        Some(self.entries.iter().map(&mut renamed).collect())
    }

    /// Everything in normal form, as [`crate::render`] writes it.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(self.arena.len() + self.arena.len() / 2);
        let mut of_family: Vec<Vec<(&[u8], &Entry)>> = vec![Vec::new(); self.names.len()];
        let numbered = self.numbered();
        for (index, entry) in self.entries.iter().enumerate() {
            let text = numbered.as_ref().and_then(|texts| texts[index].as_deref()).unwrap_or_else(|| self.text(entry));
            of_family[entry.family as usize].push((text, entry));
        }
        for (name, number) in &self.names {
            let texts = &mut of_family[*number as usize];
            let Some((first, _)) = texts.first() else { continue };
            let mut shared: Vec<(&[u8], &[u8])> = pairs(first).collect();
            for (own, _) in &texts[1..] {
                shared.retain(|pair| pairs(own).any(|one| one == *pair));
                if shared.is_empty() {
                    break;
                }
            }
            let _ = writeln!(out, "{name}");
            if !shared.is_empty() {
                out.push_str("  all ");
                write_pairs(&mut out, shared.iter().copied());
                out.push('\n');
            }
            let names = |text: &'_ [u8]| pairs(text).map(|pair| pair.0.to_vec()).collect::<Vec<_>>();
            let of_first = names(first);
            let alike = |own: &[u8]| pairs(own).map(|pair| pair.0).eq(of_first.iter().map(Vec::as_slice));
            if texts.iter().all(|(own, _)| alike(own)) {
                order::sort(texts);
            } else {
                // What all have in common counts only where it stands between other labels.
                let own = |text| pairs(text).filter(|pair| !shared.contains(pair));
                texts.sort_by(|(a, _), (b, _)| own(a).cmp(own(b)));
            }
            for (text, entry) in texts {
                out.push_str("  ");
                write_pairs(&mut out, pairs(text).filter(|pair| !shared.contains(pair)));
                if !entry.bounds.is_empty() {
                    out.push_str(" le");
                    for bound in self.bounds(entry) {
                        let _ = write!(out, " {}", bound.0);
                    }
                }
                out.push('\n');
            }
        }
        out
    }
}

/// Lines of a page that are alike in normal form, by what each is as it stands: the hash of its labels, and its place.
#[derive(Default)]
struct Seen {
    lines: HashTable<(u64, u32)>,
    hasher: DefaultHashBuilder,
}

impl Seen {
    /// Refuses a line that an earlier one equals, timestamp included. The order of labels does not count.
    fn again(&mut self, text: &str, places: [u32; 2]) -> Result<(), ParseError> {
        for place in places {
            let Some(now) = As::of(text, place) else { continue };
            let hash = self.hasher.hash_one(&now.labels);
            let same =
                |(_, earlier): &(u64, u32)| *earlier == place || As::of(text, *earlier).is_some_and(|earlier| earlier == now);
            match self.lines.find(hash, same) {
                None => {
                    self.lines.insert_unique(hash, (hash, place), |(hash, _)| *hash);
                }
                Some((_, earlier)) if *earlier == place => {}
                Some((_, earlier)) => {
                    let line = |place: u32| 1 + memchr::memchr_iter(b'\n', &text.as_bytes()[..place as usize]).count();
                    let why = format!("this series of {} is on line {} already", now.name, line(*earlier));
                    return Err(ParseError { line: line(place), column: 1, why });
                }
            }
        }
        Ok(())
    }
}

/// A line as it stands, its labels in order.
#[derive(PartialEq, Eq)]
struct As<'a> {
    name: &'a str,
    labels: String,
    timestamp: &'a str,
}

impl<'a> As<'a> {
    fn of(text: &'a str, place: u32) -> Option<Self> {
        let mut scanner = Scanner::at(text, place as usize);
        let Ok(Some(Line::Sample { name, timestamp, .. })) = scanner.next() else { return None };
        scanner.labels.sort_unstable_by_key(|pair| pair.0);
        let mut labels = String::new();
        for (label, raw, _) in scanner.labels.iter().filter(|(_, raw, _)| !raw.is_empty()) {
            let _ = write!(labels, "{label}=\"{raw}\",");
        }
        Some(Self { name, labels, timestamp })
    }
}

/// The labels of a text in the arena.
fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut part = || {
            let end = memchr::memchr(0, rest)?;
            let (part, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            Some(part)
        };
        Some((part()?, part()?))
    })
}

fn write_pairs<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    // What is in the arena came as text.
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or_default();
    out.push('{');
    for (index, (name, value)) in pairs.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(text(name));
        out.push_str("=\"");
        crate::registry::escape(out, text(value));
        out.push('"');
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse;

    fn recorded(text: &str) -> Result<String, ParseError> {
        let mut recorder = Recorder::default();
        recorder.page(text, &|_| true)?;
        Ok(recorder.render())
    }

    /// The same by way of whole series.
    fn by_hand(text: &str) -> String {
        Normaliser::default().snapshot(&parse(text).unwrap().samples)
    }

    const PAGE: &str = "# TYPE h histogram\nh_bucket{pod=\"virt-handler-qpxjh\",le=\"0.5\"} 1\nh_bucket{pod=\"virt-handler-qpxjh\",le=\"10.0\"} 2\n\
         h_bucket{le=\"+Inf\",pod=\"virt-handler-qpxjh\"} 2\nh_bucket{pod=\"virt-handler-abcde\",le=\"2\"} 1\n\
         up{b=\"2\",a=\"1\"} 1\nup{a=\"1\",b=\"3\"} 1\nup{a=\"1\",b=\"a \\\"q\\\" \\\\ \\n\"} 1\nalone 1\n";

    #[test]
    fn it_writes_what_render_writes() {
        assert_eq!(recorded(PAGE).unwrap(), by_hand(PAGE));
        let mut recorder = Recorder::default();
        for sample in parse(PAGE).unwrap().samples {
            recorder.series(&sample.series);
        }
        assert_eq!(recorder.render(), by_hand(PAGE));
    }

    #[test]
    fn a_series_comes_once() {
        for (text, expected) in [
            ("a 1\nb 1\na 2", "line 3, column 1: this series of a is on line 1 already"),
            ("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1", "line 2, column 1: this series of a is on line 1 already"),
        ] {
            assert_eq!(recorded(text).unwrap_err().to_string(), expected);
        }
        // At another time it is another sample, as KubeVirt has them of migrations.
        assert_eq!(recorded("a 1 1000\na 1 2000").unwrap(), "a\n  {}\n");
        // Two pods that differ in what is replaced are one in normal form.
        assert_eq!(recorded("a{instance=\"1.2.3.4:80\"} 1\na{instance=\"1.2.3.5:80\"} 1").unwrap().lines().count(), 3);
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let mut recorder = Recorder::default();
        recorder.page("a 1\nb 1\nh {count:1}\n", &|name| name == "b").unwrap();
        assert_eq!((recorder.render().as_str(), recorder.notices().len()), ("b\n  {}\n", 1));
    }

    proptest! {
        #[test]
        fn it_reads_and_writes_as_the_whole_page_does(
            series in prop::collection::btree_set(
                ("[ab]{1,2}", prop::collection::btree_map("(le|pod|node|target_node|x|y)", "([ab]|[a-z0-9.]{0,3}|\\PC{0,3})", 0..4)), 0..12)
        ) {
            let mut text = String::new();
            for (name, labels) in &series {
                let labels = labels.clone();
                writeln!(text, "{} 1", Series { name: name.clone(), labels }).unwrap();
            }
            prop_assume!(!text.contains('\0'));
            // A label without a value is none, so two may be one.
            match recorded(&text) {
                Ok(found) => prop_assert_eq!(found, by_hand(&text)),
                Err(error) => prop_assert!(error.why.contains("already") && text.contains("=\"\"")),
            }
        }

        #[test]
        fn it_refuses_what_the_whole_page_refuses(text in "([ab]\\{x=\"|\"\\}? 1\n|[{}\",= \\\\#1a\n]{0,8}){0,6}") {
            let whole = parse(&text);
            match recorded(&text) {
                Ok(_) => prop_assert!(whole.is_ok()),
                Err(error) => prop_assert!(error.why.contains("already") || whole.unwrap_err() == error),
            }
        }
    }
}
