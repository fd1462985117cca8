//! Fills a Kafka topic with change events of a shop's orders, as fast as the broker takes them.
//!
//! The same shop as `lakebed demo`, on a broker of yours: for measuring, and for trying Lakebed
//! without a database.
//!
//! ```sh
//! cargo run --release --example generate -- --bootstrap-servers localhost:9092 --changes 1000000
//! ```

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use lakebed::demo::generator::{Event, Generator, Mix, ShopOptions, TOPIC};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

/// How long the broker may take for the last records.
const FLUSH: Duration = Duration::from_secs(120);

/// Produces change events of a shop's orders table to Kafka.
#[derive(Debug, Parser)]
struct Options {
    /// Brokers, `host:port` separated by commas.
    #[arg(long)]
    bootstrap_servers: String,
    /// Topic; made if it is not there.
    #[arg(long, default_value = TOPIC)]
    topic: String,
    /// Partitions of the topic; a row stays in the partition of its key.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Changes to make; a delete takes two records, itself and its tombstone.
    #[arg(long, default_value_t = 1_000_000)]
    changes: u64,
    /// Most rows at a time; where an insert would make more, a row is updated [default: no bound].
    #[arg(long)]
    keys: Option<u64>,
    /// Inserts in percent of the changes.
    #[arg(long, default_value_t = 45, value_parser = percent())]
    inserts: u64,
    /// Updates in percent of the changes; the rest are deletes.
    #[arg(long, default_value_t = 45, value_parser = percent())]
    updates: u64,
    /// Go on from an earlier run with the same seed that made this many changes, all inserts.
    #[arg(long, default_value_t = 0)]
    after_inserts: u64,
    /// The same seed gives the same changes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Events without inline schemas (`schemas.enable=false`).
    #[arg(long)]
    schemaless: bool,
    /// Compression of the producer: none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    compression: String,
}

fn percent() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=100)
}

/// Counts what the broker did not take.
#[derive(Clone, Default)]
struct Lost(Arc<AtomicU64>);

impl ClientContext for Lost {}

impl ProducerContext for Lost {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn main() -> ExitCode {
    let done = generate(&Options::parse());
    let (line, code) = match done {
        Ok(line) => (line, ExitCode::SUCCESS),
        Err(reason) => (format!("error: {reason}"), ExitCode::FAILURE),
    };
    let _ = writeln!(std::io::stderr(), "{line}");
    code
}

fn generate(options: &Options) -> Result<String, String> {
    if options.inserts + options.updates > 100 {
        return Err("--inserts and --updates come to more than 100 percent".into());
    }
    create_topic(options)?;
    let lost = Lost::default();
    let producer: ThreadedProducer<Lost> = producer_config(options)
        .create_with_context(lost.clone())
        .map_err(|error| format!("producer: {error}"))?;
    let mut shop = shop(options);
    let (mut records, mut bytes) = (0u64, 0u64);
    let started = Instant::now();
    for _ in 0..options.changes {
        for event in shop.change() {
            bytes += (event.key.len() + event.value.as_ref().map_or(0, Vec::len)) as u64;
            records += 1;
            send(&producer, options, &event)?;
        }
    }
    producer.flush(FLUSH).map_err(|error| format!("the broker did not take all: {error}"))?;
    match lost.0.load(Ordering::Relaxed) {
        0 => {}
        lost => return Err(format!("the broker refused {lost} of {records} records")),
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!(
        "{} changes, {records} records, {:.1} MB in {seconds:.1} s: {:.0} records/s; \
         the table has {} rows",
        options.changes,
        bytes as f64 / 1e6,
        records as f64 / seconds,
        shop.expected().len(),
    ))
}

fn shop(options: &Options) -> Generator {
    let mut shop = Generator::new(&ShopOptions {
        seed: options.seed,
        mix: Mix { inserts: 100, updates: 0 },
        rows_max: options.keys.unwrap_or(u64::MAX),
        with_schema: !options.schemaless,
    });
    shop.skip(options.after_inserts);
    shop.set_mix(Mix { inserts: options.inserts, updates: options.updates });
    shop
}

fn client_config(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.bootstrap_servers);
    config
}

fn producer_config(options: &Options) -> ClientConfig {
    let mut config = client_config(options);
    // Idempotence keeps the order of a partition when a batch has to be sent again.
    config.set("enable.idempotence", "true");
    config.set("compression.type", &options.compression);
    config.set("linger.ms", "50");
    config.set("batch.size", "1000000");
    config.set("batch.num.messages", "100000");
    config.set("queue.buffering.max.kbytes", "131072");
    config
}

#[tokio::main(flavor = "current_thread")]
async fn create_topic(options: &Options) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> =
        client_config(options).create().map_err(|error| format!("kafka client: {error}"))?;
    let topic = NewTopic::new(&options.topic, options.partitions, TopicReplication::Fixed(1));
    let failed = |error: &dyn std::fmt::Display| {
        format!("could not create topic `{}`: {error}", options.topic)
    };
    let created = admin.create_topics(&[topic], &AdminOptions::new()).await;
    match created.map_err(|error| failed(&error))?.pop() {
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {}
        Some(Err((_, code))) => return Err(failed(&code)),
    }
    let metadata = admin.inner().fetch_metadata(Some(&options.topic), FLUSH);
    let metadata = metadata.map_err(|error| failed(&error))?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    // A new topic may take a moment to be known everywhere; one of another width will not change.
    if partitions > 0 && partitions != options.partitions as usize {
        return Err(format!(
            "topic `{}` has {partitions} partitions: give --partitions {partitions}, because a row \
             must stay in its partition",
            options.topic
        ));
    }
    Ok(())
}

fn send(producer: &ThreadedProducer<Lost>, options: &Options, event: &Event) -> Result<(), String> {
    let partition = i32::try_from(event.id % i64::from(options.partitions)).unwrap_or(0);
    let mut record: BaseRecord<'_, [u8], [u8]> =
        BaseRecord::to(&options.topic).partition(partition).key(&event.key);
    if let Some(value) = &event.value {
        record = record.payload(value);
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, again))
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
            {
                std::thread::sleep(Duration::from_millis(2));
                record = again;
            }
            Err((error, _)) => return Err(format!("could not produce: {error}")),
        }
    }
}
