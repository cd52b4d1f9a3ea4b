//! What is wrong with a configuration, in words for whoever has to mend it.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted, and probably not what was meant.
    Warning,
}

/// One problem: where it is, what it is, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// The line in the file, counted from 1. `None` if it is about something that is not written there.
    pub line: Option<usize>,
    /// The key, as a path from the top: `relay.ports`, `listen.udp[1]`. Empty if it is about the file itself.
    pub path: String,
    /// The value as written, shortened, with control characters escaped. `None` for secrets.
    pub value: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// Two lines for a terminal: `ternd.toml:12: error: relay.ports = "9-5": ...` and, indented, the way out.
    pub fn render(&self, file: &str) -> String {
        let line = self.line.map_or(String::new(), |n| format!(":{n}"));
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        format!("{file}{line}: {severity}: {}{}\n    {}", self.subject(), self.what, self.fix)
    }

    fn subject(&self) -> String {
        match (self.path.as_str(), &self.value) {
            ("", _) => String::new(),
            (path, None) => format!("{path}: "),
            (path, Some(value)) => format!("{path} = {value}: "),
        }
    }
}

/// One line, for logs.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}{}; {}", self.subject(), self.what, self.fix)
    }
}

/// `text` cut to one short line without control characters, whoever wrote it.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if i == LONGEST => {
                out.push('…');
                break;
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}
