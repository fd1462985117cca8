//! AWS Glue's schema registry: schema versions by their UUID.

use std::time::Duration;

use aws_sdk_glue::Client;
use aws_sdk_glue::config::retry::RetryConfig;
use aws_sdk_glue::config::timeout::TimeoutConfig;
use aws_sdk_glue::error::{DisplayErrorContext, SdkError};
use aws_sdk_glue::operation::get_schema_version::{GetSchemaVersionError, GetSchemaVersionOutput};
use aws_sdk_glue::types::{DataFormat, SchemaVersionStatus};
use lakebed_schemas::config;
use lakebed_schemas::wire::{SchemaId, SchemaText};
use lakebed_sinks::aws::{Aws, AwsOptions};
use tokio::sync::OnceCell;

use super::api::Found;

#[cfg(test)]
mod tests;

/// How long it may take to accept a connection, and to answer in whole.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// Glue's registry in one region, asked with the lake's credentials.
#[derive(Debug)]
pub(super) struct Glue {
    aws: AwsOptions,
    /// An address that is not AWS's own.
    endpoint: Option<String>,
    client: OnceCell<Client>,
}

impl Glue {
    /// Asks nothing yet, and looks for no credentials.
    pub(super) fn new(settings: &config::Registry, aws: &AwsOptions) -> Self {
        let mut aws = aws.clone();
        aws.region = settings.region.clone().or(aws.region);
        aws.foreign_endpoint = settings.url.is_some();
        Self { aws, endpoint: settings.url.clone(), client: OnceCell::new() }
    }

    /// Asks for a schema version.
    ///
    /// # Errors
    /// When there is no answer; for people.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<Found, String> {
        if !matches!(id, SchemaId::Glue(_)) {
            return Ok(Found::Nothing);
        }
        let client = self.client.get_or_try_init(|| self.connect()).await?;
        let asked = client.get_schema_version().schema_version_id(id.to_string()).send().await;
        match asked {
            Ok(answer) => found(answer),
            Err(error) => match error.as_service_error() {
                Some(GetSchemaVersionError::EntityNotFoundException(_)) => Ok(Found::Nothing),
                _ => Err(reason(&error)),
            },
        }
    }

    /// Whether it answers. Which schema a topic has only its records say.
    ///
    /// # Errors
    /// When there is no answer; for people.
    pub(super) async fn probe(&self) -> Result<(), String> {
        self.schema(SchemaId::Glue([0; 16])).await.map(|_| ())
    }

    async fn connect(&self) -> Result<Client, String> {
        let aws = Aws::load(&self.aws).await.map_err(|error| error.to_string())?;
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(ANSWER);
        // Whoever asks tries again by itself, and says so.
        let mut builder = aws_sdk_glue::config::Builder::from(aws.sdk_config())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.build());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Ok(Client::from_conf(builder.build()))
    }
}

fn found(answer: GetSchemaVersionOutput) -> Result<Found, String> {
    // A version under way is none yet, and one that failed its checks never was.
    match answer.status {
        None | Some(SchemaVersionStatus::Available | SchemaVersionStatus::Deleting) => {}
        Some(SchemaVersionStatus::Pending) => {
            return Err("the schema version is pending".to_owned());
        }
        Some(status) => return Ok(Found::Unusable(format!("has the status {status}"))),
    }
    match answer.data_format {
        None | Some(DataFormat::Avro) => {}
        Some(format) => {
            return Ok(Found::Unusable(format!(
                "is of the data format {format}, and only AVRO is understood: set the converter's \
                 `dataFormat` to it"
            )));
        }
    }
    let text = answer.schema_definition.ok_or("it answers without a schema definition")?;
    Ok(Found::Schema(SchemaText { text, references: Vec::new() }))
}

/// What is wrong, and where to look.
fn reason(error: &SdkError<GetSchemaVersionError>) -> String {
    let text = DisplayErrorContext(error).to_string();
    match error.as_service_error() {
        Some(GetSchemaVersionError::AccessDeniedException(_)) => {
            format!("it refuses the request; allow `glue:GetSchemaVersion`: {text}")
        }
        _ => text,
    }
}
