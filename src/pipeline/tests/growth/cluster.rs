//! A topic, those who write it, and the members of a group that read it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use super::super::world::{Setting, Told, World, column, message};
use super::super::{SILVER, tp};
use crate::pipeline::RunEnd;
use crate::source::Message;

/// Keys that the source has at most.
const KEYS: i64 = 150;

/// Numbers by chance, the same for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeds, the last of which is new each time.
    pub(super) fn seeds(count: u64) -> impl Iterator<Item = u64> {
        let new = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        (1..count).chain([new.expect("after 1970").as_millis() as u64])
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A member of the group.
struct Member {
    world: World,
    generation: u64,
    /// What it has been given, with the next offset to read; `None` where it has to wait.
    reads: BTreeMap<TopicPartition, (u64, Option<i64>)>,
}

pub(super) struct Cluster {
    folder: tempfile::TempDir,
    setting: Setting,
    /// Whether members leave alone what they are told to.
    obeys: bool,
    logs: Vec<Vec<Message>>,
    /// How many partitions each producer knows of. A key is always written by the same one.
    producers: [usize; 3],
    rows: BTreeMap<i64, String>,
    partitions_of: BTreeMap<i64, BTreeSet<usize>>,
    changes: i64,
    members: Vec<Member>,
}

fn hash(key: i64) -> usize {
    usize::try_from(key.wrapping_mul(2_654_435_761).unsigned_abs() >> 7).expect("64 bits")
}

impl Cluster {
    pub(super) fn start(setting: Setting, partitions: usize, obeys: bool) -> Self {
        let mut cluster = Self {
            folder: tempfile::tempdir().expect("folder"),
            setting,
            obeys,
            logs: vec![Vec::new(); partitions],
            producers: [partitions; 3],
            rows: BTreeMap::new(),
            partitions_of: BTreeMap::new(),
            changes: 0,
            members: Vec::new(),
        };
        cluster.members = (0..2).map(|_| cluster.join()).collect();
        cluster
    }

    fn join(&self) -> Member {
        let world = World::start_in(&self.folder, &self.setting, Told::default());
        Member { world, generation: 0, reads: BTreeMap::new() }
    }

    /// Changes at the source, each told in the partition that its producer takes its key to.
    pub(super) fn produce(&mut self, dice: &mut Dice, count: usize) {
        for _ in 0..count {
            let key = i64::try_from(dice.below(KEYS as u64)).expect("small");
            self.changes += 1;
            let exists = self.rows.contains_key(&key);
            let op = match dice.below(4) {
                0 if exists => "d",
                _ if exists => "u",
                _ => "c",
            };
            let note = format!("n{}", self.changes);
            let image = format!(r#"{{"id":{key},"note":"{note}"}}"#);
            let (before, after) = if op == "d" { (&*image, "null") } else { ("null", &*image) };
            // No place in the source's log: nothing but the order of the records tells.
            let value = format!(
                r#"{{"before":{before},"after":{after},"source":{{"connector":"other","ts_ms":5}},"op":"{op}","ts_ms":5}}"#
            );
            let partition = hash(key) % self.producers[hash(key) / 7 % 3];
            self.partitions_of.entry(key).or_default().insert(partition);
            let log = &mut self.logs[partition];
            let tp = tp(i32::try_from(partition).expect("few"));
            let offset = i64::try_from(log.len()).expect("few");
            log.push(message(&tp, offset, 0, Some(format!(r#"{{"id":{key}}}"#)), Some(value)));
            match op {
                "d" => drop(self.rows.remove(&key)),
                _ => drop(self.rows.insert(key, note)),
            }
        }
        self.tell();
    }

    /// What brokers say to those who look.
    fn tell(&self) {
        for member in &self.members {
            let mut told = member.world.told.lock().expect("lock");
            told.partitions = Some(self.logs.len());
            told.ends = (0..).zip(self.logs.iter().map(|log| log.len() as i64)).collect();
        }
    }

    /// Gives the topic more partitions. Producers get to know of it one by one.
    pub(super) fn raise(&mut self, partitions: usize) {
        self.logs.resize(partitions, Vec::new());
        self.producers[1] = partitions;
        self.tell();
    }

    pub(super) fn all_producers_know(&mut self) {
        self.producers = [self.logs.len(); 3];
    }

    /// Whether some key's changes are in several partitions.
    pub(super) fn has_moved_keys(&self) -> bool {
        self.partitions_of.values().any(|partitions| partitions.len() > 1)
    }

    /// Hands out what nobody has, and asks again for what had to wait or is to be read again.
    pub(super) async fn look_again(&mut self) {
        self.tell();
        let taken: BTreeSet<TopicPartition> =
            self.members.iter().flat_map(|member| member.reads.keys().cloned()).collect();
        for partition in 0..self.logs.len() {
            let tp = tp(i32::try_from(partition).expect("few"));
            if !taken.contains(&tp) {
                let count = self.members.len();
                self.members[partition % count].reads.insert(tp, (0, None));
            }
        }
        for member in &mut self.members {
            member.look_again(self.obeys).await;
        }
    }

    /// Reads a part of what is there in these partitions.
    pub(super) async fn read_some(&mut self, dice: &mut Dice, partitions: Range<i32>) {
        self.look_again().await;
        for member in &mut self.members {
            for (tp, (generation, next)) in &mut member.reads {
                let Some(next) = next.as_mut().filter(|_| partitions.contains(&tp.partition))
                else {
                    continue;
                };
                let log = &self.logs[usize::try_from(tp.partition).expect("positive")];
                let rest = &log[usize::try_from(*next).expect("positive")..];
                let count = usize::try_from(dice.below(rest.len() as u64 + 1)).expect("few");
                member.world.read(under(&rest[..count], *generation));
                *next += count as i64;
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
    }

    /// Reads until everything is in silver.
    pub(super) async fn read_all(&mut self) {
        for _ in 0..600 {
            self.look_again().await;
            for member in &mut self.members {
                for (tp, (generation, next)) in &mut member.reads {
                    let Some(next) = next else { continue };
                    let log = &self.logs[usize::try_from(tp.partition).expect("positive")];
                    let rest = &log[usize::try_from(*next).expect("positive")..];
                    if !rest.is_empty() {
                        member.world.read(under(rest, *generation));
                        *next = log.len() as i64;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            let head = self.members[0].world.head(SILVER).await;
            let stands = |partition: usize| {
                let tp = tp(i32::try_from(partition).expect("few"));
                head.as_ref()?.checkpoint.next(&tp).map(|next| next.offset)
            };
            let is_in = |(partition, log): (usize, &Vec<Message>)| {
                log.is_empty() || stands(partition) == Some(log.len() as i64)
            };
            if self.logs.iter().enumerate().all(is_in) {
                return;
            }
        }
        panic!("not everything is ever read");
    }

    pub(super) async fn committed_something(&self) {
        self.members[0].world.until(async || self.members[0].world.head(SILVER).await).await;
    }

    /// Kills a member; another comes in its place, and partitions are handed out anew.
    pub(super) async fn kill(&mut self, dice: &mut Dice) {
        let at = usize::try_from(dice.below(self.members.len() as u64)).expect("few");
        let new = self.join();
        std::mem::replace(&mut self.members[at], new).world.kill().await;
    }

    /// Moves a partition to another member.
    pub(super) async fn move_one(&mut self, dice: &mut Dice) {
        let from = usize::try_from(dice.below(self.members.len() as u64)).expect("few");
        let member = &mut self.members[from];
        let partitions: Vec<_> = member.reads.keys().cloned().collect();
        let Some(moved) = partitions.get(dice.below(partitions.len().max(1) as u64) as usize)
        else {
            return;
        };
        member.world.revoke(std::slice::from_ref(moved)).await;
        member.reads.remove(moved);
        let to = (from + 1) % self.members.len();
        self.members[to].reads.insert(moved.clone(), (0, None));
    }

    /// The source's rows.
    pub(super) fn source(&self) -> BTreeMap<i64, String> {
        self.rows.clone()
    }

    /// The table's; a key that has two shows.
    pub(super) async fn silver(&self) -> BTreeMap<i64, String> {
        let world = &self.members[0].world;
        let ids = column(world, SILVER, "id").await;
        let notes = column(world, SILVER, "note").await;
        let mut rows = BTreeMap::<i64, String>::new();
        for (id, note) in ids.into_iter().zip(notes) {
            let (Value::Long(id), Value::Text(note)) = (id, note) else { panic!("not a row") };
            rows.entry(id).and_modify(|held| held.push('+')).or_insert(note);
        }
        rows
    }

    pub(super) async fn stop(self) {
        for member in self.members {
            assert_eq!(member.world.stop().await, RunEnd::Done);
        }
    }
}

impl Member {
    async fn look_again(&mut self, obeys: bool) {
        let rewound = std::mem::take(&mut self.world.told.lock().expect("lock").rewound);
        for tp in rewound {
            if let Some(read) = self.reads.get_mut(&tp) {
                read.1 = None;
            }
        }
        let waiting = self.reads.iter().filter(|(_, (_, next))| next.is_none());
        let waiting: Vec<TopicPartition> = waiting.map(|(tp, _)| tp.clone()).collect();
        if waiting.is_empty() {
            return;
        }
        self.generation += 1;
        let starts = self.world.try_assign(self.generation, &waiting).await;
        for tp in waiting {
            let start = match starts.get(&tp) {
                Some(Ok(start)) if !start.held || !obeys => Some(start.first(0)),
                _ => None,
            };
            self.reads.insert(tp, (self.generation, start));
        }
    }
}

/// Records as they are handed out under an assignment.
fn under(records: &[Message], generation: u64) -> Vec<Message> {
    records.iter().map(|record| Message { generation, ..record.clone() }).collect()
}
