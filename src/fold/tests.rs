//! Events of one batch, folded by hand.

use super::*;

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn long(values: &[i64]) -> Vec<Value> {
    values.iter().map(|v| Value::Long(*v)).collect()
}

/// The change of a key, at a place of its own.
fn moved(old: i64) -> Option<RowMove> {
    Some(RowMove { old_key: key_hash(&long(&[old])), place: Some(old.cast_unsigned().into()) })
}

fn replace(row: Vec<Value>) -> RowChange {
    RowChange::Replace { row, moved: None }
}

fn one(fold: &mut Fold, key: i64) -> KeyChange {
    let sealed = fold.seal(2);
    let found = sealed.changes.into_iter().find(|change| change.key == long(&[key]));
    found.expect("the key has a change")
}

#[test]
fn an_update_keeps_what_it_does_not_bring_from_the_event_before_it() {
    let mut fold = Fold::default();
    fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
    let update = vec![Value::Long(1), Value::Unavailable];
    fold.push(&tp(), long(&[1]), RowChange::Update { row: update });

    assert_eq!(one(&mut fold, 1).row, Some(long(&[1, 7])));
}

#[test]
fn a_placeholder_without_an_earlier_event_is_left_to_the_table() {
    let mut fold = Fold::default();
    let update = vec![Value::Long(1), Value::Unavailable];
    fold.push(&tp(), long(&[1]), RowChange::Update { row: update.clone() });

    let change = one(&mut fold, 1);
    assert_eq!((change.row, change.inherit), (Some(update), None));
}

#[test]
fn nothing_is_carried_across_a_delete() {
    let mut fold = Fold::default();
    fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: None });
    let insert = vec![Value::Long(1), Value::Unavailable];
    fold.push(&tp(), long(&[1]), replace(insert));

    let sealed = fold.seal(2);
    assert_eq!(sealed.changes[0].row, Some(vec![Value::Long(1), Value::Null]));
    assert_eq!(sealed.lost, [(0, 1)]);
}

#[test]
fn a_key_change_takes_placeholders_from_the_old_keys_last_row() {
    let mut fold = Fold::default();
    fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: moved(1) });
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: None });
    assert!(fold.is_mid_key_change());
    fold.settle_key_change(&tp());
    let row = vec![Value::Long(2), Value::Unavailable];
    fold.push(&tp(), long(&[2]), RowChange::Replace { row, moved: moved(1) });

    assert!(!fold.is_mid_key_change());
    let sealed = fold.seal(2);
    let of = |key: i64| sealed.changes.iter().find(|c| c.key == long(&[key])).expect("change");
    assert_eq!(of(1).row, None);
    assert_eq!(of(2).row, Some(long(&[2, 7])));
}

#[test]
fn a_key_change_of_a_row_in_the_table_inherits_from_there() {
    let mut fold = Fold::default();
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: moved(1) });
    let row = vec![Value::Long(2), Value::Unavailable];
    fold.push(&tp(), long(&[2]), RowChange::Replace { row, moved: moved(1) });
    // A chain: the next change of the key still ends at the table's row of the first.
    fold.push(&tp(), long(&[2]), RowChange::Delete { moved: moved(2) });
    let row = vec![Value::Long(3), Value::Unavailable];
    fold.push(&tp(), long(&[3]), RowChange::Replace { row, moved: moved(2) });

    let change = one(&mut fold, 3);
    assert_eq!(change.inherit, Some(long(&[1])));
    assert_eq!(change.row, Some(vec![Value::Long(3), Value::Unavailable]));
}

#[test]
fn an_update_after_a_key_change_still_inherits() {
    let mut fold = Fold::default();
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: moved(1) });
    let row = vec![Value::Long(2), Value::Unavailable];
    fold.push(&tp(), long(&[2]), RowChange::Replace { row, moved: moved(1) });
    let row = vec![Value::Long(2), Value::Unavailable];
    fold.push(&tp(), long(&[2]), RowChange::Update { row });

    let change = one(&mut fold, 2);
    assert_eq!(change.inherit, Some(long(&[1])));
    assert!(change.row.expect("row").contains(&Value::Unavailable));
}

#[test]
fn a_truncate_takes_the_rows_of_its_topic_and_nothing_that_comes_after() {
    let mut fold = Fold::default();
    let other = TopicPartition::new("u", 0);
    fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
    fold.push(&other, long(&[2]), replace(long(&[2, 8])));
    fold.truncate(&tp().topic);
    fold.push(&tp(), long(&[3]), replace(long(&[3, 9])));
    let update = vec![Value::Long(1), Value::Unavailable];
    fold.push(&tp(), long(&[1]), RowChange::Update { row: update });

    let sealed = fold.seal(2);
    let row = |key: i64| {
        let change = sealed.changes.iter().find(|c| c.key == long(&[key]));
        change.and_then(|change| change.row.clone())
    };
    assert_eq!(row(1), Some(vec![Value::Long(1), Value::Null]), "nothing to take it from");
    assert_eq!((row(2), row(3)), (Some(long(&[2, 8])), Some(long(&[3, 9]))));
    assert_eq!(sealed.truncated, BTreeMap::from([(tp().topic, Truncated::All)]));
    assert!(fold.seal(2).truncated.is_empty());
}

#[test]
fn rows_of_an_older_schema_are_padded() {
    let mut fold = Fold::default();
    fold.push(&tp(), long(&[1]), replace(long(&[1])));
    assert_eq!(fold.seal(3).changes[0].row.as_ref().map(Vec::len), Some(3));
}

#[test]
fn an_old_key_that_is_used_again_answers_for_the_row_that_left_it() {
    let mut fold = Fold::default();
    let other = TopicPartition::new("t", 1);
    fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: moved(1) });
    fold.push(&tp(), long(&[1]), replace(long(&[1, 8])));
    // Leaves as well, by another change, whose `c` is not here yet.
    let later = moved(1).map(|moved| RowMove { place: Some(99), ..moved });
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: later });
    let row = vec![Value::Long(2), Value::Unavailable];
    fold.push(&other, long(&[2]), RowChange::Replace { row, moved: moved(1) });

    let sealed = fold.seal(2);
    let of = |key: i64| sealed.changes.iter().find(|c| c.key == long(&[key])).expect("change");
    assert_eq!((&of(1).row, &of(2).row), (&None, &Some(long(&[2, 7]))));
    let left: Vec<_> = sealed.departed.iter().map(|row| (Some(row.moved), &row.row)).collect();
    assert_eq!(left, [(later, &Some(long(&[1, 8])))]);
}

#[test]
fn a_row_nobody_asks_for_is_not_kept() {
    let mut fold = Fold::default();
    let other = TopicPartition::new("t", 1);
    fold.push(&other, long(&[2]), RowChange::Replace { row: long(&[2, 7]), moved: moved(1) });
    assert!(fold.seal(2).departed.is_empty());
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: moved(1) });
    assert!(fold.seal(2).departed.is_empty(), "its new row came first, and whole");
}

#[test]
fn what_was_lost_stays_lost_under_another_key() {
    let mut fold = Fold::default();
    let row = vec![Value::Long(1), Value::Unavailable];
    fold.push(&tp(), long(&[1]), replace(row));
    fold.push(&tp(), long(&[1]), RowChange::Delete { moved: moved(1) });
    let row = vec![Value::Long(2), Value::Unavailable];
    fold.push(&tp(), long(&[2]), RowChange::Replace { row, moved: moved(1) });

    let sealed = fold.seal(2);
    let at = sealed.changes.iter().position(|c| c.key == long(&[2])).expect("change");
    assert_eq!(sealed.changes[at].row, Some(vec![Value::Long(2), Value::Null]));
    assert_eq!(sealed.lost, [(at, 1)]);
}

#[test]
fn a_truncate_of_several_partitions_takes_what_was_there_before_it() {
    let mut fold = Fold::default();
    let (other, elsewhere) = (TopicPartition::new("t", 1), TopicPartition::new("u", 1));
    fold.push(&tp(), long(&[1]), replace(long(&[1, 9])));
    fold.push(&other, long(&[2]), replace(long(&[2, 3])));
    fold.push(&other, long(&[3]), replace(long(&[3, 8])));
    fold.push(&elsewhere, long(&[4]), replace(long(&[4, 3])));
    let before = |row: &[Value]| match row[1] {
        Value::Long(made) => Some(made < 5),
        _ => None,
    };
    fold.truncate_before(&tp(), "05", before).expect("every row tells");
    fold.truncate_before(&tp(), "04", |_| Some(false)).expect("an older one, repeated");

    fold.push(&other, long(&[5]), replace(vec![Value::Long(5), Value::Null]));
    assert_eq!(fold.truncate_before(&tp(), "06", before), Err(other), "and nothing has changed");
    let sealed = fold.seal(2);
    let lives = |key: i64| {
        let change = sealed.changes.iter().find(|c| c.key == long(&[key]));
        change.is_some_and(|change| change.row.is_some())
    };
    assert_eq!([1, 2, 3, 4, 5].map(lives), [false, false, true, true, true]);
    let truncated = Truncated::Before { partition: 0, position: "05".into() };
    assert_eq!(sealed.truncated, BTreeMap::from([(tp().topic, truncated)]));
}
