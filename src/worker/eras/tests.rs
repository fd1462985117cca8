//! Eras of a topic, with a cluster that ends where a test says.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use lakebed_sinks::storage::S3Options;

use super::*;
use crate::source::GroupOffset;

/// A cluster whose topic ends where it says.
#[derive(Default)]
struct Ends(Mutex<BTreeMap<i32, i64>>);

impl Ends {
    fn at(ends: &[i64]) -> Self {
        Self(Mutex::new((0..).zip(ends.iter().copied()).collect()))
    }
}

#[async_trait]
impl View for Ends {
    fn is_new(&self, _: &str) -> bool {
        false
    }

    async fn ends(&self, _: &str) -> Result<BTreeMap<i32, i64>, String> {
        Ok(self.0.lock().expect("lock").clone())
    }

    async fn partitions(&self, _: &str) -> Result<usize, String> {
        Ok(self.0.lock().expect("lock").len())
    }

    async fn group(&self, _: &[TopicPartition]) -> Result<Vec<GroupOffset>, String> {
        Ok(Vec::new())
    }
}

const NONE: [i32; 0] = [];

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn storage(folder: &tempfile::TempDir) -> Storage {
    let location = folder.path().to_str().expect("utf-8");
    Storage::open(location, &S3Options::default()).expect("storage")
}

fn eras(folder: &tempfile::TempDir, notice: Duration) -> Eras {
    Eras::new(storage(folder), notice)
}

/// Which of the partitions wait, where the table stands at these offsets.
fn held(eras: &Eras, count: i32, stands: &[i64]) -> Vec<i32> {
    let stands = |tp: &TopicPartition| {
        usize::try_from(tp.partition).ok().and_then(|partition| stands.get(partition)).copied()
    };
    (0..count).filter(|partition| eras.hold(&tp(*partition), stands).is_some()).collect()
}

async fn look(eras: &mut Eras, read: Option<i32>, ends: &Ends) {
    let count = i32::try_from(ends.0.lock().expect("lock").len()).expect("few");
    eras.look(&"t".into(), count, read, ends).await.expect("looks");
}

#[tokio::test]
async fn a_topic_that_is_read_from_its_beginning_has_nothing_to_wait_for() {
    let folder = tempfile::tempdir().expect("folder");
    let mut eras = eras(&folder, Duration::from_secs(300));
    look(&mut eras, None, &Ends::at(&[9, 9, 9])).await;
    assert_eq!(held(&eras, 3, &[]), NONE);
    // Partitions without a record have no place in the table, and are none that were added.
    look(&mut eras, Some(1), &Ends::at(&[9, 0, 0])).await;
    assert_eq!(held(&eras, 3, &[4]), NONE);
    assert!(!eras.is_added(&tp(2)));
}

#[tokio::test]
async fn added_partitions_wait_for_the_producers_and_then_for_the_ends_that_were() {
    let folder = tempfile::tempdir().expect("folder");
    let notice = Duration::from_millis(50);
    let mut eras = eras(&folder, notice);
    look(&mut eras, None, &Ends::at(&[5, 0])).await;

    look(&mut eras, Some(2), &Ends::at(&[7, 3, 2, 2])).await;
    assert_eq!(held(&eras, 4, &[100, 100]), [2, 3], "some producers may not know");
    assert_eq!(eras.hold(&tp(3), |_| Some(100)), Some(Hold::New));
    assert!(eras.is_added(&tp(2)) && !eras.is_added(&tp(1)));
    tokio::time::sleep(notice).await;
    look(&mut eras, Some(2), &Ends::at(&[8, 4, 9, 9])).await;
    assert_eq!(held(&eras, 4, &[7, 4]), [2, 3]);
    assert_eq!(eras.hold(&tp(2), |_| Some(7)), Some(Hold::Behind { tp: tp(0), end: 8 }));
    assert_eq!(held(&eras, 4, &[8, 4]), NONE);
    assert_eq!(held(&eras, 4, &[]), [2, 3], "the table was taken back");
}

#[tokio::test]
async fn all_processes_go_by_the_ends_of_the_first_and_so_does_the_next_life() {
    let folder = tempfile::tempdir().expect("folder");
    let [mut ours, mut theirs] = [0, 1].map(|_| eras(&folder, Duration::ZERO));
    look(&mut ours, None, &Ends::at(&[5])).await;
    look(&mut theirs, Some(1), &Ends::at(&[6, 6])).await;
    look(&mut ours, Some(1), &Ends::at(&[9, 9])).await;
    let mut next = eras(&folder, Duration::from_secs(300));
    look(&mut next, Some(2), &Ends::at(&[99, 99])).await;
    for eras in [&ours, &theirs, &next] {
        assert_eq!(held(eras, 2, &[5]), [1]);
        assert_eq!(held(eras, 2, &[6]), NONE);
    }
}

#[tokio::test]
async fn a_second_rise_waits_for_what_the_first_has_added() {
    let folder = tempfile::tempdir().expect("folder");
    let mut eras = eras(&folder, Duration::ZERO);
    look(&mut eras, None, &Ends::at(&[5, 5])).await;
    look(&mut eras, Some(2), &Ends::at(&[6, 6, 1, 0])).await;
    look(&mut eras, Some(4), &Ends::at(&[7, 7, 2, 0, 0, 0])).await;
    assert_eq!(held(&eras, 6, &[6, 5, 0, 0]), [2, 3, 4, 5]);
    assert_eq!(held(&eras, 6, &[6, 6, 0, 0]), [4, 5]);
    assert_eq!(held(&eras, 6, &[7, 7, 1, 0]), [4, 5]);
    // Of the fourth nothing was there to be read.
    assert_eq!(held(&eras, 6, &[7, 7, 2]), NONE);
}

#[tokio::test]
async fn a_table_that_is_begun_anew_waits_for_nothing_of_its_life_before() {
    let folder = tempfile::tempdir().expect("folder");
    let mut before = eras(&folder, Duration::ZERO);
    look(&mut before, None, &Ends::at(&[5, 5])).await;
    look(&mut before, Some(2), &Ends::at(&[6, 6, 1])).await;
    assert_eq!(held(&before, 3, &[]), [2]);
    // The table is gone, and what lies beside it is not.
    let mut eras = eras(&folder, Duration::ZERO);
    look(&mut eras, None, &Ends::at(&[2, 2, 1])).await;
    assert_eq!(held(&eras, 3, &[]), NONE);
    assert!(!eras.is_added(&tp(2)));
    look(&mut eras, Some(3), &Ends::at(&[3, 3, 2, 1])).await;
    assert_eq!(held(&eras, 4, &[3, 3, 1]), [3]);
    assert_eq!(held(&eras, 4, &[3, 3, 2]), NONE);
}

#[tokio::test]
async fn tables_of_an_earlier_release_tell_what_they_have_read() {
    let folder = tempfile::tempdir().expect("folder");
    let mut eras = eras(&folder, Duration::ZERO);
    look(&mut eras, Some(2), &Ends::at(&[3, 4, 1])).await;
    assert_eq!(held(&eras, 3, &[3, 3]), [2]);
    assert_eq!(held(&eras, 3, &[3, 4]), NONE);
}

#[tokio::test]
async fn a_topic_with_one_partition_costs_no_request() {
    let folder = tempfile::tempdir().expect("folder");
    let storage = storage(&folder);
    let mut eras = Eras::new(storage.clone(), Duration::ZERO);
    look(&mut eras, Some(1), &Ends::at(&[3])).await;
    assert_eq!(storage.counters().gets.load(Ordering::Relaxed), 0);
    assert_eq!(held(&eras, 1, &[]), NONE);
}

#[tokio::test]
async fn what_a_newer_release_has_written_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let newer = r#"{"v":2,"partitions":2,"ends":{}}"#;
    storage(&folder).put(&path("t", 0), newer.to_owned()).await.expect("puts");
    let ends = Ends::at(&[3, 3]);
    let looked = eras(&folder, Duration::ZERO).look(&"t".into(), 2, Some(2), &ends).await;
    assert!(looked.expect_err("refused").to_string().contains("upgrade lakebed"));
}
