//! Is the house in order: licences, dependencies, and the rules that tests keep?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ostler_tests::{bounded, place};
use serde_json::Value;

/// Licences whose terms ostler can be given away under.
const ALLOWED: [&str; 10] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "CC0-1.0",
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--locked", "--format-version", "1"]).current_dir(place::workspace());
    let output = bounded::run(&mut command, Duration::from_secs(300));
    assert_eq!(output.code, 0, "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("cargo speaks JSON")
}

/// `A OR B` needs one that is allowed, `A AND B` both; parentheses as in SPDX.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.trim().replace('/', " OR ");
    if ALLOWED.contains(&expression.as_str()) {
        return true;
    }
    for (word, all) in [(" AND ", true), (" OR ", false)] {
        let parts = split_outside(&expression, word);
        if parts.len() > 1 {
            return if all {
                parts.iter().all(|part| is_allowed(part))
            } else {
                parts.iter().any(|part| is_allowed(part))
            };
        }
    }
    expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).is_some_and(is_allowed)
}

/// Splits at a word that stands outside of parentheses.
fn split_outside(expression: &str, word: &str) -> Vec<String> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, letter) in expression.char_indices() {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        if depth == 0 && at >= start && expression[at..].starts_with(word) {
            parts.push(expression[start..at].to_owned());
            start = at + word.len();
        }
    }
    parts.push(expression[start..].to_owned());
    parts
}

#[test]
fn the_check_of_licences_understands_their_expressions() {
    for good in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(is_allowed(good), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR AGPL-3.0) AND MIT", ""] {
        assert!(!is_allowed(bad), "{bad}");
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_allowed))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(packages.len() > 20, "cargo metadata lists the whole tree");
}

#[test]
fn every_direct_dependency_has_its_line_in_the_docs() {
    let docs = std::fs::read_to_string(place::workspace().join("docs/dependencies.md")).expect("docs/dependencies.md");
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: Vec<&Value> = packages.iter().filter(|package| package["source"].is_null()).collect();
    let our_names: BTreeSet<&str> = ours.iter().filter_map(|package| package["name"].as_str()).collect();
    let direct: BTreeSet<&str> = ours
        .iter()
        .flat_map(|package| package["dependencies"].as_array().into_iter().flatten())
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|name| !our_names.contains(name))
        .collect();
    let has_line = |name: &str| docs.lines().any(|line| line.contains(&format!("`{name}`")));
    let missing: Vec<&&str> = direct.iter().filter(|name| !has_line(name)).collect();
    assert!(missing.is_empty(), "docs/dependencies.md says nothing about {missing:?}");
}

#[test]
fn every_dependency_of_the_python_package_has_its_line_in_the_docs() {
    let docs = std::fs::read_to_string(place::workspace().join("docs/dependencies.md")).expect("docs/dependencies.md");
    let project = std::fs::read_to_string(place::workspace().join("worker/python/pyproject.toml")).expect("ours");
    let mut section = "";
    let mut names = BTreeSet::new();
    for line in project.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            section = line;
        } else if section == "[project.optional-dependencies]" || ["requires", "dependencies"].contains(&key) {
            let quoted = line.split('"').skip(1).step_by(2);
            let end_of_name = |c: char| !c.is_alphanumeric() && !"-_.".contains(c);
            names.extend(quoted.filter_map(|text| text.split(end_of_name).next()));
        }
    }
    assert!(names.contains("setuptools"), "{names:?}: each list stands on one line");
    let missing: Vec<_> = names.iter().filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/dependencies.md says nothing about {missing:?}");
}

/// Every file of this extension in the workspace, outside of target directories.
fn sources(extension: &str, dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of ours").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        // `build` is what an installation of the Python package leaves.
        if path.is_dir() && !["target", "build"].contains(&&*name) && !name.starts_with('.') {
            sources(extension, &path, found);
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
}

/// Files of `below` that have one of `words`, with the line.
fn files_with(extension: &str, below: &str, words: &[String]) -> Vec<String> {
    let mut files = Vec::new();
    sources(extension, &place::workspace().join(below), &mut files);
    assert!(!files.is_empty());
    let mut hits = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("readable");
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                hits.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    hits
}

#[test]
fn no_test_is_ignored() {
    // Put together here, so that this file does not find itself.
    let hits = files_with("rs", "", &[format!("#[{}", "ignore")]);
    assert!(hits.is_empty(), "{hits:#?}");
}

#[test]
fn no_suite_sleeps() {
    let mut hits = files_with("rs", "tests/suites", &[format!("thread::{}", "sleep"), format!("park_{}", "timeout")]);
    hits.extend(files_with("rs", "tests/interop", &[format!("thread::{}", "sleep"), format!("park_{}", "timeout")]));
    hits.extend(files_with("py", "worker/python/tests", &["sleep(".to_owned()]));
    assert!(hits.is_empty(), "wait for a fact instead: {hits:#?}");
}

#[test]
fn ostler_prints_by_nothing_that_panics_when_nobody_listens() {
    let hits = files_with("rs", "supervisor/src", &[" println!", " print!", "eprintln!", "eprint!"].map(str::to_owned));
    assert!(hits.is_empty(), "use commands/say.rs: {hits:#?}");
}

#[test]
fn every_file_says_at_its_top_what_it_is_for() {
    let mut files = Vec::new();
    sources("rs", &place::workspace(), &mut files);
    sources("py", &place::workspace(), &mut files);
    let says = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("readable");
        text.starts_with("//!") || text.starts_with("\"\"\"")
    };
    let silent: Vec<PathBuf> = files.into_iter().filter(|path| !says(path)).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}
