//! Texts that follow a grammar, by the demo models: what they are valid by, how they end, and which tokens are chosen.

use std::collections::HashSet;

use serde_json::{Value, json};
use tl_device::{Device, TensorBuffer};
use tl_engine::{
    Constraint, ConstraintState, Finish, GenerateOptions, Generator, GrammarSource, Model, ReserveFor, SamplingOptions,
    Session, Step,
};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo-q8_0.gguf");

fn demo() -> Model {
    Model::load(DEMO, &Device::cpu()).unwrap()
}

fn schema(value: &Value) -> GrammarSource {
    GrammarSource::JsonSchema(value.to_string())
}

fn lark(text: &str) -> GrammarSource {
    GrammarSource::Lark(text.to_owned())
}

fn regex(text: &str) -> GrammarSource {
    GrammarSource::Regex(text.to_owned())
}

fn options(max_tokens: usize, temperature: f32, seed: u64) -> GenerateOptions {
    let sampling = SamplingOptions::default().with_temperature(temperature).with_seed(seed);
    GenerateOptions::default().with_max_tokens(max_tokens).with_sampling(sampling)
}

/// The text, why it ended, and where it stands by the grammar then.
fn generate(
    model: &Model,
    grammar: Box<dyn Constraint>,
    options: &GenerateOptions,
) -> (String, Finish, ConstraintState) {
    let tokenizer = model.tokenizer().unwrap();
    let prompt = tokenizer.encode("A trait object is");
    let mut generator = Generator::new(model, &prompt, options).unwrap().with_constraint(grammar);
    let mut stream = tl_engine::DecodeStream::new();
    let mut text = String::new();
    for token in generator.by_ref() {
        text += stream.next(&tokenizer, token.unwrap()).unwrap();
    }
    text += stream.finish();
    (text, generator.finish().unwrap(), generator.constraint_state().unwrap())
}

/// A plain validator of the keywords that the tests use.
fn is_valid(value: &Value, schema: &Value) -> bool {
    let is_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => panic!("{name}"),
    };
    let size = |key: &str, default: usize| schema[key].as_u64().map_or(default, |n| n as usize);
    let within = |len: usize, what: &str| {
        (size(&format!("min{what}"), 0)..=size(&format!("max{what}"), usize::MAX)).contains(&len)
    };
    schema.as_object().unwrap().iter().all(|(key, rule)| match key.as_str() {
        "type" => is_type(rule.as_str().unwrap()),
        "const" => value == rule,
        "enum" => rule.as_array().unwrap().contains(value),
        "anyOf" => rule.as_array().unwrap().iter().any(|rule| is_valid(value, rule)),
        "minimum" => value.as_f64().is_none_or(|x| x >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|x| x <= rule.as_f64().unwrap()),
        "minLength" | "maxLength" => value.as_str().is_none_or(|text| within(text.chars().count(), "Length")),
        "minItems" | "maxItems" => value.as_array().is_none_or(|items| within(items.len(), "Items")),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(item, rule))),
        "required" => {
            let has = |key: &Value| value.as_object().is_none_or(|object| object.contains_key(key.as_str().unwrap()));
            rule.as_array().unwrap().iter().all(has)
        }
        "properties" => value.as_object().is_none_or(|object| {
            object.iter().all(|(key, value)| rule.get(key).is_none_or(|rule| is_valid(value, rule)))
        }),
        "additionalProperties" => {
            assert_eq!(*rule, json!(false));
            value.as_object().is_none_or(|object| object.keys().all(|key| schema["properties"].get(key).is_some()))
        }
        _ => panic!("{key}"),
    })
}

#[test]
fn the_plain_validator_finds_what_is_wrong() {
    let rule = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 2}}, "required": ["a"],
        "additionalProperties": false});
    let check = |value: Value, expected: bool| assert_eq!(is_valid(&value, &rule), expected, "{value}");
    check(json!({"a": 2}), true);
    check(json!({"a": 1}), false);
    check(json!({"a": 2.5}), false);
    check(json!({}), false);
    check(json!({"a": 2, "b": 1}), false);
    check(json!([2]), false);
    assert!(is_valid(&json!("éé"), &json!({"maxLength": 2})) && !is_valid(&json!("ééé"), &json!({"maxLength": 2})));
}

#[test]
fn json_is_valid_by_its_schema() {
    let model = demo();
    let schemas = [
        json!({"type": "boolean"}),
        json!({"type": "null"}),
        json!({"enum": ["red", "green", 3, null, {"deep": [true]}]}),
        json!({"const": {"a": "\"quoted\" \\ é 漢"}}),
        json!({"type": "integer", "minimum": -12, "maximum": 305}),
        json!({"type": "number", "minimum": 0, "maximum": 1}),
        json!({"type": "string", "minLength": 3, "maxLength": 12}),
        json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 5}),
        json!({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 10, "maximum": 20}]}),
        json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 10},
                "age": {"type": "integer", "minimum": 0, "maximum": 120},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
                "nested": {
                    "type": "object",
                    "properties": {"ok": {"type": "boolean"}},
                    "required": ["ok"],
                    "additionalProperties": false
                }
            },
            "required": ["name", "age", "nested"],
            "additionalProperties": false
        }),
    ];
    let mut texts = HashSet::new();
    for rule in &schemas {
        let grammar = model.grammar(&schema(rule)).unwrap();
        for temperature in [0.0, 0.8, 3.0] {
            for seed in 0..6 {
                let run = generate(&model, Box::new(grammar.clone()), &options(230, temperature, seed));
                let (text, finish, state) = &run;
                let value: Value =
                    serde_json::from_str(text).unwrap_or_else(|error| panic!("{rule}: {run:?}: {error}"));
                assert!(is_valid(&value, rule), "{rule}: {text}");
                // A number may always have another digit: it ends where the model ends it, or where the tokens do.
                let is_end = match finish {
                    Finish::ConstraintComplete => *state == ConstraintState::Complete,
                    Finish::EndOfText | Finish::MaxTokens => *state == ConstraintState::MayEnd,
                    _ => false,
                };
                assert!(is_end, "{rule}: {run:?}");
                texts.insert(text.clone());
                if temperature == 0.0 {
                    break;
                }
            }
        }
    }
    // The model chooses; the grammars do not leave one text each.
    assert!(texts.len() > 40, "{texts:?}");
}

#[test]
fn grammars_and_expressions() {
    let model = demo();
    let check = |source: GrammarSource, is_right: &dyn Fn(&str) -> bool| {
        let grammar = model.grammar(&source).unwrap();
        for (temperature, seed) in [(0.0, 0), (1.0, 1), (1.0, 2), (4.0, 3)] {
            let run = generate(&model, Box::new(grammar.clone()), &options(200, temperature, seed));
            assert!(is_right(&run.0) && run.2 != ConstraintState::Open, "{source:?}: {run:?}");
        }
    };
    check(regex("(yes|no)[!?]"), &|text| ["yes!", "yes?", "no!", "no?"].contains(&text));
    check(regex("-?[0-9]{2,4}"), &|text| text.parse::<i32>().is_ok_and(|n| n.abs() < 10_000));
    check(regex(" ab c"), &|text| text == " ab c");
    check(regex("漢字🦀é"), &|text| text == "漢字🦀é");
    let sums = "start: sum\nsum: NUMBER (\" + \" NUMBER)~1..3\nNUMBER: /[1-9][0-9]?/\n";
    check(lark(sums), &|text| {
        let parts: Vec<&str> = text.split(" + ").collect();
        (2..=4).contains(&parts.len()) && parts.iter().all(|part| part.parse::<u32>().is_ok_and(|n| n < 100 && n > 0))
    });
    let nested = "start: a\na: \"(\" b \")\"\nb: \"[\" c \"]\"\nc: \"x\" | \"y\"\n";
    check(lark(nested), &|text| ["([x])", "([y])"].contains(&text));
}

#[test]
fn a_text_that_is_cut_off_says_so() {
    let model = demo();
    let long = model.grammar(&regex("[a-z]{1000}")).unwrap();
    let run = |options: &GenerateOptions| {
        let (text, finish, state) = generate(&model, Box::new(long.clone()), options);
        assert!(text.bytes().all(|byte| byte.is_ascii_lowercase()), "{text}");
        (finish, state)
    };
    assert_eq!(run(&options(7, 1.0, 0)), (Finish::MaxTokens, ConstraintState::Open));
    let small = options(100, 1.0, 0).with_context(20);
    assert_eq!(run(&small), (Finish::ContextFull, ConstraintState::Open));
    // Complete with the last token that is allowed: complete.
    let yes = model.grammar(&regex("x")).unwrap();
    assert_eq!(
        generate(&model, Box::new(yes), &options(1, 1.0, 0)),
        ("x".to_owned(), Finish::ConstraintComplete, ConstraintState::Complete)
    );
}

/// The best of the tokens that a grammar at its beginning takes behind `text`, found by trying every one.
fn best_by_trying(model: &Model, source: &GrammarSource, text: &[u32], logits: &[f32]) -> u32 {
    let grammar = model.grammar(source).unwrap();
    let mut here = grammar.clone();
    text.iter().for_each(|&token| here.accept(token).unwrap());
    let is_allowed = |token: u32| {
        if model.weights().is_end(token) {
            return here.state() == ConstraintState::MayEnd;
        }
        let mut fresh = grammar.clone();
        text.iter().for_each(|&token| fresh.accept(token).unwrap());
        fresh.accept(token).is_ok()
    };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    order.into_iter().find(|&token| is_allowed(token)).unwrap()
}

#[test]
fn the_greedy_choice_is_the_best_token_that_is_allowed() {
    let model = demo();
    let tokenizer = model.tokenizer().unwrap();
    for source in [
        schema(
            &json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}),
        ),
        regex("[A-Z][a-z ]{3,9}(\\.|!)"),
        lark("start: (WORD \" \")+ \"end\"\nWORD: /[a-z]+/\n"),
    ] {
        let prompt = tokenizer.encode("A trait object is");
        let grammar = model.grammar(&source).unwrap();
        let generator =
            Generator::new(&model, &prompt, &options(12, 0.0, 0)).unwrap().with_constraint(Box::new(grammar));
        let mut text = Vec::new();
        for token in generator {
            let token = token.unwrap();
            let mut cache = model.new_cache(64).unwrap();
            let tokens = [&prompt[..], &text[..]].concat();
            let mut logits = vec![0.0; model.config().vocab_size];
            model.forward(&tokens, &mut cache).unwrap().read_f32(&mut logits).unwrap();
            let expected = best_by_trying(&model, &source, &text, &logits);
            assert_eq!(token, expected, "{source:?}: {:?}", tokenizer.decode(&text));
            text.push(token);
        }
        assert!(text.len() > 3, "{source:?}");
    }
}

#[test]
fn a_session_begins_its_grammar_anew_behind_every_text() {
    let model = demo();
    let tokenizer = model.tokenizer().unwrap();
    let mut session = Session::new(&model, 128, SamplingOptions::default()).unwrap();
    let grammar = model.grammar(&regex("(ab|cd){2}")).unwrap();
    session.set_constraint(Some(Box::new(grammar))).unwrap();
    assert_eq!(session.constraint_state(), Some(ConstraintState::Open));
    let go_on = |session: &mut Session| {
        let mut tokens = Vec::new();
        while session.constraint_state() == Some(ConstraintState::Open) {
            if let Step::Token(token) = session.step().unwrap() {
                tokens.push(token);
            }
        }
        assert_eq!(session.constraint_state(), Some(ConstraintState::Complete));
        tokenizer.decode(&tokens).unwrap()
    };
    let is_right = |text: &str| ["abab", "abcd", "cdab", "cdcd"].contains(&text);
    session.set_text(&tokenizer.encode("One")).unwrap();
    assert!(is_right(&go_on(&mut session)));
    let error = session.step().unwrap_err().to_string();
    assert!(error.contains("complete by the grammar"), "{error}");
    session.set_text(&tokenizer.encode("Two and three")).unwrap();
    assert!(is_right(&go_on(&mut session)));
    session.extend(&tokenizer.encode(" and")).unwrap();
    assert!(is_right(&go_on(&mut session)));
    session.set_constraint(None).unwrap();
    assert_eq!(session.constraint_state(), None);
    session.step().unwrap();
}

#[test]
fn steps_under_a_grammar_take_no_tensor_memory() {
    let device = Device::cpu();
    let model = Model::load(DEMO, &device).unwrap();
    let grammar = model.grammar(&regex("[a-z ]{100}")).unwrap();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&model, 64).unwrap();
    device.set_tensor_buffer(buffer);
    let prompt = model.tokenizer().unwrap().encode("A trait object is");
    let options = options(40, 1.0, 0).with_context(64);
    let mut generator = Generator::new(&model, &prompt, &options).unwrap().with_constraint(Box::new(grammar));
    generator.next().unwrap().unwrap();
    let before = device.stats().allocation_count;
    let n = generator.by_ref().map(Result::unwrap).count();
    assert!(n > 10, "{n}");
    assert_eq!((device.stats().allocation_count, device.tensor_buffer_stats().fallback_count), (before, 0));
}
