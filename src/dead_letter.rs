//! Sends records that cannot be decoded to a dead-letter topic, as Kafka Connect would.
//!
//! Key and value bytes and headers stay as they were; Connect's `__connect.errors.*` headers are
//! added, so that tools made for its dead letters work. A table passes a record only after the
//! broker has acknowledged its letter.

use std::time::Duration;

use lakebed_schemas::config::Kafka;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::source::{Message, client_config};

/// How long the broker may take to acknowledge.
const ACKNOWLEDGE: Duration = Duration::from_secs(30);

/// A record that could not be decoded.
#[derive(Debug)]
pub struct DeadLetter {
    /// As it was read.
    pub message: Message,
    /// Why; holds no value of the row.
    pub reason: String,
    /// Where it goes.
    pub topic: String,
}

/// The producer of dead letters.
pub struct DeadLetters {
    producer: FutureProducer,
}

impl DeadLetters {
    /// Opens a producer to the cluster that records come from.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn open(kafka: &Kafka) -> Result<Self, String> {
        let mut config = client_config(kafka);
        // The letter must arrive once and whole, or the table stays before its record.
        config.set("enable.idempotence", "true").set("acks", "all");
        config.set("message.max.bytes", "100000000").set("compression.type", "lz4");
        let producer = config.create().map_err(|error| format!("dead-letter producer: {error}"))?;
        Ok(Self { producer })
    }

    /// Sends letters and waits for all acknowledgements.
    ///
    /// # Errors
    /// When one is not acknowledged: none may be passed then, and sending them again is safe.
    pub async fn send(&self, letters: &[DeadLetter]) -> Result<(), String> {
        let sent = letters.iter().map(|letter| self.send_one(letter));
        futures::future::try_join_all(sent).await.map(|_| ())
    }

    async fn send_one(&self, letter: &DeadLetter) -> Result<(), String> {
        let message = &letter.message;
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&letter.topic).headers(headers(letter));
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        if let Some(value) = &message.value {
            record = record.payload(value);
        }
        if let Some(timestamp) = message.timestamp_ms {
            record = record.timestamp(timestamp);
        }
        let sent = self.producer.send(record, ACKNOWLEDGE).await;
        sent.map(|_| ()).map_err(|(error, _)| {
            format!(
                "dead letter of {}@{} not acknowledged by topic `{}`: {error}",
                message.tp, message.offset, letter.topic
            )
        })
    }

    /// Waits for what is still on its way; bounded.
    pub fn flush(&self) {
        let _ = self.producer.flush(ACKNOWLEDGE);
    }
}

/// The record's own headers, then those of Kafka Connect's `DeadLetterQueueReporter`.
fn headers(letter: &DeadLetter) -> OwnedHeaders {
    let message = &letter.message;
    let mut headers = OwnedHeaders::new();
    for (name, value) in &message.headers {
        headers = headers.insert(Header { key: name, value: value.as_ref() });
    }
    let partition = message.tp.partition.to_string();
    let offset = message.offset.to_string();
    let ours = [
        ("topic", &*message.tp.topic),
        ("partition", &partition),
        ("offset", &offset),
        ("connector.name", "lakebed"),
        ("task.id", "0"),
        ("stage", "VALUE_CONVERTER"),
        ("class.name", "lakebed_schemas::decoder::Decoder"),
        ("exception.class.name", "org.apache.kafka.connect.errors.DataException"),
        ("exception.message", &letter.reason),
        ("exception.stacktrace", ""),
    ];
    for (name, value) in ours {
        let key = format!("__connect.errors.{name}");
        headers = headers.insert(Header { key: &key, value: Some(value) });
    }
    headers
}
