//! `/livez`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::telemetry::Telemetry;

/// Serves on `listen` (`host:port`) until the returned task is aborted; gives the address bound.
///
/// # Errors
/// When the address cannot be listened on; says what to change.
pub async fn serve(
    listen: &str,
    telemetry: Telemetry,
) -> Result<(SocketAddr, JoinHandle<()>), String> {
    let refused = |error: std::io::Error| {
        format!(
            "could not listen on `{listen}` (http.listen): {error}; choose another address, or \
             set `http: false`"
        )
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(telemetry)).await {
            tracing::warn!(%error, "health and metrics are no longer served");
        }
    });
    Ok((address, task))
}

fn router(telemetry: Telemetry) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(telemetry)
}

async fn livez(State(telemetry): State<Telemetry>) -> Response {
    answer(telemetry.health.stuck(Instant::now()))
}

async fn readyz(State(telemetry): State<Telemetry>) -> Response {
    answer(telemetry.health.unready())
}

fn answer(problem: Option<String>) -> Response {
    match problem {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
    }
}

async fn metrics(State(telemetry): State<Telemetry>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], telemetry.metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Milestone;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("receive");
        answer
    }

    #[tokio::test]
    async fn health_and_metrics_are_served() {
        let telemetry = Telemetry::default();
        let (address, task) = serve("127.0.0.1:0", telemetry.clone()).await.expect("bind");

        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let early = get(address, "/readyz").await;
        assert!(early.starts_with("HTTP/1.1 503"), "{early}");
        assert!(early.ends_with("has not joined the consumer group\n"), "{early}");
        telemetry.health.reached(Milestone::Joined);
        telemetry.health.reached(Milestone::CatalogReached);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("lakebed_build_info"), "{metrics}");
        assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));
        task.abort();
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_the_next_move() {
        let (address, task) = serve("127.0.0.1:0", Telemetry::default()).await.expect("bind");

        let error = serve(&address.to_string(), Telemetry::default()).await.expect_err("in use");
        assert!(error.starts_with(&format!("could not listen on `{address}` (http.listen): ")));
        assert!(error.ends_with("choose another address, or set `http: false`"), "{error}");
        task.abort();
    }
}
