//! The log: records with fields for systemd's journal, lines of text for people, lines of JSON for machines.
//!
//! What enters: the records of the `log` crate, ours and those of libraries. What leaves:
//!
//! ```text
//! text     2026-11-22T12:00:00.123Z WARN  ternd::net::tcp: too many connections from=192.0.2.7 count=500
//! json     {"time":"2026-11-22T12:00:00.123Z","level":"warn","target":"ternd::net::tcp",
//!           "message":"too many connections","from":"192.0.2.7","count":500}
//! journal  PRIORITY=4 MESSAGE=too many connections  TARGET=ternd::net::tcp  FROM=192.0.2.7  COUNT=500
//! ```
//!
//! Text that clients chose gets into messages and fields. So control characters are escaped everywhere: no client
//! can forge a line, or talk to the terminal of whoever reads it.

use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write as _};

use ::log::kv::{self, Key, Value, VisitSource};
use ::log::{Level, LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::config::{self, LogFormat};
use crate::net::clock::Clock;
use crate::time::DateTime;

/// Sends records where the configuration says, from here on.
///
/// # Errors
/// If `format = "journal"` and there is no journal, or if there is a logger already.
pub fn init(settings: config::Log) -> io::Result<()> {
    let format = match settings.format {
        LogFormat::Auto if connected_to_journal() => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Text,
        chosen => chosen,
    };
    let level = settings.level;
    let logger: Box<dyn Log> = match format {
        LogFormat::Journal => {
            let journal = JournalLog::new().map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("log.format = \"journal\": cannot reach the journal: {error}"),
                )
            })?;
            Box::new(Journal { level, journal: journal.with_syslog_identifier("ternd".into()) })
        }
        LogFormat::Json => Box::new(Lines { level, clock: Clock::start(), line: json }),
        LogFormat::Text | LogFormat::Auto => {
            Box::new(Lines { level, clock: Clock::start(), line: if colourful() { coloured } else { plain } })
        }
    };
    ::log::set_boxed_logger(logger).map_err(io::Error::other)?;
    ::log::set_max_level(level);
    Ok(())
}

/// <https://no-color.org>
fn colourful() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Our own messages as configured; of the libraries their warnings, or all they say at `trace`.
fn wanted(metadata: &Metadata<'_>, level: LevelFilter) -> bool {
    let target = metadata.target();
    let ours = target == "ternd" || target.starts_with("ternd::");
    let level = if ours || level == LevelFilter::Trace { level } else { level.min(LevelFilter::Warn) };
    metadata.level() <= level
}

struct Journal {
    level: LevelFilter,
    journal: JournalLog,
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata, self.level)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // The journal keeps fields apart whatever is in them, but journalctl prints the message as it is.
        let message = Escaped(record.args());
        self.journal.log(&record.to_builder().args(format_args!("{message}")).build());
    }

    fn flush(&self) {}
}

struct Lines {
    level: LevelFilter,
    clock: Clock,
    line: fn(&Record<'_>, unix_millis: u64) -> String,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata, self.level)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = (self.line)(record, self.clock.unix_millis());
            // In one piece, so that threads don't mix. There is nobody to tell if stderr is gone.
            let _ = io::stderr().lock().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

fn plain(record: &Record<'_>, unix_millis: u64) -> String {
    text(record, unix_millis, ["", "", ""])
}

fn coloured(record: &Record<'_>, unix_millis: u64) -> String {
    let level = match record.level() {
        Level::Error => "\x1b[1;31m",
        Level::Warn => "\x1b[33m",
        Level::Info => "\x1b[32m",
        Level::Debug | Level::Trace => "\x1b[36m",
    };
    text(record, unix_millis, [level, "\x1b[2m", "\x1b[0m"])
}

fn text(record: &Record<'_>, unix_millis: u64, [bright, dim, end]: [&str; 3]) -> String {
    let (time, level, target) = (Rfc3339(unix_millis), record.level(), record.target());
    let mut line = format!("{dim}{time}{end} {bright}{level:<5}{end} {dim}{target}:{end} ");
    // Writing to a String can't fail.
    let _ = write!(line, "{}", Escaped(record.args()));
    let _ = record.key_values().visit(&mut TextFields(&mut line));
    line.push('\n');
    line
}

struct TextFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = Escaped(value).to_string();
        let bare = !value.is_empty() && !value.contains([' ', '"', '=']);
        let _ = if bare { write!(self.0, " {key}={value}") } else { write!(self.0, " {key}={value:?}") };
        Ok(())
    }
}

fn json(record: &Record<'_>, unix_millis: u64) -> String {
    let mut object = serde_json::Map::new();
    object.insert("time".into(), Rfc3339(unix_millis).to_string().into());
    object.insert("level".into(), record.level().as_str().to_ascii_lowercase().into());
    object.insert("target".into(), record.target().into());
    object.insert("message".into(), Escaped(record.args()).to_string().into());
    let _ = record.key_values().visit(&mut JsonFields(&mut object));
    format!("{}\n", serde_json::Value::Object(object))
}

struct JsonFields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let json = None
            .or_else(|| value.to_bool().map(Into::into))
            .or_else(|| value.to_u64().map(Into::into))
            .or_else(|| value.to_i64().map(Into::into))
            .or_else(|| value.to_f64().map(Into::into))
            .unwrap_or_else(|| Escaped(&value).to_string().into());
        // A field never takes the place of the message.
        self.0.entry(key.as_str()).or_insert(json);
        Ok(())
    }
}

/// Shows a value with its control characters escaped, and those that turn the direction of text around.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);

        impl fmt::Write for Filter<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for part in text.split_inclusive(unsafe_to_show) {
                    match part.char_indices().next_back() {
                        Some((at, last)) if unsafe_to_show(last) => {
                            self.0.write_str(part.get(..at).unwrap_or_default())?;
                            write!(self.0, "{}", last.escape_default())?;
                        }
                        _ => self.0.write_str(part)?,
                    }
                }
                Ok(())
            }
        }

        write!(Filter(f), "{}", self.0)
    }
}

fn unsafe_to_show(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Milliseconds since the Unix epoch as `2026-11-22T12:00:00.123Z`.
struct Rfc3339(u64);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        write!(f, "{}.{millis:03}Z", DateTime(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_record<T>(message: &str, fields: &[(&str, Value<'_>)], test: impl FnOnce(&Record<'_>) -> T) -> T {
        let args = format_args!("{message}");
        let record =
            Record::builder().level(Level::Warn).target("ternd::net").key_values(&fields).args(args).build();
        test(&record)
    }

    #[test]
    fn times_are_dates() {
        for (millis, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_347_722_042, "2026-11-22T11:42:02.042Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(millis).to_string(), date);
        }
    }

    #[test]
    fn text_lines() {
        let fields = [("from", Value::from("192.0.2.7")), ("why", "two words".into()), ("n", 5.into())];
        with_record("too many", &fields, |record| {
            assert_eq!(
                plain(record, 0),
                "1970-01-01T00:00:00.000Z WARN  ternd::net: too many from=192.0.2.7 why=\"two words\" n=5\n"
            );
            assert!(coloured(record, 0).contains("\x1b[33mWARN \x1b[0m"));
        });
    }

    #[test]
    fn json_lines() {
        let fields = [
            ("n", Value::from(5)),
            ("ok", true.into()),
            ("name", "a\"b".into()),
            ("message", "forged".into()),
        ];
        let line = with_record("hello", &fields, |record| json(record, 0));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"time": "1970-01-01T00:00:00.000Z", "level": "warn", "target": "ternd::net",
                               "message": "hello", "n": 5, "ok": true, "name": "a\"b"})
        );
        assert!(line.ends_with("}\n"));
    }

    #[test]
    fn nobody_forges_a_line_or_talks_to_the_terminal() {
        let evil = "x\n1970-01-01 ERROR \x1b[2J\u{9b}\u{202e}é";
        let fields = [("user", Value::from(evil))];
        for line in [plain, json] {
            let line = with_record(evil, &fields, |record| line(record, 0));
            let body = line.strip_suffix('\n').unwrap();
            assert!(!body.contains(unsafe_to_show), "{body:?}");
            assert!(body.contains('é'));
        }
        assert_eq!(Escaped("a\nb\n").to_string(), "a\\nb\\n");
    }

    #[test]
    fn levels_of_ours_and_of_libraries() {
        let wanted =
            |target, level, filter| wanted(&Metadata::builder().target(target).level(level).build(), filter);
        assert!(wanted("ternd::net", Level::Debug, LevelFilter::Debug));
        assert!(!wanted("ternd::net", Level::Trace, LevelFilter::Debug));
        assert!(!wanted("rustls::conn", Level::Debug, LevelFilter::Debug));
        assert!(wanted("rustls::conn", Level::Warn, LevelFilter::Debug));
        assert!(!wanted("rustls::conn", Level::Warn, LevelFilter::Error));
        assert!(wanted("rustls::conn", Level::Trace, LevelFilter::Trace));
        assert!(!wanted("ternder", Level::Info, LevelFilter::Info));
    }
}
