//! Which partitions are ours, from where, under which generation. Pure bookkeeping.

use std::collections::BTreeMap;

use lakebed_schemas::position::TopicPartition;

/// One assigned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// Of its assignment.
    pub(super) generation: u64,
    /// The offset after the last record handed out; where it began before the first.
    pub(super) position: Option<i64>,
    /// The position at which its end was last looked up, so that it is not asked again and again.
    pub(super) end_asked_at: Option<i64>,
}

/// The partitions that are being read.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    held: BTreeMap<TopicPartition, Held>,
    generation: u64,
}

impl Assignment {
    /// A generation newer than all before.
    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Begins to read a partition.
    pub(super) fn begin(&mut self, tp: TopicPartition, generation: u64, position: Option<i64>) {
        self.held.insert(tp, Held { generation, position, end_asked_at: None });
    }

    /// Stops reading a partition; says whether it was read.
    pub(super) fn end(&mut self, tp: &TopicPartition) -> bool {
        self.held.remove(tp).is_some()
    }

    /// Notes a record; gives its generation, or `None` for one of a partition that is not ours.
    pub(super) fn advance(&mut self, tp: &TopicPartition, offset: i64) -> Option<u64> {
        let held = self.held.get_mut(tp)?;
        held.position = Some(offset + 1);
        Some(held.generation)
    }

    /// Partitions of this number whose end has not been looked up at their position. The client
    /// tells the number of a partition that has ended, but not its topic.
    pub(super) fn ends_to_ask(&mut self, partition: i32) -> Vec<(TopicPartition, Held)> {
        let mut asked = Vec::new();
        for (tp, held) in self.held.iter_mut().filter(|(tp, _)| tp.partition == partition) {
            let at = held.position.unwrap_or(-1);
            if held.end_asked_at != Some(at) {
                held.end_asked_at = Some(at);
                asked.push((tp.clone(), *held));
            }
        }
        asked
    }

    /// What is held.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Held)> {
        self.held.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_asked_once_for_each_position() {
        let (a, b) = (TopicPartition::new("a", 0), TopicPartition::new("b", 0));
        let mut assignment = Assignment::default();
        let generation = assignment.next_generation();
        assignment.begin(a.clone(), generation, Some(0));
        assignment.begin(b, generation, Some(5));

        assert_eq!(assignment.ends_to_ask(0).len(), 2);
        assert_eq!(assignment.ends_to_ask(0).len(), 0);
        assert_eq!(assignment.advance(&a, 7), Some(generation));
        let asked = assignment.ends_to_ask(0);
        assert_eq!(asked.len(), 1);
        assert_eq!((&asked[0].0, asked[0].1.position), (&a, Some(8)));
    }

    #[test]
    fn records_of_partitions_that_are_not_ours_have_no_generation() {
        let tp = TopicPartition::new("a", 0);
        let mut assignment = Assignment::default();
        assert_eq!(assignment.advance(&tp, 0), None);
        assignment.begin(tp.clone(), 1, None);
        assert!(assignment.end(&tp));
        assert_eq!(assignment.advance(&tp, 0), None);
    }
}
