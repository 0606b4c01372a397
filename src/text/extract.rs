//! Records in, blocks of rows out: id, text, kept columns and tokens of each record.
//!
//! Runs on any thread, on several at once. A record that lacks what is asked of it becomes a rejection with its cause;
//! nothing here fails the stream.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::field::{FieldPath, RecordPlan, TextPlan};
use super::pick::pick;
use crate::columnar::kept::{InvalidRows, KeptField, KeptSchema, Sample};
use crate::columnar::{Columns, Table};
use crate::columnar::{Strings, Tokens};
use crate::model::tokenizer::Tokenizer;
use crate::record::{Block, Body, Envelope, Payload, Position, Record, Records, Rejection, Stage};
use crate::source::file::arrow_batches;

/// Turns records into rows as the plan says.
pub struct Extractor {
    plan: RecordPlan,
    kept: KeptSchema,
    top_fields: Vec<String>,
    tokenizer: Arc<Tokenizer>,
    texts_kept: bool,
    /// Whether the sink can express that a record is deleted.
    deletes: bool,
}

/// What a message carries besides its value, as fields: `$key`, `$timestamp` (milliseconds since 1970) and `$headers`.
const ENVELOPE_FIELDS: [&str; 3] = ["$key", "$timestamp", "$headers"];

/// A row before its columns are built.
struct Draft<'a> {
    record: usize,
    id: Cow<'a, str>,
    text: Cow<'a, str>,
}

/// Where the kept columns of drafts come from.
enum KeptFrom<'a> {
    /// An object a draft.
    Json(Vec<Value>),
    /// A table, and which of its rows are the drafts.
    Table(&'a Table, Vec<usize>),
}

impl Extractor {
    pub fn new(plan: RecordPlan, kept: KeptSchema, tokenizer: Arc<Tokenizer>, texts_kept: bool) -> Self {
        let top_fields = plan.top_fields();
        Extractor { plan, kept, top_fields, tokenizer, texts_kept, deletes: false }
    }

    /// Null values travel on as deletes; otherwise they are rejected.
    pub fn with_deletes(self) -> Self {
        Extractor { deletes: true, ..self }
    }

    /// The rows of `records`.
    pub fn block(&self, records: Records) -> Block {
        let Records { partition, body, input_bytes_read, permit, times } = records;
        let position =
            |record: usize| Position { partition: partition.clone(), offset: body.offset(record) }.to_string();
        let mut rejected = Vec::new();
        let mut deletes = Vec::new();
        let rows = match &body {
            Body::Table { table, .. } => {
                let all: Vec<usize> = (0..table.rows()).collect();
                self.table_rows(table, &all, &position, &mut rejected)
            }
            Body::Batch(record) => self.batch_rows(record, &position, &mut rejected),
            Body::Each(each) => {
                let csv = csv_table(each, &self.top_fields, &mut rejected);
                match csv {
                    Some((table, records)) => self.table_rows(&table, &records, &position, &mut rejected),
                    None => self.each_rows(each, &position, &mut rejected, &mut deletes),
                }
            }
        };
        rejected.sort_by_key(|rejection| rejection.record);
        Block {
            partition,
            row_records: rows.row_records,
            ids: rows.ids,
            texts: self.texts_kept.then_some(rows.texts),
            hashes: rows.hashes,
            tokens: rows.tokens,
            kept: rows.kept,
            body,
            rejected,
            deletes,
            input_bytes_read,
            permit,
            times,
        }
    }

    fn each_rows(
        &self,
        each: &[Record],
        position: &dyn Fn(usize) -> String,
        rejected: &mut Vec<Rejection>,
        deletes: &mut Vec<usize>,
    ) -> Rows {
        let mut drafts = Vec::with_capacity(each.len());
        let mut kept = Vec::with_capacity(each.len());
        for (record, Record { payload, envelope, .. }) in each.iter().enumerate() {
            let envelope = envelope.as_deref();
            let found = match payload {
                Payload::Json(raw) => self.json_row(record, raw, envelope, position),
                Payload::Text(raw) => self.text_row(record, raw, envelope, position),
                Payload::Delete if self.deletes && envelope.is_some_and(|envelope| envelope.key.is_some()) => {
                    deletes.push(record);
                    continue;
                }
                Payload::Delete => Err((Stage::Extract, self.cannot_delete())),
                Payload::Unreadable { cause, .. } => Err((Stage::Read, cause.clone())),
                Payload::Row { .. } | Payload::Arrow(_) => {
                    Err((Stage::Read, "rows among records of another format".to_string()))
                }
            };
            match found {
                Ok((draft, values)) => {
                    drafts.push(draft);
                    kept.push(values);
                }
                Err((stage, cause)) => rejected.push(Rejection { record, stage, cause }),
            }
        }
        self.build(drafts, KeptFrom::Json(kept), rejected)
    }

    fn json_row<'a>(
        &self,
        record: usize,
        raw: &'a [u8],
        envelope: Option<&Envelope>,
        position: &dyn Fn(usize) -> String,
    ) -> Result<(Draft<'a>, Value), (Stage, String)> {
        let extract = |cause: String| (Stage::Extract, cause);
        let text = std::str::from_utf8(raw).map_err(|error| extract(not_utf8(&error)))?;
        let mut fields = pick(text, &self.top_fields).map_err(extract)?;
        self.add_envelope(envelope, &mut fields);
        let id = match &self.plan.id {
            None => position(record),
            Some(path) => json_id(path, &fields).map_err(|cause| extract(self.explain_missing(cause, path, text)))?,
        };
        let content = match &self.plan.text {
            TextPlan::Fields { fields: paths, join } => {
                let mut joined = String::new();
                for (index, path) in paths.iter().enumerate() {
                    let part =
                        json_text(path, &fields).map_err(|cause| extract(self.explain_missing(cause, path, text)))?;
                    if index > 0 {
                        joined.push_str(join);
                    }
                    joined.push_str(part);
                }
                joined
            }
            TextPlan::Template(template) => template
                .render(&Value::Object(fields.clone()))
                .map_err(|cause| extract(format!("the template fails: {cause}")))?,
        };
        let kept = kept_values(self.kept.fields(), &fields);
        Ok((Draft { record, id: id.into(), text: content.into() }, kept))
    }

    fn text_row<'a>(
        &self,
        record: usize,
        raw: &'a [u8],
        envelope: Option<&Envelope>,
        position: &dyn Fn(usize) -> String,
    ) -> Result<(Draft<'a>, Value), (Stage, String)> {
        let text = std::str::from_utf8(raw).map_err(|error| (Stage::Extract, not_utf8(&error)))?;
        let of_envelope = |field: &str| envelope.is_some() && ENVELOPE_FIELDS.contains(&field);
        if let Some(other) = self.top_fields.iter().find(|field| *field != "text" && !of_envelope(field)) {
            return Err((Stage::Extract, format!("no field `{other}`: plain text has one field, `text`")));
        }
        let content = match &self.plan.text {
            TextPlan::Fields { .. } => Cow::Borrowed(text),
            TextPlan::Template(template) => template
                .render(&serde_json::json!({ "text": text }))
                .map_err(|cause| (Stage::Extract, format!("the template fails: {cause}")))?
                .into(),
        };
        let mut fields = Map::from_iter([("text".to_string(), Value::from(text))]);
        self.add_envelope(envelope, &mut fields);
        let kept = kept_values(self.kept.fields(), &fields);
        let id = match &self.plan.id {
            None => position(record),
            Some(path) => json_id(path, &fields).map_err(|cause| (Stage::Extract, cause))?,
        };
        Ok((Draft { record, id: id.into(), text: content }, kept))
    }

    /// Adds the fields of the message that are asked for. Bytes that are no UTF-8 show as U+FFFD.
    fn add_envelope(&self, envelope: Option<&Envelope>, fields: &mut Map<String, Value>) {
        let Some(envelope) = envelope else { return };
        let text = |bytes: &Bytes| Value::from(String::from_utf8_lossy(bytes));
        for field in ENVELOPE_FIELDS.into_iter().filter(|field| self.top_fields.iter().any(|wanted| wanted == field)) {
            let value = match field {
                "$key" => envelope.key.as_ref().map_or(Value::Null, text),
                "$timestamp" => envelope.timestamp_ms.map_or(Value::Null, Value::from),
                _ => {
                    let headers = envelope.headers.iter();
                    let header = |(name, value): &(String, Option<Bytes>)| {
                        (name.clone(), value.as_ref().map_or(Value::Null, text))
                    };
                    Value::Object(headers.map(header).collect())
                }
            };
            fields.insert(field.into(), value);
        }
    }

    fn cannot_delete(&self) -> String {
        if self.deletes {
            "a null value means a delete, but the message has no key that says of what".into()
        } else {
            "a null value means a delete, which this sink cannot express; `sink.kafka.layout: row` can".into()
        }
    }

    /// The rows of a message that holds any number of them: all of them or none.
    fn batch_rows(&self, record: &Record, position: &dyn Fn(usize) -> String, rejected: &mut Vec<Rejection>) -> Rows {
        let mut cannot = Vec::new();
        let table = match &record.payload {
            Payload::Arrow(bytes) => arrow_batches::table(bytes.clone()),
            _ => Err("expected an Arrow IPC stream".into()),
        };
        let rows = match table {
            Ok(table) => self.table_rows(&table, &vec![0; table.rows()], position, &mut cannot),
            Err(cause) => {
                let cause = format!("expected an Arrow IPC stream: {cause}");
                cannot.push(Rejection { record: 0, stage: Stage::Read, cause });
                self.build(Vec::new(), KeptFrom::Json(Vec::new()), rejected)
            }
        };
        let more = cannot.len().saturating_sub(1);
        let Some(first) = cannot.into_iter().next() else { return rows };
        let cause = if more > 0 { format!("{} (and {more} more of its rows)", first.cause) } else { first.cause };
        rejected.push(Rejection { cause, ..first });
        self.build(Vec::new(), KeptFrom::Json(Vec::new()), rejected)
    }

    /// Rows of a table whose row `i` is record `records[i]`.
    fn table_rows(
        &self,
        table: &Table,
        records: &[usize],
        position: &dyn Fn(usize) -> String,
        rejected: &mut Vec<Rejection>,
    ) -> Rows {
        let mut drafts = Vec::with_capacity(records.len());
        let mut rows = Vec::with_capacity(records.len());
        match self.table_drafts(table, records, position) {
            Ok(found) => {
                for (row, draft) in found.into_iter().enumerate() {
                    match draft {
                        Ok(draft) => {
                            drafts.push(draft);
                            rows.push(row);
                        }
                        Err(cause) => rejected.push(Rejection { record: records[row], stage: Stage::Extract, cause }),
                    }
                }
            }
            // What is wrong with a column is wrong with every record of the table.
            Err(cause) => rejected.extend(records.iter().map(|&record| Rejection {
                record,
                stage: Stage::Extract,
                cause: cause.clone(),
            })),
        }
        self.build(drafts, KeptFrom::Table(table, rows), rejected)
    }

    #[allow(clippy::type_complexity)]
    fn table_drafts(
        &self,
        table: &Table,
        records: &[usize],
        position: &dyn Fn(usize) -> String,
    ) -> Result<Vec<Result<Draft<'static>, String>>, String> {
        let column = |path: &FieldPath, scalars: bool| {
            table.strings(path.names(), scalars).map_err(|error| format!("column `{path}` {error}"))
        };
        let ids = self.plan.id.as_ref().map(|path| Ok::<_, String>((path, column(path, true)?))).transpose()?;
        let id = |row: usize| match &ids {
            None => Ok(position(records[row])),
            Some((path, column)) => match column.get(row) {
                Some(id) => Ok(id.into_owned()),
                None => Err(format!("field `{path}`: expected an id, found null")),
            },
        };
        let texts: Vec<Result<String, String>> = match &self.plan.text {
            TextPlan::Template(template) => (0..table.rows())
                .map(|row| {
                    let fields = table.row_value(row);
                    template.render(&fields).map_err(|cause| format!("the template fails: {cause}"))
                })
                .collect(),
            TextPlan::Fields { fields, join } => {
                let columns: Vec<_> = fields.iter().map(|path| column(path, false)).collect::<Result<_, _>>()?;
                let part = |row: usize| {
                    let mut joined = String::new();
                    for (index, column) in columns.iter().enumerate() {
                        let Some(text) = column.get(row) else {
                            return Err(format!("field `{}`: expected a string, found null", fields[index]));
                        };
                        if index > 0 {
                            joined.push_str(join);
                        }
                        joined.push_str(&text);
                    }
                    Ok(joined)
                };
                (0..table.rows()).map(part).collect()
            }
        };
        let drafts = texts
            .into_iter()
            .enumerate()
            .map(|(row, text)| Ok(Draft { record: records[row], id: id(row)?.into(), text: text?.into() }));
        Ok(drafts.collect())
    }

    /// Columns of the drafts. Whoever does not fit is rejected and the rest is built again, which is rare.
    fn build(&self, mut drafts: Vec<Draft<'_>>, mut kept: KeptFrom<'_>, rejected: &mut Vec<Rejection>) -> Rows {
        loop {
            let tried = match &kept {
                KeptFrom::Json(values) => self.kept.from_json(values),
                KeptFrom::Table(table, rows) => self.kept.from_table(table, rows),
            };
            let (stage, misfits) = match tried {
                Err(misfits) => (Stage::Extract, misfits),
                Ok(columns) => match self.tokens(&drafts) {
                    Ok(tokens) => return Rows::new(drafts, tokens, columns),
                    Err(misfits) => (Stage::Tokenize, misfits),
                },
            };
            for (index, cause) in misfits.into_iter().rev() {
                let draft = drafts.remove(index);
                match &mut kept {
                    KeptFrom::Json(values) => drop(values.remove(index)),
                    KeptFrom::Table(_, rows) => drop(rows.remove(index)),
                }
                rejected.push(Rejection { record: draft.record, stage, cause });
            }
        }
    }

    fn tokens(&self, drafts: &[Draft<'_>]) -> Result<Tokens, InvalidRows> {
        let mut tokens = Tokens::default();
        let mut misfits = InvalidRows::new();
        for (index, draft) in drafts.iter().enumerate() {
            if let Err(error) = self.tokenizer.encode(&draft.text, &mut tokens) {
                misfits.push((index, error.to_string()));
            }
        }
        if misfits.is_empty() { Ok(tokens) } else { Err(misfits) }
    }

    /// Adds to "there is no field" which fields there are; the record is parsed again only for that.
    fn explain_missing(&self, cause: String, path: &FieldPath, json: &str) -> String {
        let Ok(Value::Object(all)) = serde_json::from_str(json) else { return cause };
        if path.find(&all).is_some() {
            return cause;
        }
        let mut names: Vec<String> = all.keys().take(20).map(|name| format!("`{name}`")).collect();
        if all.len() > names.len() {
            names.push(format!("and {} more", all.len() - names.len()));
        }
        format!("{cause}; the record has {}", if names.is_empty() { "none".into() } else { names.join(", ") })
    }
}

/// The columns of a block.
struct Rows {
    row_records: Vec<usize>,
    ids: Strings,
    texts: Strings,
    hashes: Vec<[u8; 32]>,
    tokens: Tokens,
    kept: Columns,
}

impl Rows {
    fn new(drafts: Vec<Draft<'_>>, tokens: Tokens, kept: Columns) -> Self {
        Rows {
            row_records: drafts.iter().map(|draft| draft.record).collect(),
            ids: drafts.iter().map(|draft| &draft.id).collect(),
            texts: drafts.iter().map(|draft| &draft.text).collect(),
            hashes: drafts.iter().map(|draft| Sha256::digest(draft.text.as_bytes()).into()).collect(),
            tokens,
            kept,
        }
    }
}

/// The types of the kept columns, from the plan or from the source's first records.
///
/// # Errors
/// See [`KeptSchema::fix`].
pub fn infer_kept(plan: &RecordPlan, first: Option<&Body>) -> Result<KeptSchema, String> {
    let top_fields = plan.top_fields();
    match first {
        None | Some(Body::Batch(_)) => KeptSchema::fix(&plan.keep, Sample::Empty),
        Some(Body::Table { table, .. }) => KeptSchema::fix(&plan.keep, Sample::Typed(table)),
        Some(Body::Each(each)) => {
            if let Some((table, _)) = csv_table(each, &top_fields, &mut Vec::new()) {
                return KeptSchema::fix(&plan.keep, Sample::Strings(&table));
            }
            let rows = each.iter().filter_map(|record| match &record.payload {
                Payload::Json(raw) => {
                    let fields = pick(std::str::from_utf8(raw).ok()?, &top_fields).ok()?;
                    Some(kept_values(&plan.keep, &fields))
                }
                Payload::Text(_) => {
                    let kept = plan.keep.iter().filter(|kept| kept.path == ["text"]);
                    Some(Value::Object(kept.map(|kept| (kept.name.clone(), Value::from(""))).collect()))
                }
                _ => None,
            });
            let rows: Vec<Value> = rows.collect();
            KeptSchema::fix(&plan.keep, Sample::Json(&rows))
        }
    }
}

/// The kept fields that are there, under their columns' names.
fn kept_values(keep: &[KeptField], fields: &Map<String, Value>) -> Value {
    let values = keep.iter().filter_map(|kept| {
        let (top, rest) = kept.path.split_first()?;
        let value = rest.iter().try_fold(fields.get(top)?, |value, name| value.get(name))?;
        Some((kept.name.clone(), value.clone()))
    });
    Value::Object(values.collect())
}

/// CSV rows as a table of the wanted columns, and the record of each row; `None` if there is no CSV row among them.
fn csv_table(each: &[Record], wanted: &[String], rejected: &mut Vec<Rejection>) -> Option<(Table, Vec<usize>)> {
    let header = each.iter().find_map(|record| match &record.payload {
        Payload::Row { header, .. } => Some(header.clone()),
        _ => None,
    })?;
    let places: Vec<usize> =
        (0..header.len()).filter(|&place| wanted.iter().any(|name| name.as_str() == &header[place])).collect();
    // Without any wanted column the header itself still says, in the error, what there is.
    let places = if places.is_empty() { (0..header.len()).collect() } else { places };
    let mut columns = vec![Strings::default(); places.len()];
    let mut records = Vec::new();
    for (record, Record { payload, .. }) in each.iter().enumerate() {
        let cause = match payload {
            Payload::Row { row, .. } => {
                let fields: Result<Vec<&str>, String> = places
                    .iter()
                    .map(|&place| std::str::from_utf8(row.get(place).unwrap_or_default()).map_err(|e| not_utf8(&e)))
                    .collect();
                match fields {
                    Ok(fields) => {
                        columns.iter_mut().zip(fields).for_each(|(column, field)| column.push(field));
                        records.push(record);
                        continue;
                    }
                    Err(cause) => (Stage::Extract, cause),
                }
            }
            Payload::Unreadable { cause, .. } => (Stage::Read, cause.clone()),
            _ => (Stage::Read, "a record of another format among CSV rows".to_string()),
        };
        rejected.push(Rejection { record, stage: cause.0, cause: cause.1 });
    }
    let names: Vec<String> = places.iter().map(|&place| header[place].to_string()).collect();
    match Table::from_strings(&names, columns) {
        Ok(table) => Some((table, records)),
        Err(cause) => {
            let all = records.drain(..).map(|record| Rejection { record, stage: Stage::Read, cause: cause.clone() });
            rejected.extend(all);
            None
        }
    }
}

fn not_utf8(error: &std::str::Utf8Error) -> String {
    format!("not UTF-8: the byte at {} does not belong there; convert the input to UTF-8", error.valid_up_to() + 1)
}

/// The id at `path`: a string, or a number as it is written.
fn json_id(path: &FieldPath, fields: &Map<String, Value>) -> Result<String, String> {
    match path.find(fields) {
        Some(Value::String(id)) => Ok(id.clone()),
        // A number with a fraction or more digits has lost some of them by now.
        Some(Value::Number(id)) if id.is_f64() => Err(format!(
            "field `{path}`: expected a string or a whole number of 64 bits as id, found {id}; write it as a string"
        )),
        Some(Value::Number(id)) => Ok(id.to_string()),
        Some(other) => Err(format!("field `{path}`: expected a string or a number as id, found {}", kind(other))),
        None => Err(format!("no field `{path}`, which is to be the id")),
    }
}

fn json_text<'a>(path: &FieldPath, fields: &'a Map<String, Value>) -> Result<&'a str, String> {
    match path.find(fields) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("field `{path}`: expected a string, found {}", kind(other))),
        None => Err(format!("no field `{path}`")),
    }
}

/// A value as an error shows it.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}
