//! Names of data files: attempt-unique, and telling whose rows they hold.

use lakebed_schemas::position::TopicPartition;
use uuid::Uuid;

/// Path of a new data file, relative to the table: `data/[<name>=<value>/…]t0-<partition>-<uuid>-<topic>.parquet`.
///
/// `tier` is 0 for files straight from a batch, 1 for those with rows of other files. The topic is the last part, so that it may hold
/// anything a topic may (`[a-zA-Z0-9._-]`).
pub fn data_file(tier: u8, tp: &TopicPartition, partition_folders: Option<&str>) -> String {
    if tp.topic.is_empty() {
        // Rows of files that others wrote: of any topic-partition, so the name tells none.
        let name = format!("any-{}.parquet", Uuid::new_v4().simple());
        return folder_and(partition_folders, &name);
    }
    let name = format!("t{tier}-{}-{}-{}.parquet", tp.partition, Uuid::new_v4().simple(), tp.topic);
    folder_and(partition_folders, &name)
}

fn folder_and(partition_folders: Option<&str>, name: &str) -> String {
    match partition_folders {
        Some(folder) => format!("data/{folder}/{name}"),
        None => format!("data/{name}"),
    }
}

/// The topic-partition that a data file's path tells; `None` for files that others wrote.
pub fn topic_partition(path: &str) -> Option<TopicPartition> {
    let name = path.rsplit('/').next()?.strip_suffix(".parquet")?;
    let mut parts = name.strip_prefix('t')?.splitn(4, '-');
    let _tier: u8 = parts.next()?.parse().ok()?;
    let partition: i32 = parts.next()?.parse().ok()?;
    let _uuid = Uuid::try_parse(parts.next()?).ok()?;
    Some(TopicPartition::new(parts.next()?, partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_topic_partition() {
        let tp = TopicPartition::new("shop.public.line-items_2", 17);
        assert_eq!(topic_partition(&data_file(0, &tp, None)), Some(tp.clone()));
        assert_eq!(topic_partition(&data_file(0, &tp, Some("_date=2026-01-31"))), Some(tp));
        assert_eq!(topic_partition("data/part-00000-x.snappy.parquet"), None);
        assert_eq!(topic_partition(&data_file(1, &TopicPartition::new("", -1), None)), None);
    }
}
