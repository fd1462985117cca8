//! The note beside the group's offsets: which tables hold what lies below.
//!
//! `lakebed/1 silver.orders=<uuid> bronze.orders=<uuid>`. By it a table that has gone is noticed;
//! offsets without it are not ours.

/// In front of every note of this form.
const FORM: &str = "lakebed/1";

/// Kafka takes 4 096 bytes, unless the broker says less.
const LENGTH_MAX: usize = 4_000;

/// The note for these tables, by name and UUID; those beyond what fits are left out.
pub fn note<'a>(tables: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut note = FORM.to_owned();
    for (name, uuid) in tables {
        if note.len() + name.len() + uuid.len() + 2 <= LENGTH_MAX {
            note.extend([" ", name, "=", uuid]);
        }
    }
    note
}

/// The UUID that a note gives to the table of this name.
pub fn uuid_of(note: &str, name: &str) -> Option<String> {
    let tables = note.strip_prefix(FORM)?.strip_prefix(' ')?;
    let mut tables = tables.split(' ').filter_map(|table| table.split_once('='));
    tables.find(|(table, _)| *table == name).map(|(_, uuid)| uuid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_names_its_tables_and_nothing_else_does() {
        let text = note([("silver.a", "u1"), ("bronze.a", "u2")]);
        assert_eq!(text, "lakebed/1 silver.a=u1 bronze.a=u2");
        assert_eq!(uuid_of(&text, "bronze.a").as_deref(), Some("u2"));
        for (text, name) in [(text.as_str(), "silver.b"), ("", "a"), ("lakebed/2 a=u", "a")] {
            assert_eq!(uuid_of(text, name), None, "{text}");
        }
    }

    #[test]
    fn a_note_stays_within_what_kafka_takes() {
        let tables: Vec<(String, String)> =
            (0..500).map(|n| (format!("silver.{n}"), "u".repeat(36))).collect();
        let text = note(tables.iter().map(|(name, uuid)| (name.as_str(), uuid.as_str())));
        assert!((3_900..=LENGTH_MAX).contains(&text.len()), "{}", text.len());
        assert!(uuid_of(&text, "silver.0").is_some());
        assert!(uuid_of(&text, "silver.499").is_none());
    }
}
