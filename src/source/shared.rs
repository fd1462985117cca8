//! What the poll thread, the callbacks and the threads beside them share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lakebed_schemas::position::TopicPartition;
use tokio::sync::mpsc;

use super::SourceEvent;
use super::assignment::Assignment;
use super::ends::Lookup;

/// State of one source.
pub(super) struct Shared {
    pub(super) events: mpsc::UnboundedSender<SourceEvent>,
    pub(super) assignment: Mutex<Assignment>,
    pub(super) lookup: Mutex<Lookup>,
    /// Nobody answers any more.
    pub(super) closing: AtomicBool,
    pub(super) paused: AtomicBool,
    pub(super) rebalances: AtomicU64,
    /// Bytes of records that are out.
    pub(super) out_bytes: AtomicUsize,
    /// How many may be.
    pub(super) budget_bytes: AtomicUsize,
    /// Partitions that are ours and could not be begun, with when to ask again.
    pub(super) unfinished: Mutex<BTreeMap<TopicPartition, Instant>>,
    /// Starts that were found out; taken by the poll thread.
    pub(super) resolved: Mutex<Receiver<Resolved>>,
    pub(super) resolver: Sender<Resolved>,
    /// First and next offset of the log of assigned partitions, as last looked up.
    pub(super) bounds: Mutex<BTreeMap<TopicPartition, (i64, i64)>>,
    /// How many partitions wanted topics have, as last looked up.
    pub(super) partitions: Mutex<BTreeMap<String, usize>>,
}

/// Locks that were held by a thread that died are as good as any: the state is bookkeeping.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was found out about one assignment.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) generation: u64,
    /// Where to begin.
    pub(super) begin: Vec<(TopicPartition, i64)>,
    /// Not to be read.
    pub(super) left_out: Vec<TopicPartition>,
    /// To be asked again.
    pub(super) later: Vec<TopicPartition>,
    /// Not to be read yet, because something else comes first.
    pub(super) held: Vec<TopicPartition>,
}

impl Resolved {
    /// Nothing yet.
    pub(super) fn of(generation: u64) -> Self {
        let (begin, left_out) = (Vec::new(), Vec::new());
        Self { generation, begin, left_out, later: Vec::new(), held: Vec::new() }
    }
}
