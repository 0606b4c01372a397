use serde_json::{Value, json};

use super::tests::{config, read, with_key};
use super::*;
use crate::model::{DenseChoice, Pooling, PoolingMode};

fn module(class: &str, path: &str) -> Value {
    json!({"path": path, "type": format!("sentence_transformers.models.{class}")})
}

/// The good folder with these modules after its Pooling (or all of them, where they begin with a Transformer), and files.
fn chain(config: &ModelConfig, modules: &[Value], files: &[(&str, Value)]) -> Result<ModelSpec, String> {
    let first =
        modules.first().is_some_and(|first| first["type"].as_str().is_some_and(|kind| kind.ends_with("former")));
    let before = [module("Transformer", ""), module("Pooling", "1_Pooling")];
    let all = if first { modules.to_vec() } else { [&before, modules].concat() };
    read(config, &[&[("modules.json", Value::from(all))], files].concat())
}

fn dense(width_in: usize, width_out: usize) -> Value {
    json!({"in_features": width_in, "out_features": width_out, "bias": true,
           "activation_function": "torch.nn.modules.activation.Tanh"})
}

/// One key of a Dense's configuration replaced.
fn dense_with(key: &str, value: Value) -> Value {
    let mut dense = dense(6, 4);
    dense[key] = value;
    dense
}

fn describe(spec: Result<ModelSpec, String>) -> String {
    spec.map(|spec| format!("{}: {}", spec.dim, spec.modules())).unwrap_or_else(|error| error)
}

#[test]
fn the_width_is_followed_through_any_order() {
    let weights = |folder: &str| (format!("{folder}/model.safetensors"), json!("weights"));
    let check = |modules: &[Value], files: &[(&str, Value)], expected: &str| {
        let with_weights = ["2_Dense", "3_Dense", "2_LayerNorm", "0_Dense", "3_LayerNorm"].map(weights);
        let all: Vec<(&str, Value)> = files
            .iter()
            .cloned()
            .chain(with_weights.iter().map(|(name, value)| (name.as_str(), value.clone())))
            .collect();
        assert_eq!(describe(chain(&config(), modules, &all)), expected);
    };
    let (normalize, dropout) = (module("Normalize", "9_Normalize"), module("Dropout", "9_Dropout"));
    let norm = |width: usize| json!({"dimension": width});
    check(
        &[module("Dense", "2_Dense"), dropout, module("LayerNorm", "3_LayerNorm"), normalize.clone()],
        &[("2_Dense/config.json", dense(6, 4)), ("3_LayerNorm/config.json", norm(4))],
        "4: max pooling, dense 6 to 4 (Tanh), layer norm, normalised",
    );
    let plain = json!({"in_features": 4, "out_features": 9, "bias": false, "use_residual": true,
                       "activation_function": "torch.nn.Identity"});
    check(
        &[module("Dense", "2_Dense"), module("Dense", "3_Dense")],
        &[
            ("2_Dense/config.json", dense_with("activation_function", json!("torch.nn.SiLU"))),
            ("3_Dense/config.json", plain),
        ],
        "9: max pooling, dense 6 to 4 (SiLU), dense 4 to 9 (Identity, no bias, residual)",
    );
    let on_tokens = json!({"in_features": 6, "out_features": 4, "module_input_name": "token_embeddings"});
    let pooling = json!({"embedding_dimension": 4, "pooling_mode": ["lasttoken", "cls"]});
    let first = [module("Transformer", ""), module("Dense", "0_Dense"), normalize, module("Pooling", "1_Pooling")];
    check(
        &first,
        &[("0_Dense/config.json", on_tokens.clone()), ("1_Pooling/config.json", pooling.clone())],
        "8: dense 6 to 4 (Tanh), lasttoken+cls pooling",
    );
    let of_tokens = json!({"module_input_name": "token_embeddings"});
    check(
        &first,
        &[
            ("0_Dense/config.json", on_tokens.clone()),
            ("9_Normalize/config.json", of_tokens),
            ("1_Pooling/config.json", pooling),
        ],
        "8: dense 6 to 4 (Tanh), normalised, lasttoken+cls pooling",
    );
    // After the pooling, token vectors change nothing.
    check(&[module("Dense", "2_Dense")], &[("2_Dense/config.json", on_tokens)], "6: max pooling");
    // Without the vectors of every layer, it does nothing there either.
    check(
        &[module("Transformer", ""), module("WeightedLayerPooling", "w"), module("Pooling", "1_Pooling")],
        &[],
        "6: max pooling",
    );
}

#[test]
fn the_pipeline_file_overrides_the_chain() {
    let files = [
        ("2_Dense/config.json", dense(6, 4)),
        ("2_Dense/model.safetensors", json!("abc")),
        ("config_sentence_transformers.json", json!({"truncate_dim": 5})),
    ];
    let check = |change: fn(&mut ModelConfig), expected: &str| {
        let mut config = config();
        change(&mut config);
        let modules = [module("Dense", "2_Dense"), module("Normalize", "3")];
        assert_eq!(describe(chain(&config, &modules, &files)), expected);
    };
    check(|_| (), "4: max pooling, dense 6 to 4 (Tanh), normalised");
    check(|c| c.dense = Some(DenseChoice::None), "5: max pooling, normalised, first 5 values");
    check(|c| c.normalize = Some(false), "4: max pooling, dense 6 to 4 (Tanh)");
    check(|c| c.truncate_dim = Some(3), "3: max pooling, dense 6 to 4 (Tanh), normalised, first 3 values");
    check(
        |c| (c.truncate_dim, c.normalize) = (Some(3), Some(true)),
        "3: max pooling, dense 6 to 4 (Tanh), normalised, first 3 values, normalised",
    );
    check(
        |c| (c.truncate_dim, c.normalize) = (Some(3), Some(false)),
        "3: max pooling, dense 6 to 4 (Tanh), first 3 values",
    );
    check(|c| c.truncate_dim = Some(4), "4: max pooling, dense 6 to 4 (Tanh), normalised");
    check(
        |c| c.truncate_dim = Some(7),
        "model.truncate_dim: found 7; expected at most 4, the length of the model's vectors",
    );
    check(
        |c| c.pooling = "cls+mean".parse().ok(),
        "FOLDER/2_Dense/config.json: \"in_features\": found 6; expected 12, the width of the vectors before it",
    );
    check(
        |c| (c.pooling, c.dense) = ("cls+mean".parse().ok(), Some(DenseChoice::None)),
        "5: cls+mean pooling, normalised, first 5 values",
    );
}

#[test]
fn what_makes_vectors_is_in_the_provenance() {
    let files = [
        ("2_Dense/config.json", dense(6, 4)),
        ("2_Dense/model.safetensors", json!("abc")),
        ("1_Pooling/config.json", json!({"pooling_mode": "mean", "include_prompt": false})),
        ("config_sentence_transformers.json", json!({"prompts": {"query": "find: "}, "truncate_dim": 3})),
    ];
    let config = ModelConfig { prompt_name: Some("query".into()), ..config() };
    let spec = chain(&config, &[module("Dense", "2_Dense")], &files).expect("it is read");
    let pairs = spec.provenance();
    for (key, value) in [
        ("pooling", "mean"),
        ("modules", "mean pooling, dense 6 to 4 (Tanh), first 3 values"),
        ("modules_sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("truncate_dim", "3"),
        ("normalize", "false"),
        ("dim", "3"),
        ("prompt", "find: "),
        ("include_prompt", "false"),
    ] {
        assert!(pairs.contains(&(key, value.into())), "{key} in {pairs:?}");
    }
    let expected = "test: bert, 2 layers, 3 dims, mean pooling, dense 6 to 4 (Tanh), first 3 values, float32, \
                    at most 16 tokens, prompt \"find: \" (not pooled)";
    assert_eq!(spec.describe(), expected);
    let left_out = ModelConfig { dense: Some(DenseChoice::None), ..config };
    let spec = chain(&left_out, &[module("Dense", "2_Dense")], &files).expect("it is read");
    assert!(spec.provenance().contains(&("dense", "none".into())) && spec.modules_sha256.is_none());
}

#[test]
fn a_plain_model_that_predicts_words_is_pooled_by_its_last_token() {
    let check = |architecture: Value, causal: Value, expected: &str| {
        let mut file = with_key("architectures", json!([architecture]));
        file["is_causal"] = causal;
        let plain = read(&config(), &[("modules.json", Value::Null), ("config.json", file)]);
        assert_eq!(plain.expect("it is read").pooling(), expected);
    };
    check(json!("BertModel"), Value::Null, "mean");
    check(json!("BertForCausalLM"), Value::Null, "lasttoken");
    check(json!("BertForCausalLM"), json!(false), "mean");
    let several = ModelConfig { pooling: Some(Pooling::Several(vec![PoolingMode::Max, PoolingMode::Cls])), ..config() };
    let plain = read(&several, &[("modules.json", Value::Null)]).expect("it is read");
    assert_eq!((plain.pooling().as_str(), plain.dim), ("max+cls", 12));
}

#[test]
fn broken_chains_are_refused_with_file_and_key() {
    let check = |modules: &[Value], files: &[(&str, Value)], expected: &str| {
        let found = describe(chain(&config(), modules, files));
        assert!(found.starts_with(expected), "   found {found}\nexpected {expected}");
    };
    let one = [module("Dense", "2_Dense")];
    let with = |key: &str, value: Value| {
        [("2_Dense/config.json", dense_with(key, value)), ("2_Dense/model.safetensors", json!("w"))]
    };
    check(&one, &[], "FOLDER/2_Dense/config.json: missing; expected the configuration of the module");
    check(&one, &[("2_Dense/config.json", dense(6, 4))], "FOLDER/2_Dense: no weights; expected model.saf");
    check(
        &one,
        &[("2_Dense/config.json", dense(6, 4)), ("2_Dense/pytorch_model.bin", json!("pickle"))],
        "FOLDER/2_Dense: found pytorch_model.bin but no model.safetensors; expected safetensors (take a revision",
    );
    check(
        &one,
        &with("in_features", json!(7)),
        "FOLDER/2_Dense/config.json: \"in_features\": found 7; expected 6, the width of the vectors before it",
    );
    check(
        &one,
        &with("in_features", json!(-6)),
        "FOLDER/2_Dense/config.json: \"in_features\": found -6; expected a whole number from 1",
    );
    check(
        &one,
        &with("out_features", json!(1u64 << 60)),
        "FOLDER/2_Dense/config.json: \"out_features\": found 1152921504606846976; expected a whole number",
    );
    check(
        &one,
        &with("out_features", Value::Null),
        "FOLDER/2_Dense/config.json: \"out_features\": missing; expected a whole number",
    );
    check(
        &one,
        &with("bias", json!("yes")),
        "FOLDER/2_Dense/config.json: \"bias\": found \"yes\"; expected true or false",
    );
    let activation = |name: &str| with("activation_function", json!(name));
    let refused = "FOLDER/2_Dense/config.json: \"activation_function\": found ";
    check(
        &one,
        &activation("torch.nn.modules.activation.PReLU"),
        &format!("{refused}\"torch.nn.modules.activation.PReLU\": unknown activation \"PReLU\"; expected"),
    );
    check(
        &one,
        &activation("torch.nn.Softmax"),
        &format!("{refused}\"torch.nn.Softmax\": unknown activation \"Softmax\"; expected one of Ident"),
    );
    check(
        &one,
        &activation("os.system"),
        &format!("{refused}\"os.system\": unknown activation \"os.system\"; expected one of"),
    );
    check(
        &one,
        &activation("evil.Tanh"),
        &format!("{refused}\"evil.Tanh\": unknown activation \"evil.Tanh\"; expected"),
    );
    check(
        &one,
        &with("activation_function", Value::Null),
        "FOLDER/2_Dense/config.json: \"activation_function\": found null; expected the path",
    );
    check(
        &one,
        &with("module_input_name", json!("x")),
        "FOLDER/2_Dense/config.json: \"module_input_name\": found \"x\"; expected token_embeddings or sent",
    );
    check(
        &one,
        &with("module_output_name", json!("token_embeddings")),
        "FOLDER/2_Dense/config.json: \"module_output_name\": differs from",
    );
    let early = [module("Transformer", ""), module("Dense", "2_Dense"), module("Pooling", "1_Pooling")];
    check(
        &early,
        &with("bias", json!(true)),
        "FOLDER/modules.json: module 1: misplaced class \"sentence_transformers.models.Dense\"; expected a Pooling before it",
    );
    let norm = [module("LayerNorm", "n")];
    check(
        &norm,
        &[("n/config.json", json!({"dimension": 5}))],
        "FOLDER/n/config.json: \"dimension\": found 5; expected 6, the width of the vectors before it",
    );
    check(&norm, &[("n/config.json", json!({}))], "FOLDER/n/config.json: \"dimension\": missing; expected");
    check(
        &[module("Pooling", "1_Pooling")],
        &[],
        "FOLDER/modules.json: module 2: misplaced class \"sentence_transformers.models.Pooling\"; expected one Pooling",
    );
    check(&[module("Transformer", "t"), module("Transformer", "")], &[], "FOLDER/t/config.json: missing");
    check(
        &[module("Dense", "../../2_Dense")],
        &[],
        "FOLDER/modules.json: module 2: path \"../../2_Dense\" leaves the folder; expected a path inside it",
    );
    let layers = [module("Transformer", ""), module("WeightedLayerPooling", "w"), module("Pooling", "1_Pooling")];
    let all = || ("config.json", with_key("output_hidden_states", json!(true)));
    check(&layers, &[all()], "FOLDER/w/config.json: missing");
    check(
        &layers,
        &[all(), ("w/config.json", json!({"num_hidden_layers": 7}))],
        "FOLDER/w/config.json: \"num_hidden_layers\": found 7; expected 2, the number of the transformer's layers",
    );
    check(
        &layers,
        &[all(), ("w/config.json", json!({"num_hidden_layers": 2, "layer_start": 3}))],
        "FOLDER/w/config.json: \"layer_start\": found 3; expected a whole number from 0 to 2",
    );
    check(
        &[module("Normalize", ""), module("WordWeights", "w")],
        &[],
        "FOLDER/modules.json: module 3: unsupported class \"sentence_transformers.models.Word",
    );
    let cross = [("config_sentence_transformers.json", json!({"model_type": "CrossEncoder"}))];
    check(
        &[],
        &cross,
        "FOLDER/config_sentence_transformers.json: \"model_type\": found \"CrossEncoder\"; expected \"SentenceTransformer\"",
    );
    let prompts = |value: Value| [("config_sentence_transformers.json", json!({ "prompts": value }))];
    check(
        &[],
        &prompts(json!([1])),
        "FOLDER/config_sentence_transformers.json: \"prompts\": found [1]; expected an object of names and texts",
    );
    check(
        &[],
        &prompts(json!({"a": 1})),
        "FOLDER/config_sentence_transformers.json: \"prompts.a\": found 1; expected a string",
    );
    let absurd = [("config_sentence_transformers.json", json!({"truncate_dim": 0}))];
    check(
        &[],
        &absurd,
        "FOLDER/config_sentence_transformers.json: \"truncate_dim\": found 0; expected a whole number from 1 to",
    );
}
