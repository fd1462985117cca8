//! References to values outside the file: `${env:NAME}` and `${file:/path}`, inside texts only.

use std::path::Path;

use lakebed_schemas::config::Problem;

use super::shape::Placed;
use super::tree::{Node, Step, Value, path};

/// Where referenced values come from.
pub(super) struct Surroundings<'a> {
    /// Gives an environment variable.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Folder that relative paths start from.
    pub(super) folder: &'a Path,
}

/// What was resolved: the values, so that no message repeats one, and what could not be.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) values: Vec<String>,
    pub(super) problems: Vec<Placed>,
}

/// Replaces every reference below `node` by its value.
pub(super) fn resolve(node: &mut Node, surroundings: &Surroundings<'_>) -> Resolved {
    let mut resolved = Resolved::default();
    visit(node, &mut Vec::new(), surroundings, &mut resolved);
    resolved
}

fn visit(node: &mut Node, steps: &mut Vec<Step>, from: &Surroundings<'_>, resolved: &mut Resolved) {
    let place = node.place;
    match &mut node.value {
        Value::Text(text) if text.contains("${env:") || text.contains("${file:") => {
            match replace(text, from, &mut resolved.values) {
                Ok((value, referenced)) => {
                    *text = value;
                    node.referenced = referenced;
                }
                Err((message, next)) => {
                    let problem = Problem::new(path(steps), message, next);
                    resolved.problems.push((place, problem));
                    // What it would have given is unknown, that it is given is not.
                    node.referenced = true;
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                steps.push(Step::Index(index));
                visit(item, steps, from, resolved);
                steps.pop();
            }
        }
        Value::Map(entries) => {
            for (key, item) in entries {
                steps.push(Step::Key(key.name.clone()));
                visit(item, steps, from, resolved);
                steps.pop();
            }
        }
        _ => {}
    }
}

/// The text with its references replaced, and whether it had any. `$${env:X}` stands for itself.
fn replace(
    text: &str,
    from: &Surroundings<'_>,
    values: &mut Vec<String>,
) -> Result<(String, bool), (String, String)> {
    let mut out = String::new();
    let mut referenced = false;
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        let kind = ["${env:", "${file:"].into_iter().find(|kind| reference.starts_with(kind));
        let Some(kind) = kind else {
            out.push_str(&rest[..start + 2]);
            rest = &rest[start + 2..];
            continue;
        };
        let Some((name, after)) = reference[kind.len()..].split_once('}') else {
            let message = format!("a reference `{kind}` is not closed");
            return Err((message, "end it with `}`".to_owned()));
        };
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str(&reference[..kind.len() + name.len() + 1]);
        } else {
            let value = value(kind, name, from)?;
            out.push_str(before);
            out.push_str(&value);
            values.push(value);
            referenced = true;
        }
        rest = after;
    }
    out.push_str(rest);
    Ok((out, referenced))
}

fn value(kind: &str, name: &str, from: &Surroundings<'_>) -> Result<String, (String, String)> {
    if kind == "${env:" {
        return (from.env)(name).ok_or_else(|| {
            let message = format!("environment variable `{name}` is not set");
            (message, format!("set `{name}` for this process"))
        });
    }
    let file = from.folder.join(name);
    match std::fs::read_to_string(&file) {
        // Editors end files with a line break that no secret has.
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err((
            format!("file `{}` cannot be read: {error}", file.display()),
            "create it, or let this process read it".to_owned(),
        )),
    }
}
