//! Which topics an entry reads, and what its tables are called.

use std::collections::BTreeMap;

use regex::Regex;

use super::resolve::{ResolvedConfig, ResolvedTable};
use super::{Problem, Table};

/// The topics of one entry.
#[derive(Debug, Clone)]
pub enum Topics {
    /// These.
    Names(Vec<String>),
    /// Every topic that the expression matches as a whole, but for internal ones.
    Pattern {
        /// As written.
        text: String,
        /// Anchored at both ends.
        regex: Regex,
        /// Dead-letter topics of ours: whatever they are called, they hold no rows.
        except: Vec<String>,
    },
}

impl Topics {
    /// Whether the entry reads this topic.
    pub fn contains(&self, topic: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| name == topic),
            Self::Pattern { regex, except, .. } => {
                regex.is_match(topic)
                    && !is_internal_topic(topic)
                    && !except.iter().any(|name| name == topic)
            }
        }
    }
}

/// Whether a topic holds no rows of a source table, so that patterns leave it out: Kafka's own,
/// Debezium's heartbeats and transaction metadata.
pub fn is_internal_topic(topic: &str) -> bool {
    topic.starts_with("__") || topic == "_schemas" || topic.ends_with(".transaction")
}

/// How the name of a table comes from the name of its topic.
#[derive(Debug, Clone)]
pub enum NameRule {
    /// The topic without its prefix (or first segment), made a name.
    Default {
        /// Debezium's `topic.prefix`, where given.
        prefix: Option<String>,
    },
    /// The same for all topics, or with captures of the pattern.
    Template(Vec<Piece>),
}

/// A piece of a name template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A capture of the topic pattern, by name or number.
    Capture(String),
}

/// Lower case, and whatever is not `[a-z0-9_]` becomes `_`.
fn as_name(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    text.chars().map(keep).collect()
}

/// Whether this may name a table or a database in every catalog: `[a-z0-9_]`, a letter or `_` first.
pub(super) fn is_name(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.len() <= 128
        && text.chars().all(valid)
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
}

impl NameRule {
    /// Name of the table that this topic goes to; `None` if nothing is left of it.
    pub fn table_name(&self, topics: &Topics, topic: &str) -> Option<String> {
        let name = match self {
            Self::Default { prefix } => {
                let without = prefix
                    .as_ref()
                    .and_then(|prefix| topic.strip_prefix(prefix.as_str())?.strip_prefix('.'));
                as_name(without.unwrap_or_else(|| topic.split_once('.').map_or(topic, |(_, r)| r)))
            }
            Self::Template(pieces) => {
                let captures = match topics {
                    Topics::Pattern { regex, .. } => regex.captures(topic),
                    Topics::Names(_) => None,
                };
                let capture = |name: &str| {
                    let captures = captures.as_ref()?;
                    let number = name.parse::<usize>().ok().and_then(|n| captures.get(n));
                    Some(number.or_else(|| captures.name(name))?.as_str().to_owned())
                };
                let pieces = pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Capture(name) => as_name(&capture(name).unwrap_or_default()),
                });
                pieces.collect()
            }
        };
        // A name may not begin with a digit in every engine.
        let name =
            if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name };
        (!name.is_empty()).then_some(name)
    }
}

/// Splits a name into text and captures: `$1`, `$table`, `${table}`.
fn pieces(template: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('$') {
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                let is_number = after.starts_with(|c: char| c.is_ascii_digit());
                let ends = |c: char| match is_number {
                    true => !c.is_ascii_digit(),
                    false => !c.is_ascii_alphanumeric() && c != '_',
                };
                after.split_at(after.find(ends).unwrap_or(after.len()))
            }
        };
        if name.is_empty() {
            return None;
        }
        pieces.push(Piece::Capture(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Some(pieces)
}

/// The topics of an entry; `None` when a problem was found.
pub(super) fn topics(table: &Table, path: &str, problems: &mut Vec<Problem>) -> Option<Topics> {
    let mut problem = |key: &str, message: String, next: &str| {
        problems.push(Problem::new(format!("{path}{key}"), message, next));
        None
    };
    match (&table.topic, &table.topics, &table.topic_pattern) {
        (Some(topic), None, None) if topic.is_empty() => {
            problem(".topic", "the topic has no name".to_owned(), "name it")
        }
        (Some(topic), None, None) => Some(Topics::Names(vec![topic.clone()])),
        (None, Some(topics), None) if topics.is_empty() || topics.iter().any(String::is_empty) => {
            problem(".topics", "a topic has no name, or there is none".to_owned(), "name them")
        }
        (None, Some(topics), None) => Some(Topics::Names(topics.clone())),
        (None, None, Some(text)) => match Regex::new(&format!("^(?:{text})$")) {
            Ok(regex) => Some(Topics::Pattern { text: text.clone(), regex, except: Vec::new() }),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().to_owned();
                problem(
                    ".topic_pattern",
                    format!("is no regular expression: {reason}"),
                    "write it in the syntax of Rust's `regex`; put it in single quotes",
                )
            }
        },
        (None, None, None) => problem(
            "",
            "names no topic".to_owned(),
            "give one of `topic`, `topics` or `topic_pattern`",
        ),
        _ => problem(
            "",
            "names topics in more than one way".to_owned(),
            "keep one of `topic`, `topics` and `topic_pattern`",
        ),
    }
}

/// The name rule of an entry; `None` when a problem was found.
pub(super) fn name_rule(
    table: &Table,
    topics: &Topics,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<NameRule> {
    let Some(name) = &table.name else {
        return Some(NameRule::Default { prefix: table.topic_prefix.clone() });
    };
    let path = format!("{path}.name");
    let Some(pieces) = pieces(name) else {
        let message = format!("`{name}` has a `$` that names no capture");
        problems.push(Problem::new(path, message, "write captures as `$1` or `${table}`"));
        return None;
    };
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => Some(text.clone()),
        Piece::Capture(_) => None,
    };
    let fixed: String = pieces.iter().filter_map(text).collect();
    if !fixed.is_empty() && !is_name(&format!("_{fixed}"))
        || (pieces.len() == 1 && !fixed.is_empty() && !is_name(&fixed))
        || pieces.is_empty()
    {
        problems.push(Problem::new(
            path,
            format!("`{name}` cannot name a table in every catalog"),
            "use lower case letters, digits and `_`, beginning with a letter",
        ));
        return None;
    }
    for piece in &pieces {
        let Piece::Capture(capture) = piece else { continue };
        let known = match topics {
            Topics::Names(_) => false,
            Topics::Pattern { regex, .. } => match capture.parse::<usize>() {
                Ok(number) => number < regex.captures_len(),
                Err(_) => regex.capture_names().flatten().any(|name| name == capture),
            },
        };
        if !known {
            problems.push(Problem::new(
                path,
                format!("`{name}` uses capture `{capture}`, which the topics do not have"),
                "give a `topic_pattern` with that group, or another name",
            ));
            return None;
        }
    }
    Some(NameRule::Template(pieces))
}

/// One table (both its layers) with its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// Index of its entry in [`ResolvedConfig::tables`].
    pub entry: usize,
    /// Name of the table.
    pub name: String,
    /// Topics that go into it, sorted.
    pub topics: Vec<String>,
}

impl ResolvedConfig {
    /// Finds which of the cluster's topics go to which tables. Topics that entries name are
    /// included whether the cluster has them or not; dead-letter topics of ours never match a
    /// pattern.
    ///
    /// # Errors
    /// Every clash: two topics that would share a table without a `name` that says so, two entries
    /// with the same table. Both would mix rows that belong apart.
    pub fn route<'a>(
        &self,
        cluster_topics: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Routed>, Vec<Problem>> {
        let cluster: Vec<&str> = cluster_topics.into_iter().collect();
        let mut problems = Vec::new();
        let mut routed = Vec::new();
        for (entry, table) in self.tables.iter().enumerate() {
            let tables = self.route_entry(table, &cluster, &mut problems);
            routed.extend(tables.into_iter().map(|(name, topics)| Routed { entry, name, topics }));
        }
        self.find_shared_paths(&routed, &mut problems);
        if problems.is_empty() { Ok(routed) } else { Err(problems) }
    }

    fn route_entry(
        &self,
        table: &ResolvedTable,
        cluster: &[&str],
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<String, Vec<String>> {
        let topics: Vec<String> = match &table.topics {
            Topics::Names(names) => names.clone(),
            Topics::Pattern { .. } => {
                let wanted = |topic: &&&str| table.topics.contains(topic);
                cluster.iter().filter(wanted).map(|topic| (*topic).to_owned()).collect()
            }
        };
        let mut tables = BTreeMap::<String, Vec<String>>::new();
        for topic in topics {
            match table.name.table_name(&table.topics, &topic) {
                Some(name) => tables.entry(name).or_default().push(topic),
                None => problems.push(Problem::new(
                    &table.path,
                    format!("topic `{topic}` gives an empty table name"),
                    "give a `name`",
                )),
            }
        }
        for (name, topics) in &mut tables {
            topics.sort_unstable();
            topics.dedup();
            if topics.len() > 1 && matches!(table.name, NameRule::Default { .. }) {
                problems.push(Problem::new(
                    &table.path,
                    format!("topics {} would share table `{name}`", quoted(topics)),
                    "give the entry a `name` if they are to be merged, else entries of their own",
                ));
            }
        }
        tables
    }

    fn find_shared_paths(&self, routed: &[Routed], problems: &mut Vec<Problem>) {
        let mut owners = BTreeMap::new();
        for table in routed {
            let entry = &self.tables[table.entry];
            let databases = [&entry.layers.bronze, &entry.layers.silver].into_iter().flatten();
            for database in databases {
                let path = format!("{database}.{}", table.name);
                let owner = *owners.entry(path.clone()).or_insert(table.entry);
                if owner != table.entry {
                    problems.push(Problem::new(
                        &entry.path,
                        format!(
                            "table `{path}` is also the table of `{}`",
                            self.tables[owner].path
                        ),
                        "give one of them another `name`, or other databases under `layers`",
                    ));
                }
            }
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
