//! Tables whose records need a schema registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::world::{Setting, World};
use super::{RunEnd, SILVER, tp};
use crate::health::Milestone;
use crate::source::Message;

const KEY: &str = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"int"}]}"#;
const VALUE: &str = r#"{"type":"record","name":"Envelope","fields":[
    {"name":"before","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"int"}]}]},
    {"name":"after","type":["null","Value"]},
    {"name":"source","type":{"type":"record","name":"Source","fields":[{"name":"connector","type":"string"},{"name":"lsn","type":"long"}]}},
    {"name":"op","type":"string"}]}"#;

/// A registry that knows schemas 1 (of keys) and 2 (of values), when it is up.
async fn registry(up: Arc<AtomicBool>) -> Setting {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let router = Router::new().route("/schemas/ids/{id}", get(schema)).with_state(up);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let file = format!(
        "records: {{ format: avro, registry: {{ type: confluent, url: 'http://{address}' }} }}\n"
    );
    Setting { file: Box::leak(file.into()), ..Setting::default() }
}

async fn schema(State(up): State<Arc<AtomicBool>>, Path(id): Path<u32>) -> Response {
    let answer = |schema: &str| serde_json::json!({ "schema": schema }).to_string();
    match (up.load(Ordering::Relaxed), id) {
        (false, _) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        (true, 1) => answer(KEY).into_response(),
        (true, 2) => answer(VALUE).into_response(),
        (true, _) => (StatusCode::NOT_FOUND, r#"{"error_code":40403}"#).into_response(),
    }
}

/// An insert of the row whose id is the offset; its value names this schema.
fn insert(offset: u8, generation: u64, schema: u8) -> Message {
    let id = offset * 2;
    let value =
        [&[0, 0, 0, 0, schema, 0, 2, id, 20][..], b"postgresql", &[2 * (offset + 1), 2, b'c']];
    Message {
        tp: tp(0),
        offset: offset.into(),
        timestamp_ms: None,
        key: Some(vec![0, 0, 0, 0, 1, id]),
        value: Some(value.concat()),
        headers: Vec::new(),
        generation,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_registry_is_down_records_wait_and_nothing_else_does() {
    let up = Arc::new(AtomicBool::new(false));
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &registry(up.clone()).await);
    for milestone in [Milestone::Joined, Milestone::CatalogReached] {
        world.telemetry.health.reached(milestone);
    }
    let out = || world.told.lock().expect("lock").out;
    let waits = async || world.telemetry.health.unready().filter(|why| why.contains("503"));
    world.assign(1, &[tp(0)]).await;
    world.read(vec![insert(0, 1, 2), insert(1, 1, 2)]);
    world.until(waits).await;
    assert!(out() > 0, "what waits counts against the source's budget");

    // The partition may go and come back meanwhile; what waited is let go of, and read again.
    world.revoke(&[tp(0)]).await;
    world.until(async || (out() == 0).then_some(())).await;
    world.assign(2, &[tp(0)]).await;
    world.read(vec![insert(0, 2, 2), insert(1, 2, 2)]);
    world.end(&tp(0), 5, 2);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(world.head(SILVER).await.is_none(), "the end goes not before what precedes it");

    up.store(true, Ordering::Relaxed);
    let head = async || {
        let head = world.head(SILVER).await?;
        head.checkpoint.next(&tp(0)).filter(|next| next.offset >= 2).map(|_| ())
    };
    world.until(head).await;
    assert_eq!(world.telemetry.health.unready(), None);
    world.until(async || (out() == 0).then_some(())).await;
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_the_registry_does_not_know_is_a_bad_record() {
    let up = Arc::new(AtomicBool::new(true));
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &registry(up).await);
    world.assign(1, &[tp(0)]).await;
    world.read(vec![insert(0, 1, 2), insert(1, 1, 9)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    match world.ended().await {
        RunEnd::Halted(tables) => {
            let (_, reason) = &tables[0];
            assert!(reason.contains("has no schema 9"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
