//! What the configuration can say and this release cannot do.
//!
//! Refused by name: a setting that is read and ignored would be a promise broken in silence.

use super::{Config, Deletes, Mechanism, Problem, Table};

/// Adds a problem for everything that is asked for and not built.
pub(super) fn problems(config: &Config, problems: &mut Vec<Problem>) {
    let mut refuse = |path: String, what: &str, next: &str| {
        let message = format!("{what}: not yet in this release");
        problems.push(Problem::new(path, message, next));
    };
    if let Some(Mechanism::OauthBearer | Mechanism::AwsMskIam) = config.kafka.security.mechanism {
        refuse(
            "kafka.security.mechanism".to_owned(),
            "token authentication",
            "use SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN",
        );
    }
    if config.maintenance.compaction == Some(true) {
        refuse("maintenance.compaction".to_owned(), "compaction", "remove it, or set it to false");
    }
    if config.maintenance.window.is_some() {
        refuse("maintenance.window".to_owned(), "hours for upkeep", "remove it");
    }
    for (index, entry) in config.tables.iter().enumerate() {
        table(entry, &format!("tables[{index}]"), &mut refuse);
    }
}

fn table(table: &Table, path: &str, refuse: &mut impl FnMut(String, &str, &str)) {
    if table.deletes == Deletes::Soft {
        refuse(format!("{path}.deletes"), "soft deletes", "use `hard`");
    }
}
