//! Figures, goals, and the three forms they are shown in. Each race says in its `server::Kind` who runs: ternd, its
//! `RIVAL`, and the floor.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;
use std::time::SystemTime;

use serde_json::{Value, json};
use ternd::time::DateTime;

use crate::server::Kind;

/// What is asked of ternd. Ratios are those of medians within one run.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At least this many times what the other has.
    AtLeast(f64, Kind),
    /// At most this many times what the other has.
    AtMost(f64, Kind),
    /// At most this, in the line's unit.
    Below(f64),
}

/// One measure of one row: the values of each round.
pub struct Line {
    pub row: String,
    pub measure: String,
    pub values: BTreeMap<Kind, Vec<f64>>,
    pub goals: Vec<Goal>,
}

impl Line {
    pub fn new(row: &str, measure: impl Into<String>, goals: &[Goal]) -> Self {
        Self { row: row.into(), measure: measure.into(), values: BTreeMap::new(), goals: goals.into() }
    }

    pub fn push(&mut self, kind: Kind, value: f64) {
        self.values.entry(kind).or_default().push(value);
    }

    pub fn median(&self, kind: Kind) -> Option<f64> {
        let mut values = self.values.get(&kind)?.clone();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.get((values.len() - 1) / 2)?, *values.get(values.len() / 2)?);
        Some((low + high) / 2.0)
    }

    fn ratio(&self, to: Kind) -> Option<f64> {
        let to = self.median(to).filter(|value| *value != 0.0)?;
        Some(self.median(Kind::Ternd)? / to)
    }

    /// `None` if what it is held against was not measured.
    fn is_met(&self, goal: Goal) -> Option<bool> {
        Some(match goal {
            Goal::AtLeast(factor, kind) => self.ratio(kind)? >= factor,
            Goal::AtMost(factor, kind) => self.ratio(kind)? <= factor,
            Goal::Below(limit) => self.median(Kind::Ternd)? <= limit,
        })
    }

    fn cells(&self) -> [String; COLUMNS] {
        let value = |kind| self.median(kind).map_or_else(String::new, figure);
        let ratio = |kind| self.ratio(kind).map_or_else(String::new, |r| format!("{r:.2}"));
        let goals: Vec<String> = self.goals.iter().map(|goal| goal.text()).collect();
        let met = self.goals.iter().map(|goal| match self.is_met(*goal) {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "?",
        });
        [
            self.row.clone(),
            self.measure.clone(),
            value(Kind::RIVAL),
            value(Kind::Ternd),
            value(Kind::Floor),
            ratio(Kind::RIVAL),
            ratio(Kind::Floor),
            goals.join(", "),
            met.collect::<Vec<_>>().join(", "),
        ]
    }
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::AtLeast(factor, kind) => format!(">= {} x {}", figure(factor), kind.name()),
            Self::AtMost(factor, kind) => format!("<= {} x {}", figure(factor), kind.name()),
            Self::Below(limit) => format!("<= {}", figure(limit)),
        }
    }
}

const COLUMNS: usize = 9;

fn headings() -> [String; COLUMNS] {
    let rival = Kind::RIVAL.name();
    let over_rival = format!("/ {rival}");
    ["row", "measure", rival, "ternd", "floor", &over_rival, "/ floor", "goal", "met"].map(Into::into)
}

/// Wide enough for what is there, so that rows can be shown as they come.
const WIDTHS: [usize; COLUMNS] = [17, 28, 8, 8, 8, 8, 8, 34, 16];

/// Three digits are more than the machine is worth.
fn figure(value: f64) -> String {
    if value.is_nan() {
        "?".into()
    } else if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

fn aligned(cells: &[String; COLUMNS]) -> String {
    let mut line = String::new();
    for (i, (cell, width)) in cells.iter().zip(WIDTHS).enumerate() {
        let _ = match i {
            2..=6 => write!(line, "{cell:>width$}  "),
            _ => write!(line, "{cell:<width$}  "),
        };
    }
    line.trim_end().into()
}

pub fn head() -> String {
    aligned(&headings())
}

/// The lines of one row, for people.
pub fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| aligned(&line.cells()) + "\n").collect()
}

/// How many goals are met, and those that are not.
pub fn verdict(lines: &[Line]) -> String {
    let goals = || lines.iter().flat_map(|line| line.goals.iter().map(move |goal| (line, *goal)));
    let met = goals().filter(|(line, goal)| line.is_met(*goal) == Some(true)).count();
    let mut text = format!("{met} of {} goals met\n", goals().count());
    for (line, goal) in goals().filter(|(line, goal)| line.is_met(*goal) == Some(false)) {
        let _ = writeln!(text, "  not met: {}, {}: {}", line.row, line.measure, goal.text());
    }
    text
}

/// A table for docs/performance.md.
pub fn markdown(about: &BTreeMap<&str, String>, lines: &[Line]) -> String {
    let row = |cells: [String; COLUMNS]| format!("| {} |\n", cells.join(" | "));
    let mut text: String =
        about.iter().map(|(what, value)| format!("{what}: {value}")).collect::<Vec<_>>().join("; ") + ".\n\n";
    text += &row(headings());
    text += "|---|---|--:|--:|--:|--:|--:|---|---|\n";
    let mut before = "";
    for line in lines {
        let mut cells = line.cells();
        if line.row == before {
            cells[0].clear();
        }
        before = &line.row;
        cells[7] = cells[7].replace(">=", "≥").replace("<=", "≤").replace(" x ", " × ");
        cells[8] = cells[8].replace("NOT MET", "**not met**");
        text += &row(cells);
    }
    text + "\n" + verdict(lines).lines().next().unwrap_or_default() + ".\n"
}

pub fn json(about: &BTreeMap<&str, String>, lines: &[Line]) -> Value {
    let line = |line: &Line| {
        let by_name = |f: &dyn Fn(Kind) -> Value| {
            line.values.keys().map(|kind| (kind.name().to_owned(), f(*kind))).collect::<Value>()
        };
        let goals = line.goals.iter().map(|goal| json!({"goal": goal.text(), "met": line.is_met(*goal)}));
        let mut figures = json!({
            "row": line.row,
            "measure": line.measure,
            "medians": by_name(&|kind| json!(line.median(kind))),
            "rounds": by_name(&|kind| json!(line.values[&kind])),
            "ratio_to_coturn": line.ratio(Kind::RIVAL),
            "ratio_to_floor": line.ratio(Kind::Floor),
            "goals": goals.collect::<Vec<_>>(),
        });
        figures[format!("ratio_to_{}", Kind::RIVAL.name())] = json!(line.ratio(Kind::RIVAL));
        figures
    };
    json!({"about": about, "lines": lines.iter().map(line).collect::<Vec<_>>()})
}

/// Puts the table between the two marks `<!-- name: begin -->` and `<!-- name: end -->` of a document.
pub fn put(document: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{table}\n{end}{after}"))
}

/// Where and when this was measured.
pub fn about(profile: String, rival: String) -> BTreeMap<&'static str, String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("?").to_owned();
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    BTreeMap::from([
        ("CPU", cpu),
        ("Kernel", said("uname", &["-r"])),
        (Kind::RIVAL.name(), rival),
        ("Measured", format!("{} UTC", DateTime(unix).to_string().replace('T', " "))),
        ("Profile", profile),
        ("ternd", env!("CARGO_PKG_VERSION").into()),
    ])
}

/// What a command prints.
pub fn said(command: &str, args: &[&str]) -> String {
    let output = Command::new(command).args(args).output();
    output.map_or_else(|_| "?".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
