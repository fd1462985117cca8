//! The Kafka source against the client's own broker, with tables that say where they stand.

mod member;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lakebed_schemas::position::{NextOffset, TopicPartition};

use super::{GapKind, GroupOffset, Source};
use member::{Cluster, Member, Table};

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn table() -> Arc<Mutex<Table>> {
    Arc::default()
}

/// Longer than the source takes for anything it does by itself here.
const A_WHILE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn members_share_partitions_and_go_on_exactly_where_the_tables_stand() {
    let cluster = Cluster::start(&[("t", 4)]);
    let parts: Vec<TopicPartition> = (0..4).map(|partition| tp("t", partition)).collect();
    let all_at = |offset: i64| -> Vec<_> { parts.iter().map(|tp| (tp.clone(), offset)).collect() };
    let produce = |range: std::ops::Range<i64>| {
        parts.iter().for_each(|tp| cluster.produce(tp, range.clone(), 100));
    };
    let table = table();
    produce(0..200);
    let first = Member::join(cluster.options("g"), &table).await;
    first.stands_at(&all_at(200)).await;

    let second = Member::join(cluster.options("g"), &table).await;
    second.until("a share", |seen, _| seen.generations.len() == 2).await;
    first.until("the rest", |seen, _| seen.generations.len() == 2).await;
    produce(200..400);
    first.stands_at(&all_at(400)).await;
    assert!(second.seen.lock().expect("lock").messages.len() >= 400, "it reads its share");

    assert!(first.leave().await < Duration::from_secs(10));
    second.until("everything", |seen, _| seen.generations.len() == 4).await;
    produce(400..600);
    second.stands_at(&all_at(600)).await;
    assert_eq!(table.lock().expect("lock").misfits, [], "nothing lost, nothing twice");
    assert_eq!(second.seen.lock().expect("lock").fatal, Vec::<String>::new());
    second.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_pauses_above_the_budget_and_goes_on_below_half_of_it() {
    let cluster = Cluster::start(&[("t", 2)]);
    let (a, b) = (tp("t", 0), tp("t", 1));
    for tp in [&a, &b] {
        cluster.produce(tp, 0..2_000, 1_000);
    }
    let table = table();
    table.lock().expect("lock").holds = true;
    let budget = 1 << 20;
    let mut options = cluster.options("g");
    options.budget_bytes = budget;
    let member = Member::join(options, &table).await;
    member.until("more than the budget", |seen, _| seen.held > budget).await;
    tokio::time::sleep(A_WHILE).await;
    let stats = member.stats().await;
    assert!(stats.paused);
    // One chunk may be handed out above the budget, and one was being read.
    assert!((budget..budget + (5 << 19)).contains(&stats.out_bytes), "{}", stats.out_bytes);
    let seen = member.seen.lock().expect("lock").messages.len();

    // Down to a little more than the half: still paused, for resuming costs what was fetched ahead.
    let back = stats.out_bytes - budget / 2 - 10_000;
    member.with(move |source| source.consumed(back));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(member.seen.lock().expect("lock").messages.len(), seen);

    member.with(|source| source.consumed(20_000));
    member.until("more", move |now, _| now.messages.len() > seen).await;
    member.with(|source| source.set_budget(64 << 20));
    member.until("all", |seen, _| seen.messages.len() >= 4_000).await;
    {
        let seen = member.seen.lock().expect("lock");
        for tp in [&a, &b] {
            assert_eq!(seen.offsets(tp), (0..2_000).collect::<Vec<_>>(), "{tp}");
        }
    }
    assert!(!member.stats().await.paused);
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_reads_again_from_where_the_table_stands() {
    let cluster = Cluster::start(&[("t", 2)]);
    let (a, b) = (tp("t", 0), tp("t", 1));
    for tp in [&a, &b] {
        cluster.produce(tp, 0..100, 10);
    }
    let table = table();
    let member = Member::join(cluster.options("g"), &table).await;
    member.stands_at(&[(a.clone(), 100), (b.clone(), 100)]).await;
    let first = member.seen.lock().expect("lock").generations.clone();

    // The batch from 40 on was lost to another writer.
    let back = NextOffset::at(40);
    table.lock().expect("lock").next.insert(a.clone(), back);
    let again = [a.clone(), tp("t", 7)];
    member.with(move |source| source.rewind(&again));
    member.until("all again", |seen, _| seen.messages.len() >= 260).await;
    member.stands_at(&[(a.clone(), 100)]).await;

    let seen = member.seen.lock().expect("lock");
    let offsets: Vec<i64> = (0..100).chain(40..100).collect();
    assert_eq!(seen.offsets(&a), offsets);
    assert_eq!(seen.offsets(&b), (0..100).collect::<Vec<_>>(), "the other is left alone");
    assert!(seen.generations[&a] > first[&a]);
    assert_eq!(seen.generations[&b], first[&b]);
    assert_eq!(table.lock().expect("lock").misfits, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_does_not_continue_is_a_gap_and_decided_by_policy() {
    const TOPICS: [&str; 6] = ["behind", "passed", "beyond", "anew", "same", "compacted"];
    let cluster = Cluster::start(&TOPICS.map(|topic| (topic, 1)));
    for topic in ["behind", "passed"] {
        // The broker keeps 5 MiB of a partition.
        cluster.produce(&tp(topic, 0), 0..700, 10_000);
    }
    for topic in ["beyond", "anew", "same", "compacted"] {
        cluster.produce(&tp(topic, 0), 0..10, 10);
    }
    // What the record before the stored offset really is.
    let whole = table();
    let reader = Member::join(cluster.options("other"), &whole).await;
    reader.stands_at(&[(tp("same", 0), 10)]).await;
    reader.leave().await;
    let same = whole.lock().expect("lock").next[&tp("same", 0)];

    let table = table();
    {
        let mut table = table.lock().expect("lock");
        let stored = [("behind", 5, None), ("passed", 5, None), ("beyond", 11, None)];
        let stored =
            stored.into_iter().chain([("anew", 10, Some(1)), ("same", 10, same.fingerprint)]);
        for (topic, offset, fingerprint) in stored {
            table.next.insert(tp(topic, 0), NextOffset { fingerprint, ..NextOffset::at(offset) });
        }
        table.passes_gaps.insert("passed");
    }
    let member = Member::join(cluster.options("g"), &table).await;
    member.stands_at(&[(tp("passed", 0), 700), (tp("compacted", 0), 10)]).await;
    member.until("the end", |seen, _| seen.ends.contains(&(tp("same", 0), 10))).await;
    cluster.produce(&tp("same", 0), 10..12, 10);
    member.stands_at(&[(tp("same", 0), 12)]).await;

    let seen = member.seen.lock().expect("lock");
    let mut gaps = seen.gaps.clone();
    gaps.sort_by_key(|(tp, _, _)| tp.clone());
    let start = gaps[1].2[1];
    assert!((100..700).contains(&start), "the broker has trimmed: {start}");
    assert_eq!(
        gaps,
        [
            (tp("anew", 0), GapKind::FingerprintDiffers, [10, 0, 10]),
            (tp("behind", 0), GapKind::BehindRetention, [5, start, 700]),
            (tp("beyond", 0), GapKind::BeyondEnd, [11, 0, 10]),
            (tp("passed", 0), GapKind::BehindRetention, [5, start, 700]),
        ]
    );
    for topic in ["behind", "beyond", "anew"] {
        assert_eq!(seen.offsets(&tp(topic, 0)), Vec::<i64>::new(), "{topic} is not read");
    }
    assert_eq!(seen.offsets(&tp("passed", 0)), (start..700).collect::<Vec<_>>());
    assert_eq!(table.lock().expect("lock").misfits, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_read_when_it_may_be_and_keeps_nothing_else_waiting() {
    let cluster = Cluster::start(&[("held", 1), ("free", 1)]);
    for topic in ["held", "free"] {
        cluster.produce(&tp(topic, 0), 0..10, 10);
    }
    let table = table();
    table.lock().expect("lock").held.insert("held");
    let member = Member::join(cluster.options("g"), &table).await;
    member.stands_at(&[(tp("free", 0), 10)]).await;
    let first = member.seen.lock().expect("lock").generations[&tp("held", 0)];
    member.until("to be asked again", |seen, _| seen.generations[&tp("held", 0)] > first).await;
    assert_eq!(member.seen.lock().expect("lock").offsets(&tp("held", 0)), Vec::<i64>::new());

    table.lock().expect("lock").held.clear();
    member.stands_at(&[(tp("held", 0), 10)]).await;
    assert_eq!(table.lock().expect("lock").misfits, []);
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_not_read_can_be_given_to_another_member() {
    let cluster = Cluster::start(&[("t", 2)]);
    let table = table();
    for partition in 0..2 {
        // Beyond the end: a gap, and the policy says stop.
        let stored = NextOffset::at(9);
        table.lock().expect("lock").next.insert(tp("t", partition), stored);
    }
    let first = Member::join(cluster.options("g"), &table).await;
    first.until("two gaps", |seen, _| seen.gaps.len() == 2).await;
    let second = Member::join(cluster.options("g"), &table).await;
    second.until("one gap", |seen, _| seen.gaps.len() == 1).await;
    first.until("to give one away", |seen, _| seen.generations.len() == 1).await;
    assert!(first.leave().await < Duration::from_secs(10));
    second.until("the other", |seen, _| seen.gaps.len() == 2).await;
    second.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_overtakes_while_paused_is_a_gap_and_not_silent() {
    let cluster = Cluster::start(&[("t", 1)]);
    let t = tp("t", 0);
    cluster.produce(&t, 0..10, 10);
    let table = table();
    table.lock().expect("lock").passes_gaps.insert("t");
    let member = Member::join(cluster.options("g"), &table).await;
    member.stands_at(&[(t.clone(), 10)]).await;
    member.with(|source| {
        source.held(1 << 30);
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(member.stats().await.paused);
    cluster.produce(&t, 10..710, 10_000);
    member.with(|source| source.consumed(1 << 30));
    member.stands_at(&[(t.clone(), 710)]).await;

    let seen = member.seen.lock().expect("lock");
    let [(_, GapKind::BehindRetention, [10, start, 710])] = seen.gaps[..] else {
        panic!("{:?}", seen.gaps)
    };
    let expected: Vec<i64> = (0..10).chain(start..710).collect();
    assert_eq!(seen.offsets(&t), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_partition_is_told_once_for_each_position() {
    let cluster = Cluster::start(&[("a", 1), ("b", 1)]);
    let (a, b) = (tp("a", 0), tp("b", 0));
    cluster.produce(&a, 0..5, 10);
    let table = table();
    let member = Member::join(cluster.options("g"), &table).await;
    member.until("both ends", |seen, _| seen.ends.len() == 2).await;
    tokio::time::sleep(A_WHILE).await;
    cluster.produce(&a, 5..6, 10);
    member.until("the new end", |seen, _| seen.ends.len() == 3).await;
    tokio::time::sleep(A_WHILE).await;

    let mut ends = member.seen.lock().expect("lock").ends.clone();
    ends.sort();
    assert_eq!(ends, [(a, 5), (tp("a", 0), 6), (b, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_topic_is_found_while_running() {
    let cluster = Cluster::start(&[("old", 1), ("__internal", 1)]);
    let table = table();
    let member = Member::join(cluster.options("g"), &table).await;
    member.until("the old one", |seen, _| seen.generations.len() == 1).await;

    cluster.mock.create_topic("new", 2, 1).expect("a topic");
    cluster.produce(&tp("new", 1), 0..7, 10);
    member.stands_at(&[(tp("new", 1), 7)]).await;
    let (reply, answer) = tokio::sync::oneshot::channel();
    member.with(|source| drop(reply.send(source.view())));
    let view = answer.await.expect("a view");
    assert!(view.is_new("new") && !view.is_new("old"));
    assert_eq!(view.ends("new").await.expect("ends"), [(0, 0), (1, 7)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_answer_keeps_only_its_own_partitions_waiting() {
    let cluster = Cluster::start(&[("good", 1), ("bad", 1)]);
    cluster.produce(&tp("good", 0), 0..5, 10);
    cluster.produce(&tp("bad", 0), 0..5, 10);
    let table = table();
    table.lock().expect("lock").silent.insert("bad");
    let member = Member::join(cluster.options("g"), &table).await;
    member.stands_at(&[(tp("good", 0), 5)]).await;
    assert_eq!(member.seen.lock().expect("lock").offsets(&tp("bad", 0)), Vec::<i64>::new());

    table.lock().expect("lock").silent.clear();
    member.stands_at(&[(tp("bad", 0), 5)]).await;
    assert_eq!(member.seen.lock().expect("lock").offsets(&tp("good", 0)).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_remembers_offsets_and_what_holds_them() {
    let cluster = Cluster::start(&[("t", 2)]);
    cluster.produce(&tp("t", 0), 0..5, 10);
    let member = Member::join(cluster.options("g"), &table()).await;
    member.stands_at(&[(tp("t", 0), 5)]).await;
    let told = GroupOffset { tp: tp("t", 0), offset: 5, metadata: "lakebed/1 a.b=u".into() };
    let (reply, answer) = tokio::sync::oneshot::channel();
    {
        let told = told.clone();
        member.with(move |source| {
            source.commit_offsets(vec![told]);
            drop(reply.send(source.view()));
        });
    }
    let view = answer.await.expect("a view");
    let both = [tp("t", 0), tp("t", 1)];
    let mut found = Vec::new();
    for _ in 0..100 {
        found = view.group(&both).await.expect("an answer");
        if !found.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(found, std::slice::from_ref(&told));
    // What is said when leaving is the same, note and all.
    member.leave().await;
    assert_eq!(view.group(&both).await.expect("an answer"), [told]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_is_bounded_although_no_broker_answers() {
    let cluster = Cluster::start(&[("t", 2)]);
    cluster.produce(&tp("t", 0), 0..5, 10);
    let member = Member::join(cluster.options("g"), &table()).await;
    member.stands_at(&[(tp("t", 0), 5)]).await;
    let told = GroupOffset { tp: tp("t", 0), offset: 5, metadata: "".into() };
    cluster.mock.broker_down(-1).expect("down");
    member.with(|source| source.commit_offsets(vec![told]));
    let took = member.leave().await;
    assert!(took < Duration::from_secs(25), "{took:?}");
}
