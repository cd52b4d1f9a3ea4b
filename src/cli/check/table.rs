//! Rows for people: aligned, coloured only on a terminal.
//!
//! ```text
//!     ok    Binding             24.1 ms  you are 198.51.100.7:50312, behind a NAT
//!     FAIL  Allocate            23.8 ms  401 Unauthorized
//!             cause: the secret is not the one the server has
//!             fix:   give the secret ...
//! ```

use std::io::{self, IsTerminal};

use super::report::{Row, Status, milliseconds};

/// Where the text of a line ends.
const WIDTH: usize = 110;
const STEP: usize = 18;

/// With colour or without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    colour: bool,
}

impl Style {
    /// As fits where stdout goes, and as <https://no-color.org> asks.
    pub(super) fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { colour: wanted && able && io::stdout().is_terminal() }
    }

    pub(super) fn row(self, row: &Row) -> String {
        let (word, colour) = match row.status {
            Status::Ok => ("ok  ", "32"),
            Status::Warn => ("WARN", "33"),
            Status::Fail => ("FAIL", "1;31"),
            Status::Skip => ("-   ", "2"),
        };
        let word = if self.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        let took = row.took.map(|took| match milliseconds(took) {
            ms if ms < 100.0 => format!("{ms:.1} ms"),
            ms => format!("{ms:.0} ms"),
        });
        let head = format!("{:<STEP$} {:>8}  ", row.step, took.unwrap_or_default());
        let indent = 4 + 4 + 2 + head.chars().count();
        let mut text = format!("    {word}  {head}{}", wrapped(&row.detail, indent, indent));
        text.truncate(text.trim_end().len());
        text.push('\n');
        if let Some(advice) = &row.advice {
            for (label, words) in [("cause: ", &advice.cause), ("fix:   ", &advice.fix)] {
                text.push_str(&format!("            {label}{}\n", wrapped(words, 19, 19)));
            }
        }
        text
    }
}

/// `words`, with the first line starting at column `at` and the others indented by `indent`.
fn wrapped(words: &str, at: usize, indent: usize) -> String {
    let mut text = String::new();
    let mut column = at;
    for word in words.split(' ') {
        let len = word.chars().count();
        if column > indent && column + len > WIDTH {
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        }
        text.push_str(word);
        text.push(' ');
        column += len + 1;
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::Advice;
    use super::*;

    #[test]
    fn rows_are_aligned_and_wrapped() {
        let style = Style { colour: false };
        let row = Row::ok("Binding", "you are 192.0.2.1:5000").took(Duration::from_micros(24_060));
        assert_eq!(style.row(&row), "    ok    Binding             24.1 ms  you are 192.0.2.1:5000\n");
        let row = Row::skip("Round trip", "nothing to relay");
        assert_eq!(style.row(&row), "    -     Round trip                   nothing to relay\n");

        let row = Row::fail("Allocate", "401", Advice::new("word ".repeat(60), "do it"));
        let text = style.row(&row);
        assert!(text.lines().count() > 4, "{text}");
        for line in text.lines() {
            assert!(line.len() <= WIDTH && line == line.trim_end(), "{line:?}");
        }
        assert!(text.contains("\n            cause: word word"), "{text}");
        assert!(text.ends_with("\n            fix:   do it\n"), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(Style { colour: true }.row(&row).starts_with("    \x1b[1;31mFAIL\x1b[0m  Allocate"));
    }
}
