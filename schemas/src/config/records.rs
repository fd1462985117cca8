//! How records are encoded: the `records` block and what a table says otherwise.

use serde::Deserialize;

use super::{Problem, ResolvedRecords, Secret};
use crate::wire::{Encoding, Framing, Wire};

/// The `records` block; in a table only what differs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// Wire format; JSON without.
    pub format: Option<RecordFormat>,
    /// Where schemas are kept.
    pub registry: Option<Registry>,
    /// Rows alone (`ExtractNewRecordState`) instead of Debezium's envelope.
    pub flattened: Option<bool>,
    /// The connector's `unavailable.value.placeholder`: stands for a value that was not sent.
    pub unavailable_value_placeholder: Option<String>,
}

/// How a record is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFormat {
    /// JSON; an inline schema is found by itself.
    #[default]
    Json,
    /// Avro with a schema registry.
    Avro,
    /// Protocol Buffers with a schema registry.
    Protobuf,
}

/// A schema registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: RegistryKind,
    /// Its address; AWS Glue: one that is not AWS's own.
    pub url: Option<String>,
    /// User for basic authentication.
    pub username: Option<String>,
    /// Password for basic authentication.
    pub password: Option<Secret>,
    /// Token for bearer authentication.
    pub token: Option<Secret>,
    /// PEM file of the authorities to trust; the system's without.
    pub ca_file: Option<String>,
    /// Apicurio: where records have their schema ids; [`IdForm::FourByte`] without.
    pub ids: Option<IdForm>,
    /// Apicurio: which ids they are; `content` without, but `global` where ids have 8 bytes.
    pub id: Option<IdSpace>,
    /// AWS Glue: its region; that of `lake.s3` or of the environment without.
    pub region: Option<String>,
}

/// Kinds of schema registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistryKind {
    /// Confluent's API, which others have, too: Karapace, Redpanda, Apicurio's `ccompat`.
    Confluent,
    /// Apicurio's own API, version 2 or 3.
    Apicurio,
    /// AWS Glue Schema Registry.
    Glue,
}

/// Where records name their schema in Apicurio's own forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum IdForm {
    /// Four bytes after byte 0: the default of its serializers from version 3 on.
    #[serde(rename = "4-byte")]
    FourByte,
    /// Eight bytes after byte 0.
    #[serde(rename = "8-byte")]
    EightByte,
    /// In record headers: the default of its serializers in version 2.
    #[serde(rename = "headers")]
    Headers,
}

/// Which of Apicurio's ids records have. Headers say it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdSpace {
    /// `contentId`.
    Content,
    /// `globalId`.
    Global,
}

/// What stands for a value that was not sent.
pub(super) fn placeholder(ours: Option<&Records>, outer: &Records) -> String {
    let of = |records: &Records| records.unavailable_value_placeholder.clone();
    ours.and_then(of)
        .or_else(|| of(outer))
        .unwrap_or_else(|| crate::placeholder::DEFAULT.to_owned())
}

/// What a table's records are, its own word before that of all. Adds what does not fit together.
pub(super) fn resolve(
    ours: Option<&Records>,
    outer: &Records,
    path: &str,
    problems: &mut Vec<Problem>,
) -> ResolvedRecords {
    let of_table = |given: bool, key: &str| {
        if given { format!("{path}.records.{key}") } else { format!("records.{key}") }
    };
    let format = ours.and_then(|ours| ours.format).or(outer.format).unwrap_or_default();
    let own_registry = ours.and_then(|ours| ours.registry.as_ref());
    let registry = own_registry.or(outer.registry.as_ref());
    let registry_path = of_table(own_registry.is_some(), "registry");
    let flattened = ours.and_then(|ours| ours.flattened).or(outer.flattened).unwrap_or(false);
    let encoding = match format {
        RecordFormat::Json => {
            return ResolvedRecords { wire: None, registry: None, flattened };
        }
        RecordFormat::Avro => Encoding::Avro,
        RecordFormat::Protobuf => Encoding::Protobuf,
    };
    let Some(registry) = registry else {
        let next = "add `registry: { type: confluent, url: http://host:8081 }`";
        let message = "needs a schema registry";
        let own_format = ours.is_some_and(|ours| ours.format.is_some());
        problems.push(Problem::new(of_table(own_format, "format"), message, next));
        return ResolvedRecords { wire: None, registry: None, flattened };
    };
    if encoding == Encoding::Protobuf && registry.kind != RegistryKind::Confluent {
        let message = "Protobuf records are understood in Confluent's framing alone";
        let next = "use `type: confluent`, for Apicurio with its `/apis/ccompat/v7`";
        problems.push(Problem::new(format!("{registry_path}.type"), message, next));
    }
    let wire = Some(Wire { encoding, framing: framing(registry) });
    ResolvedRecords { wire, registry: Some(registry.clone()), flattened }
}

fn framing(registry: &Registry) -> Framing {
    match registry.kind {
        RegistryKind::Confluent => Framing::Confluent,
        RegistryKind::Glue => Framing::Glue,
        RegistryKind::Apicurio => {
            let form = registry.ids.unwrap_or(IdForm::FourByte);
            let space = match form {
                IdForm::FourByte => IdSpace::Content,
                IdForm::EightByte | IdForm::Headers => IdSpace::Global,
            };
            Framing::Apicurio(form, registry.id.unwrap_or(space))
        }
    }
}

/// Adds the problems of a registry by itself.
pub(super) fn registry_problems(registry: &Registry, path: &str, problems: &mut Vec<Problem>) {
    let mut refuse = |key: &str, message: &str, next: &str| {
        problems.push(Problem::new(format!("{path}.{key}"), message, next));
    };
    let url = registry.url.as_deref();
    let is_http = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    match (registry.kind, url) {
        (RegistryKind::Glue, None) => {}
        (_, None) => refuse("url", "is missing", "add `url: http://host:8081`"),
        (_, Some(url)) if !is_http(url) => {
            refuse("url", "is not an address", "begin it with http:// or https://");
        }
        (_, Some(url)) if url.contains('@') => {
            refuse("url", "holds a user, which logs would show", "use `username` and `password`")
        }
        (RegistryKind::Apicurio, Some(url)) if apicurio_version(url).is_none() => refuse(
            "url",
            "is not the address of Apicurio's API",
            "end it with /apis/registry/v2 or /apis/registry/v3; with /apis/ccompat use `type: confluent`",
        ),
        _ => {}
    }
    if registry.kind != RegistryKind::Apicurio {
        let given = [("ids", registry.ids.is_some()), ("id", registry.id.is_some())];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            refuse(
                key,
                "is a setting of Apicurio's own forms",
                "remove it, or use `type: apicurio`",
            );
        }
    }
    let with_glue = registry.kind == RegistryKind::Glue;
    if registry.region.is_some() && !with_glue {
        refuse("region", "is a setting of AWS Glue", "remove it, or use `type: glue`");
    }
    let logins = [
        ("username", registry.username.is_some()),
        ("token", registry.token.is_some()),
        ("ca_file", registry.ca_file.is_some()),
    ];
    for (key, _) in logins.into_iter().filter(|(_, given)| with_glue && *given) {
        let next = "remove it: AWS credentials come from `lake.s3` or the environment";
        refuse(key, "has no effect with AWS Glue", next);
    }
    if registry.ids == Some(IdForm::Headers) && registry.id.is_some() {
        refuse("id", "has no effect: headers say themselves which id they hold", "remove it");
    }
    if registry.username.is_some() != registry.password.is_some() {
        refuse("username", "basic authentication needs a user and a password", "give both or none");
    }
    if registry.token.is_some() && registry.username.is_some() {
        refuse("token", "has no effect beside `username`", "keep one of them");
    }
}

/// The version of Apicurio's API that an address ends with.
pub fn apicurio_version(url: &str) -> Option<u8> {
    let path = url.trim_end_matches('/');
    [2, 3].into_iter().find(|version| path.ends_with(&format!("/apis/registry/v{version}")))
}
