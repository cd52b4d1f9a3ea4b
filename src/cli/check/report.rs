//! What was found: rows in sections, as a table that grows while the check runs, or as JSON at the end.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::table;

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    /// It works, with something to know or to mend.
    Warn,
    Fail,
    /// Not looked at; the detail says why.
    Skip,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// Why something failed, most likely, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) cause: String,
    pub(super) fix: String,
}

impl Advice {
    pub(super) fn new(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause: cause.into(), fix: fix.into() }
    }
}

/// One step and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) step: &'static str,
    pub(super) status: Status,
    pub(super) took: Option<Duration>,
    pub(super) detail: String,
    pub(super) advice: Option<Advice>,
    /// For machines, as `data`.
    pub(super) data: Map<String, Value>,
}

impl Row {
    fn new(step: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { step, status, took: None, detail: detail.into(), advice: None, data: Map::new() }
    }

    pub(super) fn ok(step: &'static str, detail: impl Into<String>) -> Self {
        Self::new(step, Status::Ok, detail)
    }

    pub(super) fn skip(step: &'static str, why: impl Into<String>) -> Self {
        Self::new(step, Status::Skip, why)
    }

    pub(super) fn warn(step: &'static str, detail: impl Into<String>, advice: Advice) -> Self {
        Self { advice: Some(advice), ..Self::new(step, Status::Warn, detail) }
    }

    pub(super) fn fail(step: &'static str, detail: impl Into<String>, advice: Advice) -> Self {
        Self { advice: Some(advice), ..Self::new(step, Status::Fail, detail) }
    }

    pub(super) fn took(self, took: Duration) -> Self {
        Self { took: Some(took), ..self }
    }

    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.into(), value.into());
        self
    }

    fn json(&self) -> Value {
        json!({
            "step": self.step,
            "status": self.status.name(),
            "ms": self.took.map(milliseconds),
            "detail": self.detail,
            "cause": self.advice.as_ref().map(|a| &a.cause),
            "fix": self.advice.as_ref().map(|a| &a.fix),
            "data": self.data,
        })
    }
}

/// To a hundredth.
pub(super) fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

struct Section {
    subject: String,
    address: Option<SocketAddr>,
    rows: Vec<Row>,
}

/// All that was found so far.
pub(super) struct Report {
    /// `None`: JSON at the end.
    table: Option<table::Style>,
    sections: Vec<Section>,
}

impl Report {
    pub(super) fn as_table(style: table::Style) -> Self {
        Self { table: Some(style), sections: Vec::new() }
    }

    pub(super) fn as_json() -> Self {
        Self { table: None, sections: Vec::new() }
    }

    /// The rows that follow are about `subject`, or about one address of it.
    pub(super) fn section(&mut self, subject: &str, address: Option<(SocketAddr, &str)>) {
        if self.table.is_some() {
            show(&match address {
                Some((address, transport)) => format!("  over {transport} to {address}\n"),
                None if self.sections.is_empty() => format!("{subject}\n"),
                None => format!("\n{subject}\n"),
            });
        }
        let address = address.map(|(address, _)| address);
        self.sections.push(Section { subject: subject.into(), address, rows: Vec::new() });
    }

    pub(super) fn push(&mut self, row: Row) {
        if let Some(style) = self.table {
            show(&style.row(&row));
        }
        if let Some(section) = self.sections.last_mut() {
            section.rows.push(row);
        }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }

    fn count(&self, status: Status) -> usize {
        self.rows().filter(|row| row.status == status).count()
    }

    pub(super) fn failed(&self) -> bool {
        self.count(Status::Fail) > 0
    }

    /// Ends the output.
    pub(super) fn finish(&self) {
        let [ok, warnings, failed, skipped] =
            [Status::Ok, Status::Warn, Status::Fail, Status::Skip].map(|status| self.count(status));
        if self.table.is_some() {
            let s = if warnings == 1 { "" } else { "s" };
            show(&format!("\n{ok} ok, {warnings} warning{s}, {failed} failed, {skipped} not checked\n"));
            return;
        }
        let sections = self.sections.iter().map(|section| {
            json!({
                "subject": section.subject,
                "address": section.address.map(|address| address.to_string()),
                "steps": section.rows.iter().map(Row::json).collect::<Vec<_>>(),
            })
        });
        show(&format!(
            "{:#}\n",
            json!({
                "good": !self.failed(),
                "counts": { "ok": ok, "warn": warnings, "fail": failed, "skip": skipped },
                "checks": sections.collect::<Vec<_>>(),
            })
        ));
    }
}

/// A reader that has gone away is no error: the exit code tells the rest.
fn show(text: &str) {
    let _ = crate::cli::print(text);
}

/// Text from the network, fit for a terminal and for one line.
pub(super) fn printable(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == MOST {
            shown.push('…');
            break;
        }
        // Direction overrides and the like can turn a line around.
        let harmless = !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if harmless { shown.push(c) } else { shown.extend(c.escape_unicode()) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor_or_fill_the_screen() {
        assert_eq!(printable("Coturn-4.6.1 'Gorst'"), "Coturn-4.6.1 'Gorst'");
        assert_eq!(printable("a\x1b[2Jb\u{202e}"), "a\\u{1b}[2Jb\\u{202e}");
        assert_eq!(printable(&"x".repeat(500)).chars().count(), 81);
    }
}
