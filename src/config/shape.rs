//! From the tree to the configuration's types: which keys there may be and what their values are.

use std::fmt;

use serde::Deserialize;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::tree::{Key, Node, Place, Step, Value, path, shortened};
use lakebed_schemas::config::Problem;

/// Unknown keys reported at most, before the rest is left for the next run.
const UNKNOWN_KEYS_MAX: usize = 20;

/// The key whose null is a value and not its absence: `mask: null`.
const NULL_SPEAKS: &str = "mask";

/// A problem with its place.
pub(super) type Placed = (Place, Problem);

/// Reads the types from the tree. Every unknown key is reported; of other mistakes the first.
pub(super) fn read<'de, T: Deserialize<'de>>(tree: &mut Node) -> Result<T, Vec<Placed>> {
    let mut found = Vec::new();
    loop {
        let mistake = match T::deserialize(&*tree) {
            Ok(value) if found.is_empty() => return Ok(value),
            Ok(_) => return Err(found),
            Err(mistake) => mistake,
        };
        let mut steps = mistake.steps.clone();
        steps.reverse();
        let unknown = matches!(mistake.what, What::UnknownField { .. });
        found.push((mistake.place.unwrap_or(tree.place), mistake.problem(&steps)));
        if !unknown || found.len() >= UNKNOWN_KEYS_MAX {
            return Err(found);
        }
        tree.remove(&steps);
    }
}

/// Something in the tree that the types do not take.
#[derive(Debug)]
pub(super) struct Mistake {
    place: Option<Place>,
    /// From the innermost outwards.
    steps: Vec<Step>,
    /// What stands there.
    found: Option<String>,
    what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Expected(String),
    UnknownField { name: String, known: &'static [&'static str] },
    UnknownWord { known: &'static [&'static str] },
    Missing(&'static str),
    NotByReference,
    Other(String),
}

impl Mistake {
    fn new(what: What) -> Self {
        Self { place: None, steps: Vec::new(), found: None, what }
    }

    /// Notes where it was found, unless a node further in has done so.
    fn at(mut self, node: &Node) -> Self {
        if self.place.is_none() {
            self.place = Some(node.place);
            self.found = Some(node.describe());
        }
        self
    }

    fn under(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn problem(&self, steps: &[Step]) -> Problem {
        let found = self.found.as_deref().unwrap_or("nothing");
        let (message, next) = match &self.what {
            What::Expected(expected) => {
                let expected = in_words(expected);
                let number = found.starts_with("the number")
                    || found.starts_with("`true`")
                    || found.starts_with("`false`");
                let next = if expected == "text" && number {
                    "put it in quotes".to_owned()
                } else {
                    format!("write {expected}")
                };
                (format!("expected {expected}, found {found}"), next)
            }
            What::UnknownField { name, known } => {
                (format!("there is no key `{}`", shortened(name)), did_you_mean(name, known))
            }
            What::UnknownWord { known } => {
                let word = found.trim_matches('`');
                (format!("{found} is not known here"), did_you_mean(word, known))
            }
            What::Missing(name) => ("is missing".to_owned(), format!("add `{name}`")),
            What::NotByReference => (
                "a secret stands in the file itself".to_owned(),
                "write a reference: \"${env:NAME}\" or \"${file:/path}\"".to_owned(),
            ),
            What::Other(message) => (message.clone(), "see the documented keys".to_owned()),
        };
        Problem::new(path(steps), message, next)
    }
}

/// What serde says it expected, in the words of someone who writes YAML.
fn in_words(expected: &str) -> &str {
    match expected {
        "a string" | "a borrowed string" | "a character" => "text",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "a block of keys",
        "u64" | "u32" | "u16" | "usize" | "i64" | "i32" => "a whole number",
        _ if expected.starts_with("struct ") => "a block of keys",
        _ => expected,
    }
}

fn did_you_mean(word: &str, known: &[&str]) -> String {
    let distance =
        |name: &&&str| strsim::damerau_levenshtein(&word.to_lowercase(), &name.to_lowercase());
    let alike = |name: &&&str| distance(name) <= 1 + name.len() / 3;
    // Longer or shorter by a word: `key_fields` for `key`.
    let inside = |name: &&&str| {
        name.len().min(word.len()) > 2 && (name.contains(word) || word.contains(**name))
    };
    let nearest = known.iter().min_by_key(distance).filter(alike);
    let nearest = nearest.or_else(|| known.iter().filter(inside).max_by_key(|name| name.len()));
    match (nearest, known) {
        (Some(name), _) => format!("did you mean `{name}`?"),
        (None, [only]) => format!("the only one is `{only}`"),
        (None, known) => format!("there are {}", quoted(known)),
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem(&[]))
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Other(message.to_string()))
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Expected(expected.to_string()))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Expected(expected.to_string()))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownField { name: name.to_owned(), known })
            .under(Step::Key(name.to_owned()))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownWord { known })
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(What::Missing(name)).under(Step::Key(name.to_owned()))
    }
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let result = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Map(entries) => {
                visitor.visit_map(Entries { entries, value: None, optional: &[] })
            }
        };
        result.map_err(|mistake| mistake.at(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A key without a value is a key that is not given.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let result = match &self.value {
            Value::Map(entries) => {
                visitor.visit_map(Entries { entries, value: None, optional: fields })
            }
            _ => Err(Mistake::new(What::Expected(format!("struct {name}")))),
        };
        result.map_err(|mistake| mistake.at(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        if name == "Secret" && !self.referenced {
            let mut mistake = Mistake::new(What::NotByReference);
            mistake.place = Some(self.place);
            return Err(mistake);
        }
        visitor.visit_newtype_struct(self).map_err(|mistake| mistake.at(self))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let result = match &self.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(Mistake::new(What::Expected(format!("one of {}", quoted(known))))),
        };
        result.map_err(|mistake| mistake.at(self))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mistake> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(item)
            .map(Some)
            .map_err(|mistake| mistake.at(item).under(Step::Index(index)))
    }
}

struct Entries<'a> {
    entries: &'a [(Key, Node)],
    value: Option<&'a (Key, Node)>,
    /// Keys that count as not given when nothing stands behind them.
    optional: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mistake> {
        let Some((entry, rest)) = self.entries.split_first() else { return Ok(None) };
        self.entries = rest;
        let (key, node) = entry;
        let name = key.name.as_str();
        let is_silent = self.optional.contains(&name) && name != NULL_SPEAKS;
        if matches!(node.value, Value::Null) && is_silent {
            return self.next_key_seed(seed);
        }
        self.value = Some(entry);
        let name: de::value::StrDeserializer<'_, Mistake> = key.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|mut mistake| {
            mistake.place.get_or_insert(key.place);
            mistake
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        let (key, node) = self.value.take().expect("serde asks for a value after its key");
        seed.deserialize(node)
            .map_err(|mistake| mistake.at(node).under(Step::Key(key.name.clone())))
    }
}
