//! Reads a parsed TOML document key by key and collects problems instead of stopping at the first.
//!
//! ```text
//!                        Table ── key("ports", &mut slot, kind) ──► slot holds the value, or keeps its default
//!  &str ──► DeTable ──►    │                 │
//!                          │                 └ kind: Fn(&Node) -> Result<T, Reported>       (values.rs)
//!                          └ section("relay", |t| ...)
//!                       Report ◄── every problem, every key asked for, every key written
//! ```
//!
//! What nobody asked for when a table is done is an unknown key. Since the [`Report`] sees every question, it
//! knows all keys there are, and so what a misspelt one may have meant.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::files::Files;
use super::hints;
use super::problem::{Problem, Severity, shown};

/// Proof that a problem is in the [`Report`]: only its methods make one.
#[derive(Debug)]
pub(super) struct Reported(());

/// The outcome of reading one value.
pub(super) type Read<T> = Result<T, Reported>;

/// What came to light while a document was read.
pub(super) struct Report<'a> {
    text: &'a str,
    pub(super) files: &'a dyn Files,
    problems: RefCell<Vec<Problem>>,
    known: RefCell<Vec<String>>,
    written: RefCell<BTreeMap<String, Place>>,
    unknown: RefCell<Vec<(String, usize)>>,
}

/// Where a key is, and its value as far as it may be shown.
#[derive(Clone)]
struct Place {
    line: usize,
    value: Option<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str, files: &'a dyn Files) -> Self {
        Self {
            text,
            files,
            problems: RefCell::default(),
            known: RefCell::default(),
            written: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    /// The text is no TOML. The offending line is not shown: it may hold a secret.
    pub(super) fn syntax_error(&self, message: &str, line: usize) {
        let what = format!("not TOML: {}", message.lines().collect::<Vec<_>>().join(", "));
        let fix =
            "each line is [section] or key = value; text needs \"quotes\", several values need [brackets]";
        self.push(Severity::Error, Some(line), String::new(), None, what, fix.into());
    }

    /// Is this key in the file?
    pub(super) fn has(&self, path: &str) -> bool {
        self.written.borrow().contains_key(path)
    }

    /// A problem with `path` that showed only when all was read.
    pub(super) fn error(&self, path: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.late(Severity::Error, path, what.into(), fix.into());
    }

    /// Like [`error`](Self::error), for what is allowed and probably not meant.
    pub(super) fn warn(&self, path: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.late(Severity::Warning, path, what.into(), fix.into());
    }

    /// All problems in the order of the file, and every key that was asked for.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<String>) {
        let known = self.known.take();
        for (path, line) in self.unknown.take() {
            let fix = hints::for_unknown(&path, &known);
            // Without the value: a misspelt `secret` still holds a secret.
            self.push(Severity::Error, Some(line), path, None, "there is no such key".into(), fix);
        }
        let mut problems = self.problems.take();
        // Stable: problems of one line stay in the order they were found.
        problems.sort_by_key(|p| p.line.unwrap_or(usize::MAX));
        (problems, known)
    }

    fn late(&self, severity: Severity, path: &str, what: String, fix: String) {
        let place = self.written.borrow().get(path).cloned();
        let (line, value) = place.map_or((None, None), |p| (Some(p.line), p.value));
        self.push(severity, line, path.into(), value, what, fix);
    }

    fn push(
        &self,
        severity: Severity,
        line: Option<usize>,
        path: String,
        value: Option<String>,
        what: String,
        fix: String,
    ) {
        self.problems.borrow_mut().push(Problem { severity, line, path, value, what, fix });
    }

    /// The line where a span of the text begins.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1
    }
}

/// A table of the document while it is read.
pub(super) struct Table<'a> {
    pub(super) report: &'a Report<'a>,
    path: String,
    entries: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    /// Are its keys names of the user's choice?
    open: bool,
}

impl<'a> Table<'a> {
    /// Reads the whole document with `read`.
    pub(super) fn root(report: &'a Report<'a>, entries: &'a DeTable<'a>, read: impl FnOnce(&mut Table<'a>)) {
        Table::new(report, String::new(), entries).read(read);
    }

    fn new(report: &'a Report<'a>, path: String, entries: &'a DeTable<'a>) -> Self {
        Self { report, path, entries, asked: Vec::new(), open: false }
    }

    /// Reads one key into `slot`; an absent or faulty one leaves it as it is.
    pub(super) fn key<T>(
        &mut self,
        name: &'static str,
        slot: &mut T,
        kind: impl FnOnce(&Node<'_>) -> Read<T>,
    ) {
        self.ask(name);
        if let Some(Ok(value)) = self.node(name).map(|node| kind(&node)) {
            *slot = value;
        }
    }

    /// As [`key`](Self::key), for what has no default.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        slot: &mut Option<T>,
        kind: impl FnOnce(&Node<'_>) -> Read<T>,
    ) {
        self.key(name, slot, |node| kind(node).map(Some));
    }

    /// Reads a table within this one. An absent one is read too, as an empty one, so that its keys are known.
    pub(super) fn section(&mut self, name: &'static str, read: impl FnOnce(&mut Table<'_>)) {
        self.asked.push(name);
        let path = join(&self.path, name);
        let empty = DeTable::new();
        let entries = match self.node(name) {
            None => &empty,
            Some(node) => node.table().unwrap_or(&empty),
        };
        Table::new(self.report, path, entries).read(read);
    }

    /// Reads every entry with `kind`; for tables whose keys are names of the user's choice.
    pub(super) fn each<T>(&mut self, kind: impl Fn(&str, &Node<'_>) -> Read<T>) -> Vec<T> {
        self.open = true;
        self.report.known.borrow_mut().push(join(&self.path, "*"));
        self.entries
            .iter()
            .filter_map(|(name, value)| {
                let name = name.get_ref();
                let node = Node::new(self.report, join(&self.path, name), value);
                node.register();
                kind(name, &node).ok()
            })
            .collect()
    }

    /// Is the key written, faulty or not?
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn read(mut self, read: impl FnOnce(&mut Table<'a>)) {
        read(&mut self);
        let unasked =
            |name: &&Spanned<DeString<'_>>| !self.open && !self.asked.contains(&name.get_ref().as_ref());
        for name in self.entries.keys().filter(unasked) {
            let unknown = (join(&self.path, name.get_ref()), self.report.line(&name.span()));
            self.report.unknown.borrow_mut().push(unknown);
        }
    }

    fn ask(&mut self, name: &'static str) {
        self.asked.push(name);
        self.report.known.borrow_mut().push(join(&hints::without_index(&self.path), name));
    }

    fn node(&self, name: &str) -> Option<Node<'a>> {
        let node = Node::new(self.report, join(&self.path, name), self.entries.get(name)?);
        node.register();
        Some(node)
    }
}

/// A value of the document, with its place.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) report: &'a Report<'a>,
    path: String,
    value: &'a Spanned<DeValue<'a>>,
    hidden: bool,
}

impl<'a> Node<'a> {
    fn new(report: &'a Report<'a>, path: String, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { report, path, value, hidden: false }
    }

    /// The same value, which no problem will show from here on.
    pub(super) fn hidden(&self) -> Self {
        let node = Self { hidden: true, ..self.clone() };
        node.register();
        node
    }

    pub(super) fn error(&self, what: impl Into<String>, fix: impl Into<String>) -> Reported {
        self.push(Severity::Error, what.into(), fix.into());
        Reported(())
    }

    pub(super) fn warn(&self, what: impl Into<String>, fix: impl Into<String>) {
        self.push(Severity::Warning, what.into(), fix.into());
    }

    pub(super) fn text(&self) -> Read<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type("text", "put it in \"quotes\"")),
        }
    }

    pub(super) fn flag(&self) -> Read<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.wrong_type("true or false", "write true or false, without quotes")),
        }
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Read<u64> {
        let fix = || format!("write a number from {} to {}, without quotes", range.start(), range.end());
        let DeValue::Integer(written) = self.value.get_ref() else {
            return Err(self.wrong_type("a whole number", &fix()));
        };
        match u64::from_str_radix(written.as_str(), written.radix()) {
            Ok(n) if range.contains(&n) => Ok(n),
            _ => Err(self.error("out of range", fix())),
        }
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Integer(_))
    }

    /// The elements, if it is a list.
    pub(super) fn elements(&self) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.value.get_ref() else { return None };
        let element = |(i, value)| Self { path: format!("{}[{i}]", self.path), value, ..self.clone() };
        Some(items.iter().enumerate().map(element).collect())
    }

    /// Reads an inline table, `{ id = "a", secret = "b" }`, with its own keys.
    pub(super) fn fields(&self, read: impl FnOnce(&mut Table<'a>)) -> Read<()> {
        let entries = self.table()?;
        Table::new(self.report, self.path.clone(), entries).read(read);
        Ok(())
    }

    fn table(&self) -> Read<&'a DeTable<'a>> {
        match self.value.get_ref() {
            DeValue::Table(entries) => Ok(entries),
            _ => Err(self.hidden().wrong_type("a table", "write [it] as a section, or as { key = value }")),
        }
    }

    pub(super) fn wrong_type(&self, wanted: &str, fix: &str) -> Reported {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format!("it is {found} and should be {wanted}"), fix)
    }

    fn push(&self, severity: Severity, what: String, fix: String) {
        let Place { line, value } = self.place();
        self.report.push(severity, Some(line), self.path.clone(), value, what, fix);
    }

    fn register(&self) {
        self.report.written.borrow_mut().insert(self.path.clone(), self.place());
    }

    fn place(&self) -> Place {
        let span = self.value.span();
        let is_table = matches!(self.value.get_ref(), DeValue::Table(_));
        let value = if self.hidden || is_table { None } else { self.report.text.get(span.clone()) };
        Place { line: self.report.line(&span), value: value.map(shown) }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}
