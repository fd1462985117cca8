//! Which topics there are that we want: asked for on the side, every few seconds.

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

/// The wanted topics that exist, in order.
///
/// # Errors
/// When no broker answers.
pub(super) fn find<C: rdkafka::consumer::ConsumerContext>(
    client: &rdkafka::consumer::BaseConsumer<C>,
    wanted: &Wanted,
) -> Result<Vec<String>, String> {
    let metadata = client.fetch_metadata(None, LOOKUP).map_err(|error| error.to_string())?;
    let mut topics: Vec<String> = metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty())
        .map(|topic| topic.name().to_owned())
        .filter(|name| wanted(name))
        .collect();
    topics.sort();
    Ok(topics)
}

/// Looks topics up whenever `stopped` has waited, until it says that it is over; tells when the set
/// has changed.
pub(super) fn watch(
    client: &rdkafka::consumer::BaseConsumer,
    wanted: &Wanted,
    mut known: Vec<String>,
    control: &Sender<Control>,
    stopped: &dyn Fn() -> bool,
) {
    while !stopped() {
        match find(client, wanted) {
            Ok(topics) if topics != known => {
                known.clone_from(&topics);
                if control.send(Control::Topics(topics)).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "could not look up topics, will try again"),
        }
    }
}
