//! Records that wait for the schemas they were written with.
//!
//! They are taken in order. Where the registry has not answered yet, what comes after waits too: its
//! bytes stay in the source's budget, which pauses the partitions, and the worker stays free for
//! everything else.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lakebed_schemas::position::TopicPartition;

use super::OpenBatch;
use crate::registry::{Answer, Registry};
use crate::source::Message;

/// What is taken in order.
pub(super) enum Taken {
    /// A record.
    Record(Message),
    /// The end of a partition, which its last record has to precede.
    End { tp: TopicPartition, next_offset: i64, generation: u64 },
}

impl Taken {
    /// The partition and the generation of its assignment.
    pub(super) fn place(&self) -> (&TopicPartition, u64) {
        match self {
            Self::Record(message) => (&message.tp, message.generation),
            Self::End { tp, generation, .. } => (tp, *generation),
        }
    }
}

/// What has come and has not been taken.
pub(super) struct Intake {
    registry: Option<Arc<Registry>>,
    waiting: VecDeque<Taken>,
    lookup: Option<BoxFuture<'static, ()>>,
}

impl Intake {
    pub(super) fn new(registry: Option<Arc<Registry>>) -> Self {
        Self { registry, waiting: VecDeque::new(), lookup: None }
    }

    pub(super) fn push(&mut self, taken: Taken) {
        self.waiting.push_back(taken);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the registry has been asked for something.
    pub(super) fn is_asking(&self) -> bool {
        self.lookup.is_some()
    }

    /// Has records that came before all others taken next.
    pub(super) fn put_back(&mut self, records: VecDeque<Taken>) {
        for taken in records.into_iter().rev() {
            self.waiting.push_front(taken);
        }
    }

    /// Completes when the registry has answered. Dropping this loses nothing.
    pub(super) async fn answered(&mut self) {
        if let Some(lookup) = &mut self.lookup {
            lookup.await;
            self.lookup = None;
        }
    }

    /// What comes next, once its schemas are there. `ours`: whether it is taken at all.
    pub(super) fn next(
        &mut self,
        open: &mut OpenBatch,
        ours: impl Fn(&Taken) -> bool,
    ) -> Option<Taken> {
        let front = self.waiting.front()?;
        if let (Taken::Record(message), Some(registry)) = (front, &self.registry)
            && ours(front)
        {
            for id in open.missing_schemas(message) {
                match registry.known(id) {
                    Some(Answer::Found(schema)) => open.learn(id, &schema),
                    Some(Answer::Absent(reason)) => open.refuse(id, reason),
                    None => {
                        if self.lookup.is_none() {
                            let registry = registry.clone();
                            let lookup = async move { registry.fetch(id).await };
                            self.lookup = Some(lookup.map(|_| ()).boxed());
                        }
                        return None;
                    }
                }
            }
        }
        self.waiting.pop_front()
    }

    /// Drops what is not `ours` any more; gives the bytes of its records.
    pub(super) fn shed(&mut self, ours: impl Fn(&Taken) -> bool) -> usize {
        let mut bytes = 0;
        self.waiting.retain(|taken| {
            let keep = ours(taken);
            if let (false, Taken::Record(message)) = (keep, taken) {
                bytes += message.weight();
            }
            keep
        });
        if self.waiting.is_empty() {
            self.lookup = None;
        }
        bytes
    }
}
