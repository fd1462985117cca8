//! Objects that are written piece by piece: only a part of one is in memory at a time.

use std::path::PathBuf;

use bytes::Bytes;
use object_store::MultipartUpload;

use super::Storage;
use super::local::{Draft, local_error};
use super::parts::give_up;
use crate::{Error, Result};

/// Bytes of a part: S3 takes 10 000 of them, of 5 MiB or more.
const PART_BYTES: usize = 8 << 20;

/// An object on its way; nothing is seen of it before [`Upload::finish`], and nothing stays of one
/// that is dropped.
pub struct Upload {
    storage: Storage,
    path: String,
    /// What has come and not been sent.
    buffer: Vec<u8>,
    sent: usize,
    to: To,
}

/// Where the pieces go.
enum To {
    /// Nothing has been sent.
    Nowhere,
    Disk(Draft),
    Parts(Box<dyn MultipartUpload>),
}

impl Storage {
    /// Begins an object under a name that nobody else uses.
    pub fn upload(&self, path: &str) -> Upload {
        let (storage, path) = (self.clone(), path.to_owned());
        Upload { storage, path, buffer: Vec::new(), sent: 0, to: To::Nowhere }
    }
}

impl Upload {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When storage refuses.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= PART_BYTES {
            let rest = self.buffer.split_off(PART_BYTES);
            let part = std::mem::replace(&mut self.buffer, rest);
            self.send(part).await?;
        }
        Ok(())
    }

    /// Bytes that have come.
    pub fn size(&self) -> u64 {
        (self.sent + self.buffer.len()) as u64
    }

    /// Makes the object visible, whole and durable.
    ///
    /// # Errors
    /// When storage refuses; nobody can name what may be there all the same.
    pub async fn finish(mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.buffer);
        if let To::Nowhere = self.to {
            return self.storage.put(&self.path, rest).await;
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        self.storage.count_put(self.sent);
        let failed = format!("could not write `{}`", self.storage.uri(&self.path));
        match std::mem::replace(&mut self.to, To::Nowhere) {
            To::Nowhere => Ok(()),
            To::Disk(draft) => blocking(move || draft.publish(false))
                .await?
                .map_err(|error| local_error(failed, error)),
            To::Parts(parts) => {
                self.storage.complete_parts(&self.path, self.sent as u64, parts).await
            }
        }
    }

    async fn send(&mut self, part: Vec<u8>) -> Result<()> {
        let doing = || format!("could not write `{}`", self.storage.uri(&self.path));
        if let To::Nowhere = self.to {
            self.to = begin(&self.storage, &self.path).await?;
        }
        self.sent += part.len();
        match &mut self.to {
            To::Nowhere => {}
            To::Disk(_) => {
                let To::Disk(mut draft) = std::mem::replace(&mut self.to, To::Nowhere) else {
                    return Ok(());
                };
                let (draft, written) = blocking(move || {
                    let written = draft.write(&part);
                    (draft, written)
                })
                .await?;
                self.to = To::Disk(draft);
                written.map_err(|error| local_error(doing(), error))?;
            }
            To::Parts(parts) => {
                let sending = parts.put_part(Bytes::from(part).into());
                sending.await.map_err(|error| self.storage.parts_error(&self.path, error))?;
            }
        }
        Ok(())
    }
}

async fn begin(storage: &Storage, path: &str) -> Result<To> {
    let full = storage.full(path);
    let doing = || format!("could not write `{}`", storage.uri(path));
    if storage.local {
        let target = PathBuf::from(format!("/{full}"));
        let draft = blocking(move || Draft::create(&target)).await?;
        return draft.map(To::Disk).map_err(|error| local_error(doing(), error));
    }
    storage.begin_parts(path).await.map(To::Parts)
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A draft on disk removes itself.
        if let To::Parts(parts) = std::mem::replace(&mut self.to, To::Nowhere)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(give_up(parts));
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("the task that writes files died").with_source(e))
}

#[cfg(test)]
mod tests;
