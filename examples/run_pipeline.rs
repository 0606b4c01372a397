//! Runs a pipeline file from Rust: the same as `embedmill run`, with the summary as a value.
//!
//! ```sh
//! cargo run --release --example run_pipeline -- pipelines/files.yaml
//! ```
//!
//! Without an argument it embeds three lines with the hash backend, which needs neither libtorch nor a model, and reads the
//! vectors back.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use embedmill::{Config, OutputFile, Plan, Progress, Stop};

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(file) = std::env::args().nth(1) {
        let plan = Plan::new(&Config::read(&[file], &[])?)?;
        println!("{}", plan.explain(None));
        let summary = embedmill::run(plan, Stop::default(), Arc::new(Progress::default()))?;
        println!("{} rows in {:.1} s", summary.settled.rows, summary.elapsed.as_secs_f64());
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("embedmill-example-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let rows = run_in(&folder);
    std::fs::remove_dir_all(&folder)?;
    println!("{} rows", rows?);
    Ok(())
}

/// Embeds three lines into a file in the folder, and counts the vectors in it.
fn run_in(folder: &Path) -> Result<usize, Box<dyn Error>> {
    let (input, output) = (folder.join("notes.txt"), folder.join("vectors.arrow"));
    std::fs::write(&input, "a red car\nthe red car\nentropy\n")?;
    let config = Config::from_yaml(&format!(
        "source: {{ files: {{ paths: [{input:?}] }} }}\nmodel: {{ backend: hash }}\nsink: {{ arrow: {{ path: {output:?} }} }}\n"
    ))?;
    let summary = embedmill::run(Plan::new(&config)?, Stop::default(), Arc::new(Progress::default()))?;
    println!("{} texts, {} tokens", summary.settled.rows, summary.settled.tokens);

    let mut file = OutputFile::open(&output)?;
    let quantizer = file.quantizer(None)?;
    let mut rows = 0;
    while let Some(vectors) = file.next_vectors(&quantizer) {
        rows += vectors?.rows();
    }
    Ok(rows)
}
