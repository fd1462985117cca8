//! Finds out where an assignment begins: asks the tables, compares with the log, has gaps decided.
//!
//! All of that may take long, for a table's storage may not answer. It is done by a thread of its
//! own, so that the poll thread goes on with the partitions that are read already.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lakebed_schemas::position::TopicPartition;
use tokio::sync::oneshot;
use tracing::warn;

use super::shared::{Resolved, Shared, lock};
use super::{Gap, GapDecision, SourceEvent, Start, Starts};

/// How long the tables may take to say where they stand, and somebody to decide about a gap. Past
/// it they are asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Announces an assignment and has its starts found out; they arrive in [`Shared::resolved`].
pub(super) fn find(shared: &Arc<Shared>, partitions: Vec<TopicPartition>) -> u64 {
    let generation = lock(&shared.assignment).await_starts(&partitions);
    let (reply, answer) = oneshot::channel();
    let assigned = partitions.clone();
    let event = SourceEvent::Assigned { generation, partitions: assigned, reply };
    let _ = shared.events.send(event);
    let work = {
        let (shared, partitions) = (shared.clone(), partitions.clone());
        move || {
            let resolved = resolve(&shared, generation, partitions, answer);
            let _ = shared.resolver.send(resolved);
        }
    };
    if std::thread::Builder::new().name("kafka-starts".into()).spawn(work).is_err() {
        let _ = shared.resolver.send(Resolved { later: partitions, ..Resolved::of(generation) });
    }
    generation
}

fn resolve(
    shared: &Shared,
    generation: u64,
    partitions: Vec<TopicPartition>,
    answer: oneshot::Receiver<Starts>,
) -> Resolved {
    let mut resolved = Resolved::of(generation);
    let Some(mut starts) = wait(shared, answer) else {
        warn!(partitions = partitions.len(), "the tables did not answer in time, asking again");
        resolved.later = partitions;
        return resolved;
    };
    for tp in partitions {
        let begin = match starts.remove(&tp) {
            None => Ok(None),
            Some(Ok(start)) if start.held => {
                resolved.held.push(tp);
                continue;
            }
            Some(start) => start.and_then(|start| begin_at(shared, &tp, start)),
        };
        match begin {
            Ok(Some(offset)) => resolved.begin.push((tp, offset)),
            Ok(None) => resolved.left_out.push(tp),
            Err(reason) => {
                warn!(%tp, reason, "could not begin to read, will try again");
                resolved.later.push(tp);
            }
        }
    }
    resolved
}

/// The offset to begin at; `None`: do not read.
fn begin_at(shared: &Shared, tp: &TopicPartition, mut start: Start) -> Result<Option<i64>, String> {
    // The highest first: that the topic was made anew weighs more than what retention took.
    start.stored.sort_by_key(|next| Reverse(next.offset));
    for next in std::mem::take(&mut start.stored) {
        let gap = lock(&shared.lookup).gap(tp, next)?;
        let Some((kind, log_start, log_end)) = gap else { continue };
        let (reply, answer) = oneshot::channel();
        let stored = next.offset;
        let gap = Gap { tp: tp.clone(), stored, log_start, log_end, kind };
        let event = SourceEvent::Gap { gap, reply };
        let _ = shared.events.send(event);
        return match wait(shared, answer) {
            Some(GapDecision::GoOn) => Ok(Some(log_start)),
            Some(GapDecision::Stop) => Ok(None),
            None => Err("nobody decided about the gap in time".into()),
        };
    }
    match start.at {
        Some(offset) if start.window == 0 => Ok(Some(offset)),
        _ => Ok(Some(start.first(lock(&shared.lookup).bounds(tp)?.0))),
    }
}

/// Waits for an answer on a thread that is not the runtime's.
pub(super) fn wait<T>(shared: &Shared, answer: oneshot::Receiver<T>) -> Option<T> {
    wait_until(shared, answer, Instant::now() + ANSWER_LIMIT)
}

/// Waits until a moment, or until nobody answers any more.
pub(super) fn wait_until<T>(
    shared: &Shared,
    mut answer: oneshot::Receiver<T>,
    deadline: Instant,
) -> Option<T> {
    loop {
        match answer.try_recv() {
            Ok(answer) => return Some(answer),
            Err(oneshot::error::TryRecvError::Closed) => return None,
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        if Instant::now() > deadline || shared.closing.load(Ordering::Acquire) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
