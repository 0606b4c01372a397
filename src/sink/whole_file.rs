//! A file that appears whole or not at all: it is written under a temporary name in its folder, synced, and renamed.
//!
//! Dropping it unfinished removes the temporary file. Only a kill leaves one behind, under a hidden name that ends in
//! `.tmp`; nothing reads it, and it can be deleted.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, PersistError};

use super::SinkError;

/// Size of the write buffer: large enough that a batch of vectors takes few system calls.
const BUFFER_BYTES: usize = 256 * 1024;

/// Creates a folder unless it exists, and checks that files can be created in it.
///
/// # Errors
/// If the folder or a file in it cannot be created.
pub(crate) fn prepare_folder(folder: &Path) -> Result<(), SinkError> {
    let fail = |cause| SinkError::Io { path: folder.to_path_buf(), action: "cannot be created", cause };
    std::fs::create_dir_all(folder).map_err(fail)?;
    WholeFile::create(&folder.join("probe")).map(drop)
}

/// A file that is being written under a temporary name.
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    writer: BufWriter<NamedTempFile>,
}

impl WholeFile {
    /// Creates the temporary file; `path` is the final name.
    ///
    /// # Errors
    /// If the folder does not exist or cannot be written, or if `path` is a folder, a device or a pipe.
    pub(crate) fn create(path: &Path) -> Result<Self, SinkError> {
        let fail = |action, cause| SinkError::Io { path: path.to_path_buf(), action, cause };
        if path.is_dir() {
            let cause =
                std::io::Error::other("found a folder; expected a file (or a path that ends with /, for many files)");
            return Err(fail("cannot be created", cause));
        }
        // The target of a symbolic link is replaced, not the link. A device or a pipe cannot be replaced by a file.
        let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let cause = std::io::Error::other("found a device or a pipe; expected a file, or - for standard output");
            return Err(fail("cannot be created", cause));
        }
        if let Some(missing) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            let cause = std::io::Error::other(format!("no such folder: {}", missing.display()));
            return Err(fail("cannot be created", cause));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".tmp")
            // As for any new file, the umask removes permissions from these.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder(path));
        let temporary = temporary.map_err(|cause| fail("cannot be created", cause))?;
        Ok(WholeFile { path: path.to_path_buf(), writer: BufWriter::with_capacity(BUFFER_BYTES, temporary) })
    }

    /// The final path, with symbolic links resolved.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `write` with the file.
    ///
    /// # Errors
    /// That of `write`, with the path of this file.
    pub(crate) fn write_with(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), SinkError> {
        write(&mut self.writer).map_err(|cause| self.fail("cannot be written", cause))
    }

    /// Syncs the file and gives it its final name, replacing an existing file. Returns the size in bytes.
    ///
    /// # Errors
    /// If the file cannot be written, synced or renamed.
    pub(crate) fn finish(self) -> Result<u64, SinkError> {
        self.finish_by(NamedTempFile::persist, "cannot be renamed into place")
    }

    /// As [`finish`](WholeFile::finish), but never replaces an existing file.
    ///
    /// # Errors
    /// Also if a file of that name exists.
    pub(crate) fn finish_new(self) -> Result<u64, SinkError> {
        self.finish_by(NamedTempFile::persist_noclobber, "cannot be given its name")
    }

    fn finish_by(
        mut self,
        persist: impl FnOnce(NamedTempFile, PathBuf) -> Result<File, PersistError>,
        failed: &'static str,
    ) -> Result<u64, SinkError> {
        if let Err(cause) = self.writer.flush() {
            return Err(self.fail("cannot be written", cause));
        }
        let path = self.path;
        let fail = |action, cause| SinkError::Io { path: path.clone(), action, cause };
        let temporary = self.writer.into_inner().map_err(|error| fail("cannot be written", error.into_error()))?;
        temporary.as_file().sync_all().map_err(|cause| fail("cannot be synced", cause))?;
        let file = persist(temporary, path.clone()).map_err(|error| fail(failed, error.error))?;
        // Without a sync of the folder, a power failure can lose the name of the file, though its bytes are stored.
        File::open(folder(&path))
            .and_then(|folder| folder.sync_all())
            .map_err(|cause| fail("cannot be synced", cause))?;
        Ok(file.metadata().map_err(|cause| fail("cannot be read", cause))?.len())
    }

    fn fail(&self, action: &'static str, cause: std::io::Error) -> SinkError {
        SinkError::Io { path: self.path.clone(), action, cause }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
