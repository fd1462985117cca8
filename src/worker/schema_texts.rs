//! Keeps the text of every inline schema that bronze names by its hash.
//!
//! Texts are what they are hashed from, so whoever writes one first is right, and one that is
//! written for a batch that never commits harms nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakebed_sinks::storage::{PutOutcome, Storage};
use lakebed_sinks::{Error, Result};

/// Hashes remembered as written; beyond that they are forgotten, and at worst written again.
const REMEMBERED_MAX: usize = 100_000;

/// The schema texts of a lake: `_lakebed/schemas/<hash>` below its location.
pub struct SchemaTexts {
    storage: Storage,
    written: Mutex<HashSet<Arc<str>>>,
}

impl SchemaTexts {
    /// Those of the lake at this place. Shared by all tables of a process.
    pub fn new(lake: &Storage) -> Self {
        Self { storage: lake.child("_lakebed/schemas"), written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that these texts, by hash, are there.
    ///
    /// # Errors
    /// When storage does not answer or refuses.
    pub async fn keep(&self, texts: &BTreeMap<Arc<str>, Arc<str>>) -> Result<()> {
        for (hash, text) in texts {
            if self.written().contains(hash) {
                continue;
            }
            let bytes = text.as_bytes().to_vec();
            if let PutOutcome::Unknown(reason) = self.storage.put_if_absent(hash, bytes).await? {
                let uri = self.storage.uri(hash);
                return Err(Error::unavailable(format!("could not write `{uri}`: {reason}")));
            }
            let mut written = self.written();
            if written.len() >= REMEMBERED_MAX {
                written.clear();
            }
            written.insert(hash.clone());
        }
        Ok(())
    }
}
