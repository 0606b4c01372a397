//! `record:` in the pipeline file, and the fields that it names.

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
    /// The field that identifies a record; left out, ids are made from path and line, as in `docs/a.jsonl:17`.
    pub id: Option<String>,
    /// The field that holds the text, or several that are joined. A line of plain text has one field, called `text`.
    pub text: OneOrMany,
    /// What stands between joined text fields.
    pub join: String,
    /// A template over the record's fields instead of `text`, as in `"{{ title }}: {{ body | trim }}"` (Jinja syntax).
    pub template: Option<String>,
    /// Fields that become columns of the output, with their types.
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

/// A name or a list of names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name or a list of names")]
pub enum OneOrMany {
    One(String),
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

/// A field to keep: its name, or its name with a type and a name of its own in the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a field's name, or { field: NAME, as: COLUMN, type: TYPE }")]
pub enum KeepConfig {
    Name(String),
    Full(KeepField),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepField {
    pub field: String,
    /// The column's name in the output; left out, the field's last name.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// string, int64, float64, bool, or an Arrow type; left out, it is read from the first records.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub data_type: Option<String>,
}

/// Where a field lies: names from the record's top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    shown: String,
    names: Vec<String>,
}

impl FieldPath {
    /// A name as it is; or, with a leading slash, a JSON pointer (RFC 6901).
    ///
    /// # Errors
    /// If it is empty.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect(),
            None => vec![text.to_string()],
        };
        if text.is_empty() || text == "/" {
            return Err("expected a field's name or a JSON pointer such as /meta/lang, found nothing".into());
        }
        Ok(FieldPath { shown: text.to_string(), names })
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The record's top field that it lies in.
    pub fn top(&self) -> &str {
        &self.names[0]
    }

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

/// How a record's text is made.
#[derive(Debug, Clone)]
pub enum TextPlan {
    Fields { fields: Vec<FieldPath>, join: String },
    Template(Box<Template>),
}

/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    environment: Environment<'static>,
    variables: Vec<String>,
}

impl Template {
    fn compile(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        // A missing field is an error here as elsewhere; `{{ title | default("") }}` says that it may be missing.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template_owned("record", source.to_string()).map_err(|error| format!("{error:#}"))?;
        let template = environment.get_template("record").map_err(|error| format!("{error:#}"))?;
        let mut variables: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        variables.sort_unstable();
        if variables.is_empty() {
            return Err("it names no field, so all texts would be the same".into());
        }
        Ok(Template { source: source.to_string(), environment, variables })
    }

    pub fn render(&self, fields: &Value) -> Result<String, String> {
        let template = self.environment.get_template("record").map_err(|error| error.to_string())?;
        template.render(minijinja::value::Serde(fields)).map_err(|error| match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        })
    }
}

/// `record:` checked.
#[derive(Debug, Clone)]
pub struct RecordPlan {
    pub id: Option<FieldPath>,
    pub text: TextPlan,
    pub keep: Vec<KeptField>,
}

/// What is wrong with `record:`, and in which key.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordPlanError {
    pub key: String,
    pub message: String,
}

impl RecordPlan {
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
                    return Err(error("text", "expected at least one field, found an empty list".into()));
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
                    "`{0}` is the name of a column that embedmill writes; give yours another: \
                     {{ field: {0}, as: my_{0} }}",
                    kept.name
                );
                return Err(error("keep", message));
            }
            if keep.iter().any(|other| other.name == kept.name) {
                return Err(error(
                    "keep",
                    format!("two columns are called `{}`; give one another name by `as`", kept.name),
                ));
            }
            keep.push(kept);
        }
        Ok(RecordPlan { id, text, keep })
    }

    /// The top-level fields that it reads, each once, sorted.
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
        check(json!({ "id": "" }), "record.id", "found nothing");
        check(json!({ "template": "fixed" }), "record.template", "names no field");
        check(json!({ "template": "{{ a" }), "record.template", "syntax error");
        check(json!({ "keep": ["vector"] }), "record.keep", "as: my_vector");
        check(json!({ "keep": ["a", { "field": "b", "as": "a" }] }), "record.keep", "two columns");
        check(json!({ "keep": [{ "field": "a", "type": "Int65" }] }), "record.keep", "`Int65` is no type");
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
