//! Flags that several commands have, and the sections of the pipeline file that they set.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::DeadLetterConfig;
use crate::model::{Backend, DenseChoice, ModelConfig, Pooling, Precision};
use crate::source::file::{FilesConfig, Format};
use crate::text::field::{KeepConfig, KeepField, OneOrMany, RecordConfig};
use clap::Args;

/// Which model, and what of it is set otherwise.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A model id on the Hugging Face hub, or the path of a model folder
    #[arg(short, long, value_name = "MODEL", help_heading = "Model")]
    model: Option<String>,
    /// Branch, tag or commit of a model id
    #[arg(long, default_value = "main", help_heading = "Model")]
    revision: String,
    /// torch, or hash: no model, for trying things out
    #[arg(long, default_value = "torch", help_heading = "Model")]
    backend: Backend,
    /// A TorchScript file or AOTInductor package (.pt2) in place of the model's transformer; it runs the code in it, so only
    /// one that you trust
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    script: Option<PathBuf>,
    /// cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or several as in cls+mean [default: the model's own]
    #[arg(long, help_heading = "Model")]
    pooling: Option<Pooling>,
    /// Leave the model's Dense modules out
    #[arg(long, help_heading = "Model")]
    no_dense: bool,
    /// Scale vectors to length 1 [default: the model's own]
    #[arg(long, overrides_with = "no_normalize", help_heading = "Model")]
    normalize: bool,
    /// Leave vectors as they are [default: the model's own]
    #[arg(long, help_heading = "Model")]
    no_normalize: bool,
    /// Keep only the first values of each vector [default: the model's own]
    #[arg(long, value_name = "VALUES", help_heading = "Model")]
    truncate_dim: Option<usize>,
    /// Text to put before every text [default: the model's own]
    #[arg(long, value_name = "TEXT", help_heading = "Model")]
    prompt: Option<String>,
    /// The name of one of the model's own prompts
    #[arg(long, value_name = "NAME", conflicts_with = "prompt", help_heading = "Model")]
    prompt_name: Option<String>,
    /// Whether a prompt's tokens count in the pooling [default: the model's own]
    #[arg(long, value_name = "true|false", help_heading = "Model")]
    include_prompt: Option<bool>,
    /// The way through a model with a Router, such as query or document [default: the model's own]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    route: Option<String>,
    /// Most tokens of a text, special tokens included [default: the model's own]
    #[arg(long, value_name = "TOKENS", help_heading = "Model")]
    max_seq_length: Option<usize>,
    /// What the model computes in: float32, bfloat16, or on GPUs float16
    #[arg(long, default_value = "float32", help_heading = "Model")]
    precision: Precision,
    /// Where downloaded models are kept [default: the cache of the Hugging Face tools]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    cache: Option<PathBuf>,
    /// Never use the network
    #[arg(long, help_heading = "Model")]
    offline: bool,
}

/// What the work is done on.
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// Devices, one worker each: cpu, cuda:0, …, or auto; cpu may be listed several times
    #[arg(short, long, value_delimiter = ',', default_value = "auto", help_heading = "Work")]
    device: Vec<String>,
    /// Threads of each CPU worker [default: the cores, shared among the CPU workers]
    #[arg(long, help_heading = "Work")]
    threads: Option<usize>,
    /// Most tokens that go through the model at once; a longer text goes alone
    #[arg(long, value_name = "TOKENS", help_heading = "Work")]
    batch_tokens: Option<usize>,
    /// Most tokens that are sorted and delivered together
    #[arg(long, value_name = "TOKENS", help_heading = "Work")]
    window_tokens: Option<usize>,
}

/// Where records come from and what is their text.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Files, folders, globs in quotes, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// jsonl, json, text (a line a record), document (a file a record), csv, tsv, parquet, arrow, or auto
    #[arg(short, long, default_value = "auto", value_parser = format, help_heading = "Records")]
    format: Format,
    /// The field that is the id: a name, or a JSON pointer such as /meta/id [default: path:line]
    #[arg(long, value_name = "FIELD", help_heading = "Records")]
    id: Option<String>,
    /// The field that is the text; of several, the texts are joined
    #[arg(long, value_name = "FIELD", value_delimiter = ',', default_value = "text", help_heading = "Records")]
    text: Vec<String>,
    /// What stands between joined texts [default: a line break]
    #[arg(long, value_name = "TEXT", help_heading = "Records")]
    join: Option<String>,
    /// The text as a template over the fields, as in '{{ title }}: {{ body }}'
    #[arg(long, conflicts_with = "text", help_heading = "Records")]
    template: Option<String>,
    /// Fields that become columns; NAME:TYPE where the first records do not show the type
    #[arg(long, value_name = "FIELD", value_delimiter = ',', help_heading = "Records")]
    keep: Vec<String>,
    /// Write records that cannot be embedded to this file of JSON lines and go on
    #[arg(long, value_name = "FILE", help_heading = "Records")]
    dead_letter: Option<PathBuf>,
}

/// The configuration that these flags are.
pub fn config(model: ModelArgs, work: WorkArgs, records: RecordArgs) -> Config {
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

/// The keys of the pipeline file that flags set, and the flags.
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

/// A message with the flags in place of the keys that they set, since flags are what the user wrote.
pub fn in_flags(message: &str) -> String {
    let message = match message.strip_prefix("devices:") {
        Some(rest) => format!("--device:{rest}"),
        None => message.to_owned(),
    };
    FLAGS.iter().fold(message, |text, (key, flag)| with_flag(&text, key, flag))
}

/// The key is replaced where it is a word by itself, and no part of a longer key or of a path.
fn with_flag(text: &str, key: &str, flag: &str) -> String {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    let mut parts = text.split(key);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for after in parts {
        let begins = !replaced.ends_with(|c: char| goes_on(c) || c == '.');
        let mut next = after.chars();
        let ends = match next.next() {
            Some('.') => !next.next().is_some_and(char::is_alphanumeric),
            Some(c) => !goes_on(c),
            None => true,
        };
        replaced.push_str(if begins && ends { flag } else { key });
        replaced.push_str(after);
    }
    replaced
}

/// A format by the name that it has in the pipeline file.
fn format(name: &str) -> Result<Format, serde::de::value::Error> {
    use serde::Deserialize;
    use serde::de::IntoDeserializer;
    Format::deserialize(name.into_deserializer())
}

/// `FIELD` or `FIELD:TYPE`.
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
    fn errors_name_flags_where_flags_were_given() {
        let check = |message: &str, expected: &str| assert_eq!(in_flags(message), expected);
        check("model.prompt: too long", "--prompt: too long");
        check("model.prompt_name: no such", "--prompt-name: no such");
        check("raise it, or lower model.max_seq_length.", "raise it, or lower --max-seq-length.");
        check("model.id.x and my.model.id and /a/model.id/b", "model.id.x and my.model.id and /a/model.id/b");
        check("devices: no GPU; other devices", "--device: no GPU; other devices");
        check("output.ranges, output.precision", "--ranges, --output-precision");
    }
}
