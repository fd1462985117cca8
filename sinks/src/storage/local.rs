//! Files that are on disk when we say so: the library syncs neither files nor folders.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;

/// Classifies what the disk said.
pub(super) fn local_error(doing: String, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => crate::ErrorKind::Denied,
        _ => crate::ErrorKind::Unavailable,
    };
    Error::new(kind, doing).with_source(error)
}

/// Writes a file so that it is there whole or not at all, also after a power cut. With `create` an
/// existing file is left alone.
pub(super) fn write_durably(target: &Path, bytes: &[u8], create: bool) -> std::io::Result<()> {
    let mut draft = Draft::create(target)?;
    draft.write(bytes)?;
    draft.publish(create)
}

/// A file that is being written under another name.
pub(super) struct Draft {
    file: std::fs::File,
    draft: PathBuf,
    target: PathBuf,
}

impl Draft {
    pub(super) fn create(target: &Path) -> std::io::Result<Self> {
        make_folder(folder_of(target))?;
        // The library passes over names that end so in listings: a file left by a crash stays unseen.
        let unique = uuid::Uuid::new_v4().as_u128();
        let mut draft = target.as_os_str().to_owned();
        draft.push(format!("#{unique}"));
        let draft = PathBuf::from(draft);
        let file = std::fs::File::create_new(&draft)?;
        Ok(Self { file, draft, target: target.to_owned() })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives the file its name, durably. With `create` an existing file is left alone.
    pub(super) fn publish(self, create: bool) -> std::io::Result<()> {
        self.file.sync_all()?;
        match create {
            true => std::fs::hard_link(&self.draft, &self.target)?,
            false => std::fs::rename(&self.draft, &self.target)?,
        }
        std::fs::File::open(folder_of(&self.target))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Best effort: a draft that stays is an orphan with a name that says so. One that was
        // renamed is gone already.
        drop(std::fs::remove_file(&self.draft));
    }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().unwrap_or(Path::new("/"))
}

/// Makes a folder and those above it, each name on disk before the next.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    make_folder(above)?;
    match std::fs::create_dir(folder) {
        Ok(()) => std::fs::File::open(above)?.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
