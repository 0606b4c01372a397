//! Writes the rows of topics to files exactly once: each file holds consecutive records of one partition, is named by the
//! offset of the first one, and stores the offset of the next one in its footer.
//!
//! The files of a partition form a chain. A consumer that is assigned the partition finds the end of the chain and skips
//! all records before it, so rows that were written but not committed are not written again. A file never replaces another
//! one: of two processes that write from the same offset, one of which has lost the partition without knowing, only one
//! succeeds. Records without rows make a file too, because the file is what claims their offsets.
//!
//! A file is finished once it is full or old enough, or its partition is being revoked; only then can its end be committed.
//! An unfinished file is removed when the process ends, and its records are read again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;

use super::format::{FileFormat, FormatWriter, read_metadata};
use super::whole_file::{WholeFile, prepare_folder};
use super::{BlockRows, Sink, SinkError, WindowRows, Written};
use crate::output::OutputSchema;
use crate::output::read::OutputFile;
use crate::record::{DeadLetter, Partition};

/// The footer's key for the offset of the first record after the file.
const NEXT_OFFSET: &str = "embedmill.next_offset";

/// When a file is finished: as soon as one of these is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileLimits {
    pub rows: u64,
    pub age: Duration,
}

/// The files of all assigned partitions. The sink and the commit strategy share them on delivery's thread.
#[derive(Clone)]
pub(crate) struct PartitionFiles(Arc<Mutex<Files>>);

struct Files {
    format: FileFormat,
    folder: PathBuf,
    limits: FileLimits,
    schema: OutputSchema,
    open: Vec<PartitionFile>,
    written: Vec<Written>,
}

/// The file of a partition that is being written.
struct PartitionFile {
    partition: Arc<Partition>,
    /// The offset of the next record. All records before it are in this file or in earlier ones.
    next: i64,
    rows: u64,
    since: Instant,
    /// `None` until a record arrives that no earlier file holds.
    writer: Option<FormatWriter>,
}

/// Whether this consumer still owns a partition, and thus what happens to the partition's open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The file is finished once it is full or old.
    Owned,
    /// The partition is being revoked, or the run ends: the file is finished now.
    Revoking,
    /// The partition is no longer assigned to this consumer: the file is removed.
    Lost,
}

impl PartitionFiles {
    /// Creates the folder if it does not exist.
    pub(crate) fn create(
        format: FileFormat,
        folder: &Path,
        limits: FileLimits,
        schema: OutputSchema,
    ) -> Result<PartitionFiles, SinkError> {
        prepare_folder(folder)?;
        let (folder, open, written) = (folder.to_path_buf(), Vec::new(), Vec::new());
        Ok(PartitionFiles(Arc::new(Mutex::new(Files { format, folder, limits, schema, open, written }))))
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finishes the files that are due at `now`; returns their partitions, each with the offset of its next record.
    pub(crate) fn finish_due(
        &self,
        now: Instant,
        ownership: impl Fn(&Partition) -> Ownership,
    ) -> Result<Vec<(Arc<Partition>, i64)>, SinkError> {
        let mut files = self.lock();
        let mut finished = Vec::new();
        for open in std::mem::take(&mut files.open) {
            let is_due = open.rows >= files.limits.rows || now.duration_since(open.since) >= files.limits.age;
            match ownership(&open.partition) {
                Ownership::Lost => {
                    tracing::info!(partition = open.partition.name(), "discarding unfinished file: partition lost");
                }
                Ownership::Owned if !is_due => files.open.push(open),
                Ownership::Owned | Ownership::Revoking => {
                    let end = (open.partition.clone(), open.next);
                    files.finish_file(open)?;
                    finished.push(end);
                }
            }
        }
        Ok(finished)
    }
}

impl Sink for PartitionFiles {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        self.lock().write(rows)?;
        Ok(Vec::new())
    }

    /// Windows without rows are written too, because their records must be claimed and committed.
    fn takes_every_window(&self) -> bool {
        true
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError> {
        Ok(std::mem::take(&mut self.lock().written))
    }
}

impl Files {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<(), SinkError> {
        let window_rows: Vec<usize> = rows.output.window_rows().collect();
        let mut by_file: Vec<(usize, Vec<RecordBatch>)> = Vec::new();
        for BlockRows { block, first_row, output, .. } in rows.blocks().filter(|rows| rows.is_owned) {
            let end = block.body.offset(block.records() - 1) as i64 + 1;
            let index = self.open_file(&block.partition)?;
            let written_up_to = self.open[index].next;
            if end <= written_up_to {
                continue;
            }
            // Earlier records are in an earlier file, or in this one after a first attempt at this window.
            let offset_of = |row: usize| block.body.offset(block.row_records[window_rows[row] - first_row]) as i64;
            let first = output.clone().find(|&row| offset_of(row) >= written_up_to).unwrap_or(output.end);
            let first_record = (0..block.records()).find(|&record| block.body.offset(record) as i64 >= written_up_to);
            let first_offset = block.body.offset(first_record.unwrap_or(0)) as i64;
            self.begin_file(index, first_offset)?;
            let open = &mut self.open[index];
            open.next = end;
            open.rows += (output.end - first) as u64;
            let batch = rows.output.batch.slice(first, output.end - first);
            match by_file.iter_mut().find(|(other, _)| *other == index) {
                Some((_, batches)) => batches.push(batch),
                None => by_file.push((index, vec![batch])),
            }
        }
        for (index, batches) in by_file {
            let batch = concat_batches(rows.output.batch.schema_ref(), &batches);
            let batch = batch.map_err(|error: ArrowError| SinkError::Format {
                path: self.folder.display().to_string(),
                message: error.to_string(),
            })?;
            if batch.num_rows() > 0
                && let Some(writer) = &mut self.open[index].writer
            {
                writer.write(&batch)?;
            }
        }
        Ok(())
    }

    /// The index of the partition's open file. A new one resumes at the end of the partition's chain.
    fn open_file(&mut self, partition: &Arc<Partition>) -> Result<usize, SinkError> {
        if let Some(index) = self.open.iter().position(|open| open.partition == *partition) {
            return Ok(index);
        }
        let next = chain_end(self.format, &self.folder, partition)?.unwrap_or(0);
        let partition = partition.clone();
        self.open.push(PartitionFile { partition, next, rows: 0, since: Instant::now(), writer: None });
        Ok(self.open.len() - 1)
    }

    /// Creates the file of the partition, whose first record has offset `first`, unless it has been created already.
    fn begin_file(&mut self, index: usize, first: i64) -> Result<(), SinkError> {
        let open = &self.open[index];
        if open.writer.is_some() {
            return Ok(());
        }
        let path = self.folder.join(file_name(&open.partition, first, self.format));
        if path.exists() {
            return Err(already_written(&path));
        }
        let writer = FormatWriter::new(self.format, WholeFile::create(&path)?, &self.schema)?;
        let open = &mut self.open[index];
        open.writer = Some(writer);
        open.since = Instant::now();
        Ok(())
    }

    fn finish_file(&mut self, open: PartitionFile) -> Result<(), SinkError> {
        let Some(mut writer) = open.writer else { return Ok(()) };
        writer.set_metadata(NEXT_OFFSET, &open.next.to_string());
        let file = writer.into_file()?;
        let path = file.path().to_path_buf();
        let bytes = file.finish_new().map_err(|error| match error {
            SinkError::Io { path, cause, .. } if cause.kind() == std::io::ErrorKind::AlreadyExists => {
                already_written(&path)
            }
            other => other,
        })?;
        self.written.push(Written { path, rows: open.rows, bytes });
        Ok(())
    }
}

/// The error of the process that loses against another one.
fn already_written(path: &Path) -> SinkError {
    let message = "another process has written this file in the meantime (start again to resume after it)";
    SinkError::Existing { path: path.to_path_buf(), message: message.into() }
}

fn prefix(partition: &Partition) -> String {
    match partition {
        Partition::Topic { topic, partition, .. } => format!("{topic}-{partition:06}-"),
        other => format!("{:06}-", other.ordinal()),
    }
}

fn file_name(partition: &Partition, first: i64, format: FileFormat) -> String {
    format!("{}{first:015}.{}", prefix(partition), format.extension())
}

/// The offset after the last record in the partition's files; `None` if it has no files.
fn chain_end(format: FileFormat, folder: &Path, partition: &Partition) -> Result<Option<i64>, SinkError> {
    let fail = |cause| SinkError::Io { path: folder.into(), action: "cannot be listed", cause };
    let prefix = prefix(partition);
    let mut last: Option<(i64, PathBuf)> = None;
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let first =
            name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(format.extension())?.strip_suffix('.'));
        let Some(first) = first.and_then(|digits| digits.parse().ok()) else { continue };
        if last.as_ref().is_none_or(|(before, _)| *before < first) {
            last = Some((first, path));
        }
    }
    let Some((_, path)) = last else { return Ok(None) };
    OutputFile::open(&path).map_err(|error| SinkError::Existing { path: path.clone(), message: error.message })?;
    let next = read_metadata(format, &path, NEXT_OFFSET)?.and_then(|next| next.parse().ok());
    let next: i64 = next.ok_or_else(|| SinkError::Io {
        path: path.clone(),
        action: "cannot be resumed after",
        cause: std::io::Error::other(format!(
            "the footer has no `{NEXT_OFFSET}` (move the file away, or choose another folder)"
        )),
    })?;
    tracing::info!(partition = partition.name(), next, file = %path.display(), "resuming after existing files");
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(partition: i32) -> Partition {
        Partition::Topic { topic: "docs".into(), partition, epoch: 1 }
    }

    /// A chain that this version began is resumed by later ones.
    #[test]
    fn a_chain_of_version_1_is_resumed_where_its_footer_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1");
        assert_eq!(chain_end(FileFormat::Arrow, &folder, &topic(3)).expect("it is read"), Some(17));
        assert_eq!(chain_end(FileFormat::Arrow, &folder, &topic(4)).expect("there is none"), None);
        let other = tempfile::tempdir().expect("a temporary folder");
        let name = "docs-000003-000000000000017.arrow";
        std::fs::copy(folder.join("vectors.arrow"), other.path().join(name)).expect("a copy");
        let error = chain_end(FileFormat::Arrow, other.path(), &topic(3)).expect_err("its footer says nothing");
        assert!(error.to_string().contains("the footer has no `embedmill.next_offset`"), "{error}");
    }
}
