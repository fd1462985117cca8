//! The `lake.catalog` block: where query engines look tables up.

use serde::Deserialize;

use super::{Config, Problem, Secret, TableFormat};

/// The `lake.catalog` block.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: CatalogKind,
    /// Address of a REST catalog: what stands before `/v1`.
    pub uri: Option<String>,
    /// Which of the catalogs behind that address, in its own words.
    pub warehouse: Option<String>,
    /// Bearer token for a REST catalog.
    pub token: Option<Secret>,
    /// Where tokens for a REST catalog come from.
    pub oauth2: Option<OAuth2>,
    /// Sign requests to a REST catalog for this service of AWS (`glue`, `s3tables`).
    pub sigv4: Option<String>,
    /// Certificates to trust for a REST catalog and its token server, a PEM file; the system's
    /// without.
    pub ca_file: Option<String>,
    /// AWS region of a Glue catalog, or of the service that requests are signed for.
    pub region: Option<String>,
    /// Account whose Glue catalog it is.
    pub catalog_id: Option<String>,
    /// Endpoint of Glue other than AWS's public one.
    pub endpoint: Option<String>,
    /// Whether databases that are missing in the catalog are made.
    #[serde(default)]
    pub create_databases: bool,
    /// Who chooses where the tables in a REST catalog lie.
    pub locations: Option<Locations>,
    /// What Glue shows of the columns of Delta tables.
    #[serde(default)]
    pub delta_columns: DeltaColumns,
}

/// Who chooses where tables lie, by the names of `lake.catalog.locations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Locations {
    /// Lakebed: at `<lake.location>/<database>/<name>`.
    Lake,
    /// The catalog.
    Catalog,
}

/// The service that S3 Tables' requests are signed for.
const S3_TABLES: &str = "s3tables";

impl Catalog {
    /// Whether the catalog chooses where tables lie: as it is told, and S3 Tables always does.
    pub fn chooses_locations(&self) -> bool {
        let default = match self.sigv4.as_deref() {
            Some(S3_TABLES) => Locations::Catalog,
            _ => Locations::Lake,
        };
        self.locations.unwrap_or(default) == Locations::Catalog
    }
}

/// The `lake.catalog.oauth2` block: client credentials.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// The client's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// What the token is to be good for; `catalog` without.
    pub scope: Option<String>,
    /// Who gives tokens; the catalog itself without (`<uri>/v1/oauth/tokens`).
    pub token_uri: Option<String>,
}

/// What Glue shows of the columns of Delta tables, by the names of `lake.catalog.delta_columns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeltaColumns {
    /// The log's own, kept in step with it.
    #[default]
    Log,
    /// One that stands for all of them, whatever they are.
    Placeholder,
}

/// Kinds of catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogKind {
    /// The tables' own folders: readers open them by path.
    #[default]
    Filesystem,
    /// AWS Glue.
    Glue,
    /// Iceberg REST.
    Rest,
}

/// Adds a problem for everything in the block that cannot be.
pub(super) fn problems(config: &Config, problems: &mut Vec<Problem>) {
    let catalog = &config.lake.catalog;
    idle(catalog, problems);
    match catalog.kind {
        CatalogKind::Filesystem => {}
        CatalogKind::Glue => glue(config, problems),
        CatalogKind::Rest => rest(config, problems),
    }
    let addresses = [
        ("endpoint", &catalog.endpoint),
        ("uri", &catalog.uri),
        ("oauth2.token_uri", &catalog.oauth2.as_ref().and_then(|oauth2| oauth2.token_uri.clone())),
    ];
    for (key, address) in addresses {
        if address.as_ref().is_some_and(|address| !is_address(address)) {
            let next = "begin it with http:// or https://";
            let path = format!("lake.catalog.{key}");
            problems.push(Problem::new(path, "is not an address", next));
        }
    }
}

fn is_address(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Keys that the kind of catalog has no use for.
fn idle(catalog: &Catalog, problems: &mut Vec<Problem>) {
    use CatalogKind::{Filesystem, Glue, Rest};
    let keys = [
        ("uri", catalog.uri.is_some(), &[Rest][..]),
        ("warehouse", catalog.warehouse.is_some(), &[Rest]),
        ("token", catalog.token.is_some(), &[Rest]),
        ("oauth2", catalog.oauth2.is_some(), &[Rest]),
        ("sigv4", catalog.sigv4.is_some(), &[Rest]),
        ("ca_file", catalog.ca_file.is_some(), &[Rest]),
        ("region", catalog.region.is_some(), &[Glue, Rest]),
        ("catalog_id", catalog.catalog_id.is_some(), &[Glue]),
        ("endpoint", catalog.endpoint.is_some(), &[Glue]),
        ("create_databases", catalog.create_databases, &[Glue, Rest]),
        ("locations", catalog.locations.is_some(), &[Rest]),
        ("delta_columns", catalog.delta_columns != DeltaColumns::Log, &[Glue]),
    ];
    let name = match catalog.kind {
        Filesystem => "filesystem",
        Glue => "Glue",
        Rest => "REST",
    };
    for (key, given, kinds) in keys {
        if given && !kinds.contains(&catalog.kind) {
            let message = format!("has no effect with the {name} catalog");
            problems.push(Problem::new(format!("lake.catalog.{key}"), message, "remove it"));
        }
    }
}

fn glue(config: &Config, problems: &mut Vec<Problem>) {
    if !config.lake.location.starts_with("s3://") {
        let message = "tables in Glue lie on S3: its readers open nothing else";
        let next = "give s3://bucket/prefix, or use `catalog: { type: filesystem }`";
        problems.push(Problem::new("lake.location", message, next));
    }
}

fn rest(config: &Config, problems: &mut Vec<Problem>) {
    let catalog = &config.lake.catalog;
    if catalog.uri.is_none() {
        let message = "a REST catalog has an address";
        let next = "give what stands before `/v1`, like `https://catalog.example.com/api/catalog`";
        problems.push(Problem::new("lake.catalog.uri", message, next));
    }
    let logins = [catalog.token.is_some(), catalog.oauth2.is_some(), catalog.sigv4.is_some()];
    if logins.into_iter().filter(|given| *given).count() > 1 {
        let message = "`token`, `oauth2` and `sigv4` are three ways to log in";
        problems.push(Problem::new("lake.catalog", message, "keep one of them"));
    }
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if catalog.sigv4.as_ref().is_some_and(|name| name.is_empty() || !name.bytes().all(is_word)) {
        let message = "is no service of AWS";
        let next = "give `glue` or `s3tables`";
        problems.push(Problem::new("lake.catalog.sigv4", message, next));
    }
    if catalog.region.is_some() && catalog.sigv4.is_none() {
        let message = "has no effect without `sigv4`";
        problems.push(Problem::new("lake.catalog.region", message, "remove it"));
    }
    let is_s3_tables = catalog.sigv4.as_deref() == Some(S3_TABLES);
    if is_s3_tables && catalog.locations == Some(Locations::Lake) {
        let message = "S3 Tables chooses the places of its tables";
        problems.push(Problem::new("lake.catalog.locations", message, "remove it"));
    }
    let refused = |path: String| {
        let message = "Delta tables cannot be in an Iceberg REST catalog";
        let next = "use `iceberg`, or another catalog: `glue`, `filesystem`";
        Problem::new(path, message, next)
    };
    if config.lake.format == TableFormat::Delta {
        problems.push(refused("lake.format".to_owned()));
    }
    for (index, table) in config.tables.iter().enumerate() {
        if table.format == Some(TableFormat::Delta) {
            problems.push(refused(format!("tables[{index}].format")));
        }
    }
}
