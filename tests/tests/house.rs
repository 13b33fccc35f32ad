//! The rules of the house that no compiler checks: who may depend on whom, which library is named where, how long a
//! file may be, that links lead somewhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::daemon::workspace_dir;

/// Every package of ours and what of ours it may depend on.
const EDGES: [(&str, &[&str]); 11] = [
    ("protocol", &[]),
    ("storage", &[]),
    ("runtime", &[]),
    ("config", &["protocol"]),
    ("client", &["protocol", "runtime"]),
    ("broker", &["protocol", "storage", "config", "runtime"]),
    ("lookupd", &["protocol", "config", "runtime"]),
    ("forwarder", &["protocol", "config", "runtime", "client"]),
    (
        "nsq-edge",
        &[
            "protocol",
            "storage",
            "config",
            "runtime",
            "client",
            "broker",
            "lookupd",
            "forwarder",
        ],
    ),
    (
        "tests",
        &[
            "protocol",
            "storage",
            "config",
            "runtime",
            "client",
            "broker",
            "lookupd",
            "forwarder",
            "nsq-edge",
        ],
    ),
    ("bench", &["protocol", "client", "tests"]),
];

/// Crates with one home: nobody else names them.
const HOMES: [(&str, &[&str]); 8] = [
    ("smol", &["runtime"]),
    ("async-io", &["runtime"]),
    ("hyper", &["runtime"]),
    ("smol-hyper", &["runtime"]),
    ("http-body-util", &["runtime"]),
    ("systemd", &["runtime"]),
    ("postcard", &["storage"]),
    ("crc", &["storage"]),
];

const CODE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 100;
/// rustfmt keeps code to 100; a row of a table in a comment may be longer.
const COLUMNS_MAX: usize = 120;

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(workspace_dir())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Package name to the names that it depends on, development and build dependencies included.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    metadata()["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            (
                name(package),
                package["dependencies"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(name)
                    .collect(),
            )
        })
        .collect()
}

#[test]
fn crates_depend_on_each_other_only_as_the_architecture_says() {
    let found = dependencies();
    let known: BTreeMap<&str, BTreeSet<&str>> = EDGES
        .iter()
        .map(|(name, allowed)| (*name, allowed.iter().copied().collect()))
        .collect();
    let names: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        known.keys().copied().collect(),
        "a new crate needs its edges listed here"
    );
    for (package, depends) in &found {
        for on in depends.iter().filter(|on| known.contains_key(on.as_str())) {
            assert!(
                known[package.as_str()].contains(on.as_str()),
                "{package} must not depend on {on}"
            );
        }
    }
}

#[test]
fn libraries_are_named_only_in_their_home() {
    for (package, depends) in dependencies() {
        for (library, homes) in HOMES {
            let allowed = homes.contains(&package.as_str());
            assert!(
                allowed || !depends.contains(library),
                "{package} must not name {library}: that is for {homes:?}"
            );
        }
    }
}

#[test]
fn nix_is_behind_the_disk_seam_in_storage() {
    for file in files(&["rs"])
        .iter()
        .filter(|file| file.starts_with("storage/src"))
    {
        let named = read(file)
            .lines()
            .any(|line| !comment(line) && line.contains("nix::"));
        assert!(
            !named || file.ends_with("disk/linux.rs"),
            "{}: only disk/linux.rs calls nix",
            file.display()
        );
    }
}

#[test]
fn every_crate_takes_the_workspaces_lints_and_version() {
    let members = EDGES.map(|(name, _)| if name == "nsq-edge" { "gateway" } else { name });
    for member in members {
        let manifest = read(&PathBuf::from(member).join("Cargo.toml"));
        for line in [
            "[lints]\nworkspace = true",
            "rust-version.workspace = true",
            "edition.workspace = true",
        ] {
            assert!(
                manifest.contains(line),
                "{member}/Cargo.toml lacks {line:?}"
            );
        }
    }
    let root = read(Path::new("Cargo.toml"));
    for line in [
        "unsafe_code = \"forbid\"",
        "unwrap_used = \"deny\"",
        "indexing_slicing = \"deny\"",
        "rust-version = \"1.85\"",
    ] {
        assert!(root.contains(line), "Cargo.toml lacks {line:?}");
    }
}

#[test]
fn clocks_are_read_in_one_place() {
    // clippy.toml bans the calls; whoever lifts the ban is listed here.
    const LIFTED: [&str; 4] = [
        "runtime/src/clock.rs",
        "tests/src/wait.rs",
        "storage/src/worker.rs",
        "tests/tests/house.rs",
    ];
    for file in files(&["rs"]) {
        let lifted = read(&file)
            .lines()
            .any(|line| !comment(line) && line.contains("clippy::disallowed_methods"));
        let name = file.to_str().unwrap();
        let allowed = LIFTED.contains(&name)
            || name.starts_with("gateway/src/demo")
            || name.starts_with("bench/");
        assert!(!lifted || allowed, "{name} lifts a ban of clippy.toml");
    }
}

#[test]
fn files_and_functions_stay_short() {
    let mut long = Vec::new();
    for file in files(&["rs"]) {
        let text = read(&file);
        // Tests stand last in a file and may be long tables.
        let code = text.split("#[cfg(test)]").next().unwrap();
        let is_test = file.components().any(|part| part.as_os_str() == "tests");
        if !is_test && code.lines().count() > CODE_LINES_MAX {
            long.push(format!(
                "{}: {} lines (max {CODE_LINES_MAX})",
                file.display(),
                code.lines().count()
            ));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX
                && !["http", "\"", "//! |"]
                    .iter()
                    .any(|part| line.contains(part))
            {
                long.push(format!(
                    "{}:{}: over {COLUMNS_MAX} columns",
                    file.display(),
                    number + 1
                ));
            }
        }
        if !is_test {
            long.extend(long_functions(&file, code));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Functions by rustfmt's shape: from a line with `fn` to the `}` at its indentation.
fn long_functions(file: &Path, code: &str) -> Vec<String> {
    let mut long = Vec::new();
    let lines: Vec<&str> = code.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let word = line.trim_start();
        let indent = line.len() - word.len();
        let is_function = [
            "fn ",
            "pub fn ",
            "pub(crate) fn ",
            "async fn ",
            "pub async fn ",
            "pub(crate) async fn ",
        ]
        .iter()
        .any(|prefix| word.starts_with(prefix));
        if !is_function || line.ends_with(';') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let length = lines[start..]
            .iter()
            .position(|line| **line == close)
            .unwrap_or(0)
            + 1;
        if length > FUNCTION_LINES_MAX {
            long.push(format!(
                "{}:{}: a function of {length} lines (max {FUNCTION_LINES_MAX})",
                file.display(),
                start + 1
            ));
        }
    }
    long
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    // Split, so that this file does not find itself.
    let banned = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["HA", "CK"],
        ["un", "safe {"],
        ["#[ig", "nore]"],
    ]
    .map(|parts| parts.concat());
    let mut found = Vec::new();
    for file in files(&["rs", "sh", "py", "go", "js", "md", "toml"]) {
        for (number, line) in read(&file).lines().enumerate() {
            for word in banned.iter().filter(|word| line.contains(word.as_str())) {
                found.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut dead = Vec::new();
    for file in files(&["md"]) {
        let text = read(&file);
        for link in links(&text) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = workspace_dir().join(file.parent().unwrap()).join(target);
            if !path.exists() {
                dead.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

fn comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn read(file: &Path) -> String {
    fs::read_to_string(workspace_dir().join(file))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The files of the repository with these endings, from its root.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(workspace_dir().join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.')
                    && !["target", "node_modules", "corpus", "artifacts"].contains(&name.as_str())
                {
                    directories.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|ending| endings.contains(&ending.to_str().unwrap()))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
