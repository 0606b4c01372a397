//! A file that appears whole or not at all: written under a temporary name in its folder, synced, renamed.
//!
//! Dropping it unfinished removes the temporary file; only a kill leaves one behind, under a hidden name that ends in
//! `.tmp`, which nothing reads and which can be deleted.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, PersistError};

use super::SinkError;

/// Large enough that a batch of vectors takes few system calls.
const BUFFER_BYTES: usize = 256 * 1024;

/// Makes a folder if need be, and sees that files can be begun in it.
pub fn prepare_folder(folder: &Path) -> Result<(), SinkError> {
    let fail = |cause| SinkError::Io { path: folder.to_path_buf(), action: "cannot be created", cause };
    std::fs::create_dir_all(folder).map_err(fail)?;
    WholeFile::create(&folder.join("probe")).map(drop)
}

#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    writer: BufWriter<NamedTempFile>,
}

impl WholeFile {
    /// # Errors
    /// If the folder is not there or may not be written, or `path` is a folder.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        let fail = |action, cause| SinkError::Io { path: path.to_path_buf(), action, cause };
        if path.is_dir() {
            let cause =
                std::io::Error::other("it is a folder; give a file's name, or end the path with / for many files");
            return Err(fail("cannot be created", cause));
        }
        // What the name leads to is replaced, not the link. A device or a pipe is neither replaced nor a file.
        let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let cause = std::io::Error::other("it is a device or a pipe; expected a file, or - for standard output");
            return Err(fail("cannot be created", cause));
        }
        if let Some(missing) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            let cause = std::io::Error::other(format!("there is no folder {}", missing.display()));
            return Err(fail("cannot be created", cause));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".tmp")
            // The umask takes away from this what the user wants taken away, as with any other new file.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder(path));
        let temporary = temporary.map_err(|cause| fail("cannot be created", cause))?;
        Ok(WholeFile { path: path.to_path_buf(), writer: BufWriter::with_capacity(BUFFER_BYTES, temporary) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets `write` write, and gives its error this file's name.
    pub fn write_with(&mut self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), SinkError> {
        write(&mut self.writer).map_err(|cause| self.fail("cannot be written", cause))
    }

    /// Syncs and renames; returns the size in bytes. A file of that name is replaced.
    pub fn finish(self) -> Result<u64, SinkError> {
        self.finish_by(NamedTempFile::persist, "cannot be renamed into place")
    }

    /// The same, but a file of that name stays, and is an error.
    pub fn finish_new(self) -> Result<u64, SinkError> {
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
        // Without this the name itself can be lost with the power, though the bytes are there.
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
