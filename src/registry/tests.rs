//! Against a registry that answers over HTTP and can be slow, down, or of another mind.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Path, State as Double};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::task::JoinHandle;

use super::*;

/// What the double does with a request.
#[derive(Clone, Copy)]
enum Mood {
    Answers,
    Fails(StatusCode),
    /// A 404 of something that is no registry.
    IsElsewhere,
    Hangs,
    Slow(Duration),
}

/// A registry over HTTP.
struct World {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    mood: Mutex<Mood>,
    /// Paths asked for, in order.
    asked: Mutex<Vec<String>>,
    login: Option<&'static str>,
    contents: BTreeMap<&'static str, String>,
}

impl World {
    async fn new(contents: &[(&'static str, &str)], login: Option<&'static str>) -> Self {
        let contents = contents.iter().map(|(path, text)| (*path, (*text).to_owned()));
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Answers),
            asked: Mutex::default(),
            login,
            contents: contents.collect(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let task = serve(listener, shared.clone());
        Self { address, shared, task }
    }

    fn mood(&self, mood: Mood) {
        *self.shared.mood.lock().expect("lock") = mood;
    }

    fn asked(&self) -> usize {
        self.shared.asked.lock().expect("lock").len()
    }

    fn settings(&self, kind: &str, path: &str, more: &str) -> config::Registry {
        settings(kind, &format!("http://{}{path}", self.address), more)
    }

    fn registry(&self) -> Registry {
        opened(&self.settings("confluent", "", ""))
    }
}

/// The settings of a registry as a file gives them.
pub(super) fn settings(kind: &str, url: &str, more: &str) -> config::Registry {
    let text = format!(
        "kafka: {{ bootstrap_servers: 'localhost:9092' }}\nlake: {{ location: /tmp/l, format: iceberg }}\n\
         records: {{ format: avro, registry: {{ type: {kind}, url: '{url}'{more} }} }}\n\
         tables: [{{ topic: t }}]"
    );
    let env = |name: &str| Some(format!("{name}-value"));
    let config = crate::config::parse(&text, std::path::Path::new("/tmp/l.yaml"), &env);
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    config.tables[0].records.registry.clone().expect("a registry")
}

fn opened(settings: &config::Registry) -> Registry {
    opened_with(settings, &AwsOptions::default())
}

/// A client that does not wait long.
pub(super) fn opened_with(settings: &config::Registry, aws: &AwsOptions) -> Registry {
    let registry = Registry::open(settings, aws, Telemetry::default()).expect("opens");
    let millis = Duration::from_millis;
    let pace = Pace {
        absent_for: millis(300),
        ask_again: millis(5),
        retry_first: millis(10),
        retry_longest: millis(40),
    };
    Registry { pace, ..registry }
}

fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    let router = Router::new().route("/{*path}", get(answer)).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") })
}

async fn answer(
    Double(shared): Double<Arc<Shared>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    shared.asked.lock().expect("lock").push(path.clone());
    let mood = *shared.mood.lock().expect("lock");
    match mood {
        Mood::Answers => {}
        Mood::Fails(status) => return (status, "no").into_response(),
        Mood::IsElsewhere => return (StatusCode::NOT_FOUND, "<html>").into_response(),
        Mood::Hangs => std::future::pending().await,
        Mood::Slow(wait) => tokio::time::sleep(wait).await,
    }
    let login = headers.get("authorization").and_then(|login| login.to_str().ok());
    if shared.login.is_some() && login != shared.login {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match shared.contents.get(path.as_str()) {
        Some(text) => text.clone().into_response(),
        None => {
            let body = r#"{"error_code":40403,"message":"Schema not found"}"#;
            (StatusCode::NOT_FOUND, body).into_response()
        }
    }
}

fn found(answer: Answer) -> SchemaText {
    match answer {
        Answer::Found(schema) => (*schema).clone(),
        Answer::Absent(reason) => panic!("{reason}"),
    }
}

async fn ask(registry: &Registry, id: SchemaId) -> Answer {
    tokio::time::timeout(Duration::from_secs(20), registry.fetch(id)).await.expect("in time")
}

const LONG: (&str, &str) = ("schemas/ids/7", r#"{"schema":"\"long\""}"#);

#[tokio::test]
async fn a_schema_is_asked_for_once_however_many_want_it() {
    let world = World::new(&[LONG], None).await;
    world.mood(Mood::Slow(Duration::from_millis(50)));
    let registry = Arc::new(world.registry());

    let asking = (0..20).map(|_| {
        let registry = registry.clone();
        tokio::spawn(async move { found(ask(&registry, SchemaId::Confluent(7)).await) })
    });
    for answer in asking.collect::<Vec<_>>() {
        let schema = SchemaText { text: "\"long\"".to_owned(), references: Vec::new() };
        assert_eq!(answer.await.expect("answers"), schema);
    }
    assert_eq!(world.asked(), 1);
    assert!(matches!(registry.known(SchemaId::Confluent(7)), Some(Answer::Found(_))));
}

#[tokio::test]
async fn a_registry_that_is_down_is_waited_for_and_said_to_be() {
    let world = World::new(&[LONG], None).await;
    let registry = Arc::new(world.registry());
    let health = registry.telemetry.health.clone();
    for milestone in [crate::health::Milestone::Joined, crate::health::Milestone::CatalogReached] {
        health.reached(milestone);
    }
    // Nobody listens there any more.
    world.task.abort();
    let address = world.address;
    let asking = registry.clone();
    let asking = tokio::spawn(async move { ask(&asking, SchemaId::Confluent(7)).await });
    for _ in 0..200 {
        if health.unready().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let unready = health.unready().expect("not ready");
    assert!(unready.starts_with(&format!("waits for the schema registry at http://{address}")));
    assert!(registry.telemetry.metrics.render().contains("lakebed_registry_up 0"));
    assert!(!asking.is_finished(), "it must not be taken for an answer");
    let listener = tokio::net::TcpListener::bind(address).await.expect("bind again");
    let task = serve(listener, world.shared.clone());

    found(asking.await.expect("answers"));
    assert_eq!(health.unready(), None);
    assert!(registry.telemetry.metrics.render().contains("lakebed_registry_up 1"));
    task.abort();
}

#[tokio::test]
async fn what_is_no_answer_is_never_an_absence() {
    for (mood, part) in [
        (Mood::Fails(StatusCode::INTERNAL_SERVER_ERROR), "500"),
        (Mood::Fails(StatusCode::TOO_MANY_REQUESTS), "429"),
        (Mood::Fails(StatusCode::UNAUTHORIZED), "`username` and `password`"),
        (Mood::IsElsewhere, "`url`"),
    ] {
        let world = World::new(&[LONG], None).await;
        world.mood(mood);
        let registry = Arc::new(world.registry());
        let asking = registry.clone();
        let asking = tokio::spawn(async move { ask(&asking, SchemaId::Confluent(7)).await });
        while world.asked() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let waits = registry.state().trouble.as_ref().map(|trouble| trouble.attempts);
        assert!(waits.is_some_and(|attempts| attempts >= 2), "{part}: {waits:?}");
        let health = &registry.telemetry.health;
        for milestone in
            [crate::health::Milestone::Joined, crate::health::Milestone::CatalogReached]
        {
            health.reached(milestone);
        }
        assert!(health.unready().is_some_and(|reason| reason.contains(part)), "{part}");
        world.mood(Mood::Answers);
        found(asking.await.expect("answers"));
    }
}

#[tokio::test]
async fn an_absence_is_asked_twice_and_kept_for_a_while() {
    let world = World::new(&[LONG], None).await;
    let registry = world.registry();
    let absent =
        |answer: Answer| matches!(answer, Answer::Absent(reason) if reason.contains("no schema 8"));

    assert!(absent(ask(&registry, SchemaId::Confluent(8)).await));
    assert_eq!(world.asked(), 2);
    assert!(absent(ask(&registry, SchemaId::Confluent(8)).await));
    assert_eq!(world.asked(), 2, "kept");
    tokio::time::sleep(Duration::from_millis(320)).await;
    assert!(registry.known(SchemaId::Confluent(8)).is_none(), "forgotten");
    assert!(absent(ask(&registry, SchemaId::Confluent(8)).await));
    assert_eq!(world.asked(), 4);
}

#[tokio::test]
async fn a_dropped_question_keeps_nobody_from_asking() {
    let world = World::new(&[LONG], None).await;
    world.mood(Mood::Hangs);
    let registry = world.registry();
    let asked = registry.fetch(SchemaId::Confluent(7));
    assert!(tokio::time::timeout(Duration::from_millis(50), asked).await.is_err());
    world.mood(Mood::Answers);
    found(ask(&registry, SchemaId::Confluent(7)).await);
}

#[tokio::test]
async fn a_guid_is_asked_for_as_one() {
    let guid = SchemaId::ConfluentGuid(*b"0123456789abcdef");
    let path = "schemas/guids/30313233-3435-3637-3839-616263646566";
    let world = World::new(&[LONG, (path, r#"{"schema":"\"int\"","guid":"x"}"#)], None).await;
    let registry = world.registry();
    assert_eq!(found(ask(&registry, guid).await).text, "\"int\"");
    assert_eq!(found(ask(&registry, SchemaId::Confluent(7)).await).text, "\"long\"");
}

#[tokio::test]
async fn references_come_before_what_refers_to_them() {
    let contents = [
        (
            "schemas/ids/1",
            r#"{"schema":"main","schemaType":"PROTOBUF","references":[{"name":"b.proto","subject":"b","version":2},{"name":"c.proto","subject":"c d","version":1}]}"#,
        ),
        (
            "subjects/b/versions/2",
            r#"{"schema":"b","references":[{"name":"c.proto","subject":"c d","version":1}]}"#,
        ),
        ("subjects/c d/versions/1", r#"{"schema":"c"}"#),
    ];
    let world = World::new(&contents, None).await;
    let schema = found(ask(&world.registry(), SchemaId::Confluent(1)).await);
    let names: Vec<&str> = schema.references.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["c.proto", "b.proto"]);
    assert_eq!(schema.references[1].1, "b");
}

#[tokio::test]
async fn apicurio_is_asked_by_either_id_in_either_version() {
    for (version, content) in [("v2", ""), ("v3", "/content")] {
        let base = format!("apis/registry/{version}");
        let path = |path: &str| -> &'static str { Box::leak(format!("{base}/{path}").into()) };
        let list = r#"[{"groupId":"g","artifactId":"a","version":"1.0","name":"n.Ref"}]"#;
        let contents = [
            (path("ids/contentIds/3"), "\"int\""),
            (path("ids/globalIds/4"), "\"long\""),
            (path("ids/globalIds/4/references"), list),
            (path(&format!("groups/g/artifacts/a/versions/1.0{content}")), "\"ref\""),
        ];
        let world = World::new(&contents, None).await;
        let registry = opened(&world.settings("apicurio", &format!("/{base}/"), ""));
        assert_eq!(found(ask(&registry, SchemaId::Content(3)).await).text, "\"int\"");
        let schema = found(ask(&registry, SchemaId::Global(4)).await);
        assert_eq!(schema.text, "\"long\"");
        assert_eq!(schema.references, [("n.Ref".to_owned(), "\"ref\"".to_owned())]);
    }
}

#[tokio::test]
async fn logins_are_sent_and_shown_nowhere() {
    for (login, more) in [
        ("Basic bGFrZWJlZDpQLXZhbHVl", ", username: lakebed, password: '${env:P}'"),
        ("Bearer T-value", ", token: '${env:T}'"),
    ] {
        let world = World::new(&[LONG], Some(login)).await;
        let settings = world.settings("confluent", "", more);
        let registry = opened(&settings);
        found(ask(&registry, SchemaId::Confluent(7)).await);
        let shown = format!("{registry:?} {settings:?}");
        assert!(!shown.contains("-value"), "{shown}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "nothing").expect("writes");
    for (ca_file, part) in [(file.as_path(), "ca.pem"), (folder.path(), "ca_file")] {
        let settings = config::Registry {
            kind: config::RegistryKind::Confluent,
            url: Some("http://127.0.0.1:1".to_owned()),
            username: None,
            password: None,
            token: None,
            ca_file: Some(ca_file.to_string_lossy().into_owned()),
            ids: None,
            id: None,
            region: None,
        };
        let opened = Registry::open(&settings, &AwsOptions::default(), Telemetry::default());
        let error = opened.expect_err("refused");
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_probe_reads_one_schema_with_the_login_and_says_what_is_wrong() {
    let schema = r#"{"schema":"\"long\""}"#;
    let topics = ["shop.a".to_owned(), "shop.b".to_owned()];
    let of_topic = ("subjects/shop.b-value/versions/latest", schema);
    let list = ("subjects", r#"["other-value"]"#);
    let listed = ("subjects/other-value/versions/latest", schema);
    let readable = |name: &str| Ok(Probed::Readable(name.to_owned()));
    let basic = Some("Basic bWU6UC12YWx1ZQ==");
    let login = ", username: me, password: '${env:P}'";
    for (contents, expected) in [
        (vec![of_topic], readable("shop.b-value")),
        (vec![list, listed], readable("other-value")),
        (vec![("subjects", "[]")], Ok(Probed::Empty)),
        (vec![list], Err("does not give its schema")),
        (vec![("subjects", "<html>")], Err("`type` and `url`")),
        (vec![], Err("`type` and `url`")),
    ] {
        let world = World::new(&contents, basic).await;
        let probed = opened(&world.settings("confluent", "", login)).probe(&topics).await;
        match expected {
            Ok(expected) => assert_eq!(probed, Ok(expected)),
            Err(part) => assert!(probed.as_ref().is_err_and(|e| e.contains(part)), "{probed:?}"),
        }
        let refused = opened(&world.settings("confluent", "", "")).probe(&topics).await;
        assert!(refused.is_err_and(|error| error.contains("refuses the login")));
    }
    let search = |id: &str| format!(r#"{{"artifacts":[{{"groupId":"g","{id}":"a"}}],"count":1}}"#);
    for (version, id, content) in [
        ("v2", "id", "apis/registry/v2/groups/g/artifacts/a"),
        (
            "v3",
            "artifactId",
            "apis/registry/v3/groups/g/artifacts/a/versions/branch=latest/content",
        ),
    ] {
        let path = format!("/apis/registry/{version}");
        let place: &'static str = match version {
            "v2" => "apis/registry/v2/search/artifacts",
            _ => "apis/registry/v3/search/artifacts",
        };
        let world = World::new(&[(place, &search(id)), (content, "\"long\"")], None).await;
        let probed = opened(&world.settings("apicurio", &path, "")).probe(&topics).await;
        assert_eq!(probed, Ok(Probed::Readable("a".to_owned())));
        let world = World::new(&[(place, r#"{"artifacts":[],"count":0}"#)], None).await;
        let probed = opened(&world.settings("apicurio", &path, "")).probe(&topics).await;
        assert_eq!(probed, Ok(Probed::Empty));
        let world = World::new(&[(place, &search(id))], None).await;
        let probed = opened(&world.settings("apicurio", &path, "")).probe(&topics).await;
        assert!(probed.is_err_and(|error| error.contains("does not give its content")));
    }
}
