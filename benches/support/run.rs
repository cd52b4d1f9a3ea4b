//! What a race is called with, and its way from the first row to the table. Each race has a `HELP` of its own.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::HELP;
use crate::report::{self, Line};

/// Where the figures go, besides standard output.
#[derive(Default)]
pub struct Output {
    /// A file, or `-`.
    pub json: Option<String>,
    /// The document that has the table between its marks.
    pub write: Option<String>,
}

pub fn one_of<T: Copy>(text: &str, all: &[T], name: impl Fn(&T) -> &str) -> T {
    all.iter().copied().find(|one| name(one) == text).unwrap_or_else(|| usage(text))
}

pub fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| usage(text))
}

pub fn help() -> ! {
    print!("{HELP}");
    std::process::exit(0);
}

pub fn usage(what: &str) -> ! {
    eprintln!("{what}: not understood\n\n{HELP}");
    std::process::exit(2);
}

impl Output {
    /// Measures row by row, and shows each as it comes. `name`: that of the marks; `profile`: for the last line.
    pub fn of<R>(
        self,
        name: &str,
        profile: &str,
        about: &BTreeMap<&str, String>,
        rows: &[R],
        mut measure: impl FnMut(&R) -> Vec<Line>,
    ) {
        let start = Instant::now();
        let mut lines: Vec<Line> = Vec::new();
        println!("{}", report::head());
        for row in rows {
            let measured = measure(row);
            print!("{}", report::text(&measured));
            lines.extend(measured);
        }
        print!("\n{}", report::verdict(&lines));
        println!("{} s; profile {profile}", start.elapsed().as_secs());

        match self.json.as_deref() {
            Some("-") => println!("{:#}", report::json(about, &lines)),
            Some(file) => std::fs::write(file, format!("{:#}\n", report::json(about, &lines))).unwrap(),
            None => {}
        }
        if let Some(file) = self.write {
            let document =
                std::fs::read_to_string(&file).unwrap_or_else(|e| usage(&format!("--write {file}: {e}")));
            let document = report::put(&document, name, &report::markdown(about, &lines));
            std::fs::write(&file, document.unwrap_or_else(|| usage("--write: the marks are missing")))
                .unwrap();
        }
    }
}
