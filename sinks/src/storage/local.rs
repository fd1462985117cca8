//! Files that are on disk when we say so: the library syncs neither files nor folders.

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
pub(super) fn write_durably(
    target: &std::path::Path,
    bytes: &[u8],
    create: bool,
) -> std::io::Result<()> {
    use std::io::Write;
    let folder = target.parent().unwrap_or(std::path::Path::new("/"));
    make_folder(folder)?;
    // The library passes over names that end so in listings: a file left by a crash stays unseen.
    let unique = uuid::Uuid::new_v4().as_u128();
    let mut draft = target.as_os_str().to_owned();
    draft.push(format!("#{unique}"));
    let draft = std::path::PathBuf::from(draft);
    let written = (|| {
        let mut file = std::fs::File::create_new(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if create { std::fs::hard_link(&draft, target) } else { std::fs::rename(&draft, target) }
    })();
    if create || written.is_err() {
        // Best effort: a draft that stays is an orphan with a name that says so.
        drop(std::fs::remove_file(&draft));
    }
    written?;
    std::fs::File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, each name on disk before the next.
fn make_folder(folder: &std::path::Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(std::path::Path::new("/"));
    make_folder(above)?;
    match std::fs::create_dir(folder) {
        Ok(()) => std::fs::File::open(above)?.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
