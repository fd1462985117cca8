//! Loads the configuration file: one YAML file, strict, every problem with its line.
//!
//! Owns reading, references to secrets and the places of problems; what a configuration may say is
//! the business of [`lakebed_schemas::config`]. Invariant: no message holds a value that came from
//! a reference.

mod reference;
mod shape;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};

use lakebed_schemas::config::{Config, Problem, ResolvedConfig};

/// What is wrong with a configuration file: every problem, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// At least one.
    pub problems: Vec<PlacedProblem>,
}

/// A problem and where it is.
#[derive(Debug)]
pub struct PlacedProblem {
    /// Line and column, from 1; `None` where the file could not be read at all.
    pub place: Option<(u64, u64)>,
    /// The problem.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, placed) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some((line, column)) = placed.place {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {}", placed.problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads, resolves and checks a configuration file. References are resolved from the process's
/// environment; relative paths start from the file's folder.
///
/// # Errors
/// With every problem found.
pub fn load(file: &Path) -> Result<ResolvedConfig, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let next = "name the file with --config, or set LAKEBED_CONFIG";
        let problem = Problem::new("", format!("cannot be read: {error}"), next);
        one(file, None, problem)
    })?;
    parse(&text, file, &|name| std::env::var(name).ok())
}

/// What [`load`] does, from text that is there already and an environment that is given.
///
/// # Errors
/// With every problem found.
pub fn parse(
    text: &str,
    file: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<ResolvedConfig, ConfigError> {
    let mut tree = tree::parse(text).map_err(|(place, message)| {
        let next = "correct the YAML; indent by spaces, quote texts with special characters";
        one(file, place, Problem::new("", format!("is not valid YAML: {message}"), next))
    })?;
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let surroundings = reference::Surroundings { env, folder: &folder };
    let mut resolved = reference::resolve(&mut tree, &surroundings);
    let mut problems = std::mem::take(&mut resolved.problems);
    match shape::read::<Config>(&mut tree) {
        Err(more) => problems.extend(more),
        // What a missing reference would have given cannot be judged.
        Ok(config) if problems.is_empty() => match absolute(config, &folder).resolve() {
            Ok(config) => return Ok(config),
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| placed(&tree, problem)));
            }
        },
        Ok(_) => {}
    }
    problems.sort_by_key(|(place, _)| *place);
    let problems = problems.into_iter().map(|(place, problem)| PlacedProblem {
        place: Some((place.line, place.column)),
        problem: Problem { message: redacted(problem.message, &resolved.values), ..problem },
    });
    Err(ConfigError { file: file.to_owned(), problems: problems.collect() })
}

/// A location that is neither absolute nor a URL starts from the file's folder.
fn absolute(mut config: Config, folder: &Path) -> Config {
    let location = &mut config.lake.location;
    let relative = !location.is_empty() && !location.contains("://") && !location.starts_with('/');
    if relative && let Ok(path) = std::path::absolute(folder.join(&*location)) {
        *location = path.to_string_lossy().into_owned();
    }
    config
}

/// Finds where a problem is; hides what it quotes if that came from a reference.
fn placed(tree: &tree::Node, mut problem: Problem) -> (tree::Place, Problem) {
    let (place, node) = tree.find(&problem.path);
    if node.is_some_and(|node| node.referenced) {
        let parts = problem.message.split('`').enumerate();
        let parts = parts.map(|(index, part)| if index % 2 == 1 { "[not shown]" } else { part });
        problem.message = parts.collect();
    }
    (place, problem)
}

fn redacted(message: String, values: &[String]) -> String {
    let values = values.iter().filter(|value| !value.is_empty());
    values.fold(message, |message, value| message.replace(value.as_str(), "[not shown]"))
}

fn one(file: &Path, place: Option<tree::Place>, problem: Problem) -> ConfigError {
    let place = place.map(|place| (place.line, place.column));
    ConfigError { file: file.to_owned(), problems: vec![PlacedProblem { place, problem }] }
}

#[cfg(test)]
mod tests;
