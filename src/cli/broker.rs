//! What the commands ask of Kafka, each question with a bound on the wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lakebed_schemas::config::Kafka;
use lakebed_schemas::position::TopicPartition;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// How long one question may take.
const WAIT: Duration = Duration::from_secs(8);

/// The cluster as one answer shows it.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) id: Option<String>,
    pub(super) brokers: usize,
    /// Partition count by topic.
    pub(super) topics: BTreeMap<String, usize>,
}

fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.extend(kafka.client_properties());
    // Nothing here joins the group: the id is asked for by the library.
    config.set("group.id", format!("{}-lookup", kafka.group_id));
    config.set("enable.auto.commit", "false");
    config.set("allow.auto.create.topics", "false");
    // Offsets as the service sees them: up to the last stable one.
    config.set("isolation.level", "read_committed");
    config
}

/// Keeps what the client says of its connections: the answers alone say only that none came.
#[derive(Default)]
struct Heard(Mutex<Option<String>>);

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Why one broker is not reached says more than that none is.
        let is_summary = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if heard.is_none() || !is_summary {
            *heard = Some(reason.to_owned());
        }
    }

    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ConsumerContext for Heard {}

/// What the client has said before it gave up; the error itself if it has said nothing.
fn because(consumer: &BaseConsumer<Heard>, error: &KafkaError) -> String {
    let deadline = Instant::now() + Duration::from_millis(500);
    while Instant::now() < deadline {
        // Serves the callbacks; a consumer without topics gets no message.
        let _ = consumer.poll(Duration::from_millis(50));
    }
    let heard = consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
    heard.clone().unwrap_or_else(|| error.to_string())
}

fn connect(config: &ClientConfig) -> Result<BaseConsumer<Heard>, String> {
    config.create_with_context(Heard::default()).map_err(|error| error.to_string())
}

/// Runs a look-up that blocks away from the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(format!("the look-up died: {error}")),
    }
}

/// Asks which brokers and topics there are.
///
/// # Errors
/// When no broker answers in time; says why.
pub(super) async fn cluster(kafka: &Kafka) -> Result<Cluster, String> {
    let config = client(kafka);
    blocking(move || {
        let consumer = connect(&config)?;
        let metadata =
            consumer.fetch_metadata(None, WAIT).map_err(|error| because(&consumer, &error))?;
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
        Ok(Cluster {
            id: consumer.client().fetch_cluster_id(WAIT),
            brokers: metadata.brokers().len(),
            topics: topics
                .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
                .collect(),
        })
    })
    .await
}

/// First and next offset of each of these partitions, as far as they can be told.
///
/// # Errors
/// When the client cannot be made.
pub(super) async fn watermarks(
    kafka: &Kafka,
    partitions: Vec<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, (i64, i64)>, String> {
    let config = client(kafka);
    blocking(move || {
        let consumer = connect(&config)?;
        let marks = partitions.into_iter().filter_map(|tp| {
            let marks = consumer.fetch_watermarks(&tp.topic, tp.partition, WAIT).ok()?;
            Some((tp, marks))
        });
        Ok(marks.collect())
    })
    .await
}

/// Settings by name, by topic.
pub(super) type TopicSettings = BTreeMap<String, BTreeMap<String, String>>;

/// The settings of each of these topics, as far as the cluster tells.
pub(super) async fn topic_settings(kafka: &Kafka, topics: &[String]) -> TopicSettings {
    let Ok(admin) = client(kafka).create::<AdminClient<DefaultClientContext>>() else {
        return TopicSettings::new();
    };
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(WAIT));
    let answer = tokio::time::timeout(WAIT, admin.describe_configs(&resources, &options)).await;
    let Ok(Ok(described)) = answer else { return TopicSettings::new() };
    let settings = |resource: ConfigResource| {
        let OwnedResourceSpecifier::Topic(topic) = &resource.specifier else {
            return None;
        };
        let entries = resource.entries.iter();
        let entries = entries.filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?)));
        Some((topic.clone(), entries.collect()))
    };
    described.into_iter().filter_map(|resource| settings(resource.ok()?)).collect()
}
