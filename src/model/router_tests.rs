use serde_json::{Value, json};

use super::tests::{config, good, read, with_key};
use crate::model::ModelConfig;

fn module(class: &str, path: &str) -> Value {
    json!({"path": path, "type": format!("sentence_transformers.models.{class}")})
}

/// A folder whose first module is a Router with two routes, as sentence-transformers saves it.
fn router(parameters: Value) -> Vec<(String, Value)> {
    let own = |class: &str| format!("sentence_transformers.base.modules.{}.{class}", class.to_lowercase());
    let structure = json!({"query": ["query_0_Transformer", "query_1_Pooling"], "document": ["document_0_Transformer", "query_1_Pooling"]});
    let types = json!({"query_0_Transformer": own("Transformer"), "document_0_Transformer": own("Transformer"), "query_1_Pooling": own("Pooling")});
    let files = [
        (
            "modules.json",
            json!([{"path": "", "type": own("Router")}, {"path": "1_Normalize", "type": own("Normalize")}]),
        ),
        ("router_config.json", json!({"types": types, "structure": structure, "parameters": parameters})),
        ("query_1_Pooling/config.json", json!({"embedding_dimension": 6, "pooling_mode": "cls"})),
        ("query_0_Transformer/config.json", good().swap_remove(0).1),
        ("query_0_Transformer/model.safetensors", json!("q")),
        ("document_0_Transformer/config.json", with_key("num_hidden_layers", json!(5))),
        ("document_0_Transformer/model.safetensors", json!("d")),
    ];
    files.map(|(name, value)| (name.to_owned(), value)).into()
}

#[test]
fn a_router_is_replaced_by_one_of_its_routes() {
    let check = |parameters: Value, route: Option<&str>, expected: Result<usize, &str>| {
        let files = router(parameters.clone());
        let files: Vec<(&str, Value)> = files.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let config = ModelConfig { route: route.map(str::to_owned), ..config() };
        match (read(&config, &files), expected) {
            (Ok(spec), Ok(layers)) => {
                assert_eq!(
                    (spec.layers, spec.modules().as_str()),
                    (layers, "cls pooling, normalised"),
                    "{parameters} {route:?}"
                );
                assert_eq!(
                    spec.provenance().iter().find(|(key, _)| *key == "route").map(|(_, route)| route.as_str()),
                    route
                );
            }
            (Err(found), Err(expected)) => {
                assert!(found.starts_with(expected), "   found {found}\nexpected {expected}")
            }
            (found, expected) => {
                panic!("{parameters} {route:?}: {:?}, expected {expected:?}", found.map(|spec| spec.layers))
            }
        }
    };
    let (query, document) = (2, 5);
    check(json!({"default_route": "document"}), None, Ok(document));
    check(json!({"default_route": "document"}), Some("query"), Ok(query));
    check(json!({"default_route": "query"}), Some("document"), Ok(document));
    check(json!({"route_mappings": {"(None, 'text')": "document"}}), None, Ok(document));
    check(json!({"route_mappings": {"(None, 'text')": "document"}}), Some("query"), Ok(document));
    check(
        json!({"route_mappings": {"('query', 'text')": "document", "(None, None)": "query"}}),
        Some("query"),
        Ok(document),
    );
    check(json!({"route_mappings": {"('query', None)": "document"}, "default_route": "query"}), None, Ok(query));
    check(
        json!({}),
        None,
        Err(
            "model.route: missing; expected one of document, query, since FOLDER/router_config.json has no default route",
        ),
    );
    check(
        json!({}),
        Some("image"),
        Err("model.route: unknown route \"image\"; expected one of document, query (of FOLDER/router_config.json)"),
    );
    check(
        json!({"default_route": "image"}),
        None,
        Err(
            "FOLDER/router_config.json: unknown route \"image\"; expected one of document, query, the keys of \"structure\"",
        ),
    );
    let none = read(&ModelConfig { route: Some("query".into()), ..config() }, &[]).expect_err("there is no Router");
    assert_eq!(none, "model.route: found \"query\", but the model has no Router (leave it out)");
}

#[test]
fn broken_routers_are_refused() {
    let check = |key: &str, value: Value, expected: &str| {
        let files: Vec<(String, Value)> = router(json!({"default_route": "query"}));
        let files: Vec<(&str, Value)> = files
            .iter()
            .map(|(name, content)| {
                let mut content = content.clone();
                if name == "router_config.json" {
                    content[key] = value.clone();
                }
                (name.as_str(), content)
            })
            .collect();
        let found = read(&config(), &files).err().unwrap_or_else(|| "it was read".into());
        assert!(found.starts_with(expected), "   found {found}\nexpected {expected}");
    };
    check(
        "structure",
        json!({}),
        "FOLDER/router_config.json: \"structure\": found {}; expected an object of 1 to 256 routes, each a list of modules",
    );
    check(
        "structure",
        json!({"query": []}),
        "FOLDER/router_config.json: \"structure.query\": found []; expected a list of 1 to 256 modules",
    );
    check(
        "structure",
        json!({"query": ["nothing"]}),
        "FOLDER/router_config.json: \"structure.query\": found [\"nothing\"]; expected a list of 1 to 256 modules, each with its class",
    );
    let types = json!({"../up": "sentence_transformers.models.Transformer"});
    let expected = "FOLDER/router_config.json: \"structure.query\": found [\"query_0_Transformer\",\"query_1_Pooling\"]; expected a list of \
                    1 to 256 modules, each with its class in \"types\"";
    check("types", types, expected);
    let up = read(
        &config(),
        &[
            ("modules.json", json!([module("Router", "")])),
            (
                "router_config.json",
                json!({"types": {"../up": "sentence_transformers.models.Transformer"},
                "structure": {"query": ["../up"]}, "parameters": {"default_route": "query"}}),
            ),
        ],
    );
    assert_eq!(
        up.err().unwrap_or_default(),
        "FOLDER/router_config.json: module ../up: path \"../up\" leaves the folder; expected a path inside it"
    );
    let missing = read(&config(), &[("modules.json", json!([module("Asym", "0_Asym")]))]);
    assert_eq!(
        missing.err().unwrap_or_default(),
        "FOLDER/0_Asym/router_config.json: missing; expected the routes of the Router"
    );
}
