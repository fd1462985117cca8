//! That the double refuses what Glue refuses: what it lets pass, the tests on it cannot see.

use aws_sdk_glue::types::{Column, StorageDescriptor, TableInput};

use super::GlueDouble;
use crate::ErrorKind;
use crate::catalog::glue::{Changed, GlueOptions, GlueTable, version_id};

const NAME: &str = "orders";

async fn start() -> (GlueDouble, GlueTable) {
    let glue = GlueDouble::start(&["silver"]).await;
    let catalog = glue.catalog(GlueOptions::default()).await;
    (glue, catalog.table("silver", NAME))
}

fn column(name: &str, of: &str, comment: &str) -> Column {
    Column::builder().name(name).r#type(of).comment(comment).build().expect("a column")
}

/// An input that is taken.
fn good() -> TableInput {
    let descriptor =
        StorageDescriptor::builder().location("s3://b/l/t").columns(column("id", "bigint", "key"));
    let input = TableInput::builder().name(NAME).storage_descriptor(descriptor.build());
    input
        .description("of the shop\nand its customers")
        .parameters("k", "v")
        .build()
        .expect("an input")
}

/// The good one with another of these columns.
fn with_column(column: Column) -> TableInput {
    let mut input = good();
    let descriptor = input.storage_descriptor.as_mut().expect("a descriptor");
    descriptor.columns.as_mut().expect("columns").push(column);
    input
}

fn with(change: impl FnOnce(&mut TableInput)) -> TableInput {
    let mut input = good();
    change(&mut input);
    input
}

fn parameter(key: String, value: String) -> TableInput {
    with(|input| drop(input.parameters.as_mut().expect("parameters").insert(key, value)))
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused() {
    let (glue, entry) = start().await;
    let long = |length: usize| "x".repeat(length);
    let refused = [
        ("a name of 256", with(|input| input.name = long(256))),
        ("a name of two lines", with(|input| input.name = "or\nders".to_owned())),
        ("a column's name of 256", with_column(column(&long(256), "int", ""))),
        ("a column's name of two lines", with_column(column("a\nb", "int", ""))),
        ("two columns of a name", with_column(column("ID", "int", ""))),
        ("a type of 131073", with_column(column("a", &long(131_073), ""))),
        ("a comment of 256", with_column(column("a", "int", &long(256)))),
        ("a comment of two lines", with_column(column("a", "int", "a\nb"))),
        ("a description of 2049", with(|input| input.description = Some(long(2_049)))),
        (
            "a location of 2057",
            with(|input| {
                let descriptor = input.storage_descriptor.as_mut().expect("a descriptor");
                descriptor.location = Some(long(2_057));
            }),
        ),
        ("a parameter of 256", parameter(long(256), "v".to_owned())),
        ("a value of 512001", parameter("p".to_owned(), long(512_001))),
    ];
    for (what, input) in refused {
        let error = entry.create(input).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {}", error.chain());
    }
    assert_eq!(glue.table("silver", NAME), None);

    let taken = [
        good(),
        with_column(column(&long(255), "int", &long(255))),
        with_column(column("a", &long(131_072), "")),
        with(|input| input.description = Some(long(2_048))),
        parameter(long(255), long(512_000)),
    ];
    for input in taken {
        assert_eq!(entry.create(input).await.expect("taken"), Changed::Done);
        glue.drop_table("silver", NAME);
    }
}

#[tokio::test]
async fn an_update_of_an_older_version_is_refused_and_names_are_folded() {
    let (glue, entry) = start().await;
    entry.create(with(|input| input.name = "Orders".to_owned())).await.map(drop).expect("made");
    let made = entry.get().await.expect("answers").expect("by its name in lower case");
    let first = version_id(&made).expect("a version");
    assert_eq!(entry.update(good(), &first).await.expect("taken"), Changed::Done);

    assert_eq!(entry.update(good(), &first).await.expect("answers"), Changed::Conflict);
    assert_eq!(entry.update(good(), "77").await.expect("answers"), Changed::Conflict);
    assert_eq!(entry.create(good()).await.expect("answers"), Changed::Conflict);
    let now = entry.get().await.expect("answers").expect("there");
    assert_ne!(version_id(&now).expect("a version"), first);
    assert_eq!(glue.archived("silver", NAME), 0, "of all that, nothing is kept");
}

#[tokio::test]
async fn an_update_that_does_not_say_otherwise_keeps_the_version_before() {
    let (glue, entry) = start().await;
    assert_eq!(entry.create(good()).await.expect("answers"), Changed::Done);
    let client = &entry.glue().once;
    for _ in 0..2 {
        let update = client.update_table().database_name("silver").table_input(good());
        update.send().await.expect("taken");
    }
    assert_eq!(glue.archived("silver", NAME), 2);
}
