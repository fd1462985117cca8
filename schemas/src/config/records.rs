//! How records are encoded: the `records` block and what a table says otherwise.

use super::{
    IdForm, IdSpace, Problem, RecordFormat, Records, Registry, RegistryKind, ResolvedRecords,
};
use crate::wire::{Encoding, Framing, Wire};

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
        (RegistryKind::Glue, Some(_)) => refuse("url", "has no effect with AWS Glue", "remove it"),
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
