//! Compares the result of a case with the expected one. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::file::{Expect, ExpectedDeadLetter, ExpectedRows};
use super::run::CaseResult;
use crate::record::DeadLetter;

/// One difference between a result and the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// What differs, such as `row 1, text`.
    pub subject: String,
    /// The expected value.
    pub expected: String,
    /// The value of the result.
    pub found: String,
}

/// Stands for a missing value.
const NOTHING: &str = "none";

/// All differences, in this order: whether the run stopped, rows, columns, dead letters, deletes.
pub(crate) fn differences(expect: &Expect, found: &CaseResult) -> Vec<Difference> {
    let mut all = Differences::default();
    match (&expect.stops, &found.stopped) {
        (None, None) => {}
        (Some(part), Some(error)) => {
            if !error.contains(part.as_str()) {
                all.add("stops", format!("an error with {part:?}"), error);
            }
            return all.0;
        }
        (Some(part), None) => {
            all.add("stops", format!("an error with {part:?}"), "the run came to its end");
            return all.0;
        }
        (None, Some(error)) => {
            all.add("stops", "the run comes to its end", error);
            return all.0;
        }
    }
    match &expect.rows {
        ExpectedRows::Count(count) if *count == found.rows.len() => {}
        ExpectedRows::Count(count) => all.add("rows", count, found.rows.len()),
        ExpectedRows::Each(rows) => all.rows(rows, found),
    }
    all.columns(&expect.columns, found);
    if let Some(dims) = expect.dims.filter(|dims| *dims != found.dims) {
        all.add("dims", dims, found.dims);
    }
    all.dead_letters(&expect.dead_letters, &found.dead_letters);
    for (index, (expected, found)) in pairs(&expect.deletes, &found.deletes).enumerate() {
        if expected != found {
            all.add(format!("delete {}", index + 1), quoted(expected), quoted(found));
        }
    }
    all.0
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn add(&mut self, subject: impl Into<String>, expected: impl ToString, found: impl ToString) {
        let (expected, found) = (expected.to_string(), found.to_string());
        self.0.push(Difference { subject: subject.into(), expected, found });
    }

    fn rows(&mut self, expected: &[BTreeMap<String, Value>], found: &CaseResult) {
        for (index, pair) in pairs(expected, &found.rows).enumerate() {
            let subject = format!("row {}", index + 1);
            match pair {
                (Some(row), Some(got)) => self.row(&subject, row, got, found),
                (Some(row), None) => self.add(subject, serde_json::json!(row), NOTHING),
                (None, got) => self.add(subject, NOTHING, got.map_or_else(String::new, Value::to_string)),
            }
        }
    }

    fn row(&mut self, subject: &str, row: &BTreeMap<String, Value>, got: &Value, found: &CaseResult) {
        for (column, expected) in row {
            let subject = format!("{subject}, {column}");
            let exists = column != "vector" && found.columns.iter().any(|(name, _)| name == column);
            // A row does not contain null values.
            let value = got.get(column).unwrap_or(&Value::Null);
            if !exists {
                self.add(subject, expected, format!("no such column; expected one of {}", column_names(found)));
            } else if !same(expected, value) {
                self.add(subject, expected, value);
            }
        }
    }

    fn columns(&mut self, expected: &BTreeMap<String, String>, found: &CaseResult) {
        for (column, data_type) in expected {
            match found.columns.iter().find(|(name, _)| name == column) {
                Some((_, got)) if got == data_type => {}
                Some((_, got)) => self.add(format!("column {column}"), data_type, got),
                None => self.add(
                    format!("column {column}"),
                    data_type,
                    format!("no such column; expected one of {}", column_names(found)),
                ),
            }
        }
    }

    fn dead_letters(&mut self, expected: &[ExpectedDeadLetter], found: &[DeadLetter]) {
        for (index, pair) in pairs(expected, found).enumerate() {
            let subject = format!("dead letter {}", index + 1);
            match pair {
                (Some(expected), Some(got)) if matches(expected, got) => {}
                (expected, got) => self.add(
                    subject,
                    expected.map_or_else(|| NOTHING.into(), expected_shown),
                    got.map_or_else(|| NOTHING.into(), found_shown),
                ),
            }
        }
    }
}

/// The elements of both lists in pairs, to the end of the longer list.
fn pairs<'a, A, B>(expected: &'a [A], found: &'a [B]) -> impl Iterator<Item = (Option<&'a A>, Option<&'a B>)> {
    (0..expected.len().max(found.len())).map(|index| (expected.get(index), found.get(index)))
}

/// Whether two values are equal. Numbers are compared by value; their types are compared by `columns`.
fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        // Whole numbers are compared exactly, since several beyond 2^53 convert to the same float.
        (Value::Number(a), Value::Number(b)) if a.is_f64() == b.is_f64() => a == b,
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let has_same = |(name, a): (&String, &Value)| same(a, b.get(name).unwrap_or(&Value::Null));
            a.iter().all(has_same) && b.keys().all(|name| a.contains_key(name))
        }
        (a, b) => a == b,
    }
}

fn matches(expected: &ExpectedDeadLetter, found: &DeadLetter) -> bool {
    let ExpectedDeadLetter { record, stage, cause } = expected;
    record.is_none_or(|record| record as u64 == found.position.offset + 1)
        && stage.is_none_or(|stage| stage == found.stage)
        && cause.as_ref().is_none_or(|cause| found.cause.contains(cause.as_str()))
}

fn expected_shown(expected: &ExpectedDeadLetter) -> String {
    let ExpectedDeadLetter { record, stage, cause } = expected;
    let parts = [
        record.map(|record| format!("record {record}")),
        stage.map(|stage| stage.as_str().to_string()),
        cause.as_ref().map(|cause| format!("a cause with {cause:?}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "any".into() } else { parts.join(", ") }
}

fn found_shown(found: &DeadLetter) -> String {
    format!("record {}, {}, {:?}", found.position.offset + 1, found.stage.as_str(), found.cause)
}

fn quoted(key: Option<&String>) -> String {
    key.map_or_else(|| NOTHING.into(), |key| format!("{key:?}"))
}

/// The names of the columns that a row can be compared by.
fn column_names(found: &CaseResult) -> String {
    let names = found.columns.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "vector");
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_the_same_by_value_and_nothing_is_null() {
        let check = |a: Value, b: Value, expected: bool| assert_eq!(same(&a, &b), expected, "{a} {b}");
        check(json!(1), json!(1.0), true);
        check(json!(u64::MAX), json!(u64::MAX - 1), false);
        check(json!("1"), json!(1), false);
        check(json!([1, { "a": null }]), json!([1, {}]), true);
        check(json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), false);
    }
}
