//! Drafts rows of tables: Parquet, Arrow, and CSV rows gathered into a table.

use super::draft::{Draft, PositionOf, RejectCause};
use super::json_fields::not_utf8;
use crate::columnar::{StringColumn, Strings, Table};
use crate::record::{Payload, Record, Rejection};
use crate::text::field::{FieldPath, RecordPlan, TextPlan};

/// One draft per row of the table, or why that row has none.
pub(super) type TableDrafts = Vec<Result<Draft<'static>, String>>;

/// The drafts of a table whose row `i` belongs to record `records[i]`.
///
/// # Errors
/// If a column is missing or has the wrong type, which is true for every row.
pub(super) fn table_drafts(
    plan: &RecordPlan,
    table: &Table,
    records: &[usize],
    position: PositionOf<'_>,
) -> Result<TableDrafts, String> {
    let ids = match &plan.id {
        Some(path) => Some((path, column(table, path, true)?)),
        None => None,
    };
    let id = |row: usize| match &ids {
        None => Ok(position(records[row])),
        Some((path, column)) => match column.get(row) {
            Some(id) => Ok(id.into_owned()),
            None => Err(format!("field `{path}`: found null; expected an id")),
        },
    };
    let texts = table_texts(&plan.text, table)?;
    let drafts = texts
        .into_iter()
        .enumerate()
        .map(|(row, text)| Ok(Draft { record: records[row], id: id(row)?.into(), text: text?.into() }));
    Ok(drafts.collect())
}

/// The text of each row, or why it has none.
fn table_texts(plan: &TextPlan, table: &Table) -> Result<Vec<Result<String, String>>, String> {
    let (fields, join) = match plan {
        TextPlan::Template(template) => {
            return Ok((0..table.rows()).map(|row| template.render(&table.row_value(row))).collect());
        }
        TextPlan::Fields { fields, join } => (fields, join),
    };
    let columns: Vec<_> = fields.iter().map(|path| column(table, path, false)).collect::<Result<_, _>>()?;
    let text = |row: usize| {
        let mut joined = String::new();
        for (index, column) in columns.iter().enumerate() {
            let Some(text) = column.get(row) else {
                return Err(format!("field `{}`: found null; expected a string", fields[index]));
            };
            if index > 0 {
                joined.push_str(join);
            }
            joined.push_str(&text);
        }
        Ok(joined)
    };
    Ok((0..table.rows()).map(text).collect())
}

fn column(table: &Table, path: &FieldPath, scalars: bool) -> Result<StringColumn, String> {
    table.strings(path.names(), scalars).map_err(|error| format!("column `{path}`: {error}"))
}

/// CSV rows as a table.
pub(super) struct CsvTable {
    /// The wanted columns, all of them strings.
    pub table: Table,
    /// The index of each row's record.
    pub records: Vec<usize>,
}

/// The CSV rows among `each`, with their `wanted` columns; `None` if there are no CSV rows. All other records are
/// rejected.
pub(super) fn csv_table(each: &[Record], wanted: &[String], rejected: &mut Vec<Rejection>) -> Option<CsvTable> {
    let header = each.iter().find_map(|record| match &record.payload {
        Payload::Row { header, .. } => Some(header.clone()),
        _ => None,
    })?;
    let fields: Vec<usize> =
        (0..header.len()).filter(|&field| wanted.iter().any(|name| name.as_str() == &header[field])).collect();
    // If no wanted column exists, all are taken, so that the error can list them.
    let fields = if fields.is_empty() { (0..header.len()).collect() } else { fields };
    let mut columns = vec![Strings::default(); fields.len()];
    let mut records = Vec::new();
    for (record, Record { payload, .. }) in each.iter().enumerate() {
        let reject = match payload {
            Payload::Row { row, .. } => {
                let values: Result<Vec<&str>, _> =
                    fields.iter().map(|&field| std::str::from_utf8(row.get(field).unwrap_or_default())).collect();
                match values {
                    Ok(values) => {
                        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                        records.push(record);
                        continue;
                    }
                    Err(error) => RejectCause::extract(not_utf8(&error)),
                }
            }
            Payload::Unreadable { cause, .. } => RejectCause::read(cause.clone()),
            _ => RejectCause::read("found a record of another format; expected a CSV row"),
        };
        rejected.push(reject.of(record));
    }
    let names: Vec<String> = fields.iter().map(|&field| header[field].to_string()).collect();
    match Table::from_strings(&names, columns) {
        Ok(table) => Some(CsvTable { table, records }),
        Err(cause) => {
            rejected.extend(records.drain(..).map(|record| RejectCause::read(cause.clone()).of(record)));
            None
        }
    }
}
