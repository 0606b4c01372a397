//! `test`: runs test cases of pipeline files and prints the differences.

use std::path::{Path, PathBuf};

use crate::pipeline_test::compare::{Difference, differences};
use crate::pipeline_test::file::{Case, ENDINGS, TestFile};
use crate::pipeline_test::run;
use anyhow::Context;
use clap::Args;
use clap::builder::styling::{AnsiColor, Style};
use tokio::runtime::Runtime;

use super::terminal::{print_styled, usage};

#[derive(Debug, Args)]
#[command(after_help = "\
Example, the file search.test.yaml beside search.yaml:
  cases:
    - name: title and body are one text
      records:
        - { id: a, title: Hello, body: world, lang: en }
        - { id: b, title: No body }
      expect:
        rows:
          - { id: a, text: \"Hello\\nworld\", lang: en }
        columns: { lang: Utf8 }
        dims: 384
        dead_letters:
          - { record: 2, stage: extract, cause: \"field `body`: missing\" }

  embedmill test search.yaml

Nothing outside the process is used: records come from the test file, the hash encoder replaces the model, and no broker is \
contacted. The folder pipelines/ has an example for each kind of source.")]
pub(crate) struct TestArgs {
    /// Test files, pipeline files with a test file beside them, or folders of test files
    #[arg(value_name = "PATH", default_value = "pipelines/")]
    paths: Vec<PathBuf>,
}

const PASSED: Style = AnsiColor::Green.on_default();
const FAILED: Style = AnsiColor::Red.on_default().bold();

/// Runs all cases of all test files.
pub(crate) fn test(args: TestArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    // Mistakes in any file are reported before the first case runs.
    let files: Vec<(PathBuf, TestFile)> = test_files(&args.paths)?
        .into_iter()
        .map(|path| TestFile::read(&path).map(|file| (path, file)))
        .collect::<Result<_, _>>()?;
    let (mut passed, mut failed, mut invalid) = (0, 0, 0);
    for (path, file) in files {
        print_styled(format_args!("{}", path.display()))?;
        for (index, case) in file.cases().iter().enumerate() {
            let name = &case.name;
            match found(&runtime, &file, index, case).map(|found| differences(&case.expect, &found)) {
                Ok(differences) if differences.is_empty() => {
                    passed += 1;
                    print_styled(format_args!("  {PASSED}ok{PASSED:#}      {name}"))?;
                }
                Ok(differences) => {
                    failed += 1;
                    print_styled(format_args!("  {FAILED}FAILED{FAILED:#}  {name}"))?;
                    differences.iter().try_for_each(show)?;
                }
                // The other cases run all the same.
                Err(error) => {
                    invalid += 1;
                    print_styled(format_args!("  {FAILED}INVALID{FAILED:#} {name}"))?;
                    anstream::eprintln!("{}: `{name}`: {error:#}", path.display());
                }
            }
        }
    }
    let count = passed + failed + invalid;
    if invalid > 0 {
        print_styled(format_args!("{passed} passed, {failed} failed, {invalid} invalid"))?;
        return Err(usage(format!("{invalid} of {count} cases are invalid")));
    }
    print_styled(format_args!("{passed} passed, {failed} failed"))?;
    if failed > 0 {
        anyhow::bail!("{failed} of {count} cases failed");
    }
    Ok(())
}

/// Runs the records of a case through its pipeline.
fn found(runtime: &Runtime, file: &TestFile, index: usize, case: &Case) -> anyhow::Result<run::CaseResult> {
    let plan = file.plan(case)?;
    let found = runtime.block_on(run::run(plan, &case.records));
    Ok(found.map_err(|error| {
        let parts = [format!("cases.{index}"), error.key];
        let key = parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>();
        file.error(&key.join("."), error.message)
    })?)
}

/// Prints a difference on three lines.
fn show(Difference { subject, expected, found }: &Difference) -> anyhow::Result<()> {
    print_styled(format_args!("            {subject}"))?;
    print_styled(format_args!("              expected  {PASSED}{expected}{PASSED:#}"))?;
    print_styled(format_args!("              found     {FAILED}{found}{FAILED:#}"))
}

/// The test files that `paths` name, sorted by name within each folder.
fn test_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
                let entry = entry.map_err(|error| usage(error.to_string()))?;
                if entry.file_type().is_file() && is_test(entry.path()) {
                    files.push(entry.into_path());
                }
            }
            if files.len() == before {
                return Err(usage(format!(
                    "{}: no test files; expected NAME.test.yaml beside a pipeline file NAME.yaml",
                    path.display()
                )));
            }
        } else if is_test(path) || !path.exists() {
            files.push(path.clone());
        } else {
            let beside = ENDINGS.map(|ending| path.with_extension(ending.trim_start_matches('.')));
            let found = beside.iter().find(|beside| beside.exists());
            files.push(found.cloned().ok_or_else(|| {
                usage(format!("{}: no tests; expected them in {}", path.display(), beside[0].display()))
            })?);
        }
    }
    Ok(files)
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}
