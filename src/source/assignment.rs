//! Which partitions are ours, from where, under which generation. Pure bookkeeping.

use std::collections::BTreeMap;

use lakebed_schemas::position::TopicPartition;

/// One partition that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// Of its assignment.
    pub(super) generation: u64,
    /// The offset after the last record handed out; where it began before the first.
    pub(super) position: i64,
    /// The position at which its end was last looked up, so that it is not asked again and again.
    end_asked_at: Option<i64>,
    /// The end that was told last.
    end_told: Option<i64>,
}

/// Whether a partition ends where we are: what has to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndAsked {
    pub(super) tp: TopicPartition,
    pub(super) generation: u64,
    /// Everything visible below it has been handed out.
    pub(super) position: i64,
}

/// The partitions that are ours.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// Those that are read.
    held: BTreeMap<TopicPartition, Held>,
    /// Those whose start is being found out, with the generation that they will have.
    awaited: BTreeMap<TopicPartition, u64>,
    generation: u64,
}

impl Assignment {
    /// Notes that the starts of partitions are being found out; gives their generation, newer than
    /// all before. What was found out for an older one does not count any more.
    pub(super) fn await_starts(&mut self, partitions: &[TopicPartition]) -> u64 {
        self.generation += 1;
        for tp in partitions {
            self.awaited.insert(tp.clone(), self.generation);
        }
        self.generation
    }

    /// Whether this generation's start of a partition is still waited for.
    pub(super) fn is_awaited(&self, tp: &TopicPartition, generation: u64) -> bool {
        self.awaited.get(tp) == Some(&generation)
    }

    /// Begins to read a partition.
    pub(super) fn begin(&mut self, tp: TopicPartition, generation: u64, position: i64) {
        self.awaited.remove(&tp);
        let held = Held { generation, position, end_asked_at: None, end_told: None };
        self.held.insert(tp, held);
    }

    /// Waits no longer for the start of a partition: it is not read.
    pub(super) fn leave_out(&mut self, tp: &TopicPartition) {
        self.awaited.remove(tp);
    }

    /// Stops reading a partition, or waiting for its start; says whether it was read.
    pub(super) fn end(&mut self, tp: &TopicPartition) -> bool {
        self.awaited.remove(tp);
        self.held.remove(tp).is_some()
    }

    /// Whether a partition is read or about to be.
    pub(super) fn is_ours(&self, tp: &TopicPartition) -> bool {
        self.held.contains_key(tp) || self.awaited.contains_key(tp)
    }

    /// Notes a record; gives its generation, or `None` for one of a partition that is not ours.
    pub(super) fn advance(&mut self, tp: &TopicPartition, offset: i64) -> Option<u64> {
        let held = self.held.get_mut(tp)?;
        held.position = offset + 1;
        Some(held.generation)
    }

    /// Partitions of this number whose end has not been looked up at their position. The client
    /// tells the number of a partition that has ended, but not its topic.
    pub(super) fn ends_to_ask(&mut self, partition: i32) -> Vec<EndAsked> {
        let held = self.held.iter_mut().filter(|(tp, _)| tp.partition == partition);
        let unasked = held.filter(|(_, held)| held.end_asked_at != Some(held.position));
        unasked.map(|(tp, held)| held.ask(tp)).collect()
    }

    /// Partitions that had ended where we are, and whose log has grown since without a record for
    /// us: transaction markers. `ends`: next offsets of the log.
    pub(super) fn ends_to_ask_again(
        &mut self,
        ends: &BTreeMap<TopicPartition, (i64, i64)>,
    ) -> Vec<EndAsked> {
        let grown = self.held.iter_mut().filter(|(tp, held)| {
            let known = held.end_told.unwrap_or(held.position).max(held.position);
            held.end_asked_at == Some(held.position)
                && ends.get(tp).is_some_and(|(_, end)| *end > known)
        });
        grown.map(|(tp, held)| held.ask(tp)).collect()
    }

    /// Whether a partition still stands where its end was asked for.
    pub(super) fn stands(&self, asked: &EndAsked) -> bool {
        self.held.get(&asked.tp).is_some_and(|held| held.generation == asked.generation)
            && self.held.get(&asked.tp).is_some_and(|held| held.reached() == asked.position)
    }

    /// Notes that a partition ends at `next`; says whether that is news.
    pub(super) fn tell_end(&mut self, asked: &EndAsked, next: i64) -> bool {
        let held = self.held.get_mut(&asked.tp);
        let Some(held) = held.filter(|held| held.generation == asked.generation) else {
            return false;
        };
        held.end_told.replace(next) != Some(next)
    }

    /// What is read or about to be.
    pub(super) fn ours(&self) -> impl Iterator<Item = &TopicPartition> {
        self.held.keys().chain(self.awaited.keys())
    }

    /// What is read.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Held)> {
        self.held.iter()
    }
}

impl Held {
    /// The end told last may lie beyond the last record.
    fn reached(&self) -> i64 {
        self.position.max(self.end_told.unwrap_or(i64::MIN))
    }

    fn ask(&mut self, tp: &TopicPartition) -> EndAsked {
        self.end_asked_at = Some(self.position);
        EndAsked { tp: tp.clone(), generation: self.generation, position: self.reached() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(topic: &str) -> TopicPartition {
        TopicPartition::new(topic, 0)
    }

    fn begun(topics: &[&str], position: i64) -> Assignment {
        let mut assignment = Assignment::default();
        for topic in topics {
            let generation = assignment.await_starts(&[tp(topic)]);
            assignment.begin(tp(topic), generation, position);
        }
        assignment
    }

    #[test]
    fn an_end_is_asked_once_for_each_position() {
        let mut assignment = begun(&["a", "b"], 5);

        assert_eq!(assignment.ends_to_ask(0).len(), 2);
        assert_eq!(assignment.ends_to_ask(0), []);
        assert_eq!(assignment.ends_to_ask(1), []);
        assert_eq!(assignment.advance(&tp("a"), 7), Some(1));
        let asked = assignment.ends_to_ask(0);
        assert_eq!(asked, [EndAsked { tp: tp("a"), generation: 1, position: 8 }]);
        assert!(assignment.tell_end(&asked[0], 8));
        assert!(!assignment.tell_end(&asked[0], 8), "it is told once");
    }

    #[test]
    fn markers_behind_an_end_are_looked_at_again_and_records_are_not() {
        let mut assignment = begun(&["a"], 5);
        let ends = |end| BTreeMap::from([(tp("a"), (0, end))]);
        assert_eq!(assignment.ends_to_ask_again(&ends(9)), [], "it has not ended yet");

        let asked = assignment.ends_to_ask(0).remove(0);
        assert!(assignment.tell_end(&asked, 6));
        assert_eq!(assignment.ends_to_ask_again(&ends(6)), []);
        let again = assignment.ends_to_ask_again(&ends(9));
        assert_eq!(again, [EndAsked { tp: tp("a"), generation: 1, position: 6 }]);
        assert!(assignment.stands(&again[0]));
        assignment.advance(&tp("a"), 9);
        assert!(!assignment.stands(&again[0]));
        assert_eq!(assignment.ends_to_ask_again(&ends(20)), [], "records are being read");
    }

    #[test]
    fn records_of_partitions_that_are_not_ours_have_no_generation() {
        let mut assignment = Assignment::default();
        assert_eq!(assignment.advance(&tp("a"), 0), None);
        let generation = assignment.await_starts(&[tp("a")]);
        assert_eq!(assignment.advance(&tp("a"), 0), None);
        assert!(assignment.is_ours(&tp("a")));
        assignment.begin(tp("a"), generation, 0);
        assert!(assignment.end(&tp("a")));
        assert!(!assignment.is_ours(&tp("a")));
        assert_eq!(assignment.advance(&tp("a"), 0), None);
    }

    #[test]
    fn a_start_that_comes_too_late_does_not_count() {
        let mut assignment = Assignment::default();
        let first = assignment.await_starts(&[tp("a")]);
        let second = assignment.await_starts(&[tp("a")]);
        assert!(!assignment.is_awaited(&tp("a"), first));
        assert!(assignment.is_awaited(&tp("a"), second));
        assert!(!assignment.end(&tp("a")), "it was not read yet");
        assert!(!assignment.is_awaited(&tp("a"), second));
    }
}
