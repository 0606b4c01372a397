//! Kept columns: fields of the records that travel along to the output, with a type of their own.
//!
//! A column's type is the one that the pipeline file gives, or the source's own (Parquet, Arrow), or what the first
//! records show (JSON, CSV). From then on it is fixed: a value that does not fit rejects its record, never becomes null.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde_json::Value;

use super::Strings;
use super::{Columns, Table, cast};

/// A column to keep: its name in the output, where it lies in the record, and its type where it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptField {
    pub name: String,
    /// Path of names from the record's top.
    pub path: Vec<String>,
    pub data_type: Option<KeptType>,
}

/// An Arrow type, written as Arrow writes it: `Int64`, `Utf8`, `Timestamp(Microsecond, Some("UTC"))`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptType(DataType);

impl std::str::FromStr for KeptType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let data_type = match text {
            "string" => DataType::Utf8,
            "int64" => DataType::Int64,
            "float64" => DataType::Float64,
            "bool" => DataType::Boolean,
            arrow => arrow.parse().map_err(|_| {
                format!(
                    "`{text}` is no type; use string, int64, float64, bool, or an Arrow type such as \
                     Timestamp(Microsecond, Some(\"UTC\")) or List(Utf8)"
                )
            })?,
        };
        Ok(KeptType(data_type))
    }
}

/// The kept columns with all their types known.
#[derive(Debug, Clone)]
pub struct KeptSchema {
    fields: Vec<KeptField>,
    schema: SchemaRef,
}

/// Rows that do not fit, by index, and why.
pub type InvalidRows = Vec<(usize, String)>;

impl KeptSchema {
    /// Fixes the types, looking at `sample` where none was given.
    ///
    /// # Errors
    /// For a field that the sample does not have, or has only as null, and that was given no type.
    pub fn fix(fields: &[KeptField], sample: Sample<'_>) -> Result<Self, String> {
        let mut columns = Vec::new();
        for field in fields {
            let data_type = match &field.data_type {
                Some(KeptType(given)) => given.clone(),
                None => sample.infer(field)?,
            };
            columns.push(Field::new(&field.name, data_type, true));
        }
        let kept = KeptSchema { fields: fields.to_vec(), schema: Arc::new(Schema::new(columns)) };
        kept.check_json_types(&sample)?;
        Ok(kept)
    }

    /// Refuses types that values of JSON cannot have, whatever they are.
    fn check_json_types(&self, sample: &Sample<'_>) -> Result<(), String> {
        if matches!(sample, Sample::Typed(_) | Sample::Strings(_)) {
            return Ok(());
        }
        for field in self.schema.fields() {
            let schema = Arc::new(Schema::new(vec![field.clone()]));
            let row = serde_json::json!({});
            let decoded = arrow::json::ReaderBuilder::new(schema).build_decoder().and_then(|mut decoder| {
                decoder.serialize(&[row])?;
                decoder.flush()
            });
            decoded.map_err(|error| {
                format!("column `{}` cannot be {} from JSON: {}", field.name(), field.data_type(), plain(&error))
            })?;
        }
        Ok(())
    }

    pub fn fields(&self) -> &[KeptField] {
        &self.fields
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Columns from JSON objects that have the kept columns' names as keys.
    ///
    /// # Errors
    /// The rows that do not fit; the others are then to be given again.
    pub fn from_json(&self, rows: &[Value]) -> Result<Columns, InvalidRows> {
        if self.fields.is_empty() {
            return Ok(Columns::none(rows.len()));
        }
        let decode = |rows: &[Value]| -> Result<RecordBatch, ArrowError> {
            let builder = arrow::json::ReaderBuilder::new(self.schema.clone()).with_coerce_primitive(true);
            let mut decoder = builder.with_batch_size(rows.len().max(1)).build_decoder()?;
            decoder.serialize(rows)?;
            Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone())))
        };
        let broken = self.fractions(rows);
        if !broken.is_empty() {
            return Err(broken);
        }
        if rows.is_empty() {
            return Ok(Columns(RecordBatch::new_empty(self.schema.clone())));
        }
        decode(rows).map(Columns).map_err(|whole| {
            // One misfit fails the whole batch without saying where: only then is each row tried by itself.
            let tried = rows.iter().enumerate().filter_map(|(index, row)| {
                let error = decode(std::slice::from_ref(row)).err()?;
                Some((index, plain(&error)))
            });
            or_all(tried.collect(), rows.len(), &whole)
        })
    }

    /// Rows whose number would lose its fraction in a column of whole numbers: Arrow cuts it off without a word.
    fn fractions(&self, rows: &[Value]) -> InvalidRows {
        let whole: Vec<&str> = self
            .schema
            .fields()
            .iter()
            .filter(|field| field.data_type().is_integer())
            .map(|field| field.name().as_str())
            .collect();
        if whole.is_empty() {
            return InvalidRows::new();
        }
        let broken = |(index, row): (usize, &Value)| {
            whole.iter().find_map(|name| {
                let number = row.get(name)?.as_number().filter(|number| number.is_f64())?;
                let cause = format!("kept column `{name}`: expected a whole number of 64 bits, found {number}");
                Some((index, cause))
            })
        };
        rows.iter().enumerate().filter_map(broken).collect()
    }

    /// Columns from rows of a table, by index.
    ///
    /// # Errors
    /// The entries of `rows` that do not fit; the others are then to be given again.
    pub fn from_table(&self, table: &Table, rows: &[usize]) -> Result<Columns, InvalidRows> {
        let indices: arrow::array::UInt64Array = rows.iter().map(|&row| row as u64).collect();
        let pick = |column: &ArrayRef, field: &Field| -> Result<ArrayRef, String> {
            let taken = take(column, &indices, None).map_err(|error| plain(&error))?;
            cast(&taken, field.data_type()).map_err(|error| plain(&error))
        };
        let mut arrays = Vec::new();
        let mut misfits = InvalidRows::new();
        for (kept, field) in self.fields.iter().zip(self.schema.fields()) {
            let Some(column) = table.column(&kept.path) else {
                arrays.push(arrow::array::new_null_array(field.data_type(), rows.len()));
                continue;
            };
            let column = empty_as_null(&column, field.data_type());
            match pick(&column, field) {
                Ok(array) => arrays.push(array),
                Err(whole) => {
                    let tried = rows.iter().enumerate().filter_map(|(index, &row)| {
                        let error = cast(&column.slice(row, 1), field.data_type()).err()?;
                        Some((index, format!("kept column `{}`: {}", field.name(), plain(&error))))
                    });
                    let whole = ArrowError::CastError(format!("kept column `{}`: {whole}", field.name()));
                    misfits.extend(or_all(tried.collect(), rows.len(), &whole));
                }
            }
        }
        if !misfits.is_empty() {
            misfits.sort_by_key(|(index, _)| *index);
            misfits.dedup_by_key(|(index, _)| *index);
            return Err(misfits);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options);
        batch.map(Columns).map_err(|error| or_all(Vec::new(), rows.len(), &error))
    }
}

/// An empty string where a number or a time is wanted means that there is none, as every CSV reader has it.
fn empty_as_null(column: &ArrayRef, wanted: &DataType) -> ArrayRef {
    use arrow::array::{Array, AsArray, StringArray};
    match column.as_string_opt::<i32>() {
        Some(strings) if *wanted != DataType::Utf8 && strings.iter().any(|value| value == Some("")) => {
            Arc::new(strings.iter().map(|value| value.filter(|text| !text.is_empty())).collect::<StringArray>())
        }
        _ => column.slice(0, column.len()),
    }
}

/// The rows found at fault; all of them where the fault shows only in the whole.
fn or_all(found: InvalidRows, rows: usize, whole: &ArrowError) -> InvalidRows {
    if found.is_empty() { (0..rows).map(|index| (index, plain(whole))).collect() } else { found }
}

/// Arrow's message without its own prefix.
fn plain(error: &ArrowError) -> String {
    let text = error.to_string();
    let known = ["Json error: ", "Cast error: ", "Parser error: ", "Invalid argument error: "];
    known.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(&text).to_string()
}

/// The first records, from which missing types are read.
#[derive(Debug, Clone, Copy)]
pub enum Sample<'a> {
    /// There is no record at all: types do not matter, columns without one become strings.
    Empty,
    /// JSON objects that have the kept columns' names as keys.
    Json(&'a [Value]),
    /// A typed table.
    Typed(&'a Table),
    /// A table of strings whose values show the types.
    Strings(&'a Table),
}

impl Sample<'_> {
    fn infer(&self, field: &KeptField) -> Result<DataType, String> {
        let unknown = |rows: usize, what: &str| {
            format!(
                "cannot tell the type of kept column `{name}`: it is {what} in the first {rows} records; give it one, \
                 as in `keep: [{{ field: {name}, type: string }}]`",
                name = field.name
            )
        };
        match self {
            Sample::Empty => Ok(DataType::Utf8),
            Sample::Json(rows) => {
                let values = rows.iter().filter_map(|row| row.get(&field.name)).filter(|value| !value.is_null());
                let objects: Vec<Value> = values.map(|value| serde_json::json!({ "value": value })).collect();
                if objects.is_empty() {
                    return Err(unknown(rows.len(), "missing or null"));
                }
                let schema = arrow::json::reader::infer_json_schema_from_iterator(objects.iter().map(Ok))
                    .map_err(|error| format!("kept column `{}`: {}", field.name, plain(&error)))?;
                match schema.field(0).data_type() {
                    DataType::Null => Err(unknown(rows.len(), "null")),
                    data_type => Ok(data_type.clone()),
                }
            }
            Sample::Typed(table) => match table.column(&field.path) {
                Some(column) => Ok(column.data_type().clone()),
                None => Err(format!("kept column `{}` is not there; the columns are {}", field.name, table.names())),
            },
            Sample::Strings(table) => {
                let column = table
                    .strings(&field.path, false)
                    .map_err(|error| format!("kept column `{}` {error}", field.name))?;
                let values: Strings = (0..table.rows()).filter_map(|row| column.get(row)).collect();
                Ok(infer_strings(&values))
            }
        }
    }
}

/// The narrowest of bool, int64, float64 that every non-empty value fits, else string.
fn infer_strings(values: &Strings) -> DataType {
    let filled: Vec<&str> = values.iter().filter(|value| !value.is_empty()).collect();
    let all = |fits: fn(&str) -> bool| !filled.is_empty() && filled.iter().all(|value| fits(value));
    // A leading zero marks a code such as a postal code, which a number would damage.
    let code = |value: &&str| value.len() > 1 && value.starts_with('0') && !value.starts_with("0.");
    if filled.iter().any(code) {
        DataType::Utf8
    } else if all(|value| matches!(value, "true" | "false")) {
        DataType::Boolean
    } else if all(|value| value.parse::<i64>().is_ok()) {
        DataType::Int64
    } else if all(|value| value.parse::<f64>().is_ok()) {
        DataType::Float64
    } else {
        DataType::Utf8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn field(name: &str, data_type: Option<&str>) -> KeptField {
        let data_type = data_type.map(|text| text.parse().expect("a type"));
        KeptField { name: name.into(), path: vec![name.into()], data_type }
    }

    #[test]
    fn json_types_come_from_the_first_records() {
        let check = |values: Vec<Value>, expected: Result<DataType, &str>| {
            let rows: Vec<Value> = values.into_iter().map(|value| json!({ "c": value })).collect();
            match (KeptSchema::fix(&[field("c", None)], Sample::Json(&rows)), expected) {
                (Ok(kept), Ok(expected)) => assert_eq!(*kept.schema.field(0).data_type(), expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (got, expected) => panic!("{got:?} is not {expected:?}"),
            }
        };
        check(vec![json!(1), json!(null)], Ok(DataType::Int64));
        check(vec![json!(1), json!(2.5)], Ok(DataType::Float64));
        check(vec![json!("a")], Ok(DataType::Utf8));
        check(vec![json!(true)], Ok(DataType::Boolean));
        check(vec![json!(null)], Err("cannot tell the type of kept column `c`"));
    }

    #[test]
    fn a_misfit_names_its_row() {
        let kept = KeptSchema::fix(&[field("n", Some("int64"))], Sample::Empty).unwrap();
        let rows = [json!({ "n": 1 }), json!({ "n": "many" }), json!({}), json!({ "n": [1] })];
        let misfits = kept.from_json(&rows).unwrap_err();
        assert_eq!(misfits.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(kept.from_json(&[rows[0].clone(), rows[2].clone()]).unwrap().rows(), 2);
    }

    #[test]
    fn strings_become_the_type_that_was_fixed() {
        let names = ["n".to_string()];
        let table = |values: &[&str]| Table::from_strings(&names, vec![values.iter().collect()]).unwrap();
        let kept = KeptSchema::fix(&[field("n", None)], Sample::Strings(&table(&["1", "", "-3"]))).unwrap();
        assert_eq!(*kept.schema.field(0).data_type(), DataType::Int64);
        assert_eq!(kept.from_table(&table(&["7", "", "8"]), &[0, 1]).unwrap().rows(), 2);
        let misfits = kept.from_table(&table(&["7", "x"]), &[0, 1]).unwrap_err();
        assert_eq!(misfits[0].0, 1);
        assert!(misfits[0].1.contains("`n`"), "{}", misfits[0].1);
        for (values, expected) in
            [(vec!["007"], DataType::Utf8), (vec!["0.5"], DataType::Float64), (vec!["true"], DataType::Boolean)]
        {
            let kept = KeptSchema::fix(&[field("n", None)], Sample::Strings(&table(&values))).unwrap();
            assert_eq!(*kept.schema.field(0).data_type(), expected);
        }
    }
}
