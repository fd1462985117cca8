//! What shows that a source begins anew, what does not, and that a restart knows it.

use lakebed_schemas::change_event::Op;

use super::*;
use crate::worker::fixtures::{event, tp};

/// A streamed change at a place of the log.
fn streamed(at: u64) -> ChangeEvent {
    let source = SourceInfo {
        position: Some(format!("0000000001{at:016x}")),
        connection: 1,
        ..SourceInfo::default()
    };
    event(Op::Update, source)
}

fn read(kind: &str) -> ChangeEvent {
    let mut event = streamed(0);
    event.source.snapshot = Some(kind.to_owned());
    event
}

fn by(connection: u64, mut event: ChangeEvent) -> ChangeEvent {
    event.source.connection = connection;
    event
}

fn of(server: u64, mut event: ChangeEvent) -> ChangeEvent {
    event.source.server = Some(server);
    event
}

/// Epoch of each event, as it stands in front of its position, and what was found.
fn see_all(
    epochs: &mut Epochs,
    first: i64,
    events: &[ChangeEvent],
) -> Vec<(u32, Option<Evidence>)> {
    let see = |(event, offset): (&ChangeEvent, i64)| {
        let mut event = event.clone();
        let judged = epochs.see(&tp(), offset, &mut event);
        let position = event.source.position.expect("a position");
        (u32::from_str_radix(&position[..8], 16).expect("hex"), judged.found)
    };
    events.iter().zip(first..).map(see).collect()
}

fn memos(epochs: &Epochs) -> BTreeMap<String, String> {
    epochs.memo(&tp()).into_iter().collect()
}

/// What a new process knows from a table.
fn restarted(memos: &BTreeMap<String, String>) -> Epochs {
    let mut epochs = Epochs::default();
    epochs.load(&tp(), [memos, &BTreeMap::new()], false);
    epochs
}

#[test]
fn a_snapshot_after_changes_begins_an_epoch_and_the_first_one_does_not() {
    let history =
        [read("first"), read("last"), streamed(5), read("first"), read("last"), streamed(2)];
    let seen = see_all(&mut Epochs::default(), 0, &history);
    let new = Some(Evidence::Snapshot);
    assert_eq!(seen, [(0, None), (0, None), (0, None), (1, new), (1, None), (1, None)]);
    // One that was interrupted and begun again is the same life.
    let history = [read("first"), read("true"), read("first"), read("last"), streamed(1)];
    assert!(see_all(&mut Epochs::default(), 0, &history).iter().all(|seen| *seen == (0, None)));
    // One that runs beside the stream shows nothing.
    let history = [streamed(5), read("incremental"), streamed(6)];
    assert!(see_all(&mut Epochs::default(), 0, &history).iter().all(|seen| *seen == (0, None)));
}

#[test]
fn another_connector_begins_an_epoch_and_two_by_turns_show_nothing_more() {
    let history =
        [streamed(5), by(2, streamed(1)), by(2, streamed(2)), streamed(6), by(3, streamed(1))];
    let mut epochs = Epochs::default();
    let seen = see_all(&mut epochs, 0, &history);
    let new = Some(Evidence::Connector);
    assert_eq!(seen, [(0, None), (1, new), (1, None), (1, None), (1, None)]);
}

#[test]
fn another_server_at_lower_places_begins_an_epoch_and_at_higher_places_it_does_not() {
    let mut epochs = Epochs::default();
    let history =
        [of(1, streamed(50)), of(2, streamed(60)), of(1, streamed(70)), of(3, streamed(4))];
    let seen = see_all(&mut epochs, 0, &history);
    assert_eq!(seen, [(0, None), (0, None), (0, None), (1, Some(Evidence::Server))]);
    // A repeat is of a server that is known.
    let history = [of(3, streamed(5)), of(3, streamed(4))];
    assert_eq!(see_all(&mut epochs, 4, &history), [(1, None), (1, None)]);
}

#[test]
fn positions_that_go_back_for_no_reason_that_shows_are_told_once_and_change_nothing() {
    let mut epochs = Epochs::default();
    let mut judge = |offset, at| epochs.see(&tp(), offset, &mut streamed(at));
    assert_eq!([judge(0, 50), judge(1, 51), judge(2, 50)], [Judged::default(); 3]);
    assert!(judge(3, 7).goes_back);
    assert_eq!([judge(4, 6), judge(5, 8)], [Judged::default(); 2]);
    // Its connector does not know the last commit when it has just been started.
    assert_eq!(judge(6, 0), Judged::default());
}

/// The same, made so many seconds after the source was set up.
fn at_time(seconds: i64, mut event: ChangeEvent) -> ChangeEvent {
    event.source.ts_us = Some(seconds * 1_000_000);
    event
}

#[test]
fn a_log_that_begins_anew_shows_by_later_changes_at_lower_places_and_a_repeat_does_not() {
    let mut epochs = Epochs::default();
    let before =
        [at_time(100, streamed(50)), at_time(200, streamed(60)), at_time(150, streamed(70))];
    assert_eq!(see_all(&mut epochs, 0, &before), [(0, None); 3]);
    // Repeated from before all that are remembered, made when they were made.
    let repeated = [at_time(90, streamed(40)), at_time(100, streamed(50))];
    assert_eq!(see_all(&mut epochs, 3, &repeated), [(0, None); 2]);
    // At once, a statement that has run for long may look like that.
    assert_eq!(see_all(&mut epochs, 5, &[at_time(260, streamed(30))]), [(0, None)]);

    let anew = [at_time(321, streamed(5)), at_time(322, streamed(6)), at_time(400, streamed(55))];
    assert_eq!(see_all(&mut epochs, 6, &anew), [(1, Some(Evidence::Log)), (1, None), (1, None)]);
    let mut next = restarted(&memos(&epochs));
    assert_eq!(see_all(&mut next, 6, &anew), [(1, None); 3]);
    // What does not tell its time shows nothing.
    assert_eq!(see_all(&mut epochs, 9, &[streamed(1)]), [(1, None)]);
}

#[test]
fn a_restart_at_any_place_gives_each_record_the_epoch_that_it_had() {
    let history = [
        read("first"),
        read("last"),
        of(1, streamed(5)),
        of(2, streamed(3)),
        of(2, streamed(4)),
        read("first"),
        read("last"),
        by(2, streamed(1)),
        by(2, read("last")),
        by(2, streamed(2)),
    ];
    let mut whole = Epochs::default();
    let expected: Vec<u32> =
        see_all(&mut whole, 0, &history).into_iter().map(|seen| seen.0).collect();
    assert_eq!(expected, [0, 0, 0, 1, 1, 2, 2, 3, 4, 4]);
    for stopped in 0..=history.len() {
        // A window before the place is read again; with all of it, what was seen is seen again.
        let mut first = Epochs::default();
        see_all(&mut first, 0, &history[..stopped]);
        let kept = memos(&first);
        for from in stopped.saturating_sub(4)..stopped.max(1) {
            let mut next = restarted(&kept);
            let seen = see_all(&mut next, from as i64, &history[from..]);
            let epochs: Vec<u32> = seen.iter().map(|seen| seen.0).collect();
            assert_eq!(epochs, expected[from..], "stopped at {stopped}, read from {from}");
            let anew = seen[..stopped - from].iter().filter(|seen| seen.1.is_some()).count();
            assert_eq!(anew, 0, "what was found is not found again: {stopped}, {from}");
        }
        let noted: Vec<u32> = (0..stopped)
            .map(|offset| {
                let mut event = history[offset].clone();
                stamp_as_noted(&kept, &tp(), offset as i64, &mut event);
                let position = event.source.position.expect("a position");
                u32::from_str_radix(&position[..8], 16).expect("hex")
            })
            .collect();
        assert_eq!(noted, expected[..stopped]);
    }
}

#[test]
fn the_layer_that_has_come_further_is_believed() {
    let mut epochs = Epochs::default();
    see_all(&mut epochs, 0, &[streamed(5)]);
    let behind = memos(&epochs);
    see_all(&mut epochs, 1, &[by(2, streamed(6)), by(2, streamed(7))]);
    let ahead = memos(&epochs);
    for tables in [[&behind, &ahead], [&ahead, &behind]] {
        let mut next = Epochs::default();
        next.load(&tp(), tables, false);
        let seen = see_all(&mut next, 0, &[streamed(5), by(2, streamed(6)), by(2, streamed(8))]);
        assert_eq!(seen, [(0, None), (1, None), (1, None)]);
    }
}

#[test]
fn partitions_that_lag_behind_join_the_epoch_of_their_topic() {
    let mut epochs = Epochs::default();
    let other = TopicPartition::new("t", 1);
    let mut see = |tp: &TopicPartition, offset, mut event: ChangeEvent| {
        epochs.see(tp, offset, &mut event);
        event.source.position.expect("a position")[..8].to_owned()
    };
    see(&tp(), 0, streamed(1));
    see(&other, 0, streamed(1));
    assert_eq!(see(&tp(), 1, by(2, streamed(1))), "00000001");
    assert_eq!(see(&tp(), 2, by(3, streamed(1))), "00000002");
    assert_eq!(see(&other, 1, by(3, streamed(1))), "00000002");
}

#[test]
fn an_epoch_adds_to_the_configured_one() {
    let mut event = streamed(1);
    event.source.position = Some(format!("0000000701{:016x}", 1));
    stamp(&mut event, 2);
    assert_eq!(&event.source.position.expect("a position")[..8], "00000009");
}

#[test]
fn a_partition_that_was_added_begins_in_the_life_that_the_others_are_in() {
    let added = TopicPartition::new("t", 3);
    let memos = BTreeMap::from([
        (
            "epochs/t/0".to_owned(),
            text(r#"{"at":9,"began":[[5,1]],"connections":[7],"streamed":true}"#),
        ),
        (
            "epochs/t/1".to_owned(),
            text(r#"{"at":8,"began":[[4,2]],"connections":[7],"streamed":true}"#),
        ),
        ("epochs/tt/0".to_owned(), text(r#"{"at":8,"began":[[4,5]],"connections":[7]}"#)),
    ]);
    let none = BTreeMap::new();
    for (is_added, epoch) in [(true, 2), (false, 0)] {
        let mut epochs = Epochs::default();
        epochs.load(&added, [&none, &memos], is_added);
        assert_eq!(epochs.partitions[&added].life.epoch_at(0), epoch);
        assert_eq!(epochs.memo(&added).is_some(), is_added, "it is kept from the first commit on");
    }
    // What it has found out itself counts.
    let own = BTreeMap::from([("epochs/t/3".to_owned(), text(r#"{"at":2,"began":[[1,4]]}"#))]);
    let mut epochs = Epochs::default();
    epochs.load(&added, [&own, &memos], true);
    assert_eq!(epochs.partitions[&added].life.epoch_at(1), 4);
}

fn text(json: &str) -> String {
    json.to_owned()
}
