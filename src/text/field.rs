//! `record:` in the pipeline file: which fields of a record are its id, its text and its kept columns.
//!
//! In: [`RecordConfig`]. Out: a [`RecordPlan`] with parsed paths and a compiled template. Fails with the key and what
//! is wrong with its value; no record is needed for that.

use minijinja::{Environment, UndefinedBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::columnar::kept::KeptField;
use crate::output::OWN_COLUMNS;

/// `record:` in the pipeline file. A field is a name, or a JSON pointer such as `/meta/lang`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecordConfig {
    /// The field that identifies a record. By default, the id is path and line, as in `docs/a.jsonl:17`.
    pub id: Option<String>,
    /// The field that contains the text, or several to join. Plain text has one field, called `text`.
    pub text: OneOrMany,
    /// The separator of joined text fields.
    pub join: String,
    /// A template that makes the text of the record's fields, in place of `text`, as in
    /// `"{{ title }}: {{ body | trim }}"` (Jinja syntax).
    pub template: Option<String>,
    /// Fields that become columns of the output.
    pub keep: Vec<KeepConfig>,
}

impl Default for RecordConfig {
    fn default() -> Self {
        RecordConfig {
            id: None,
            text: OneOrMany::One("text".into()),
            join: "\n".into(),
            template: None,
            keep: Vec::new(),
        }
    }
}

/// A field, or a list of fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name or a list of names")]
pub enum OneOrMany {
    /// One field.
    One(String),
    /// Several fields, in this order.
    Many(Vec<String>),
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(name) => std::slice::from_ref(name),
            OneOrMany::Many(names) => names,
        }
    }
}

/// A field to keep: its name, or its name with the name and type of its column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a field's name, or { field: NAME, as: COLUMN, type: TYPE }")]
pub enum KeepConfig {
    /// A field whose column has its name and an inferred type.
    Name(String),
    /// A field with settings for its column.
    Full(KeepField),
}

/// A field to keep, with the name and type of its column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepField {
    /// The field: a name, or a JSON pointer such as `/meta/lang`.
    pub field: String,
    /// The name of the column. By default, the last name in `field`.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// string, int64, float64, bool, or an Arrow type. By default, it is inferred from the first records.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub data_type: Option<String>,
}

/// The path of a field: names from the top of the record down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    shown: String,
    names: Vec<String>,
}

impl FieldPath {
    /// Parses the name of a top-level field or, with a leading slash, a JSON pointer (RFC 6901).
    ///
    /// # Errors
    /// If the text names no field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect(),
            None => vec![text.to_string()],
        };
        if text.is_empty() || text == "/" {
            return Err(format!("found {text:?}; expected the name of a field, or a JSON pointer such as /meta/lang"));
        }
        Ok(FieldPath { shown: text.to_string(), names })
    }

    /// The names, from the top of the record down; at least one.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The top-level field that contains the field.
    pub fn top(&self) -> &str {
        &self.names[0]
    }

    /// The field's value in a record with these top-level fields.
    pub fn find<'a>(&self, top: &'a serde_json::Map<String, Value>) -> Option<&'a Value> {
        let mut value = top.get(self.top())?;
        for name in &self.names[1..] {
            value = match value {
                Value::Object(fields) => fields.get(name)?,
                Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// How the text of a record is made.
#[derive(Debug, Clone)]
pub enum TextPlan {
    /// The texts of these fields (at least one), joined.
    Fields {
        /// The fields, in this order.
        fields: Vec<FieldPath>,
        /// The separator.
        join: String,
    },
    /// The output of a template.
    Template(Box<Template>),
}

/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    environment: Environment<'static>,
    /// The top-level fields that it reads, sorted.
    variables: Vec<String>,
}

impl Template {
    fn compile(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        // A missing field is an error, unless the template allows it: `{{ title | default("") }}`.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template_owned("record", source.to_string()).map_err(|error| format!("{error:#}"))?;
        let template = environment.get_template("record").map_err(|error| format!("{error:#}"))?;
        let mut variables: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        variables.sort_unstable();
        if variables.is_empty() {
            return Err(
                "found no field, so all texts would be the same; expected at least one, as in {{ text }}".into()
            );
        }
        Ok(Template { source: source.to_string(), environment, variables })
    }

    /// The text of a record with these fields, a JSON object.
    ///
    /// # Errors
    /// If a field is missing or a filter fails; the message begins with `record.template`.
    pub fn render(&self, fields: &Value) -> Result<String, String> {
        let template = self.environment.get_template("record").map_err(|error| format!("record.template: {error}"))?;
        template.render(minijinja::value::Serde(fields)).map_err(|error| match error.detail() {
            Some(detail) => format!("record.template: {}: {detail}", error.kind()),
            None => format!("record.template: {}", error.kind()),
        })
    }
}

/// The checked `record:` section.
#[derive(Debug, Clone)]
pub struct RecordPlan {
    /// The id field; `None` if ids are positions.
    pub id: Option<FieldPath>,
    /// How the text is made.
    pub text: TextPlan,
    /// The kept columns, with different names.
    pub keep: Vec<KeptField>,
}

/// What is wrong with `record:`.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordPlanError {
    /// The key, such as `record.keep`.
    pub key: String,
    /// What is wrong with its value.
    pub message: String,
}

impl RecordPlan {
    /// Checks `config`.
    ///
    /// # Errors
    /// For an invalid path, type or template, or a duplicate or reserved column name.
    pub fn new(config: &RecordConfig) -> Result<Self, RecordPlanError> {
        let error = |key: &str, message: String| RecordPlanError { key: format!("record.{key}"), message };
        let parse = |key: &str, text: &str| FieldPath::parse(text).map_err(|message| error(key, message));
        let id = config.id.as_deref().map(|text| parse("id", text)).transpose()?;
        let text = match &config.template {
            Some(source) => {
                TextPlan::Template(Box::new(Template::compile(source).map_err(|message| error("template", message))?))
            }
            None => {
                let names = config.text.as_slice();
                if names.is_empty() {
                    return Err(error("text", "found an empty list; expected at least one field".into()));
                }
                let fields = names.iter().map(|name| parse("text", name)).collect::<Result<_, _>>()?;
                TextPlan::Fields { fields, join: config.join.clone() }
            }
        };
        let mut keep: Vec<KeptField> = Vec::new();
        for kept in &config.keep {
            let kept = keep_field(kept).map_err(|message| error("keep", message))?;
            if OWN_COLUMNS.contains(&kept.name.as_str()) {
                let message = format!(
                    "column `{0}`: embedmill writes a column of this name; expected another name, as in \
                     {{ field: {0}, as: my_{0} }}",
                    kept.name
                );
                return Err(error("keep", message));
            }
            if keep.iter().any(|other| other.name == kept.name) {
                return Err(error(
                    "keep",
                    format!("column `{}`: found twice; expected different names (rename one with `as`)", kept.name),
                ));
            }
            keep.push(kept);
        }
        Ok(RecordPlan { id, text, keep })
    }

    /// The top-level fields that the plan reads, each once, sorted.
    pub fn top_fields(&self) -> Vec<String> {
        let text: Vec<&str> = match &self.text {
            TextPlan::Fields { fields, .. } => fields.iter().map(FieldPath::top).collect(),
            TextPlan::Template(template) => template.variables.iter().map(String::as_str).collect(),
        };
        let kept = self.keep.iter().map(|kept| kept.path[0].as_str());
        let mut fields: Vec<String> =
            self.id.iter().map(FieldPath::top).chain(text).chain(kept).map(str::to_string).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// One line for `explain`.
    pub fn describe(&self) -> String {
        let id = self.id.as_ref().map_or("path:line".to_string(), |id| format!("`{id}`"));
        let text = match &self.text {
            TextPlan::Fields { fields, .. } => {
                fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(" + ")
            }
            TextPlan::Template(template) => format!("template {:?}", template.source),
        };
        let keep = self.keep.iter().map(|kept| kept.name.as_str()).collect::<Vec<_>>().join(", ");
        format!(
            "id {id}, text {text}, {}",
            if keep.is_empty() { "nothing kept".into() } else { format!("keep {keep}") }
        )
    }
}

fn keep_field(config: &KeepConfig) -> Result<KeptField, String> {
    let (field, column, data_type) = match config {
        KeepConfig::Name(field) => (field, None, None),
        KeepConfig::Full(KeepField { field, column, data_type }) => (field, column.clone(), data_type.as_deref()),
    };
    let path = FieldPath::parse(field)?.names;
    let name = column.unwrap_or_else(|| path.last().cloned().unwrap_or_default());
    Ok(KeptField { name, path, data_type: data_type.map(str::parse).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_found_by_name_or_pointer() {
        let record = json!({ "a": 1, "b": { "c/d": [10, { "e": "x" }] }, "/odd": 2 });
        let check = |path: &str, expected: Option<Value>| {
            let path = FieldPath::parse(path).unwrap();
            assert_eq!(path.find(record.as_object().unwrap()).cloned(), expected, "{path}");
        };
        check("a", Some(json!(1)));
        check("/a", Some(json!(1)));
        check("/b/c~1d/0", Some(json!(10)));
        check("/b/c~1d/1/e", Some(json!("x")));
        check("/b/c~1d/7", None);
        check("/a/b", None);
        check("z", None);
        assert!(FieldPath::parse("").is_err());
    }

    #[test]
    fn a_contradictory_record_section_is_refused_by_key() {
        let check = |yaml: Value, key: &str, part: &str| {
            let config: RecordConfig = serde_json::from_value(yaml).unwrap();
            let error = RecordPlan::new(&config).unwrap_err();
            assert_eq!(error.key, key);
            assert!(error.message.contains(part), "{}", error.message);
        };
        check(json!({ "text": [] }), "record.text", "at least one field");
        check(json!({ "id": "" }), "record.id", "found \"\"");
        check(json!({ "template": "fixed" }), "record.template", "found no field");
        check(json!({ "template": "{{ a" }), "record.template", "syntax error");
        check(json!({ "keep": ["vector"] }), "record.keep", "as: my_vector");
        check(json!({ "keep": ["a", { "field": "b", "as": "a" }] }), "record.keep", "found twice");
        check(json!({ "keep": [{ "field": "a", "type": "Int65" }] }), "record.keep", "unknown type \"Int65\"");
    }

    #[test]
    fn templates_say_which_fields_they_read() {
        let config: RecordConfig =
            serde_json::from_value(json!({ "template": "{{ title }}: {{ meta.body | trim }}", "id": "/meta/id" }))
                .unwrap();
        let plan = RecordPlan::new(&config).unwrap();
        assert_eq!(plan.top_fields(), ["meta", "title"]);
        let TextPlan::Template(template) = plan.text else { panic!("a template was given") };
        assert_eq!(template.render(&json!({ "title": "T", "meta": { "body": " b " } })).unwrap(), "T: b");
        assert!(template.render(&json!({ "meta": { "body": "b" } })).unwrap_err().contains("undefined"));
    }
}
