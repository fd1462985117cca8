//! What must be true of a configuration beyond the types of its values.

use std::collections::BTreeSet;

use super::{
    AGE_MIN, BATCH_BYTES_MAX, BadRecords, Batch, Config, Http, LayerSetting, MEMORY_MAX, Problem,
    S3Encryption, Table, VERSIONS_MIN, hidden, naming, records,
};

/// Least `memory.max`: below it librdkafka's queues and one batch have no room.
const MEMORY_MIN: u64 = 64 << 20;

/// Folder of the lake that holds no tables.
const RESERVED: &str = "_lakebed";

/// Adds every problem outside `tables`.
pub(super) fn problems(config: &Config, problems: &mut Vec<Problem>) {
    config.kafka.problems(problems);
    lake(config, problems);
    batch(&config.batch, "batch", memory_max(config), problems);
    for (index, table) in config.tables.iter().enumerate() {
        if let Some(overrides) = &table.batch {
            batch(overrides, &format!("tables[{index}].batch"), memory_max(config), problems);
        }
    }
    if let Some(registry) = &config.records.registry {
        records::registry_problems(registry, "records.registry", problems);
    }
    bad_records(&config.bad_records, "bad_records", problems);
    config.limits.problems("limits", problems);
    connect(config, problems);
    hidden::problems(&config.masking, problems);
    if config.tables.is_empty() {
        let next = "add an entry such as `- topic: shop.public.orders`";
        problems.push(Problem::new("tables", "no table is configured", next));
    }
    if memory_max(config) < MEMORY_MIN {
        let message = "is too little to hold Kafka's queues and a batch";
        problems.push(Problem::new("memory.max", message, "give at least 64MiB"));
    }
    maintenance(config, problems);
    if let Http::Listen(address) = &config.http {
        let port = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        if !matches!(port, Some((host, Ok(_))) if !host.is_empty()) {
            problems.push(Problem::new(
                "http.listen",
                format!("`{address}` is not host:port"),
                "write it like `127.0.0.1:9464`, or `http: false`",
            ));
        }
    }
}

/// Adds the problems of one entry that need no other part of the file.
pub(super) fn table_problems(table: &Table, path: &str, problems: &mut Vec<Problem>) {
    if let Some(bad) = &table.bad_records {
        bad_records(bad, &format!("{path}.bad_records"), problems);
    }
    if let Some(limits) = &table.limits {
        limits.problems(&format!("{path}.limits"), problems);
    }
    if let Some(registry) = table.records.as_ref().and_then(|records| records.registry.as_ref()) {
        records::registry_problems(registry, &format!("{path}.records.registry"), problems);
    }
    if let Some(key) = &table.key {
        let distinct: BTreeSet<_> = key.iter().map(|name| name.to_lowercase()).collect();
        if key.is_empty() || key.iter().any(String::is_empty) || distinct.len() != key.len() {
            problems.push(Problem::new(
                format!("{path}.key"),
                "is empty or names a column twice",
                "list the key columns, or leave it out for the fields of the record key",
            ));
        }
    }
    for (name, rule) in &table.columns {
        let says_nothing = rule.column_type.is_none() && !rule.exclude && rule.mask.is_none();
        if says_nothing {
            problems.push(Problem::new(
                format!("{path}.columns.{name}"),
                "does not say what the column is",
                "give its `type`, for example `type: \"decimal(12,2)\"`",
            ));
        }
    }
    if table.topic_prefix.is_some() && table.name.is_some() {
        let message = "has no effect beside `name`";
        problems.push(Problem::new(format!("{path}.topic_prefix"), message, "keep one of them"));
    }
    for (layer, setting) in
        table.layers.iter().flat_map(|l| [("bronze", &l.bronze), ("silver", &l.silver)])
    {
        if let Some(setting) = setting {
            database(setting, &format!("{path}.layers.{layer}"), problems);
        }
    }
}

fn connect(config: &Config, problems: &mut Vec<Problem>) {
    let Some(connect) = &config.kafka.connect else { return };
    if !connect.url.starts_with("http://") && !connect.url.starts_with("https://") {
        let next = "write it like `http://connect:8083`";
        problems.push(Problem::new("kafka.connect.url", "is not an address", next));
    }
    if connect.username.is_some() != connect.password.is_some() {
        let message = "basic authentication needs `username` and `password`";
        problems.push(Problem::new("kafka.connect", message, "give both, or neither"));
    }
}

fn memory_max(config: &Config) -> u64 {
    config.memory.max.map_or(MEMORY_MAX, |size| size.0)
}

fn lake(config: &Config, problems: &mut Vec<Problem>) {
    let lake = &config.lake;
    let location = lake.location.as_str();
    let bucket = location.strip_prefix("s3://");
    let local = location.strip_prefix("file://").unwrap_or(location);
    let understood = match bucket {
        Some(bucket) => !bucket.is_empty() && !bucket.starts_with('/'),
        None => local.starts_with('/') && local.len() > 1,
    };
    if !understood {
        problems.push(Problem::new(
            "lake.location",
            format!("`{location}` is not a place that tables can be kept in"),
            "give a path, file:// or s3://bucket/prefix",
        ));
    }
    if lake.s3.access_key_id.is_some() != lake.s3.secret_access_key.is_some() {
        problems.push(Problem::new(
            "lake.s3",
            "static credentials need `access_key_id` and `secret_access_key`",
            "give both, or neither for the credentials of the environment",
        ));
    }
    if lake
        .s3
        .endpoint
        .as_ref()
        .is_some_and(|e| !e.starts_with("http://") && !e.starts_with("https://"))
    {
        let message = "is not an address";
        problems.push(Problem::new(
            "lake.s3.endpoint",
            message,
            "begin it with http:// or https://",
        ));
    }
    if lake.s3.external_id.is_some() && lake.s3.role_arn.is_none() {
        let message = "has no effect without `role_arn`";
        problems.push(Problem::new("lake.s3.external_id", message, "name the role, or remove it"));
    }
    if lake.s3.kms_key_id.is_some() && lake.s3.encryption != Some(S3Encryption::SseKms) {
        let message = "has no effect without `encryption: sse-kms`";
        problems.push(Problem::new("lake.s3.kms_key_id", message, "set that, or remove it"));
    }
    if lake.sink_id.is_empty() || lake.sink_id.contains('/') || lake.sink_id.len() > 64 {
        problems.push(Problem::new(
            "lake.sink_id",
            "is empty, has a `/` or is longer than 64 bytes",
            "leave it out for `lakebed`, or give a short name",
        ));
    }
    super::catalog::problems(config, problems);
    database(&lake.bronze, "lake.bronze", problems);
    database(&lake.silver, "lake.silver", problems);
}

fn database(setting: &LayerSetting, path: &str, problems: &mut Vec<Problem>) {
    match setting {
        LayerSetting::Database(name) if !naming::is_name(name) => problems.push(Problem::new(
            format!("{path}.database"),
            format!("`{name}` cannot name a database in every catalog"),
            "use lower case letters, digits and `_`, beginning with a letter",
        )),
        LayerSetting::Database(name) if name == RESERVED => problems.push(Problem::new(
            format!("{path}.database"),
            format!("`{name}` is where Lakebed keeps what belongs to no table"),
            "give it another name",
        )),
        _ => {}
    }
}

fn batch(batch: &Batch, path: &str, memory_max: u64, problems: &mut Vec<Problem>) {
    if batch.max_rows == Some(0) {
        let message = "a batch without rows makes no progress";
        problems.push(Problem::new(format!("{path}.max_rows"), message, "give at least 1"));
    }
    if batch.max_age.is_some_and(|age| age.0.as_millis() < 100) {
        let message = "would make more than ten table versions a second";
        problems.push(Problem::new(format!("{path}.max_age"), message, "give at least 100ms"));
    }
    let bytes = batch.max_bytes.map_or(BATCH_BYTES_MAX, |size| size.0);
    if batch.max_bytes.is_some() && bytes < 1024 {
        let message = "holds hardly a record";
        problems.push(Problem::new(format!("{path}.max_bytes"), message, "give at least 1KiB"));
    }
    // One batch is open while another one is on its way.
    if bytes > memory_max / 2 && memory_max >= MEMORY_MIN {
        let message = "is more than half of `memory.max`";
        let next = "lower it, or raise `memory.max`";
        problems.push(Problem::new(format!("{path}.max_bytes"), message, next));
    }
}

fn bad_records(bad: &BadRecords, path: &str, problems: &mut Vec<Problem>) {
    let valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match bad {
        BadRecords::DeadLetterTopic(topic)
            if topic.is_empty() || topic.len() > 249 || !topic.chars().all(valid) =>
        {
            problems.push(Problem::new(
                format!("{path}.dead_letter_topic"),
                format!("`{topic}` is not the name of a topic"),
                "use letters, digits, `.`, `_` and `-`",
            ));
        }
        _ => {}
    }
}

fn maintenance(config: &Config, problems: &mut Vec<Problem>) {
    // A writer thawed from sleep must still find the version that it would otherwise create in
    // the past, so less history than this is not safe.
    if config.maintenance.versions_min.is_some_and(|versions| versions < VERSIONS_MIN) {
        let message = "keeps too little history for a writer that was asleep";
        problems.push(Problem::new("maintenance.versions_min", message, "give at least 100"));
    }
    if config.maintenance.age_min.is_some_and(|age| age.0 < AGE_MIN) {
        let message = "keeps too little history for a writer that was asleep";
        problems.push(Problem::new("maintenance.age_min", message, "give at least 24h"));
    }
}
