//! Reads a page into what is run and what is not, and writes it again.
//!
//! `<!-- scene NAME -->` says what is arranged for the commands that follow. A command is a line with `$ ` in a block marked `console`,
//! and the lines behind it are what it prints. Any other kind of block would be one that nothing holds to the truth: it is refused.

use std::fmt;
use std::fs;
use std::path::Path;

const SCENE: &str = "<!-- scene ";
const SCENE_ENDS: &str = " -->";
const FENCE: &str = "```";
const PROMPT: &str = "$ ";

/// A page, in its order.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) parts: Vec<Part>,
}

/// A piece of a page.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A line that is not run.
    Text(String),
    /// What is arranged from here on.
    Scene(String),
    /// Commands, and what they print.
    Console(Vec<Shown>),
    /// A configuration.
    Toml(String),
}

/// A command and what it prints.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) command: String,
    /// Each line with its end.
    pub(crate) output: String,
}

impl Page {
    pub(crate) fn read(path: &Path) -> Page {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut parts = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(kind) = line.strip_prefix(FENCE) else {
                let scene = line.strip_prefix(SCENE).and_then(|rest| rest.strip_suffix(SCENE_ENDS));
                parts.push(scene.map_or_else(|| Part::Text(line.to_owned()), |name| Part::Scene(name.to_owned())));
                continue;
            };
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != FENCE).collect();
            parts.push(match kind {
                "console" => Part::Console(commands(&block)),
                "toml" => Part::Toml(block.iter().map(|line| format!("{line}\n")).collect()),
                _ => panic!("{}: a block of {kind:?}, which nothing would try", path.display()),
            });
        }
        Page { parts }
    }

    /// All commands, in their order.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Shown> {
        self.parts.iter().flat_map(|part| match part {
            Part::Console(shown) => shown.as_slice(),
            Part::Text(_) | Part::Scene(_) | Part::Toml(_) => &[],
        })
    }

    /// The configuration of a page that has one.
    pub(crate) fn only_toml(&self) -> String {
        let mut found = self.parts.iter().filter_map(|part| match part {
            Part::Toml(toml) => Some(toml.clone()),
            Part::Text(_) | Part::Scene(_) | Part::Console(_) => None,
        });
        let first = found.next().expect("the page has a configuration");
        assert_eq!(found.next(), None, "and no other one");
        first
    }

    /// What its text tells to call: `ostler …` in backticks.
    pub(crate) fn advised(&self) -> Vec<String> {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text),
            Part::Scene(_) | Part::Console(_) | Part::Toml(_) => None,
        });
        let quoted = texts.flat_map(|text| text.split('`').skip(1).step_by(2));
        quoted.filter(|words| *words == "ostler" || words.starts_with("ostler ")).map(str::to_owned).collect()
    }
}

fn commands(block: &[&str]) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    for line in block {
        if let Some(command) = line.strip_prefix(PROMPT) {
            found.push(Shown { command: command.to_owned(), output: String::new() });
        } else {
            let last = found.last_mut().unwrap_or_else(|| panic!("{line:?} belongs to no command"));
            last.output += &format!("{line}\n");
        }
    }
    found
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => writeln!(f, "{text}")?,
                Part::Scene(name) => writeln!(f, "{SCENE}{name}{SCENE_ENDS}")?,
                Part::Toml(text) => write!(f, "{FENCE}toml\n{text}{FENCE}\n")?,
                Part::Console(shown) => {
                    writeln!(f, "{FENCE}console")?;
                    for Shown { command, output } in shown {
                        write!(f, "{PROMPT}{command}\n{output}")?;
                    }
                    writeln!(f, "{FENCE}")?;
                }
            }
        }
        Ok(())
    }
}
