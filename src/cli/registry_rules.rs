//! Schema registries, asked before a record needs them.

use std::collections::BTreeSet;
use std::time::Duration;

use lakebed_schemas::config::{ResolvedConfig, Routed};

use super::check::Finding;
use crate::registry::{Probed, Registry};
use crate::tables::aws_options;
use crate::telemetry::Telemetry;

/// How long a registry may take in all.
const WAIT: Duration = Duration::from_secs(30);

/// Looks at each registry that a table names, once.
pub(super) async fn registries(config: &ResolvedConfig, routed: &[Routed]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for entry in &config.tables {
        let Some(settings) = &entry.records.registry else { continue };
        if seen.contains(&settings) {
            continue;
        }
        seen.push(settings);
        let of_registry = |table: &&Routed| {
            config.tables[table.entry].records.registry.as_ref() == Some(settings)
        };
        let topics = routed.iter().filter(of_registry).flat_map(|table| table.topics.iter());
        let topics: BTreeSet<String> = topics.cloned().collect();
        let url = settings.url.as_deref().unwrap_or("AWS Glue");
        let aws = aws_options(config);
        let probed = match Registry::open(settings, &aws, Telemetry::default()) {
            Err(reason) => Err(reason),
            Ok(registry) => {
                let topics: Vec<String> = topics.into_iter().collect();
                let probe = tokio::time::timeout(WAIT, registry.probe(&topics));
                probe.await.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
            }
        };
        findings.push(told(url, probed));
    }
    findings
}

fn told(url: &str, probed: Result<Probed, String>) -> Finding {
    match probed {
        Ok(Probed::Readable(name)) => {
            Finding::Ok(format!("schema registry at {url}: answers, `{name}` can be read"))
        }
        Ok(Probed::Answers) => Finding::Ok(format!("schema registry at {url}: answers")),
        Ok(Probed::Empty) => Finding::note(
            format!("schema registry at {url} answers and holds no schema"),
            "see that it is the one that the connector's converters write to",
        ),
        Err(reason) => Finding::problem(
            format!("schema registry at {url} cannot be read from: {reason}"),
            "correct `records.registry`, or start the registry: until it answers its tables wait",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_a_registry_is_judged() {
        let readable = told("http://r", Ok(Probed::Readable("t-value".to_owned())));
        assert!(matches!(&readable, Finding::Ok(what) if what.contains("t-value")));
        assert!(matches!(told("http://r", Ok(Probed::Empty)), Finding::Note(..)));
        let refused = told("http://r", Err("it refuses the login (401)".to_owned()));
        assert!(
            matches!(&refused, Finding::Problem(what, _) if what.contains("refuses the login"))
        );
    }
}
