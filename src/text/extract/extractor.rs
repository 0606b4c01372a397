//! Builds blocks of the drafts of records: columns of ids, texts, hashes, tokens and kept values.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::documents::{DocumentPlan, DraftWithKept};
use super::draft::{Draft, KeptValues, PositionOf, RejectCause};
use super::tables::{csv_table, table_drafts};
use crate::columnar::kept::{InvalidRows, KeptSchema};
use crate::columnar::{Columns, Strings, Table, Tokens};
use crate::model::tokenizer::Tokenizer;
use crate::record::{Block, Body, Payload, Position, Record, Records, Rejection, Stage};
use crate::source::file::arrow_batches;
use crate::text::field::RecordPlan;

/// Turns records into rows as the plan says.
pub struct Extractor {
    plan: RecordPlan,
    kept: KeptSchema,
    top_fields: Vec<String>,
    tokenizer: Arc<Tokenizer>,
    /// Whether the output has a column of texts.
    texts_kept: bool,
    /// Whether the sink can express that a record is deleted.
    deletes: bool,
}

impl Extractor {
    /// `kept` are the columns of `plan.keep` with their types; `texts_kept` says whether blocks keep the rows' texts.
    pub fn new(plan: RecordPlan, kept: KeptSchema, tokenizer: Arc<Tokenizer>, texts_kept: bool) -> Self {
        let top_fields = plan.top_fields();
        Extractor { plan, kept, top_fields, tokenizer, texts_kept, deletes: false }
    }

    /// Turns messages with a null value into deletes; otherwise they are rejected.
    pub fn with_deletes(self) -> Self {
        Extractor { deletes: true, ..self }
    }

    /// The rows of `records`, and the records that were rejected.
    pub fn block(&self, records: Records) -> Block {
        let Records { partition, body, input_bytes_read, permit, timestamps } = records;
        let position =
            |record: usize| Position { partition: partition.clone(), offset: body.offset(record) }.to_string();
        let mut rejected = Vec::new();
        let mut deletes = Vec::new();
        let columns = match &body {
            Body::Table { table, .. } => {
                let all: Vec<usize> = (0..table.rows()).collect();
                self.table_rows(table, &all, &position, &mut rejected)
            }
            Body::Batch(record) => self.batch_rows(record, &position, &mut rejected),
            Body::Each(each) => match csv_table(each, &self.top_fields, &mut rejected) {
                Some(csv) => self.table_rows(&csv.table, &csv.records, &position, &mut rejected),
                None => self.each_rows(each, &position, &mut rejected, &mut deletes),
            },
        };
        rejected.sort_by_key(|rejection| rejection.record);
        Block {
            partition,
            row_records: columns.row_records,
            ids: columns.ids,
            texts: self.texts_kept.then_some(columns.texts),
            hashes: columns.hashes,
            tokens: columns.tokens,
            kept: columns.kept,
            body,
            rejected,
            deletes,
            input_bytes_read,
            permit,
            timestamps,
        }
    }

    /// The rows of records that come one by one, except CSV rows.
    fn each_rows(
        &self,
        each: &[Record],
        position: PositionOf<'_>,
        rejected: &mut Vec<Rejection>,
        deletes: &mut Vec<usize>,
    ) -> BlockColumns {
        let documents = DocumentPlan { plan: &self.plan, top_fields: &self.top_fields };
        let mut drafts = Vec::with_capacity(each.len());
        let mut kept_values = Vec::with_capacity(each.len());
        for (record, Record { payload, envelope, .. }) in each.iter().enumerate() {
            let envelope = envelope.as_deref();
            let drafted = match payload {
                Payload::Json(raw) => documents.json(record, raw, envelope, position),
                Payload::Text(raw) => documents.text(record, raw, envelope, position),
                Payload::Delete if self.deletes && envelope.is_some_and(|envelope| envelope.key.is_some()) => {
                    deletes.push(record);
                    continue;
                }
                Payload::Delete => Err(RejectCause::extract(self.cannot_delete())),
                Payload::Unreadable { cause, .. } => Err(RejectCause::read(cause.clone())),
                Payload::Row { .. } | Payload::Arrow(_) => {
                    Err(RejectCause::read("found rows of a table; expected a JSON document or a text"))
                }
            };
            match drafted {
                Ok(DraftWithKept { draft, kept }) => {
                    drafts.push(draft);
                    kept_values.push(kept);
                }
                Err(cause) => rejected.push(cause.of(record)),
            }
        }
        self.build(drafts, KeptValues::Json(kept_values), rejected)
    }

    /// Why a message with a null value is not a delete.
    fn cannot_delete(&self) -> &'static str {
        if self.deletes {
            "found a null value, which is a delete, without a key; expected the key of what to delete"
        } else {
            "found a null value, which is a delete; expected a sink that can express deletes (`sink.kafka.layout: row` can)"
        }
    }

    /// The rows of a message that holds any number of them: all of them, or none if one is invalid.
    fn batch_rows(&self, record: &Record, position: PositionOf<'_>, rejected: &mut Vec<Rejection>) -> BlockColumns {
        let table = match &record.payload {
            Payload::Arrow(bytes) => arrow_batches::table(bytes.clone()),
            _ => Err("found another format".into()),
        };
        let table = match table {
            Ok(table) => table,
            Err(cause) => {
                rejected.push(RejectCause::read(format!("{cause}; expected an Arrow IPC stream")).of(0));
                return self.no_rows(rejected);
            }
        };
        let mut invalid = Vec::new();
        let rows = self.table_rows(&table, &vec![0; table.rows()], position, &mut invalid);
        let more = invalid.len().saturating_sub(1);
        let Some(first) = invalid.into_iter().next() else { return rows };
        let cause = if more > 0 { format!("{} (and {more} more of its rows)", first.cause) } else { first.cause };
        rejected.push(Rejection { cause, ..first });
        self.no_rows(rejected)
    }

    /// Columns without rows.
    fn no_rows(&self, rejected: &mut Vec<Rejection>) -> BlockColumns {
        self.build(Vec::new(), KeptValues::Json(Vec::new()), rejected)
    }

    /// The rows of a table whose row `i` belongs to record `records[i]`.
    fn table_rows(
        &self,
        table: &Table,
        records: &[usize],
        position: PositionOf<'_>,
        rejected: &mut Vec<Rejection>,
    ) -> BlockColumns {
        let mut drafts = Vec::with_capacity(records.len());
        let mut rows = Vec::with_capacity(records.len());
        match table_drafts(&self.plan, table, records, position) {
            Ok(found) => {
                for (row, draft) in found.into_iter().enumerate() {
                    match draft {
                        Ok(draft) => {
                            drafts.push(draft);
                            rows.push(row);
                        }
                        Err(cause) => rejected.push(RejectCause::extract(cause).of(records[row])),
                    }
                }
            }
            // A missing or wrong column rejects every record of the table.
            Err(cause) => {
                rejected.extend(records.iter().map(|&record| RejectCause::extract(cause.clone()).of(record)));
            }
        }
        self.build(drafts, KeptValues::Table(table, rows), rejected)
    }

    /// The columns of the drafts. Invalid rows are rejected and the columns are built again without them, which is
    /// rare.
    fn build(
        &self,
        mut drafts: Vec<Draft<'_>>,
        mut kept: KeptValues<'_>,
        rejected: &mut Vec<Rejection>,
    ) -> BlockColumns {
        loop {
            let built = match &kept {
                KeptValues::Json(values) => self.kept.from_json(values),
                KeptValues::Table(table, rows) => self.kept.from_table(table, rows),
            };
            let (stage, invalid) = match built {
                Err(invalid) => (Stage::Extract, invalid),
                Ok(columns) => match self.tokens(&drafts) {
                    Ok(tokens) => return BlockColumns::new(drafts, tokens, columns),
                    Err(invalid) => (Stage::Tokenize, invalid),
                },
            };
            for (index, cause) in invalid.into_iter().rev() {
                let draft = drafts.remove(index);
                match &mut kept {
                    KeptValues::Json(values) => drop(values.remove(index)),
                    KeptValues::Table(_, rows) => drop(rows.remove(index)),
                }
                rejected.push(Rejection { record: draft.record, stage, cause });
            }
        }
    }

    fn tokens(&self, drafts: &[Draft<'_>]) -> Result<Tokens, InvalidRows> {
        let mut tokens = Tokens::default();
        let mut invalid = InvalidRows::new();
        for (index, draft) in drafts.iter().enumerate() {
            if let Err(error) = self.tokenizer.encode(&draft.text, &mut tokens) {
                invalid.push((index, error.to_string()));
            }
        }
        if invalid.is_empty() { Ok(tokens) } else { Err(invalid) }
    }
}

/// The columns of a block.
struct BlockColumns {
    row_records: Vec<usize>,
    ids: Strings,
    texts: Strings,
    hashes: Vec<[u8; 32]>,
    tokens: Tokens,
    kept: Columns,
}

impl BlockColumns {
    fn new(drafts: Vec<Draft<'_>>, tokens: Tokens, kept: Columns) -> Self {
        BlockColumns {
            row_records: drafts.iter().map(|draft| draft.record).collect(),
            ids: drafts.iter().map(|draft| &draft.id).collect(),
            texts: drafts.iter().map(|draft| &draft.text).collect(),
            hashes: drafts.iter().map(|draft| Sha256::digest(draft.text.as_bytes()).into()).collect(),
            tokens,
            kept,
        }
    }
}
