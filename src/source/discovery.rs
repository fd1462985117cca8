//! Which topics there are that we want: asked for on the side, every few seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use tracing::warn;

use super::client::LOOKUP;
use super::control::Control;

/// Says whether a topic is wanted. Patterns have their one dialect there.
pub type Wanted = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// How often topics are looked up, usually.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The wanted topics that exist, with how many partitions each has.
///
/// # Errors
/// When no broker answers.
pub(super) fn find<C: rdkafka::consumer::ConsumerContext>(
    client: &rdkafka::consumer::BaseConsumer<C>,
    wanted: &Wanted,
) -> Result<BTreeMap<String, usize>, String> {
    let metadata = client.fetch_metadata(None, LOOKUP).map_err(|error| error.to_string())?;
    let topics = metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty())
        .filter(|topic| wanted(topic.name()))
        .map(|topic| (topic.name().to_owned(), topic.partitions().len()));
    Ok(topics.collect())
}

/// Looks topics up whenever `stopped` has waited, until it says that it is over; tells when the set
/// has changed, and `counted` each time how many partitions there are.
pub(super) fn watch(
    client: &rdkafka::consumer::BaseConsumer,
    wanted: &Wanted,
    mut known: Vec<String>,
    control: &Sender<Control>,
    counted: &dyn Fn(BTreeMap<String, usize>),
    stopped: &dyn Fn() -> bool,
) {
    while !stopped() {
        match find(client, wanted) {
            Ok(topics) => {
                if !topics.keys().eq(&known) {
                    known = topics.keys().cloned().collect();
                    if control.send(Control::Topics(known.clone())).is_err() {
                        return;
                    }
                }
                counted(topics);
            }
            Err(error) => warn!(%error, "could not look up topics, will try again"),
        }
    }
}
