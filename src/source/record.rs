//! A record of the client's as one of ours.

use lakebed_schemas::position::TopicPartition;
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Headers};

use super::Message;

/// Copies a record out of the client's buffer, which would otherwise be held as a whole.
pub(super) fn to_message(
    record: &BorrowedMessage<'_>,
    tp: TopicPartition,
    generation: u64,
) -> Message {
    let headers = record.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    Message {
        tp,
        offset: record.offset(),
        timestamp_ms: record.timestamp().to_millis(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.payload().map(<[u8]>::to_vec),
        headers,
        generation,
    }
}
