//! A registry for recorded topics: its schemas over HTTP, down at first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lakebed_schemas::config::{IdForm, IdSpace};
use lakebed_schemas::wire::{Framing, SchemaId, SchemaText, Wire};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

/// Requests that are refused before the first is answered: records must wait, and none be bad.
const DOWN_FOR: usize = 3;

struct Shared {
    schemas: BTreeMap<SchemaId, SchemaText>,
    asked: AtomicUsize,
}

/// A registry on a port of its own, as long as it lives.
pub(super) struct RecordedRegistry {
    /// The `records` block that leads to it.
    pub(super) records: Json,
    _runtime: Runtime,
}

impl RecordedRegistry {
    /// Serves the schemas of a recording that was written so.
    pub(super) fn new(wire: Wire, schemas: BTreeMap<SchemaId, SchemaText>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let listening = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = runtime.block_on(listening).expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared { schemas, asked: AtomicUsize::new(0) });
        let router = Router::new()
            .route("/schemas/ids/{id}", get(confluent))
            .route("/apis/registry/v2/ids/globalIds/{id}", get(apicurio))
            .route("/apis/registry/v2/ids/globalIds/{id}/references", get("[]"))
            .with_state(shared);
        runtime.spawn(async move { axum::serve(listener, router).await.expect("serves") });
        let registry = match wire.framing {
            Framing::Apicurio(ids, IdSpace::Global) => json!({
                "type": "apicurio",
                "url": format!("http://{address}/apis/registry/v2"),
                "ids": if ids == IdForm::Headers { "headers" } else { "8-byte" },
            }),
            _ => json!({ "type": "confluent", "url": format!("http://{address}") }),
        };
        let records = json!({ "format": "avro", "registry": registry });
        Self { records, _runtime: runtime }
    }
}

async fn confluent(State(shared): State<Arc<Shared>>, Path(id): Path<u32>) -> Response {
    let answer = |text: &str| json!({ "schema": text }).to_string();
    shared.answer(SchemaId::Confluent(id), answer)
}

async fn apicurio(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    shared.answer(SchemaId::Global(id), str::to_owned)
}

impl Shared {
    fn answer(&self, id: SchemaId, body: impl Fn(&str) -> String) -> Response {
        if self.asked.fetch_add(1, Ordering::Relaxed) < DOWN_FOR {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        match self.schemas.get(&id) {
            Some(schema) => body(&schema.text).into_response(),
            None => (StatusCode::NOT_FOUND, r#"{"error_code":40403}"#).into_response(),
        }
    }
}
