//! From the configuration to workers: which tables a topic goes to, and how each is opened.

use std::sync::Arc;
use std::time::Duration;

use lakebed_schemas::config::{
    CatalogKind, DeltaColumns, ResolvedConfig, ResolvedTable, S3Encryption, Secret, TableFormat,
    TablePath,
};
use lakebed_schemas::decoder::{DecodeOptions, Decoder};
use lakebed_schemas::evolve::Rules;
use lakebed_sinks::aws::{Aws, AwsOptions};
use lakebed_sinks::catalog::glue::{Glue, GlueOptions};
use lakebed_sinks::catalog::rest::{self, LoginOptions, Rest, RestOptions};
use lakebed_sinks::catalog::{Catalog, Entry};
use lakebed_sinks::log::{Retention, TableOptions};
use lakebed_sinks::storage::{Encryption, S3Options, Storage};
use lakebed_sinks::{Error, Format};
use tokio::sync::mpsc;

use crate::dead_letter::DeadLetters;
use crate::metrics::Metrics;
use crate::pipeline::{Tables, WorkerHandle};
use crate::registry::Registries;
use crate::telemetry::Telemetry;
use crate::worker::{
    BatchLimits, LayerOptions, LayerPlace, Layers, OpenBatch, Policies, Report, SchemaTexts,
    SilverRows, SilverRules, Worker,
};

/// How long progress without records waits for a commit of its own: far below any retention, and at
/// most 288 such commits a day.
const QUIET_EVERY: Duration = Duration::from_secs(300);

/// The tables of a configuration.
pub struct ConfiguredTables {
    config: Arc<ResolvedConfig>,
    lake: OpenLake,
    options: TableOptions,
    only: Option<String>,
    metrics: Arc<Metrics>,
    registries: Registries,
    dead_letters: Option<Arc<DeadLetters>>,
    schema_texts: Arc<SchemaTexts>,
    quiet_every: Duration,
}

impl ConfiguredTables {
    /// Tables are opened when their topics are assigned.
    ///
    /// `only` restricts the run to one table: its name, or `database.name` of one of its layers.
    ///
    /// # Errors
    /// When a schema registry's client cannot be made.
    pub fn new(
        config: Arc<ResolvedConfig>,
        lake: OpenLake,
        owner: String,
        only: Option<String>,
        telemetry: &Telemetry,
        dead_letters: Option<Arc<DeadLetters>>,
    ) -> Result<Self, Error> {
        let options = table_options(&config, owner);
        let registries = config.tables.iter().filter_map(|table| table.records.registry.as_ref());
        let registries = Registries::open(registries, &aws_options(&config), telemetry)
            .map_err(Error::invalid)?;
        Ok(Self {
            registries,
            metrics: telemetry.metrics.clone(),
            schema_texts: Arc::new(SchemaTexts::new(&lake.storage)),
            quiet_every: QUIET_EVERY,
            config,
            lake,
            options,
            only,
            dead_letters,
        })
    }

    /// Commits progress without records this often instead of every five minutes.
    #[must_use]
    pub fn with_quiet_every(self, quiet_every: Duration) -> Self {
        Self { quiet_every, ..self }
    }

    fn wanted(&self, entry: &ResolvedTable, name: &str) -> bool {
        let Some(only) = &self.only else { return true };
        let layers = [entry.bronze(name), entry.silver(name)];
        only == name || layers.into_iter().flatten().any(|path| path.to_string() == *only)
    }

    /// The entry and the bare name behind a worker's name.
    fn entry_of(&self, worker: &str) -> Option<(&ResolvedTable, String)> {
        let (entry, name) = worker.split_once(' ')?;
        let index: usize = entry.strip_prefix('#')?.parse().ok()?;
        Some((self.config.tables.get(index)?, name.to_owned()))
    }

    fn layers(&self, entry: &ResolvedTable, name: &str, label: &str) -> LayerOptions {
        let place = |path: Option<TablePath>| {
            path.map(|path| LayerPlace {
                storage: self.lake.storage.child(&path.relative()),
                catalog: self.lake.catalog.table(&path.database, &path.name),
                metrics: self.metrics.table(&path.to_string()),
                name: path.to_string(),
            })
        };
        LayerOptions {
            format: format(entry.format),
            bronze: place(entry.bronze(name)),
            silver: place(entry.silver(name)),
            table: self.options.clone(),
            partition_by: entry.partition_by.clone(),
            mode: entry.mode,
            start: entry.start,
            schema_texts: self.schema_texts.clone(),
            dead_letters: self.dead_letters.clone(),
            metrics: self.metrics.table(label),
        }
    }

    fn open_batch(&self, entry: &ResolvedTable, label: &str) -> OpenBatch {
        let limits = BatchLimits {
            max_age: entry.batch.age_max,
            max_rows: usize::try_from(entry.batch.rows_max).unwrap_or(usize::MAX),
            max_bytes: usize::try_from(entry.batch.bytes_max).unwrap_or(usize::MAX),
            quiet_every: self.quiet_every,
            repeat_window: usize::try_from(entry.repeat_window).unwrap_or(usize::MAX),
            sweep_ghosts: entry.sweep_ghosts,
        };
        let bad_records = entry.bad_records.clone();
        let silver = entry.layers.silver.as_ref().map(|_| SilverRows::new(silver_rules(entry)));
        let has_bronze = entry.layers.bronze.is_some();
        let metrics = self.metrics.table(label);
        OpenBatch::new(
            Decoder::new(decode_options(entry)),
            limits,
            bad_records,
            has_bronze,
            silver,
            metrics,
        )
    }
}

impl Tables for ConfiguredTables {
    fn of_topic(&self, topic: &str) -> Vec<String> {
        let entries = self.config.tables.iter().enumerate();
        let named = entries.filter_map(|(index, entry)| {
            let name = entry.table_name(topic)?;
            self.wanted(entry, &name).then(|| format!("#{index} {name}"))
        });
        named.collect()
    }

    fn start(
        &mut self,
        worker: &str,
        index: usize,
        reports: mpsc::UnboundedSender<Report>,
    ) -> WorkerHandle {
        let (entry, name) = self.entry_of(worker).expect("workers are started under names we gave");
        let label = [entry.silver(&name), entry.bronze(&name)]
            .into_iter()
            .flatten()
            .next()
            .map_or_else(|| name.clone(), |path| path.to_string());
        let layers = Layers::new(self.layers(entry, &name, &label));
        let open = self.open_batch(entry, &label);
        let policies = Policies {
            on_gap: entry.on_gap,
            on_lost_table: entry.on_lost_table,
            producer_metadata_age: self.config.kafka.producer_metadata_age.0,
        };
        let (task, commands) = Worker::new(index, label.clone(), layers, open, policies, reports);
        let registry = entry.records.registry.as_ref();
        let registry = registry.and_then(|settings| self.registries.of(settings));
        tokio::spawn(task.with_registry(registry).run());
        let metrics = self.metrics.table(&label);
        WorkerHandle { id: worker.to_owned(), table: label, metrics, commands }
    }
}

/// How an entry's records are read.
pub fn decode_options(entry: &ResolvedTable) -> DecodeOptions {
    DecodeOptions {
        epoch: entry.epoch,
        columns: entry.columns.clone(),
        wire: entry.records.wire,
        flattened: entry.records.flattened,
        placeholder: entry.placeholder.clone(),
        masking: entry.masking.clone(),
        limits: entry.limits.record,
        ..DecodeOptions::default()
    }
}

/// How its rows are keyed and typed.
pub fn silver_rules(entry: &ResolvedTable) -> SilverRules {
    SilverRules {
        key: entry.key.clone().unwrap_or_default(),
        partition_by: entry.partition_by.clone(),
        new_columns_per_hour: entry.limits.new_columns_per_hour,
        columns: Rules {
            format: entry.format,
            out_of_range: entry.out_of_range,
            deletes: entry.deletes,
            topic_in_key: entry.topic_in_key,
        },
        on_truncate: entry.on_truncate,
    }
}

/// A lake, ready to be asked.
pub struct OpenLake {
    /// Where its objects are.
    pub storage: Storage,
    /// Where its tables are looked up.
    pub catalog: Catalog,
}

/// The lake as the configuration describes it. Nothing is asked of it yet.
///
/// # Errors
/// When the location or the S3 settings cannot be used.
pub async fn open_lake(config: &ResolvedConfig) -> Result<OpenLake, Error> {
    let s3 = &config.lake.s3;
    let on_s3 = config.lake.location.starts_with("s3://");
    let aws = match on_s3 || config.lake.catalog.sigv4.is_some() {
        true => {
            let mut options = aws_options(config);
            if options.region.is_none() && !on_s3 {
                options.region.clone_from(&config.lake.catalog.region);
            }
            Some(Aws::load(&options).await?)
        }
        false => None,
    };
    let catalog = match (&aws, config.lake.catalog.kind) {
        (_, CatalogKind::Rest) => Catalog::Rest(Rest::open(rest_options(config, aws.as_ref()))?),
        (Some(aws), CatalogKind::Glue) => Catalog::Glue(Glue::new(aws, glue_options(config))),
        _ => Catalog::Filesystem,
    };
    let options = S3Options {
        aws,
        region: s3.region.clone(),
        endpoint: s3.endpoint.clone(),
        path_style: s3.path_style,
        encryption: s3.encryption.map(|encryption| match encryption {
            S3Encryption::SseS3 => Encryption::S3,
            S3Encryption::SseKms => Encryption::Kms(s3.kms_key_id.clone()),
        }),
    };
    Ok(OpenLake { storage: Storage::open(&config.lake.location, &options)?, catalog })
}

fn glue_options(config: &ResolvedConfig) -> GlueOptions {
    let catalog = &config.lake.catalog;
    GlueOptions {
        region: catalog.region.clone(),
        endpoint: catalog.endpoint.clone(),
        catalog_id: catalog.catalog_id.clone(),
        create_databases: catalog.create_databases,
        placeholder_columns: catalog.delta_columns == DeltaColumns::Placeholder,
        ..GlueOptions::default()
    }
}

fn rest_options(config: &ResolvedConfig, aws: Option<&Aws>) -> RestOptions {
    let catalog = &config.lake.catalog;
    let login = match (&catalog.token, &catalog.oauth2, &catalog.sigv4, aws) {
        (Some(token), ..) => LoginOptions::Token(token.expose().to_owned()),
        (_, Some(oauth2), ..) => LoginOptions::OAuth2 {
            token_uri: oauth2.token_uri.clone(),
            client_id: oauth2.client_id.clone(),
            client_secret: oauth2.client_secret.expose().to_owned(),
            scope: oauth2.scope.clone(),
        },
        (_, _, Some(service), Some(aws)) => LoginOptions::SigV4 {
            service: service.clone(),
            region: catalog.region.clone(),
            aws: Box::new(aws.clone()),
        },
        _ => LoginOptions::None,
    };
    RestOptions {
        uri: catalog.uri.clone().unwrap_or_default(),
        warehouse: catalog.warehouse.clone(),
        login,
        ca_file: catalog.ca_file.clone(),
        create_databases: catalog.create_databases,
        chooses_places: catalog.chooses_locations(),
        ..RestOptions::default()
    }
}

impl OpenLake {
    /// Makes sure that commits can be made here: that the storage refuses to overwrite, and that
    /// the catalog has the databases, which it gets where the configuration says so.
    ///
    /// # Errors
    /// When something is missing, or does not answer.
    pub async fn prepare(&self, config: &ResolvedConfig) -> Result<(), Error> {
        if !self.storage.is_local() {
            self.storage.require_conditional_puts().await?;
        }
        for database in databases(config) {
            match &self.catalog {
                Catalog::Filesystem => {}
                Catalog::Glue(glue) => prepare_in_glue(glue, &database).await?,
                Catalog::Rest(rest) => prepare_in_rest(rest, &database).await?,
            }
        }
        Ok(())
    }
}

async fn prepare_in_glue(glue: &Glue, database: &str) -> Result<(), Error> {
    if glue.has_database(database).await? {
        return Ok(());
    }
    if !glue.creates_databases() {
        return Err(Error::invalid(format!(
            "there is no Glue database `{database}`: create it, or set \
             `lake.catalog.create_databases: true`"
        )));
    }
    glue.create_database(database).await
}

async fn prepare_in_rest(rest: &Rest, database: &str) -> Result<(), Error> {
    match rest.has_database(database).await? {
        true => Ok(()),
        false if rest.creates_databases() => rest.create_database(database).await,
        false => Err(rest::missing_database(database)),
    }
}

/// Every database of a configuration, those of current rows first.
pub fn databases(config: &ResolvedConfig) -> Vec<String> {
    let layers = || config.tables.iter().map(|table| &table.layers);
    let silver = layers().filter_map(|layers| layers.silver.clone());
    let bronze = layers().filter_map(|layers| layers.bronze.clone());
    let mut databases: Vec<String> = Vec::new();
    for database in silver.chain(bronze) {
        if !databases.contains(&database) {
            databases.push(database);
        }
    }
    databases
}

/// What the configuration says of region and credentials, for everything on AWS.
pub fn aws_options(config: &ResolvedConfig) -> AwsOptions {
    let s3 = &config.lake.s3;
    let secret = |secret: &Option<Secret>| secret.as_ref().map(|s| s.expose().to_owned());
    AwsOptions {
        region: s3.region.clone(),
        foreign_endpoint: s3.endpoint.is_some(),
        access_key_id: secret(&s3.access_key_id),
        secret_access_key: secret(&s3.secret_access_key),
        role_arn: s3.role_arn.clone(),
        external_id: s3.external_id.clone(),
    }
}

/// How tables are opened: the same for all of a configuration, but for their place in its catalog.
pub fn table_options(config: &ResolvedConfig, owner: String) -> TableOptions {
    TableOptions {
        sink_id: config.lake.sink_id.clone(),
        cluster: None,
        owner,
        retention: Retention { versions_min: config.versions_min, age_min: config.age_min },
        catalog: Entry::Filesystem,
        mode: Default::default(),
    }
}

/// The sinks' name of a configured format.
pub fn format(format: TableFormat) -> Format {
    match format {
        TableFormat::Iceberg => Format::Iceberg,
        TableFormat::Delta => Format::Delta,
    }
}
