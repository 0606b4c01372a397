//! Kept columns: fields of the records that are copied to the output.
//!
//! The type of a column is given in the pipeline file, or is that of the source's column (Parquet, Arrow), or is
//! inferred from the first records (JSON, CSV). It does not change during a run: a value of another type rejects its
//! record and never becomes null.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde_json::Value;

use super::{Columns, Strings, Table, cast};

/// A column to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptField {
    /// The name of the column in the output.
    pub name: String,
    /// The names from the top of the record down to the field.
    pub path: Vec<String>,
    /// The type, if the pipeline file gives one.
    pub data_type: Option<KeptType>,
}

/// An Arrow type, parsed from a short name (`string`, `int64`, `float64`, `bool`) or from Arrow's own notation, such as
/// `Timestamp(Microsecond, Some("UTC"))`.
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
                    "unknown type {text:?}; expected string, int64, float64, bool, or an Arrow type such as \
                     Timestamp(Microsecond, Some(\"UTC\")) or List(Utf8)"
                )
            })?,
        };
        Ok(KeptType(data_type))
    }
}

/// The kept columns with their types.
#[derive(Debug, Clone)]
pub struct KeptSchema {
    fields: Vec<KeptField>,
    schema: SchemaRef,
}

/// Rows that are invalid: the index of each, ascending, and why.
pub(crate) type InvalidRows = Vec<(usize, String)>;

impl KeptSchema {
    /// Takes the type of each field as it was given, else infers it from `sample`.
    ///
    /// # Errors
    /// For a field without a given type that is missing or null throughout the sample, and for a type that cannot be read
    /// from JSON.
    pub fn infer(fields: &[KeptField], sample: TypeSample<'_>) -> Result<Self, String> {
        let mut columns = Vec::new();
        for field in fields {
            let data_type = match &field.data_type {
                Some(KeptType(given)) => given.clone(),
                None => sample.infer_type(field)?,
            };
            columns.push(Field::new(&field.name, data_type, true));
        }
        let kept = KeptSchema { fields: fields.to_vec(), schema: Arc::new(Schema::new(columns)) };
        kept.check_json_types(&sample)?;
        Ok(kept)
    }

    /// Refuses types that no JSON value can have.
    fn check_json_types(&self, sample: &TypeSample<'_>) -> Result<(), String> {
        if matches!(sample, TypeSample::Typed(_) | TypeSample::Strings(_)) {
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
                format!(
                    "kept column `{}`: {} cannot be read from JSON: {}",
                    field.name(),
                    field.data_type(),
                    plain(&error)
                )
            })?;
        }
        Ok(())
    }

    /// The kept columns, in the order of the output.
    pub fn fields(&self) -> &[KeptField] {
        &self.fields
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of JSON objects that have the names of the kept columns as keys.
    ///
    /// # Errors
    /// The invalid rows. The caller leaves them out and calls again.
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
        let with_fraction = self.with_fraction(rows);
        if !with_fraction.is_empty() {
            return Err(with_fraction);
        }
        if rows.is_empty() {
            return Ok(Columns(RecordBatch::new_empty(self.schema.clone())));
        }
        decode(rows).map(Columns).map_err(|whole| {
            // Arrow does not say which row is invalid, so each row is tried by itself; that happens only after an
            // error.
            let tried = rows.iter().enumerate().filter_map(|(index, row)| {
                let error = decode(std::slice::from_ref(row)).err()?;
                Some((index, plain(&error)))
            });
            or_all(tried.collect(), rows.len(), &whole)
        })
    }

    /// Rows with a fraction in a column of whole numbers, which Arrow would truncate silently.
    fn with_fraction(&self, rows: &[Value]) -> InvalidRows {
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
        let invalid = |(index, row): (usize, &Value)| {
            whole.iter().find_map(|name| {
                let number = row.get(name)?.as_number().filter(|number| number.is_f64())?;
                let cause = format!("kept column `{name}`: found {number}; expected a whole number of 64 bits");
                Some((index, cause))
            })
        };
        rows.iter().enumerate().filter_map(invalid).collect()
    }

    /// The columns of these rows of a table.
    ///
    /// # Errors
    /// The entries of `rows` that are invalid. The caller leaves them out and calls again.
    pub fn from_table(&self, table: &Table, rows: &[usize]) -> Result<Columns, InvalidRows> {
        let indices: arrow::array::UInt64Array = rows.iter().map(|&row| row as u64).collect();
        let take_rows = |column: &ArrayRef, field: &Field| -> Result<ArrayRef, String> {
            let taken = take(column, &indices, None).map_err(|error| plain(&error))?;
            cast(&taken, field.data_type()).map_err(|error| plain(&error))
        };
        let mut arrays = Vec::new();
        let mut invalid = InvalidRows::new();
        for (kept, field) in self.fields.iter().zip(self.schema.fields()) {
            let Some(column) = table.column(&kept.path) else {
                arrays.push(arrow::array::new_null_array(field.data_type(), rows.len()));
                continue;
            };
            let column = empty_as_null(&column, field.data_type());
            match take_rows(&column, field) {
                Ok(array) => arrays.push(array),
                Err(whole) => {
                    let tried = rows.iter().enumerate().filter_map(|(index, &row)| {
                        let error = cast(&column.slice(row, 1), field.data_type()).err()?;
                        Some((index, format!("kept column `{}`: {}", field.name(), plain(&error))))
                    });
                    let whole = ArrowError::CastError(format!("kept column `{}`: {whole}", field.name()));
                    invalid.extend(or_all(tried.collect(), rows.len(), &whole));
                }
            }
        }
        if !invalid.is_empty() {
            invalid.sort_by_key(|(index, _)| *index);
            invalid.dedup_by_key(|(index, _)| *index);
            return Err(invalid);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options);
        batch.map(Columns).map_err(|error| or_all(Vec::new(), rows.len(), &error))
    }
}

/// Turns empty strings into null if the column is to become numbers or times, as every CSV reader does.
fn empty_as_null(column: &ArrayRef, target: &DataType) -> ArrayRef {
    use arrow::array::{Array, AsArray, StringArray};
    match column.as_string_opt::<i32>() {
        Some(strings) if *target != DataType::Utf8 && strings.iter().any(|value| value == Some("")) => {
            Arc::new(strings.iter().map(|value| value.filter(|text| !text.is_empty())).collect::<StringArray>())
        }
        _ => column.slice(0, column.len()),
    }
}

/// The rows that are invalid by themselves, or all rows if only the whole batch is invalid.
fn or_all(invalid: InvalidRows, rows: usize, whole: &ArrowError) -> InvalidRows {
    if invalid.is_empty() { (0..rows).map(|index| (index, plain(whole))).collect() } else { invalid }
}

/// Arrow's message without Arrow's prefix.
fn plain(error: &ArrowError) -> String {
    let text = error.to_string();
    let known = ["Json error: ", "Cast error: ", "Parser error: ", "Invalid argument error: "];
    known.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(&text).to_string()
}

/// The first records, to infer types from.
#[derive(Debug, Clone, Copy)]
pub enum TypeSample<'a> {
    /// No record: types do not matter, so columns without a given type become strings.
    Empty,
    /// JSON objects that have the names of the kept columns as keys.
    Json(&'a [Value]),
    /// A table whose columns have types.
    Typed(&'a Table),
    /// A table of strings, whose values show the types.
    Strings(&'a Table),
}

impl TypeSample<'_> {
    fn infer_type(&self, field: &KeptField) -> Result<DataType, String> {
        let unknown = |rows: usize, what: &str| {
            format!(
                "kept column `{name}`: its type cannot be inferred, because it is {what} in the first {rows} records; expected \
                 a type, as in `keep: [{{ field: {name}, type: string }}]`",
                name = field.name
            )
        };
        match self {
            TypeSample::Empty => Ok(DataType::Utf8),
            TypeSample::Json(rows) => {
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
            TypeSample::Typed(table) => match table.column(&field.path) {
                Some(column) => Ok(column.data_type().clone()),
                None => Err(format!("kept column `{}`: missing; expected one of {}", field.name, table.names())),
            },
            TypeSample::Strings(table) => {
                let column = table
                    .strings(&field.path, false)
                    .map_err(|error| format!("kept column `{}`: {error}", field.name))?;
                let values: Strings = (0..table.rows()).filter_map(|row| column.get(row)).collect();
                Ok(infer_strings(&values))
            }
        }
    }
}

/// The first type of bool, int64, float64 that all non-empty values have, else string.
fn infer_strings(values: &Strings) -> DataType {
    let filled: Vec<&str> = values.iter().filter(|value| !value.is_empty()).collect();
    let all = |fits: fn(&str) -> bool| !filled.is_empty() && filled.iter().all(|value| fits(value));
    // A leading zero marks a code, such as a postal code, that would lose the zero as a number.
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
            match (KeptSchema::infer(&[field("c", None)], TypeSample::Json(&rows)), expected) {
                (Ok(kept), Ok(expected)) => assert_eq!(*kept.schema.field(0).data_type(), expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (got, expected) => panic!("{got:?} is not {expected:?}"),
            }
        };
        check(vec![json!(1), json!(null)], Ok(DataType::Int64));
        check(vec![json!(1), json!(2.5)], Ok(DataType::Float64));
        check(vec![json!("a")], Ok(DataType::Utf8));
        check(vec![json!(true)], Ok(DataType::Boolean));
        check(vec![json!(null)], Err("kept column `c`: its type cannot be inferred"));
    }

    #[test]
    fn an_invalid_row_is_named() {
        let kept = KeptSchema::infer(&[field("n", Some("int64"))], TypeSample::Empty).unwrap();
        let rows = [json!({ "n": 1 }), json!({ "n": "many" }), json!({}), json!({ "n": [1] })];
        let invalid = kept.from_json(&rows).unwrap_err();
        assert_eq!(invalid.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(kept.from_json(&[rows[0].clone(), rows[2].clone()]).unwrap().rows(), 2);
    }

    #[test]
    fn strings_become_the_inferred_type() {
        let names = ["n".to_string()];
        let table = |values: &[&str]| Table::from_strings(&names, vec![values.iter().collect()]).unwrap();
        let kept = KeptSchema::infer(&[field("n", None)], TypeSample::Strings(&table(&["1", "", "-3"]))).unwrap();
        assert_eq!(*kept.schema.field(0).data_type(), DataType::Int64);
        assert_eq!(kept.from_table(&table(&["7", "", "8"]), &[0, 1]).unwrap().rows(), 2);
        let invalid = kept.from_table(&table(&["7", "x"]), &[0, 1]).unwrap_err();
        assert_eq!(invalid[0].0, 1);
        assert!(invalid[0].1.contains("`n`"), "{}", invalid[0].1);
        for (values, expected) in
            [(vec!["007"], DataType::Utf8), (vec!["0.5"], DataType::Float64), (vec!["true"], DataType::Boolean)]
        {
            let kept = KeptSchema::infer(&[field("n", None)], TypeSample::Strings(&table(&values))).unwrap();
            assert_eq!(*kept.schema.field(0).data_type(), expected);
        }
    }
}
