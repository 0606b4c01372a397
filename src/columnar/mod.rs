//! Columns: a [`Table`] is a batch of a columnar source, [`Columns`] are the kept columns of a block (typed by
//! [`kept`]). Both wrap an Arrow batch. [`Strings`] and [`Tokens`] are the columns that the stages themselves read.

pub(crate) mod kept;
mod strings;
mod tokens;

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

pub(crate) use strings::Strings;
pub use tokens::Tokens;

/// A batch of a columnar source.
#[derive(Debug, Clone)]
pub struct Table(RecordBatch);

impl Table {
    /// Wraps an Arrow batch.
    pub fn new(batch: RecordBatch) -> Self {
        Table(batch)
    }

    /// A table of strings, such as the rows of a CSV file. An empty field is an empty string.
    ///
    /// # Errors
    /// If the columns differ in length, or there are none.
    pub fn from_strings(names: &[String], columns: Vec<Strings>) -> Result<Table, String> {
        let fields: Vec<Field> = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        let arrays = columns.iter().map(|column| Arc::new(StringArray::from_iter_values(column.iter())) as ArrayRef);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays.collect());
        batch.map(Table).map_err(|error| error.to_string())
    }

    /// A table of JSON objects, with types inferred from their values.
    ///
    /// # Errors
    /// If the values of a field have no type in common.
    pub fn from_json(rows: &[serde_json::Value]) -> Result<Table, String> {
        let plain = |error: arrow::error::ArrowError| error.to_string();
        let schema = arrow::json::reader::infer_json_schema_from_iterator(rows.iter().map(Ok)).map_err(plain)?;
        let builder = arrow::json::ReaderBuilder::new(Arc::new(schema.clone())).with_batch_size(rows.len().max(1));
        let mut decoder = builder.build_decoder().map_err(plain)?;
        decoder.serialize(rows).map_err(plain)?;
        let batch = decoder.flush().map_err(plain)?;
        Ok(Table(batch.unwrap_or_else(|| RecordBatch::new_empty(Arc::new(schema)))))
    }

    /// The table as an Arrow IPC stream.
    ///
    /// # Errors
    /// If Arrow cannot write it, which is a bug.
    pub fn to_stream(&self) -> Result<Vec<u8>, String> {
        let write = || {
            let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), self.0.schema_ref())?;
            writer.write(&self.0)?;
            writer.finish()?;
            writer.into_inner()
        };
        write().map_err(|error: arrow::error::ArrowError| error.to_string())
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    /// The approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        // Slices share buffers, so the sizes of buffers would count the whole batch for each of its slices.
        self.0.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
    }

    /// `rows` rows from row `start`, without a copy.
    pub fn slice(&self, start: usize, rows: usize) -> Table {
        Table(self.0.slice(start, rows))
    }

    /// Row `index` as the text of a JSON object; null values are left out.
    pub fn row_as_json(&self, index: usize) -> String {
        let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
        let row = in_utc(&self.0.slice(index, 1));
        let written = row.and_then(|row| writer.write(&row)).and_then(|()| writer.finish());
        match written {
            Ok(()) => String::from_utf8_lossy(writer.get_ref()).trim_end().to_string(),
            // Some types have no JSON form; the position in the dead letter still identifies the row.
            Err(error) => serde_json::json!({ "unprintable_row": error.to_string() }).to_string(),
        }
    }

    /// The names of the columns, as error messages list them.
    pub fn names(&self) -> String {
        let schema = self.0.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
        names.join(", ")
    }

    /// The column at a path of names: a top-level column, or a field of a struct column.
    fn column(&self, path: &[String]) -> Option<ArrayRef> {
        let (first, rest) = path.split_first()?;
        let mut column = self.0.column_by_name(first)?.clone();
        for name in rest {
            let fields: &StructArray = column.as_struct_opt()?;
            column = fields.column_by_name(name)?.clone();
        }
        Some(column)
    }

    /// The strings of the column at a path. `scalars` allows numbers and other scalars and formats them (ids may be
    /// numbers; texts may not).
    ///
    /// # Errors
    /// If the column is missing or has another type. The message does not name the column.
    pub fn strings(&self, path: &[String], scalars: bool) -> Result<StringColumn, String> {
        let column = self.column(path).ok_or_else(|| format!("missing; expected one of {}", self.names()))?;
        let text = match column.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
            DataType::Dictionary(_, values) => matches!(**values, DataType::Utf8 | DataType::LargeUtf8),
            _ => false,
        };
        if !text && !scalars {
            return Err(format!("found type {}; expected strings", column.data_type()));
        }
        let strings = cast(&column, &DataType::Utf8).map_err(|error| format!("cannot be read as strings: {error}"))?;
        Ok(StringColumn(strings.as_string().clone()))
    }

    /// Row `index` as a JSON object; null if a column has no JSON form.
    pub fn row_value(&self, index: usize) -> serde_json::Value {
        serde_json::from_str(&self.row_as_json(index)).unwrap_or(serde_json::Value::Null)
    }
}

/// A column of strings, some of which may be null.
#[derive(Debug, Clone)]
pub struct StringColumn(StringArray);

impl StringColumn {
    /// The string of row `index`; `None` if it is null.
    pub fn get(&self, index: usize) -> Option<Cow<'_, str>> {
        self.0.is_valid(index).then(|| Cow::Borrowed(self.0.value(index)))
    }
}

/// The batch with all times converted to UTC offsets. To write times of a named zone, even of one called "UTC", arrow
/// would need the database of time zones, which is not linked in.
fn in_utc(batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = batch.columns().iter().map(|column| cast(column, &type_in_utc(column.data_type())));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let fields = batch.schema_ref().fields().iter().map(|field| field_in_utc(field));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns, &options)
}

fn field_in_utc(field: &Field) -> Field {
    field.clone().with_data_type(type_in_utc(field.data_type()))
}

fn type_in_utc(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
        DataType::List(item) => DataType::List(Arc::new(field_in_utc(item))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| field_in_utc(field)).collect()),
        other => other.clone(),
    }
}

/// Casts a column. A value that cannot be cast is an error; arrow's default would turn it into null.
fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    cast_with_options(column, to, &CastOptions { safe: false, ..Default::default() })
}

/// The kept columns of a block's rows. No stage between source and sink reads their values.
#[derive(Debug, Clone)]
pub struct Columns(RecordBatch);

impl Columns {
    /// No columns, for `rows` rows.
    pub fn none(rows: usize) -> Self {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
        Columns(batch.expect("no column can have a wrong length"))
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    pub(crate) fn column(&self, index: usize) -> &ArrayRef {
        self.0.column(index)
    }

    /// Keeps the first `at` rows and returns the rest.
    pub fn split_off(&mut self, at: usize) -> Columns {
        let tail = self.0.slice(at, self.0.num_rows() - at);
        self.0 = self.0.slice(0, at);
        Columns(tail)
    }
}
