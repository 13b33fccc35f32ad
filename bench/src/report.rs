//! bench/RESULTS.md: a section a bench, each written by its bench alone.

use std::fs;
use std::path::Path;

use crate::args::Common;
use crate::machine;

const HEAD: &str = "# Results\n\n\
    Written by `bench/wear`, `bench/throughput`, `bench/footprint` and `bench/recovery`, each its own section; not \
    by hand. Both programs run in the same run, in turns; figures are medians of the rounds. \
    What to look at are the ratios.\n";

/// The order of the sections.
const SECTIONS: [&str; 4] = ["wear", "throughput", "footprint", "recovery"];

/// A bench's section as it grows.
pub struct Report {
    name: &'static str,
    text: String,
}

impl Report {
    /// Begins with what is measured, the machine and the versions.
    pub fn begin(common: &Common, name: &'static str, what: &str) -> Report {
        let mut report = Report {
            name,
            text: String::new(),
        };
        let mode = if common.quick { ", --quick" } else { "" };
        report.say(&format!("\n## bench/{name}{mode}\n\n{what}\n"));
        report.say(&machine::describe(common));
        report
    }

    /// Text, printed at once.
    pub fn say(&mut self, text: &str) {
        println!("{text}");
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A table.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let mut text = format!("| {} |\n|", head.join(" | "));
        for column in 0..head.len() {
            text.push_str(if column == 0 { "---|" } else { "--:|" });
        }
        for row in rows {
            text.push_str(&format!("\n| {} |", row.join(" | ")));
        }
        text.push('\n');
        self.say(&text);
    }

    /// Writes the section to the page.
    pub fn end(self, common: &Common) {
        let Some(page) = common.results() else {
            return;
        };
        let old = fs::read_to_string(&page).unwrap_or_default();
        fs::write(&page, with_section(&old, self.name, &self.text)).unwrap();
        eprintln!("written to {}", shown(&page));
    }
}

fn shown(page: &Path) -> String {
    fs::canonicalize(page)
        .unwrap_or_else(|_| page.to_path_buf())
        .display()
        .to_string()
}

/// The page with this section replaced or added.
fn with_section(old: &str, name: &str, text: &str) -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        let heading = format!("## bench/{section}");
        let kept = old
            .split_inclusive('\n')
            .skip_while(|line| !line.starts_with(&heading))
            .enumerate()
            .take_while(|(number, line)| *number == 0 || !line.starts_with("## "))
            .map(|(_, line)| line)
            .collect::<String>();
        let text = if section == name { text } else { &kept };
        if !text.trim().is_empty() {
            page.push('\n');
            page.push_str(text.trim());
            page.push('\n');
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_are_kept() {
        let page = with_section("", "recovery", "## bench/recovery\n\nold");
        let page = with_section(&page, "wear", "## bench/wear\n\nfirst");
        let page = with_section(&page, "recovery", "## bench/recovery\n\nnew\n");
        assert_eq!(
            page,
            format!("{HEAD}\n## bench/wear\n\nfirst\n\n## bench/recovery\n\nnew\n")
        );
    }
}
