//! Against a double that speaks Glue's protocol (AWS JSON 1.1): no emulator at hand has its schema
//! registry.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State as Double;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value as Json, json};

use super::super::tests::{opened_with, settings};
use super::super::{Answer, Registry};
use super::*;

const KNOWN: [u8; 16] = *b"0123456789abcdef";
const KNOWN_TEXT: &str = "30313233-3435-3637-3839-616263646566";

/// What it has been asked with, and what it says of [`KNOWN`].
#[derive(Debug, Default)]
struct World {
    asked: Mutex<Vec<(String, Json)>>,
    answers: Mutex<Vec<(StatusCode, Json)>>,
}

impl World {
    /// Answers in this order, the last one again and again.
    async fn registry(self: &Arc<Self>, answers: &[(u16, Json)]) -> Registry {
        let answers = answers
            .iter()
            .rev()
            .map(|(status, body)| (StatusCode::from_u16(*status).expect("a status"), body.clone()));
        *self.answers.lock().expect("lock") = answers.collect();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let router = Router::new().route("/", post(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        let aws = AwsOptions {
            access_key_id: Some("KEY".to_owned()),
            secret_access_key: Some("SECRET-value".to_owned()),
            ..AwsOptions::default()
        };
        opened_with(&settings("glue", &url, ", region: eu-central-1"), &aws)
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("lock").len()
    }
}

async fn answer(
    Double(world): Double<Arc<World>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    assert_eq!(header("x-amz-target"), "AWSGlue.GetSchemaVersion");
    let body: Json = serde_json::from_str(&body).expect("JSON");
    world.asked.lock().expect("lock").push((header("authorization").to_owned(), body));
    let mut answers = world.answers.lock().expect("lock");
    let (status, body) = match answers.len() {
        1 => answers[0].clone(),
        _ => answers.pop().expect("an answer"),
    };
    (status, [("content-type", "application/x-amz-json-1.1")], body.to_string())
}

fn version(format: &str, status: &str, definition: &str) -> (u16, Json) {
    let body = json!({
        "SchemaVersionId": KNOWN_TEXT, "SchemaDefinition": definition, "DataFormat": format,
        "SchemaArn": "arn:aws:glue:eu-central-1:1:schema/r/s", "VersionNumber": 1, "Status": status,
    });
    (200, body)
}

fn refusal(kind: &str) -> (u16, Json) {
    (400, json!({ "__type": kind, "Message": "said by the double" }))
}

async fn ask(registry: &Registry) -> Answer {
    let asked = registry.fetch(SchemaId::Glue(KNOWN));
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("in time")
}

#[tokio::test]
async fn a_schema_version_is_asked_for_by_its_uuid_once_and_signed() {
    let world = Arc::new(World::default());
    let registry = world.registry(&[version("AVRO", "AVAILABLE", "\"long\"")]).await;
    for _ in 0..2 {
        let Answer::Found(schema) = ask(&registry).await else { panic!("it is there") };
        assert_eq!(schema.text, "\"long\"");
    }
    assert_eq!(world.asked(), 1);
    let (signed, body) = world.asked.lock().expect("lock")[0].clone();
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=KEY/"), "{signed}");
    assert!(signed.contains("/eu-central-1/glue/aws4_request"), "{signed}");
    assert_eq!(body["SchemaVersionId"], KNOWN_TEXT);
    assert!(!format!("{registry:?}").contains("SECRET-value"));
}

#[tokio::test]
async fn only_glues_own_word_that_there_is_none_is_an_absence() {
    let world = Arc::new(World::default());
    let registry = world.registry(&[refusal("EntityNotFoundException")]).await;
    let answer = ask(&registry).await;
    assert!(matches!(&answer, Answer::Absent(reason) if reason.contains(KNOWN_TEXT)), "{answer:?}");
    assert_eq!(world.asked(), 2, "asked twice");

    registry.probe(&[]).await.expect("it answers");
    for trouble in ["AccessDeniedException", "InternalServiceException", "ThrottlingException"] {
        let world = Arc::new(World::default());
        let answers = [refusal(trouble), version("AVRO", "AVAILABLE", "\"int\"")];
        let registry = world.registry(&answers).await;
        let Answer::Found(schema) = ask(&registry).await else { panic!("{trouble}") };
        assert_eq!((schema.text.as_str(), world.asked()), ("\"int\"", 2), "{trouble}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_said_and_a_version_under_way_is_waited_for() {
    for (answer, part) in [
        (version("JSON", "AVAILABLE", "{}"), "data format JSON"),
        (version("PROTOBUF", "AVAILABLE", "syntax"), "data format PROTOBUF"),
        (version("AVRO", "FAILURE", "\"int\""), "status FAILURE"),
    ] {
        let world = Arc::new(World::default());
        let registry = world.registry(&[answer]).await;
        let answer = ask(&registry).await;
        assert!(matches!(&answer, Answer::Absent(reason) if reason.contains(part)), "{answer:?}");
        assert_eq!(world.asked(), 1);
    }
    let world = Arc::new(World::default());
    let answers = [version("AVRO", "PENDING", ""), version("AVRO", "AVAILABLE", "\"int\"")];
    let registry = world.registry(&answers).await;
    assert!(matches!(ask(&registry).await, Answer::Found(_)));
}
