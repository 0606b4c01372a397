//! Resolves the paths in `source.files.paths` to the list of inputs.
//!
//! In: the configuration. Out: the inputs, in the order of the paths. The files of a folder or a glob are sorted by the
//! bytes of their paths, so the order is the same on every machine. A file that several paths lead to is read once,
//! where it comes first. Hidden files and folders are skipped unless they are named. Fails, before any data moves, if a
//! path leads to nothing or a file cannot be opened: every file's first bytes are read here.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use walkdir::{DirEntry, WalkDir};

use super::config::FilesConfig;
use super::format::Format;
use super::sniff::{self, NamedFormat};
use super::stream::{Compression, Stream};
use crate::source::SourceError;

/// One file, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub path: PathBuf,
    /// The path as the user gave it, extended by what a folder or a glob matched; shown in positions and errors.
    pub shown: String,
    pub kind: InputKind,
}

/// The kind of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// A file on disk.
    File {
        /// Its size on disk (compressed).
        bytes: u64,
        format: Format,
        compression: Compression,
    },
    /// An input that can be read only once and has no size, such as a named pipe.
    Pipe,
    Stdin,
}

impl Input {
    /// Opens the input at its start.
    ///
    /// # Errors
    /// If it cannot be opened or read, or has an unsupported compression.
    pub fn stream(&self) -> io::Result<Stream> {
        match self.kind {
            InputKind::Stdin => Stream::new(Box::new(io::stdin()), true),
            InputKind::Pipe => Stream::new(Box::new(File::open(&self.path)?), true),
            InputKind::File { .. } => Stream::new(Box::new(File::open(&self.path)?), false),
        }
    }

    /// The input's format. For a pipe or standard input it is detected by the first bytes of `stream`.
    pub fn format(&self, config: &FilesConfig, stream: &mut Stream) -> Format {
        match (config.format, self.kind) {
            (Format::Auto, InputKind::File { format, .. }) => format,
            (Format::Auto, _) => sniff::detect(sniff::by_name(&self.path), stream.peek(sniff::HEAD_BYTES)),
            (format, _) => format,
        }
    }
}

/// All inputs, in the order in which they are read.
///
/// # Errors
/// If a setting is wrong, a path leads to nothing, or a file cannot be read or has an unsupported compression.
pub(crate) fn expand(config: &FilesConfig) -> Result<Vec<Input>, SourceError> {
    config
        .check()
        .map_err(|(key, message)| SourceError::Inputs { message: format!("source.files.{key}: {message}") })?;
    let mut inputs = Vec::new();
    let mut seen = HashSet::new();
    for argument in &config.paths {
        for path in paths(argument, config.format)? {
            // Two names of one file are the same file. A path that cannot be resolved fails when it is opened.
            let identity = if argument == "-" { path.clone() } else { fs::canonicalize(&path).unwrap_or(path.clone()) };
            if seen.insert(identity) {
                inputs.push(inspect(path, config.format)?);
            } else {
                tracing::warn!(path = %path.display(), "input given more than once; reading it once");
            }
        }
    }
    Ok(inputs)
}

/// The files that an entry of `source.files.paths` stands for.
fn paths(argument: &str, format: Format) -> Result<Vec<PathBuf>, SourceError> {
    let path = Path::new(argument);
    if argument == "-" {
        return Ok(vec![path.into()]);
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => folder(path, format),
        Ok(_) => Ok(vec![path.into()]),
        // A file may be called `a[1].txt`, so the name of an existing file is never read as a pattern.
        Err(error) if error.kind() == io::ErrorKind::NotFound && argument.contains(['*', '?', '[']) => {
            globbed(argument)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let problem = if path.is_symlink() { "broken symbolic link" } else { "no such file or folder" };
            let hint = if path.is_absolute() {
                ""
            } else {
                " (relative paths begin in the folder where embedmill is started)"
            };
            Err(SourceError::Inputs { message: format!("{argument}: {problem}{hint}") })
        }
        Err(cause) => Err(SourceError::Io { path: argument.into(), cause }),
    }
}

/// The files in a folder and in the folders inside it.
fn folder(folder: &Path, format: Format) -> Result<Vec<PathBuf>, SourceError> {
    let mut found = files_below(folder, usize::MAX, false)?;
    let all = found.len();
    if format == Format::Auto {
        found.retain(|path| sniff::by_name(path) != NamedFormat::Unknown);
    }
    let (skipped, shown) = (all - found.len(), folder.display());
    if found.is_empty() {
        let message = match skipped {
            0 => format!("{shown}: the folder contains no files (hidden files do not count)"),
            _ => format!(
                "{shown}: none of the folder's {skipped} files has a known extension; expected .jsonl, .txt, .md, .csv, \
                 .parquet, .arrow or others (or set source.files.format)"
            ),
        };
        return Err(SourceError::Inputs { message });
    }
    if skipped > 0 {
        tracing::warn!(
            folder = %shown,
            files = skipped,
            "skipping files with unknown extensions; to read them too, set source.files.format"
        );
    }
    Ok(found)
}

/// The files that a pattern matches. Symbolic links are followed as in folders; the glob crate by itself would follow
/// loops of links.
fn globbed(argument: &str) -> Result<Vec<PathBuf>, SourceError> {
    let error = |message: String| SourceError::Inputs { message: format!("{argument}: {message}") };
    let pattern = Pattern::new(argument.strip_prefix("./").unwrap_or(argument))
        .map_err(|cause| error(format!("invalid pattern: {cause}")))?;
    // Everything before the first part with a wildcard is a folder.
    let parts: Vec<&str> = argument.split('/').collect();
    let fixed = parts.iter().take_while(|part| !part.contains(['*', '?', '['])).count();
    let base = match parts[..fixed].join("/") {
        root if root.is_empty() && argument.starts_with('/') => "/".to_string(),
        here if here.is_empty() => ".".to_string(),
        folder => folder,
    };
    let depth = if argument.contains("**") { usize::MAX } else { parts.len() - fixed };
    let hidden = parts[fixed..].iter().any(|part| part.starts_with('.'));
    let found = match fs::metadata(&base) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Err(error(format!("no file matches: no such folder: {base}")));
        }
        Err(cause) => return Err(SourceError::Io { path: base, cause }),
        Ok(_) => files_below(Path::new(&base), depth, hidden)?,
    };
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let as_written = |path: PathBuf| match path.strip_prefix("./") {
        Ok(inside) if !argument.starts_with("./") => inside.to_path_buf(),
        _ => path,
    };
    let matching = |path: &PathBuf| pattern.matches_path_with(path.strip_prefix("./").unwrap_or(path), options);
    let found: Vec<PathBuf> = found.into_iter().filter(matching).map(as_written).collect();
    if found.is_empty() {
        let hint = if argument.contains('{') {
            " (braces are not expanded: list the patterns one by one)"
        } else if !argument.contains("**") {
            " (`**` matches folders at any depth)"
        } else {
            ""
        };
        return Err(error(format!("no file matches{hint}")));
    }
    Ok(found)
}

/// The files below a folder, sorted by path. A symbolic link to a folder above itself is skipped, since that folder is
/// being read already.
fn files_below(folder: &Path, depth: usize, hidden: bool) -> Result<Vec<PathBuf>, SourceError> {
    let wanted =
        |entry: &DirEntry| hidden || entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).max_depth(depth).into_iter().filter_entry(wanted) {
        match entry {
            Ok(entry) if entry.file_type().is_file() => found.push(entry.into_path()),
            Ok(_) => {}
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).display().to_string();
                let is_link = error.path().is_some_and(Path::is_symlink);
                return Err(match error.into_io_error() {
                    Some(cause) if cause.kind() == io::ErrorKind::NotFound && is_link => {
                        SourceError::Inputs { message: format!("{path}: broken symbolic link (remove it)") }
                    }
                    Some(cause) => SourceError::Io { path, cause },
                    None => SourceError::Inputs { message: format!("{path}: cannot be listed") },
                });
            }
        }
    }
    found.sort_unstable_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(found)
}

/// Opens a file and detects its compression and format.
fn inspect(path: PathBuf, format: Format) -> Result<Input, SourceError> {
    let shown = path.display().to_string();
    if shown == "-" {
        return Ok(Input { path, shown, kind: InputKind::Stdin });
    }
    let io = |cause: io::Error| SourceError::Io { path: shown.clone(), cause };
    let metadata = fs::metadata(&path).map_err(io)?;
    if !metadata.is_file() {
        // Opening a pipe would wait for its writer, and closing it would end it.
        return Ok(Input { path, shown, kind: InputKind::Pipe });
    }
    let file = File::open(&path).map_err(io)?;
    let mut stream = Stream::new(Box::new(file), false).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => SourceError::Format { path: shown.clone(), message: error.to_string() },
        _ => io(error),
    })?;
    let format = match format {
        Format::Auto => {
            let named = sniff::by_name(&path);
            let enough = if matches!(named, NamedFormat::Known(_)) { 8 } else { sniff::HEAD_BYTES };
            sniff::detect(named, stream.peek(enough))
        }
        format => format,
    };
    let kind = InputKind::File { bytes: metadata.len(), format, compression: stream.compression() };
    Ok(Input { path, shown, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, each holding a line.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("it can be made");
            fs::write(path, "line\n").expect("it can be written");
        }
        root
    }

    fn expanded(root: &Path, paths: &[&str], format: Format) -> Result<Vec<String>, String> {
        let full = |path: &&str| if *path == "-" { "-".into() } else { format!("{}/{path}", root.display()) };
        let config = FilesConfig { paths: paths.iter().map(full).collect(), format, ..Default::default() };
        let prefix = format!("{}/", root.display());
        let inputs = expand(&config).map_err(|error| error.to_string().replace(&prefix, ""))?;
        Ok(inputs.into_iter().map(|input| input.shown.replace(&prefix, "")).collect())
    }

    #[test]
    fn arguments_in_order_and_what_they_hold_by_path() {
        let root =
            tree(&["b.txt", "a.txt", "c/z.jsonl", "c/d/y.txt", "c/.hid/x.txt", "c/.x.txt", "c/w.bin", "e[1].txt"]);
        let check = |paths: &[&str], format: Format, expected: &[&str]| {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(expanded(root.path(), paths, format), Ok(expected), "{paths:?}");
        };
        check(&["b.txt", "-", "a.txt"], Format::Auto, &["b.txt", "-", "a.txt"]);
        check(&["b.txt", "*.txt"], Format::Auto, &["b.txt", "a.txt", "e[1].txt"]);
        check(&["a.txt", "c/../a.txt"], Format::Auto, &["a.txt"]);
        check(&["c"], Format::Auto, &["c/d/y.txt", "c/z.jsonl"]);
        check(&["c"], Format::Text, &["c/d/y.txt", "c/w.bin", "c/z.jsonl"]);
        check(&["**/*.txt"], Format::Auto, &["a.txt", "b.txt", "c/d/y.txt", "e[1].txt"]);
        check(&["*/*"], Format::Auto, &["c/w.bin", "c/z.jsonl"]);
        check(&["c/.hid/*.txt"], Format::Auto, &["c/.hid/x.txt"]);
        check(&["c/.*.txt"], Format::Auto, &["c/.x.txt"]);
        check(&["e[1].txt"], Format::Auto, &["e[1].txt"]);
        check(&["[ab].txt"], Format::Auto, &["a.txt", "b.txt"]);
    }

    #[test]
    fn what_leads_to_nothing_is_named() {
        let root = tree(&["a.bin", "empty/.hidden", "odd/a.bin"]);
        let check = |path: &str, expected: &str| {
            let error = expanded(root.path(), &[path], Format::Auto).expect_err(path);
            assert!(error.contains(expected), "{error}");
        };
        check("none.txt", "none.txt: no such file or folder");
        check("*.txt", "*.txt: no file matches (`**` matches folders at any depth)");
        check("{a,b}*", "{a,b}*: no file matches (braces are not expanded");
        check("no/*.txt", "no file matches: no such folder: ");
        check("empty", "empty: the folder contains no files (hidden files do not count)");
        check("odd", "odd: none of the folder's 1 files has a known extension");
        check("a***b", "invalid pattern");
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_round_no_loop_and_name_no_file_twice() {
        use std::os::unix::fs::symlink;
        let root = tree(&["d/a.txt"]);
        symlink(root.path(), root.path().join("d/up")).expect("a link");
        symlink(root.path().join("d/a.txt"), root.path().join("d/b.txt")).expect("a link");
        assert_eq!(expanded(root.path(), &["d"], Format::Auto).as_deref(), Ok(&["d/a.txt".to_string()][..]));
        symlink("nowhere", root.path().join("d/c.txt")).expect("a link");
        let error = expanded(root.path(), &["d"], Format::Auto).expect_err("a dangling link");
        assert!(error.ends_with("d/c.txt: broken symbolic link (remove it)"), "{error}");
    }

    #[test]
    fn an_unsupported_compression_is_refused_before_data_moves() {
        let root = tree(&[]);
        fs::write(root.path().join("a.jsonl.xz"), b"\xfd7zXZ\0abcdef").expect("it can be written");
        let error = expanded(root.path(), &["a.jsonl.xz"], Format::Auto).expect_err("xz");
        assert!(error.starts_with("a.jsonl.xz: found xz-compressed data; expected gzip"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_permission_is_refused_before_data_moves() {
        use std::os::unix::fs::PermissionsExt;
        let root = tree(&["a.txt"]);
        let path = root.path().join("a.txt");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("its owner may");
        if File::open(&path).is_ok() {
            eprintln!("skipped: this user (root?) may read every file");
            return;
        }
        let error = expanded(root.path(), &["a.txt"], Format::Auto).expect_err("no permission");
        assert!(error.starts_with("a.txt: cannot be read: "), "{error}");
    }
}
