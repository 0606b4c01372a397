//! Rows of a topic's partitions to files, exactly once: a file holds a run of one partition's records, is named by the
//! first of them, and says in its footer where the next one begins.
//!
//! A partition's files are a chain. Whoever has the partition finds where the chain ends and leaves out what is before it,
//! so what was written and not committed is not written again. A file never replaces another, so of two processes that
//! write from the same place, one of which has lost the partition without knowing, only one succeeds. A range of records
//! without rows is a file too: it is what claims the place.
//!
//! Files are finished when they are full, old, or their partition is about to leave; only then is their end a position
//! that can be committed. One that is not finished is removed when the process ends; its records are read again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::format::{FileFormat, FormatWriter, read_metadata};
use super::whole_file::{WholeFile, prepare_folder};
use super::{BlockRows, Sink, SinkError, WindowRows, Written};
use crate::output::OutputSchema;
use crate::record::DeadLetter;
use crate::record::Partition;

/// The footer's word: the offset of the first record that is not in the file.
const NEXT_OFFSET: &str = "embedmill.next_offset";

/// When a file is finished, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    pub rows: u64,
    pub age: Duration,
}

/// The files of all partitions that are ours. Shared by its two views on delivery's thread: the sink, and what commits.
#[derive(Clone)]
pub struct PartitionFiles(Arc<Mutex<Files>>);

struct Files {
    format: FileFormat,
    folder: PathBuf,
    limits: FileLimits,
    schema: OutputSchema,
    open: Vec<Open>,
    written: Vec<Written>,
}

/// A partition's file at work.
struct Open {
    partition: Arc<Partition>,
    /// The offset of the next record; those before it are in this file or in one before it.
    next: i64,
    rows: u64,
    since: Instant,
    /// `None` until there is a record that no file has.
    writer: Option<FormatWriter>,
}

/// What becomes of a partition's open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// It is finished when it is full or old.
    Owned,
    /// The partition is about to be taken away, or the run ends: it is finished now.
    Revoking,
    /// The partition is not ours any more: it is removed.
    Lost,
}

impl PartitionFiles {
    /// Makes the folder if need be.
    pub fn create(
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

    /// Finishes what is due by now, and returns where the partitions of finished files go on.
    pub fn finish_due(
        &self,
        now: Instant,
        ownership: impl Fn(&Partition) -> Ownership,
    ) -> Result<Vec<(Arc<Partition>, i64)>, SinkError> {
        let mut files = self.lock();
        let mut durable = Vec::new();
        for open in std::mem::take(&mut files.open) {
            let due = open.rows >= files.limits.rows || now.duration_since(open.since) >= files.limits.age;
            match ownership(&open.partition) {
                Ownership::Lost => tracing::info!(partition = open.partition.name(), "an unfinished file is given up"),
                Ownership::Owned if !due => files.open.push(open),
                Ownership::Owned | Ownership::Revoking => {
                    let end = (open.partition.clone(), open.next);
                    files.end(open)?;
                    durable.push(end);
                }
            }
        }
        Ok(durable)
    }
}

impl Sink for PartitionFiles {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        self.lock().write(rows)?;
        Ok(Vec::new())
    }

    /// Windows without rows count too: their offsets are behind.
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
        let mut parts: Vec<(usize, Vec<RecordBatch>)> = Vec::new();
        for BlockRows { block, first_row, output, .. } in rows.blocks().filter(|rows| rows.is_owned) {
            let end = block.body.offset(block.records() - 1) as i64 + 1;
            let place = self.open(&block.partition)?;
            let floor = self.open[place].next;
            if end <= floor {
                continue;
            }
            // What an earlier file has, or this one after a first try at this window.
            let is_new =
                |row: usize| block.body.offset(block.row_records[window_rows[row] - first_row]) as i64 >= floor;
            let first = output.clone().find(|&row| is_new(row)).unwrap_or(output.end);
            let first_record = (0..block.records()).find(|&record| block.body.offset(record) as i64 >= floor);
            let first_record = block.body.offset(first_record.unwrap_or(0)) as i64;
            self.begin(place, first_record)?;
            let open = &mut self.open[place];
            open.next = end;
            open.rows += (output.end - first) as u64;
            let batch = rows.output.batch.slice(first, output.end - first);
            match parts.iter_mut().find(|(other, _)| *other == place) {
                Some((_, batches)) => batches.push(batch),
                None => parts.push((place, vec![batch])),
            }
        }
        for (place, batches) in parts {
            let together = concat_batches(rows.output.batch.schema_ref(), &batches);
            let fail = |error: arrow::error::ArrowError| SinkError::Format {
                path: self.folder.display().to_string(),
                message: error.to_string(),
            };
            let together = together.map_err(fail)?;
            if together.num_rows() > 0
                && let Some(writer) = &mut self.open[place].writer
            {
                writer.write(&together)?;
            }
        }
        Ok(())
    }

    /// The partition's place among the open files; a new one goes on where the chain ends.
    fn open(&mut self, partition: &Arc<Partition>) -> Result<usize, SinkError> {
        if let Some(place) = self.open.iter().position(|open| open.partition == *partition) {
            return Ok(place);
        }
        let next = chain_end(self.format, &self.folder, partition)?.unwrap_or(0);
        let partition = partition.clone();
        self.open.push(Open { partition, next, rows: 0, since: Instant::now(), writer: None });
        Ok(self.open.len() - 1)
    }

    fn begin(&mut self, place: usize, first: i64) -> Result<(), SinkError> {
        let open = &self.open[place];
        if open.writer.is_some() {
            return Ok(());
        }
        let path = self.folder.join(file_name(&open.partition, first, self.format));
        if path.exists() {
            return Err(taken(path));
        }
        let writer = FormatWriter::new(self.format, WholeFile::create(&path)?, &self.schema)?;
        let open = &mut self.open[place];
        open.writer = Some(writer);
        open.since = Instant::now();
        Ok(())
    }

    fn end(&mut self, open: Open) -> Result<(), SinkError> {
        let Some(mut writer) = open.writer else { return Ok(()) };
        writer.set_metadata(NEXT_OFFSET, &open.next.to_string());
        let file = writer.into_file()?;
        let path = file.path().to_path_buf();
        let bytes = file.finish_new().map_err(|error| match error {
            SinkError::Io { path, cause, .. } if cause.kind() == std::io::ErrorKind::AlreadyExists => taken(path),
            other => other,
        })?;
        self.written.push(Written { path, rows: open.rows, bytes });
        Ok(())
    }
}

fn taken(path: PathBuf) -> SinkError {
    let cause = std::io::Error::other("start again: what follows it is read then");
    SinkError::Io { path, action: "was written by another process meanwhile", cause }
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

/// The offset after the last record that the partition's files have; `None` without files.
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
    let next = read_metadata(format, &path, NEXT_OFFSET)?.and_then(|next| next.parse().ok());
    let next: i64 = next.ok_or_else(|| SinkError::Format {
        path: path.display().to_string(),
        message: format!("its footer does not say `{NEXT_OFFSET}`; move it away, or choose another folder"),
    })?;
    tracing::info!(partition = partition.name(), next, file = %path.display(), "goes on behind the files that there are");
    Ok(Some(next))
}
