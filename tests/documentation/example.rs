//! The whole file with comments: `examples/lakebed.yaml` shows every key, as it is or behind a `#`.

use std::collections::BTreeSet;

use super::keys;

const EXAMPLE: &str = include_str!("../../examples/lakebed.yaml");

/// The keys of a file whose examples stand behind a `#`, by their place. What stands behind one on a
/// line is as good as another key there.
fn shown() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    for line in EXAMPLE.lines() {
        let bare = line.replacen("# ", "", 1);
        let line = if line.trim_start().starts_with("# ") { bare.as_str() } else { line };
        let entry = line.replacen("  - ", "    ", 1);
        let indent = entry.len() - entry.trim_start().len();
        let Some((key, value)) = entry.trim_start().split_once(':') else { continue };
        if !is_key(key) {
            continue;
        }
        open.retain(|(at, _)| *at < indent);
        let parent = open.last().map_or("", |(_, path)| path.as_str());
        let path = under(parent, key);
        inline(&path, value, &mut found);
        found.insert(path.clone());
        open.push((indent, path));
    }
    found
}

fn is_key(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The place of a key, as the program's keys are written.
fn under(parent: &str, key: &str) -> String {
    match parent {
        "" if key == "tables" => "tables[]".to_owned(),
        "" => key.to_owned(),
        "tables[].columns" => format!("{parent}.*"),
        _ => format!("{parent}.{key}"),
    }
}

/// The keys of a block that is written in one line.
fn inline(path: &str, value: &str, found: &mut BTreeSet<String>) {
    let Some(block) = value.trim_start().strip_prefix('{') else { return };
    let mut open = vec![path.to_owned()];
    let mut last = path.to_owned();
    let mut word = String::new();
    let mut is_text = false;
    for c in block.chars() {
        match c {
            '"' => is_text = !is_text,
            _ if is_text => {}
            '{' => open.push(last.clone()),
            '}' => {
                open.pop();
            }
            ':' if is_key(&word) => {
                let Some(parent) = open.last() else { return };
                last = under(parent, &word);
                found.insert(last.clone());
            }
            _ if c.is_alphanumeric() || c == '_' => {
                word.push(c);
                continue;
            }
            _ => {}
        }
        word.clear();
    }
}

#[test]
fn the_example_shows_every_key_and_no_other() {
    let (known, shown) = (keys::all(), shown());
    let refused = super::not_yet();
    let missing: Vec<_> = known.difference(&shown).filter(|key| !refused.contains(*key)).collect();
    assert!(missing.is_empty(), "examples/lakebed.yaml does not show {missing:?}");
    // What a table overrides has the keys of what it overrides.
    let is_block = |key: &str| known.iter().any(|known| known.starts_with(&format!("{key}.")));
    let overrides = |key: &str| known.iter().any(|known| key.starts_with(&format!("{known}.")));
    let invented: Vec<_> = shown
        .difference(&known)
        .filter(|key| !is_block(key) && !overrides(key) && *key != "tables[]")
        .collect();
    assert!(invented.is_empty(), "examples/lakebed.yaml shows {invented:?}, which nobody reads");
}
