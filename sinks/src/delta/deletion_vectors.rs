//! Dead rows on disk: Delta's deletion vectors.
//!
//! A commit writes one file with the vectors of all files that it touches, each complete: the rows
//! dead before and those that die now.

use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::actions::DeletionVector;
use crate::storage::Storage;
use crate::{Error, Result};

/// First bytes of a vector: portable form.
const MAGIC: u32 = 1_681_511_377;
/// First byte of a file of vectors.
const FILE_VERSION: u8 = 1;
/// Vectors read at once when a table is opened.
const READS_MAX: usize = 16;

/// A file of deletion vectors to be.
pub(super) struct VectorFile {
    uuid: Uuid,
    bytes: Vec<u8>,
}

impl VectorFile {
    pub(super) fn new() -> Self {
        Self { uuid: Uuid::new_v4(), bytes: vec![FILE_VERSION] }
    }

    /// Where it belongs, relative to the table.
    pub(super) fn path(&self) -> String {
        file_path("", self.uuid)
    }

    /// Adds the dead rows of one data file.
    pub(super) fn push(&mut self, dead: &RoaringBitmap) -> Result<DeletionVector> {
        let mut vector = MAGIC.to_le_bytes().to_vec();
        // A 64-bit bitmap of one part, the one for positions below 2^32.
        vector.extend(1u64.to_le_bytes());
        vector.extend(0u32.to_le_bytes());
        dead.serialize_into(&mut vector)
            .map_err(|e| Error::internal("could not write a bitmap").with_source(e))?;
        let too_big = |_| Error::invalid("deletion vectors of one commit exceed 2 GiB");
        let offset = i32::try_from(self.bytes.len()).map_err(too_big)?;
        let size = i32::try_from(vector.len()).map_err(too_big)?;
        self.bytes.extend(size.to_be_bytes());
        self.bytes.extend(&vector);
        self.bytes.extend(crc32fast::hash(&vector).to_be_bytes());
        Ok(DeletionVector {
            storage_type: "u".to_owned(),
            path_or_inline_dv: z85::encode(self.uuid.as_bytes()),
            offset: Some(offset),
            size_in_bytes: size,
            cardinality: i64::try_from(dead.len()).expect("a bitmap holds at most 2^32 positions"),
        })
    }

    /// Its content, when all vectors are in.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn file_path(prefix: &str, uuid: Uuid) -> String {
    let slash = if prefix.is_empty() { "" } else { "/" };
    format!("{prefix}{slash}deletion_vector_{uuid}.bin")
}

/// The file that holds a vector, relative to the table; `None` if the vector stands in the log.
pub(super) fn stored_in(vector: &DeletionVector) -> Result<Option<String>> {
    let text = &vector.path_or_inline_dv;
    match vector.storage_type.as_str() {
        "i" => Ok(None),
        "u" => {
            let unreadable =
                || Error::corrupt(format!("deletion vector `{text}` is not named by a UUID"));
            let split = text.len().checked_sub(20).ok_or_else(unreadable)?;
            let (prefix, encoded) = text.split_at_checked(split).ok_or_else(unreadable)?;
            let bytes = z85::decode(encoded).map_err(|_| unreadable())?;
            let uuid = Uuid::from_slice(&bytes).map_err(|_| unreadable())?;
            Ok(Some(file_path(prefix, uuid)))
        }
        kind => Err(Error::invalid(format!(
            "a deletion vector has storage type `{kind}`: only vectors inside the table can be read"
        ))),
    }
}

/// Reads dead rows.
pub(super) async fn read(storage: &Storage, vector: &DeletionVector) -> Result<RoaringBitmap> {
    let Some(path) = stored_in(vector)? else {
        let bytes = z85::decode(&vector.path_or_inline_dv)
            .map_err(|_| Error::corrupt("an inline deletion vector is not base 85"))?;
        return decode("in the log", &bytes, vector);
    };
    let size = u64::try_from(vector.size_in_bytes).unwrap_or(0);
    let start = u64::try_from(vector.offset.unwrap_or(1)).unwrap_or(1);
    let whole = start..start + size + 8;
    let parts = storage.get_ranges(&path, std::slice::from_ref(&whole)).await?;
    let corrupt = |what: &str| Error::corrupt(format!("deletion vector in `{path}` {what}"));
    let bytes = parts.first().ok_or_else(|| corrupt("is cut off"))?;
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut off"))?;
    let (body, sum) = rest.split_last_chunk::<4>().ok_or_else(|| corrupt("is cut off"))?;
    if u64::from(u32::from_be_bytes(*head)) != size || body.len() as u64 != size {
        return Err(corrupt("has another size than the log says"));
    }
    if u32::from_be_bytes(*sum) != crc32fast::hash(body) {
        return Err(corrupt("has a wrong checksum"));
    }
    decode(&path, body, vector)
}

fn decode(place: &str, bytes: &[u8], vector: &DeletionVector) -> Result<RoaringBitmap> {
    let corrupt = |what: &str| Error::corrupt(format!("deletion vector {place} {what}"));
    let (magic, mut rest) = bytes.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut off"))?;
    if u32::from_le_bytes(*magic) != MAGIC {
        return Err(corrupt("is in no form that is known"));
    }
    let (count, tail) = rest.split_first_chunk::<8>().ok_or_else(|| corrupt("is cut off"))?;
    rest = tail;
    let mut dead = RoaringBitmap::new();
    for _ in 0..u64::from_le_bytes(*count) {
        let (high, tail) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut off"))?;
        if u32::from_le_bytes(*high) != 0 {
            return Err(corrupt("names rows beyond 2^32"));
        }
        rest = tail;
        dead = RoaringBitmap::deserialize_from(&mut rest)
            .map_err(|e| corrupt("holds no bitmap").with_source(e))?;
    }
    if i64::try_from(dead.len()).ok() != Some(vector.cardinality) {
        return Err(corrupt("has another cardinality than the log says"));
    }
    Ok(dead)
}

/// Reads the dead rows of many files.
pub(super) async fn read_all(
    storage: &Storage,
    vectors: Vec<(String, DeletionVector)>,
) -> Result<Vec<(String, RoaringBitmap)>> {
    futures::stream::iter(vectors)
        .map(|(path, vector)| async move { Ok((path, read(storage, &vector).await?)) })
        .buffer_unordered(READS_MAX)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::S3Options;

    #[tokio::test]
    async fn vectors_of_one_file_read_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().expect("folder");
        let location = folder.path().to_str().expect("utf-8");
        let storage = Storage::open(location, &S3Options::default()).expect("storage");
        let first: RoaringBitmap = [0, 7, 70_000, u32::MAX].into_iter().collect();
        let mut second: RoaringBitmap = (10..200_000).collect();
        second.optimize();
        let mut file = VectorFile::new();
        let vectors = [file.push(&first).expect("push"), file.push(&second).expect("push")];
        let path = file.path();
        let bytes = file.into_bytes();
        storage.put(&path, bytes.clone()).await.expect("put");

        assert_eq!(stored_in(&vectors[0]).expect("name"), Some(path.clone()));
        assert_eq!(read(&storage, &vectors[0]).await.expect("reads"), first);
        assert_eq!(read(&storage, &vectors[1]).await.expect("reads"), second);

        let mut damaged = bytes;
        damaged[20] ^= 1;
        storage.put(&path, damaged).await.expect("put");
        let error = read(&storage, &vectors[0]).await.expect_err("damaged");
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
