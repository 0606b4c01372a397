//! Flags shared by several commands, and the keys of the pipeline file that they set.

use std::path::PathBuf;

use crate::config::{Config, DeadLetterConfig};
use crate::model::{Backend, DenseChoice, ModelConfig, Pooling, Precision};
use crate::source::file::{FilesConfig, Format};
use crate::text::field::{KeepConfig, KeepField, OneOrMany, RecordConfig};
use clap::Args;

/// The model, and settings that override those of its files.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Model id on the Hugging Face hub, or path of a model folder
    #[arg(short, long, value_name = "MODEL", help_heading = "Model")]
    model: Option<String>,
    /// Branch, tag or commit of the model on the hub
    #[arg(long, default_value = "main", help_heading = "Model")]
    revision: String,
    /// torch, or hash for vectors without a model, to try things out
    #[arg(long, default_value = "torch", help_heading = "Model")]
    backend: Backend,
    /// TorchScript file or AOTInductor package (.pt2) that replaces the model's transformer. Loading it runs the code in it:
    /// use only files that you trust
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    script: Option<PathBuf>,
    /// Pooling: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or several such as cls+mean [default: from the
    /// model's files]
    #[arg(long, help_heading = "Model")]
    pooling: Option<Pooling>,
    /// Skip the model's Dense modules
    #[arg(long, help_heading = "Model")]
    no_dense: bool,
    /// Normalize vectors to length 1 [default: from the model's files]
    #[arg(long, overrides_with = "no_normalize", help_heading = "Model")]
    normalize: bool,
    /// Do not normalize vectors [default: from the model's files]
    #[arg(long, help_heading = "Model")]
    no_normalize: bool,
    /// Truncate vectors to this number of dimensions [default: from the model's files]
    #[arg(long, value_name = "DIMS", help_heading = "Model")]
    truncate_dim: Option<usize>,
    /// Prompt to prepend to every text [default: from the model's files]
    #[arg(long, value_name = "TEXT", help_heading = "Model")]
    prompt: Option<String>,
    /// Name of a prompt defined in the model's files
    #[arg(long, value_name = "NAME", conflicts_with = "prompt", help_heading = "Model")]
    prompt_name: Option<String>,
    /// Whether the tokens of the prompt are included in the pooling [default: from the model's files]
    #[arg(long, value_name = "true|false", help_heading = "Model")]
    include_prompt: Option<bool>,
    /// Route through a model with a Router module, such as query or document [default: from the model's files]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    route: Option<String>,
    /// Maximum sequence length in tokens, including special tokens [default: from the model's files]
    #[arg(long, value_name = "TOKENS", help_heading = "Model")]
    max_seq_length: Option<usize>,
    /// Data type of the model's computations: float32, bfloat16, or on GPUs float16
    #[arg(long, default_value = "float32", help_heading = "Model")]
    precision: Precision,
    /// Folder for downloaded models [default: the cache of the Hugging Face tools]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    cache: Option<PathBuf>,
    /// Never use the network
    #[arg(long, help_heading = "Model")]
    offline: bool,
}

/// Devices, and the limits of batches and windows.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Devices with one worker each: auto, or a list such as cuda:0,cuda:1 or cpu,cpu (cpu may be repeated)
    #[arg(short, long, value_delimiter = ',', default_value = "auto", help_heading = "Devices and batches")]
    device: Vec<String>,
    /// Threads of each CPU worker [default: the cores divided by the number of CPU workers]
    #[arg(long, value_name = "THREADS", help_heading = "Devices and batches")]
    threads: Option<usize>,
    /// Maximum number of tokens per micro-batch; a longer text is a batch by itself
    #[arg(long, value_name = "TOKENS", help_heading = "Devices and batches")]
    batch_tokens: Option<usize>,
    /// Maximum number of tokens per window, in which texts are sorted by length and delivered together
    #[arg(long, value_name = "TOKENS", help_heading = "Devices and batches")]
    window_tokens: Option<usize>,
}

/// The input, and the fields of its records.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Files, folders, quoted globs, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Input format: auto, jsonl, json, text (one record per line), document (one record per file), csv, tsv, parquet, arrow
    #[arg(short, long, default_value = "auto", value_parser = format, help_heading = "Records")]
    format: Format,
    /// Field with the id: a name, or a JSON pointer such as /meta/id [default: path:line as the id]
    #[arg(long, value_name = "FIELD", help_heading = "Records")]
    id: Option<String>,
    /// Field with the text; several fields separated by commas are joined
    #[arg(long, value_name = "FIELD", value_delimiter = ',', default_value = "text", help_heading = "Records")]
    text: Vec<String>,
    /// Separator between joined texts [default: a line break]
    #[arg(long, value_name = "TEXT", help_heading = "Records")]
    join: Option<String>,
    /// Template that makes the text from fields, such as '{{ title }}: {{ body }}'
    #[arg(long, conflicts_with = "text", help_heading = "Records")]
    template: Option<String>,
    /// Fields to keep as output columns, such as lang,views:int64; without a type it is inferred from the first records
    #[arg(long, value_name = "FIELD", value_delimiter = ',', help_heading = "Records")]
    keep: Vec<String>,
    /// Write records that cannot be embedded to this file, as JSON lines, and continue
    #[arg(long, value_name = "FILE", help_heading = "Records")]
    dead_letter: Option<PathBuf>,
}

/// The configuration that these flags describe. The sink is left for the caller.
pub(crate) fn config(model: ModelArgs, work: WorkArgs, records: RecordArgs) -> Config {
    let mut config = Config {
        model: ModelConfig {
            id: model.model,
            revision: model.revision,
            backend: model.backend,
            script: model.script,
            pooling: model.pooling,
            dense: model.no_dense.then_some(DenseChoice::None),
            normalize: match (model.normalize, model.no_normalize) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            truncate_dim: model.truncate_dim,
            prompt: model.prompt,
            prompt_name: model.prompt_name,
            include_prompt: model.include_prompt,
            route: model.route,
            max_seq_length: model.max_seq_length,
            precision: model.precision,
            cache: model.cache,
            offline: model.offline,
            threads: work.threads,
            ..Default::default()
        },
        devices: work.device,
        record: RecordConfig {
            id: records.id,
            text: OneOrMany::Many(records.text),
            template: records.template,
            keep: records.keep.iter().map(|text| keep(text)).collect(),
            ..Default::default()
        },
        dead_letter: records.dead_letter.map(|path| DeadLetterConfig { path: Some(path), topic: None }),
        ..Default::default()
    };
    config.source.files = Some(FilesConfig { paths: records.inputs, format: records.format, ..Default::default() });
    config.record.join = records.join.unwrap_or(config.record.join);
    config.batch.tokens = work.batch_tokens.unwrap_or(config.batch.tokens);
    config.window.tokens = work.window_tokens.unwrap_or(config.window.tokens);
    config
}

/// Keys of the pipeline file, and the flags that set them.
const FLAGS: [(&str, &str); 32] = [
    ("model.id", "--model"),
    ("model.revision", "--revision"),
    ("model.backend", "--backend"),
    ("model.script", "--script"),
    ("model.pooling", "--pooling"),
    ("model.dense", "--no-dense"),
    ("model.normalize", "--normalize"),
    ("model.truncate_dim", "--truncate-dim"),
    ("model.prompt", "--prompt"),
    ("model.prompt_name", "--prompt-name"),
    ("model.include_prompt", "--include-prompt"),
    ("model.route", "--route"),
    ("model.max_seq_length", "--max-seq-length"),
    ("model.precision", "--precision"),
    ("model.threads", "--threads"),
    ("model.cache", "--cache"),
    ("model.offline", "--offline"),
    ("output.precision", "--output-precision"),
    ("output.value", "--output-value"),
    ("output.ranges", "--ranges"),
    ("batch.tokens", "--batch-tokens"),
    ("window.tokens", "--window-tokens"),
    ("record.id", "--id"),
    ("record.text", "--text"),
    ("record.join", "--join"),
    ("record.template", "--template"),
    ("record.keep", "--keep"),
    ("source.files.format", "--format"),
    ("dead_letter.path", "--dead-letter"),
    ("sink.arrow.path", "--output"),
    ("sink.parquet.path", "--output"),
    ("sink.ranges.path", "--output"),
];

/// Replaces keys of the pipeline file by flags in an error message, for commands whose user wrote flags.
pub(crate) fn in_flags(message: &str) -> String {
    let message = match message.strip_prefix("devices:") {
        Some(rest) => format!("--device:{rest}"),
        None => message.to_owned(),
    };
    FLAGS.iter().fold(message, |text, (key, flag)| with_flag(&text, key, flag))
}

/// Replaces `key` by `flag` unless it is part of a longer key or of a path.
fn with_flag(text: &str, key: &str, flag: &str) -> String {
    let continues = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    let mut parts = text.split(key);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for after in parts {
        let begins = !replaced.ends_with(|c: char| continues(c) || c == '.');
        let mut next = after.chars();
        let ends = match next.next() {
            Some('.') => !next.next().is_some_and(char::is_alphanumeric),
            Some(c) => !continues(c),
            None => true,
        };
        replaced.push_str(if begins && ends { flag } else { key });
        replaced.push_str(after);
    }
    replaced
}

/// Parses a format by its name in the pipeline file.
fn format(name: &str) -> Result<Format, serde::de::value::Error> {
    use serde::Deserialize;
    use serde::de::IntoDeserializer;
    Format::deserialize(name.into_deserializer())
}

/// Parses `FIELD` or `FIELD:TYPE`.
fn keep(text: &str) -> KeepConfig {
    match text.split_once(':') {
        None => KeepConfig::Name(text.into()),
        Some((field, data_type)) => {
            KeepConfig::Full(KeepField { field: field.into(), column: None, data_type: Some(data_type.into()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_flags_instead_of_keys() {
        let check = |message: &str, expected: &str| assert_eq!(in_flags(message), expected);
        check("model.prompt: too long", "--prompt: too long");
        check("model.prompt_name: no such", "--prompt-name: no such");
        check("raise it, or lower model.max_seq_length.", "raise it, or lower --max-seq-length.");
        check("model.id.x and my.model.id and /a/model.id/b", "model.id.x and my.model.id and /a/model.id/b");
        check("devices: no GPU; other devices", "--device: no GPU; other devices");
        check("output.ranges, output.precision", "--ranges, --output-precision");
    }
}
