//! `docs/rfc-coverage.md`, held against the tags in the sources.
//!
//! ```text
//! | Id | Requirement | Done in | Shown by | Not done |        a row of the tables: a demand on a server
//!
//! //= 8656-9-1 8656-9-2                                       a tag: here this is done, or in a test: shown
//! ```
//! A tag names rows. It stands on a line of its own above the code that does it, or above the `#[test]` that shows
//! it. The columns of a row must name exactly the files and tests that have its tag, so neither can be wrong for
//! long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const TABLES: &str = "docs/rfc-coverage.md";
const MARK: &str = "//= ";

/// Where the tags of one row are.
#[derive(Default)]
struct Tags {
    /// `src/turn/refresh.rs`.
    code: BTreeSet<String>,
    /// `tests/relay/errors::name_of_the_test`.
    tests: BTreeSet<String>,
}

struct Row {
    line: usize,
    code: BTreeSet<String>,
    tests: BTreeSet<String>,
    not_done: String,
}

/// All that is wrong with the tables and the tags, each with the place.
fn problems(tables: &str, sources: &[(String, String)]) -> Vec<String> {
    let mut problems = Vec::new();
    let rows = read_rows(tables, &mut problems);
    let mut tags = read_tags(sources, &mut problems);
    for (id, row) in &rows {
        let found = tags.remove(id).unwrap_or_default();
        let mut wrong = |what: &str| problems.push(format!("{TABLES}:{}: {id}: {what}", row.line));
        if row.code.is_empty() != row.tests.is_empty() {
            wrong("what is done has both a file that does it and a test that shows it");
        } else if row.code.is_empty() && row.not_done.is_empty() {
            wrong("neither done nor a reason why not");
        } else if !row.not_done.is_empty() && row.code.is_empty() == row.not_done.starts_with("In part: ") {
            wrong("a reason begins with \"In part: \" where the row is done otherwise, and only there");
        }
        for (column, listed, found) in
            [("Done in", &row.code, &found.code), ("Shown by", &row.tests, &found.tests)]
        {
            if listed != found {
                wrong(&format!(
                    "\"{column}\" says {listed:?}, the tags ({MARK}{id}) are in {found:?}; move the tag or change the row"
                ));
            }
        }
    }
    for (id, found) in tags {
        let places: Vec<_> = found.code.union(&found.tests).collect();
        problems.push(format!("{MARK}{id} in {places:?} is no row of {TABLES}"));
    }
    problems
}

/// The line of the page that counts its rows.
fn counted(tables: &str) -> String {
    let rows = read_rows(tables, &mut Vec::new());
    let count = |what: &dyn Fn(&Row) -> bool| rows.values().filter(|row| what(row)).count();
    format!(
        "{} rows: {} done, {} in part, {} not done.",
        rows.len(),
        count(&|row| row.not_done.is_empty()),
        count(&|row| !row.not_done.is_empty() && !row.code.is_empty()),
        count(&|row| row.code.is_empty())
    )
}

/// The rows of the tables. A table belongs to the RFC of the heading above it.
fn read_rows(tables: &str, problems: &mut Vec<String>) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    let mut rfc = "";
    for (n, line) in tables.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            rfc = heading.strip_prefix("RFC ").and_then(|h| h.get(..4)).unwrap_or("");
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|l| l.strip_suffix('|')) else {
            // An empty last cell is written as such; a line of dashes divides head and body.
            if line.starts_with('|') && !line.starts_with("|--") {
                problems.push(format!("{TABLES}:{}: not a row", n + 1));
            }
            continue;
        };
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        if cells[0] == "Id" {
            continue;
        }
        let mut wrong = |what: String| problems.push(format!("{TABLES}:{}: {what}", n + 1));
        let &[id, requirement, code, tests, not_done] = &cells[..] else {
            wrong(format!("{} columns, not 5", cells.len()));
            continue;
        };
        if !is_id(id, rfc) {
            wrong(format!("{id:?} is no id like 8656-7.2-5 under a heading \"## RFC 8656\""));
            continue;
        }
        if !["MUST", "SHOULD", "RECOMMENDED"].iter().any(|word| requirement.contains(word)) {
            wrong(format!("{id}: the requirement has no MUST, SHOULD or RECOMMENDED"));
        }
        let row = Row { line: n + 1, code: names(code), tests: names(tests), not_done: not_done.to_owned() };
        if rows.insert(id.to_owned(), row).is_some() {
            wrong(format!("{id} is there twice"));
        }
    }
    rows
}

/// RFC, section, number: `8656-7.2-5`.
fn is_id(id: &str, rfc: &str) -> bool {
    let parts: Vec<&str> = id.split('-').collect();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    matches!(parts[..], [of, section, n] if of == rfc && section.split('.').all(number) && number(n))
}

/// What stands between backticks.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn read_tags(sources: &[(String, String)], problems: &mut Vec<String>) -> BTreeMap<String, Tags> {
    let mut tags: BTreeMap<String, Tags> = BTreeMap::new();
    for (path, text) in sources {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (n, line) in lines.iter().enumerate() {
            let Some(ids) = line.strip_prefix(MARK) else { continue };
            let below = &lines[n + 1..];
            let above_test =
                below.iter().find(|l| !l.starts_with("//") && **l != "#[rustfmt::skip]") == Some(&"#[test]");
            for id in ids.split_whitespace() {
                let tags = tags.entry(id.to_owned()).or_default();
                if above_test {
                    let name = below.iter().find_map(|l| l.strip_prefix("fn ")?.split('(').next());
                    let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
                    tags.tests.insert(format!("{module}::{}", name.unwrap_or("?")));
                } else if path.starts_with("src/") {
                    tags.code.insert(path.clone());
                } else {
                    problems.push(format!("{path}:{}: {id}: a tag in tests stands above a #[test]", n + 1));
                }
            }
        }
    }
    tags
}

fn read_sources(dir: &Path, below: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, below, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(below).unwrap().to_str().unwrap().to_owned();
            into.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn each_requirement_is_done_and_shown_or_has_a_reason() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for dir in ["src", "tests"] {
        read_sources(&root.join(dir), &root, &mut sources);
    }
    let tables = fs::read_to_string(root.join(TABLES)).unwrap();
    let problems = problems(&tables, &sources);
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    let counted = counted(&tables);
    assert!(tables.lines().any(|line| line == counted), "{TABLES} should have the line: {counted}");
}

#[test]
fn each_kind_of_mistake_is_found() {
    const ROW: &str =
        "| 8656-9-1 | The lifetime MUST be 300 s. | `src/a.rs` | `tests/t::it_is`, `src/b::inside` | |";
    const CODE: &str = "//= 8656-9-1\nconst LIFETIME: u64 = 300;";
    const TEST: &str = "/// Why.\n//= 8656-9-1\n// And how.\n#[test]\nfn it_is() {}";
    const INSIDE: &str = "mod tests {\n    //= 8656-9-1\n    #[test]\n    fn inside(n: u8) {}\n}";
    let check = |row: &str, code: &str, test: &str| {
        let tables =
            format!("# All\n\n## RFC 8656: TURN\n\n| Id | R | D | S | N |\n|---|---|---|---|---|\n{row}\n");
        let source = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        problems(&tables, &[source("src/a.rs", code), source("tests/t.rs", test), source("src/b.rs", INSIDE)])
    };
    assert_eq!(check(ROW, CODE, TEST), [""; 0]);

    let row = |from: &str, to: &str| ROW.replace(from, to);
    let undone = "| 8656-9-2 | It SHOULD be done. | | | |";
    let half = "| 8656-9-2 | It SHOULD be done. | `src/a.rs` | | |";
    let twice = format!("{ROW}\n{ROW}");
    for (row, code, test, count, found) in [
        (ROW, "", TEST, 1, "\"Done in\" says"),
        (ROW, CODE, "", 1, "\"Shown by\" says"),
        (ROW, CODE, "//= 8656-9-1\nfn helper() {}", 2, "stands above a #[test]"),
        (ROW, CODE, &TEST.replace("it_is", "it_was"), 1, "tests/t::it_was"),
        (ROW, &CODE.replace("9-1", "9-1 8656-9-7"), TEST, 1, "is no row"),
        ("", CODE, TEST, 1, "is no row"),
        (&format!("{ROW}\n{undone}"), CODE, TEST, 1, "neither done nor a reason"),
        (&format!("{ROW}\n{half}"), &CODE.replace("9-1", "9-1 8656-9-2"), TEST, 1, "both a file"),
        (&row("` | |", "` | Not all. |"), CODE, TEST, 1, "In part: "),
        (&twice, CODE, TEST, 1, "is there twice"),
        (&row(" | |", " |"), CODE, TEST, 2, "4 columns, not 5"),
        (&row("| 8656", "|8656"), CODE, TEST, 2, "not a row"),
        (&row("8656-9-1", "8489-9-1"), CODE, TEST, 2, "no id like"),
        (&row("8656-9-1", "8656-9"), CODE, TEST, 2, "no id like"),
        (&row("MUST", "may"), CODE, TEST, 1, "has no MUST"),
    ] {
        let problems = check(row, code, test);
        assert_eq!(problems.len(), count, "{row}: {problems:?}");
        assert!(problems.iter().any(|p| p.contains(found)), "{row}: {problems:?}");
    }
    let with_reason = undone.replace("| | | |", "| | | It can't be. |");
    let partly = row("` | |", "` | In part: not all. |");
    for rows in [format!("{ROW}\n{with_reason}"), partly] {
        assert_eq!(check(&rows, CODE, TEST), [""; 0]);
    }
}
