//! The log: records with fields for systemd's journal, lines of text for people, lines of JSON for machines.
//!
//! What enters: the records of the `log` crate, ours and those of libraries. What leaves:
//!
//! ```text
//! text     2026-11-22T12:00:00.123Z WARN  ternd::net::tcp: too many connections from=192.0.2.7 count=500
//! json     {"time":"2026-11-22T12:00:00.123Z","level":"warn","target":"ternd::net::tcp",
//!           "message":"too many connections","from":"192.0.2.7","count":500}
//! journal  PRIORITY=4 MESSAGE=too many connections  TARGET=ternd::net::tcp  TERND_FROM=192.0.2.7  TERND_COUNT=500
//! ```
//!
//! Text that clients chose gets into messages and fields. So control characters are escaped everywhere: no client
//! can forge a line, or talk to the terminal of whoever reads it.
//!
//! Levels, and whether addresses are masked, can be changed while it runs.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::net::IpAddr;
use std::sync::LazyLock;

use ::log::kv::{self, Key, Value, VisitSource};
use ::log::{Level, LevelFilter, Log, Metadata, Record};
use arc_swap::ArcSwap;
use systemd_journal_logger::{JournalLog, connected_to_journal};

use super::mask::mask;
use crate::config::{self, LogFormat};
use crate::net::clock::Clock;
use crate::time::DateTime;

/// Sends records where the configuration says, from here on.
///
/// # Errors
/// If `format = "journal"` and there is no journal, or if there is a logger already.
pub fn init(settings: &config::Log) -> io::Result<()> {
    let format = match settings.format {
        LogFormat::Auto if connected_to_journal() => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Text,
        chosen => chosen,
    };
    let logger: Box<dyn Log> = match format {
        LogFormat::Journal => {
            let journal = JournalLog::new().map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("log.format = \"journal\": cannot reach the journal: {error}"),
                )
            })?;
            Box::new(Journal { journal: journal.with_syslog_identifier("ternd".into()) })
        }
        LogFormat::Json => Box::new(Lines { clock: Clock::start(), line: json }),
        LogFormat::Text | LogFormat::Auto => {
            Box::new(Lines { clock: Clock::start(), line: if colourful() { coloured } else { plain } })
        }
    };
    ::log::set_boxed_logger(logger).map_err(io::Error::other)?;
    configure(settings);
    Ok(())
}

/// What is written, and how addresses are.
#[derive(Clone, Debug)]
struct Choices {
    level: LevelFilter,
    /// By module; see [`config::Log::levels`].
    levels: Vec<(String, LevelFilter)>,
    mask: bool,
    /// Addresses that are never masked.
    own: BTreeSet<IpAddr>,
}

static CHOICES: LazyLock<ArcSwap<Choices>> = LazyLock::new(|| {
    ArcSwap::from_pointee(Choices {
        level: LevelFilter::Info,
        levels: Vec::new(),
        mask: false,
        own: BTreeSet::new(),
    })
});

fn change(change: impl Fn(&mut Choices)) {
    let before = CHOICES.rcu(|choices| {
        let mut next = Choices::clone(choices);
        change(&mut next);
        next
    });
    drop(before);
    let choices = CHOICES.load();
    ::log::set_max_level(choices.levels.iter().map(|(_, level)| *level).fold(choices.level, Ord::max));
}

/// Goes on with the levels of a configuration. The format stays what it was at the start.
pub(super) fn configure(settings: &config::Log) {
    change(|choices| {
        choices.level = settings.level;
        choices.levels.clone_from(&settings.levels);
        choices.mask = settings.mask_addresses;
    });
}

/// Addresses of this machine are no secret: they are not masked.
pub(super) fn show(own: impl IntoIterator<Item = IpAddr>) {
    let own: BTreeSet<_> = own.into_iter().collect();
    change(|choices| choices.own.clone_from(&own));
}

/// Changes the level of one module, or of all that have none of their own, until the next reload.
pub(super) fn set_level(module: Option<&str>, level: LevelFilter) {
    change(|choices| match module {
        None => choices.level = level,
        Some(module) => {
            choices.levels.retain(|(name, _)| name != module);
            choices.levels.push((module.to_owned(), level));
        }
    });
}

/// The levels there are: of everything else, and of modules.
pub(super) fn levels() -> (LevelFilter, Vec<(String, LevelFilter)>) {
    let choices = CHOICES.load();
    (choices.level, choices.levels.clone())
}

/// <https://no-color.org>
fn colourful() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// What a module was given; else our own messages as configured, and of the libraries their warnings, or all they say
/// at `trace`.
fn wanted(metadata: &Metadata<'_>, choices: &Choices) -> bool {
    let target = metadata.target();
    let named = |name: &str| {
        let own = target.strip_prefix("ternd::").unwrap_or(target);
        [target, own]
            .iter()
            .any(|t| t.strip_prefix(name).is_some_and(|r| r.is_empty() || r.starts_with("::")))
    };
    let of_module = choices.levels.iter().filter(|(name, _)| named(name)).max_by_key(|(name, _)| name.len());
    if let Some((_, level)) = of_module {
        return metadata.level() <= *level;
    }
    let level = choices.level;
    let ours = target == "ternd" || target.starts_with("ternd::");
    let level = if ours || level == LevelFilter::Trace { level } else { level.min(LevelFilter::Warn) };
    metadata.level() <= level
}

struct Journal {
    journal: JournalLog,
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata, &CHOICES.load())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // The journal keeps fields apart whatever is in them, but journalctl prints the message as it is.
        let message = shown(record.args());
        let mut fields = JournalFields(Vec::new());
        let _ = record.key_values().visit(&mut fields);
        let fields: Vec<_> = fields.0.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let fields = fields.as_slice();
        self.journal.log(&record.to_builder().args(format_args!("{message}")).key_values(&fields).build());
    }

    fn flush(&self) {}
}

struct Lines {
    clock: Clock,
    line: fn(&Record<'_>, unix_millis: u64) -> String,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata, &CHOICES.load())
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

/// Text as it may be shown to people.
fn shown(text: impl Display) -> String {
    masked(Escaped(text).to_string())
}

/// The text, its addresses masked if that is wanted.
fn masked(text: String) -> String {
    let choices = CHOICES.load();
    if choices.mask { mask(&text, &choices.own) } else { text }
}

/// Collects fields under names that no other program uses: `user` is `TERND_USER` in the journal, which keeps them
/// apart whatever is in them.
struct JournalFields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for JournalFields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((format!("TERND_{key}"), masked(value.to_string())));
        Ok(())
    }
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
    line.push_str(&shown(record.args()));
    let _ = record.key_values().visit(&mut TextFields(&mut line));
    line.push('\n');
    line
}

struct TextFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = shown(value);
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
    object.insert("message".into(), shown(record.args()).into());
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
            .unwrap_or_else(|| shown(&value).into());
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
        let asked = |target, level, choices: &Choices| {
            wanted(&Metadata::builder().target(target).level(level).build(), choices)
        };
        let only = |level| Choices { level, levels: Vec::new(), mask: false, own: BTreeSet::new() };
        let wanted = |target, level, filter| asked(target, level, &only(filter));
        assert!(wanted("ternd::net", Level::Debug, LevelFilter::Debug));
        assert!(!wanted("ternd::net", Level::Trace, LevelFilter::Debug));
        assert!(!wanted("rustls::conn", Level::Debug, LevelFilter::Debug));
        assert!(wanted("rustls::conn", Level::Warn, LevelFilter::Debug));
        assert!(!wanted("rustls::conn", Level::Warn, LevelFilter::Error));
        assert!(wanted("rustls::conn", Level::Trace, LevelFilter::Trace));
        assert!(!wanted("ternder", Level::Info, LevelFilter::Info));

        let levels = [
            ("relay", LevelFilter::Debug),
            ("ternd::relay::x", LevelFilter::Error),
            ("h2", LevelFilter::Trace),
        ];
        let levels = levels.map(|(name, level)| (name.to_owned(), level)).to_vec();
        let some = Choices { levels, ..only(LevelFilter::Warn) };
        for (target, level, expected) in [
            ("ternd::relay", Level::Debug, true),
            ("ternd::relay::y", Level::Debug, true),
            ("ternd::relay::x", Level::Warn, false),
            ("ternd::relays", Level::Debug, false),
            ("ternd::net", Level::Info, false),
            ("h2::proto", Level::Trace, true),
            ("hyper::relay", Level::Warn, true),
            ("hyper::relay", Level::Info, false),
        ] {
            assert_eq!(asked(target, level, &some), expected, "{target} {level}");
        }
    }
}
