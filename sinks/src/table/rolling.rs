//! Rows of files, and then new ones, into a run of files of bounded size: a row group at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;

use super::encoder::{Encoded, Encoder};
use super::reader::Rows;
use super::writer::{self, FileRows, WriterOptions};
use crate::log::DataFile;
use crate::storage::{Storage, Upload};
use crate::{Error, Result, failpoint};

/// New rows handed to Arrow at once.
const CHUNK_ROWS: usize = 8 * 1024;

/// A file to read from, and which of its rows.
pub(super) struct Source {
    pub(super) file: Arc<DataFile>,
    pub(super) rows: RoaringBitmap,
}

/// One run of files to write.
pub(super) struct Job {
    pub(super) storage: Storage,
    pub(super) schema: Arc<TableSchema>,
    pub(super) topic_partition: TopicPartition,
    pub(super) partition: Vec<Value>,
    /// Read one after the other, each in its order.
    pub(super) sources: Vec<Source>,
    /// After them.
    pub(super) new: Option<Arc<FileRows>>,
    /// What it will come to, about.
    pub(super) bytes: u64,
    pub(super) options: WriterOptions,
}

impl Job {
    /// Writes the files, durable and invisible; none if there are no rows.
    ///
    /// # Errors
    /// When a file cannot be read, a row does not fit the schema or storage refuses.
    pub(super) async fn write(self) -> Result<Vec<Arc<DataFile>>> {
        let mut rolling = Rolling::new(self.schema.clone(), self.bytes, &self.options);
        let mut output = Output { job: &self, upload: None, files: Vec::new() };
        let all: Vec<usize> = (0..self.schema.columns.len()).collect();
        for Source { file, rows } in self.sources.iter().filter(|source| !source.rows.is_empty()) {
            let before = rolling.rows;
            let mut reader = Rows::open(&self.storage, &self.schema, &all, file, rows).await?;
            let mut is_more = true;
            while is_more {
                (rolling, is_more) = reader.next_group(rolling, Rolling::write).await?;
                output.drain(&mut rolling).await?;
            }
            if rolling.rows - before != rows.len() {
                return Err(Error::corrupt(format!("`{}` gave too few rows", file.path)));
            }
        }
        if let Some(new) = &self.new {
            for start in (0..new.rows.len()).step_by(CHUNK_ROWS) {
                rolling = rolling.write_new(new.clone(), start).await?;
                output.drain(&mut rolling).await?;
            }
        }
        rolling.close()?;
        output.drain(&mut rolling).await?;
        Ok(output.files)
    }

    fn data_file(&self, path: String, size: u64, encoded: Encoded) -> DataFile {
        DataFile {
            path,
            size,
            rows: encoded.rows,
            topic_partition: self.topic_partition.clone(),
            partition: self.partition.clone(),
            stats: encoded.stats,
            split_offsets: encoded.split_offsets,
        }
    }
}

/// Cuts rows into files of even size.
struct Rolling {
    schema: Arc<TableSchema>,
    row_group_rows: usize,
    /// Even share of a file.
    share: u64,
    /// No file is larger, by more than a batch of rows.
    most: u64,
    /// Files that are still expected, the current one included.
    expected: u64,
    current: Option<Encoder>,
    finished: VecDeque<Encoded>,
    /// Rows that have come.
    rows: u64,
}

impl Rolling {
    fn new(schema: Arc<TableSchema>, bytes: u64, options: &WriterOptions) -> Self {
        let full = options.file_bytes.max(1);
        let expected = ((bytes + full / 2) / full).max(1);
        Self {
            schema,
            row_group_rows: options.row_group_rows,
            share: bytes / expected,
            most: full.saturating_mul(2),
            expected,
            current: None,
            finished: VecDeque::new(),
            rows: 0,
        }
    }

    fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let encoder = match &mut self.current {
            Some(encoder) => encoder,
            none => {
                let encoder = Encoder::like(self.schema.clone(), &batch, self.row_group_rows)?;
                none.insert(encoder)
            }
        };
        encoder.write(&batch)?;
        self.rows += batch.num_rows() as u64;
        // What comes after the last cut stays together: sizes are not known exactly beforehand.
        let most = if self.expected > 1 { self.share.min(self.most) } else { self.most };
        if encoder.size() >= most {
            self.close()?;
        }
        Ok(())
    }

    /// Adds rows that are in no file yet, from `start` on.
    async fn write_new(mut self, new: Arc<FileRows>, start: usize) -> Result<Self> {
        let write = move || {
            let end = new.rows.len().min(start + CHUNK_ROWS);
            let batch = writer::record_batch(&self.schema, &new.rows[start..end])?;
            self.write(batch)?;
            Ok(self)
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(|e| Error::internal("the task that writes Parquet died").with_source(e))?
    }

    fn close(&mut self) -> Result<()> {
        if let Some(encoder) = self.current.take() {
            self.finished.push_back(encoder.finish()?);
            self.expected = self.expected.saturating_sub(1).max(1);
        }
        Ok(())
    }
}

/// Where the files go.
struct Output<'a> {
    job: &'a Job,
    /// Of the file that has begun, with its path.
    upload: Option<(String, Upload)>,
    files: Vec<Arc<DataFile>>,
}

impl Output<'_> {
    /// Sends what is finished.
    async fn drain(&mut self, rolling: &mut Rolling) -> Result<()> {
        while let Some(mut encoded) = rolling.finished.pop_front() {
            let (path, mut upload) = self.take_upload()?;
            upload.write(&std::mem::take(&mut encoded.bytes)).await?;
            let size = upload.size();
            upload.finish().await?;
            failpoint::hit(failpoint::AMID_STAGE);
            self.files.push(Arc::new(self.job.data_file(path, size, encoded)));
        }
        let bytes = rolling.current.as_mut().map(Encoder::take).unwrap_or_default();
        if !bytes.is_empty() {
            let (path, mut upload) = self.take_upload()?;
            upload.write(&bytes).await?;
            self.upload = Some((path, upload));
        }
        Ok(())
    }

    /// The upload of the file that has begun, or that of a new one.
    fn take_upload(&mut self) -> Result<(String, Upload)> {
        if let Some(begun) = self.upload.take() {
            return Ok(begun);
        }
        let Job { schema, topic_partition, partition, storage, sources, .. } = self.job;
        let tier = u8::from(!sources.is_empty());
        let path = writer::path_of(schema, tier, topic_partition, partition)?;
        let upload = storage.upload(&path);
        Ok((path, upload))
    }
}
