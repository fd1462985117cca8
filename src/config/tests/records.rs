//! The `records` block, for all tables and for one.

use std::path::Path;

use lakebed_schemas::config::{IdForm, IdSpace};
use lakebed_schemas::wire::{Encoding, Framing, Wire};

use super::{SMALLEST, parse, refused};

/// The smallest file with one more line in its table.
fn entry(line: &str) -> String {
    format!("{SMALLEST}    {line}\n")
}

#[test]
fn registries_that_do_not_fit_are_refused_with_the_next_move() {
    let registry =
        |text: &str| entry(&format!("records: {{ format: avro, registry: {{ {text} }} }}"));
    let url = "url: 'http://r:8081'";
    let own = "url: 'http://r:8080/apis/registry/v3'";
    let cases = [
        (entry("records: { format: avro }"), "records.format`: needs a schema registry"),
        (registry("type: confluent"), "registry.url`: is missing"),
        (registry("type: confluent, url: 'r:8081'"), "registry.url`: is not an address"),
        (registry("type: confluent, url: 'http://u:p@r'"), "registry.url`: holds a user"),
        (registry(&format!("type: apicurio, {url}")), "end it with /apis/registry/v2"),
        (
            registry(&format!("type: confluent, {url}, ids: headers")),
            "registry.ids`: is a setting of",
        ),
        (registry(&format!("type: apicurio, {own}, ids: 4byte")), "did you mean `4-byte`?"),
        (
            registry(&format!("type: apicurio, {own}, ids: headers, id: global")),
            "registry.id`: has no",
        ),
        (registry(&format!("type: confluent, {url}, username: u")), "a user and a password"),
        (registry(&format!("type: confluent, {url}, password: p")), "a secret stands in the file"),
        (
            registry(&format!("type: confluent, {url}, region: x")),
            "registry.region`: is a setting of",
        ),
        (registry("type: glue, ca_file: a.pem"), "registry.ca_file`: has no effect with AWS Glue"),
        (registry("type: glue, url: 'r'"), "registry.url`: is not an address"),
        (
            entry("records: { format: protobuf, registry: { type: glue } }"),
            "in Confluent's framing alone",
        ),
        (
            entry(&format!(
                "records: {{ format: protobuf, registry: {{ type: apicurio, {own} }} }}"
            )),
            "in Confluent's framing alone",
        ),
    ];
    for (text, expected) in cases {
        let error = refused(&text);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_tables_records_go_before_those_of_all() {
    let all = "records: { format: avro, flattened: true, registry: { type: confluent, url: 'http://r' } }\n";
    let table = |own: &str| {
        let text = format!("{all}{}", entry(own));
        let config = parse(&text, Path::new("/lakebed.yaml"), &|_| None);
        config.unwrap_or_else(|error| panic!("{error}")).tables[0].records.clone()
    };
    let records = table("records: { flattened: false }");
    assert_eq!(records.wire, Some(Wire { encoding: Encoding::Avro, framing: Framing::Confluent }));
    assert!(!records.flattened);
    let records = table("records: { format: json }");
    assert!(records.wire.is_none() && records.registry.is_none() && records.flattened);
    let glue = table("records: { registry: { type: glue } }");
    assert_eq!(glue.wire.map(|wire| wire.framing), Some(Framing::Glue));
    let own = "type: apicurio, url: 'http://r/apis/registry/v2'";
    for (more, form, space) in [
        ("", IdForm::FourByte, IdSpace::Content),
        (", ids: 4-byte, id: global", IdForm::FourByte, IdSpace::Global),
        (", ids: 8-byte", IdForm::EightByte, IdSpace::Global),
        (", ids: headers", IdForm::Headers, IdSpace::Global),
    ] {
        let records = table(&format!("records: {{ registry: {{ {own}{more} }} }}"));
        assert_eq!(records.wire.map(|wire| wire.framing), Some(Framing::Apicurio(form, space)));
    }
}
