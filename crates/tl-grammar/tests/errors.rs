//! What is refused, how, and that hostile grammars end: each in an error or in a grammar that can be used.

mod common;

use common::{byte_level, demo};
use tl_grammar::{GrammarCompiler, GrammarError, GrammarSource, limits};
use tl_model::{Constraint, ConstraintState, Tokenizer};

fn compiler(tokenizer: &Tokenizer) -> GrammarCompiler {
    GrammarCompiler::new(tokenizer, |id| tokenizer.is_end(id)).unwrap()
}

fn schema(text: impl Into<String>) -> GrammarSource {
    GrammarSource::JsonSchema(text.into())
}

fn lark(text: impl Into<String>) -> GrammarSource {
    GrammarSource::Lark(text.into())
}

fn regex(text: impl Into<String>) -> GrammarSource {
    GrammarSource::Regex(text.into())
}

#[test]
fn what_is_refused() {
    let tokenizer = demo();
    let compiler = compiler(&tokenizer);
    let check = |source: GrammarSource, expected: &[&str]| {
        let error = compiler.compile(&source).map(drop).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{source:?}: {error}");
        assert!(error.lines().count() == 1 && error.chars().count() < 600, "{error}");
    };
    check(schema(""), &["the JSON schema is not JSON", "line 1 column 0"]);
    check(schema("{\n \"type\": \"object\",,\n}"), &["is not JSON", "line 2 column 19"]);
    check(schema("[1, 2]"), &["the JSON schema is a list; a schema is an object"]);
    check(schema("7"), &["the JSON schema is a number"]);
    check(schema("false"), &["the JSON schema: ", "false"]);
    check(
        schema(r#"{"properties": {"a/b": {"items": {"uniqueItems": true, "type": "string"}}}}"#),
        &["the JSON schema has `uniqueItems` at #/properties/a~1b/items, which cannot be followed; leave it out"],
    );
    check(schema(r#"{"allOf": [{}, {"not": {}, "if": {}}]}"#), &["`not`", "`if`", "at #/allOf/1", "leave them out"]);
    check(schema(r#"{"type": "strin"}"#), &["the JSON schema: ", "strin"]);
    check(schema(r#"{"type": 3}"#), &["the JSON schema: ", "type"]);
    check(schema(r##"{"$ref": "#/$defs/a"}"##), &["the JSON schema: ", "$defs"]);
    check(schema(r#"{"$ref": "https://example.org/a.json"}"#), &["the JSON schema: ", "https://example.org/a.json"]);
    check(schema(r#"{"type": "integer", "minimum": 5, "maximum": 4}"#), &["the JSON schema: ", "5", "4"]);
    check(schema(r#"{"type": "string", "pattern": "(a"}"#), &["the JSON schema: "]);
    check(schema(r#"{"type": "string", "pattern": "(?=a)b"}"#), &["the JSON schema: "]);
    check(schema(r#"{"type": "string", "format": "no-such"}"#), &["no-such"]);
    assert_eq!(compiler.compile(&lark("start: \"\"\n")).unwrap().state(), ConstraintState::Complete);
    check(lark(""), &["the grammar: "]);
    check(lark("start: a\n"), &["the grammar: ", "line 1", "a"]);
    check(lark("start: \"a\"\nb: (\"x\"\n"), &["the grammar: "]);
    check(lark("start: \"a\"\n\n   $\n"), &["the grammar: line 3, column 4: "]);
    check(lark("begin: \"a\"\n"), &["start"]);
    check(lark("a:\n".repeat(2_001)), &["2001 definitions", "at most 2000"]);
    check(lark("x".repeat((1 << 20) + 1)), &["the grammar of 1048577 bytes is too long; at most 1048576 are read"]);
    check(regex(""), &["the regular expression: it is empty"]);
    check(regex("(a"), &["the regular expression: "]);
    check(regex("a{2,1}"), &["the regular expression: "]);
    check(regex(r"\bword"), &["the regular expression: "]);
    check(regex("(".repeat(1001)), &["the regular expression: "]);
    check(lark("start: start\n"), &["the grammar: no text that the model's tokens spell can follow it"]);
    check(schema(r##"{"$ref": "#"}"##), &["the JSON schema: no text that the model's tokens spell can follow it"]);
    check(regex("[a-z]{3}/\n)"), &["the regular expression: "]);
}

/// Goes on with a grammar as far as it goes, always with one of the tokens that are allowed.
fn walk(grammar: &mut tl_grammar::Grammar, n: usize, steps: usize) {
    for step in 0..steps {
        if grammar.state() == ConstraintState::Complete {
            return;
        }
        let mut logits = vec![0.0; n];
        // An error is an end, too.
        if grammar.mask(&mut logits).is_err() {
            return;
        }
        let open: Vec<usize> = (0..n).filter(|&id| logits[id] == 0.0).collect();
        if grammar.accept(open[step * 7919 % open.len()] as u32).is_err() {
            return;
        }
    }
}

/// Bounded time and memory show in that the tests end; whatever comes of them is no panic and no abort.
fn ends(sources: Vec<GrammarSource>) {
    for tokenizer in [&*demo(), &byte_level()] {
        let compiler = compiler(tokenizer);
        for source in &sources {
            match compiler.compile(source) {
                Ok(mut grammar) => walk(&mut grammar, tokenizer.vocab_size(), 40),
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.lines().count() == 1 && message.chars().count() < 600, "{message}");
                    assert!(!matches!(error, GrammarError::System(_)), "{message}");
                }
            }
        }
    }
}

#[test]
fn hostile_schemas_end() {
    let deep = |n: usize, open: &str, close: &str| format!("{}{{}}{}", open.repeat(n), close.repeat(n));
    let list = |n: usize, item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>().join(",");
    let enumeration = |n: usize| format!(r#"{{"enum": [{}]}}"#, list(n, &|i| format!("\"value {i}\"")));
    let chain = |n: usize| {
        let definitions = list(n, &|i| format!(r##""d{i}": {{"allOf": [{{"$ref": "#/$defs/d{}"}}]}}"##, i + 1));
        format!(r##"{{"$defs": {{{definitions}, "d{n}": {{"type": "null"}}}}, "$ref": "#/$defs/d0"}}"##)
    };
    let product = |n: usize| {
        let any = list(6, &|i| format!(r#"{{"properties": {{"p{i}": {{"type": "integer"}}}}, "required": ["p{i}"]}}"#));
        format!(r#"{{"type": "object", "allOf": [{}]}}"#, list(n, &|_| format!(r#"{{"anyOf": [{any}]}}"#)))
    };
    ends(vec![
        schema(deep(40, r#"{"type": "array", "items": "#, "}")),
        schema(deep(500, r#"{"items": "#, "}")),
        schema(deep(60, r#"{"properties": {"a": "#, "}}")),
        schema("[".repeat(100_000)),
        schema(enumeration(3_000)),
        schema(enumeration(50_000)),
        schema(format!(r#"{{"const": "{}"}}"#, "x".repeat(900_000))),
        schema(r#"{"type": "string", "pattern": "(a*)*b"}"#),
        schema(r#"{"type": "string", "pattern": "^(a|a)*(a|b|ab)*c{1000}$"}"#),
        schema(r#"{"type": "string", "pattern": "(.*a){50}.{1000}"}"#),
        schema(r#"{"type": "string", "pattern": "((((a{100}){100}){100}){100})"}"#),
        schema(r#"{"type": "string", "minLength": 1000000000}"#),
        schema(r#"{"type": "string", "minLength": 1e300}"#),
        schema(r#"{"type": "string", "maxLength": 4294967296}"#),
        schema(r#"{"type": "array", "items": {"type": "null"}, "minItems": 1000000000}"#),
        schema(r#"{"type": "array", "minItems": 18446744073709551615}"#),
        schema(r#"{"type": "object", "minProperties": 1000000000}"#),
        schema(r#"{"type": "integer", "multipleOf": 1000000007}"#),
        schema(r#"{"type": "number", "multipleOf": 1e-300}"#),
        schema(r#"{"type": "number", "minimum": 1e-300, "maximum": 1e300}"#),
        schema(r#"{"type": "integer", "minimum": -1e300, "maximum": 1e300}"#),
        schema(r##"{"$ref": "#"}"##),
        schema(r##"{"allOf": [{"$ref": "#"}]}"##),
        schema(r##"{"anyOf": [{"$ref": "#"}, {"type": "object", "properties": {"a": {"$ref": "#"}}}]}"##),
        schema(r##"{"type": "array", "items": {"$ref": "#"}, "minItems": 1}"##),
        schema(r##"{"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#/properties/a"}]}}}"##),
        schema(chain(100)),
        schema(chain(10_000)),
        schema(product(5)),
        schema(product(40)),
        schema(format!(
            r#"{{"type": "object", "properties": {{{}}}, "additionalProperties": false}}"#,
            list(5_000, &|i| format!("\"p{i}\": {{}}"))
        )),
        schema(format!(
            r#"{{"type": "object", "patternProperties": {{{}}}}}"#,
            list(200, &|i| format!("\"^(a|b)*{i}\": {{}}"))
        )),
        schema(r#"{"x-guidance": {"whitespace_pattern": "((a|b)*c)*d{1000000}"}, "type": "null"}"#),
        schema(r#"{"x-guidance": 3}"#),
        schema(r#"{"x-guidance": {"no_such": 1}}"#),
    ]);
}

#[test]
fn hostile_grammars_end() {
    let rules = |n: usize, rule: &dyn Fn(usize) -> String| (0..n).map(rule).collect::<String>();
    let chain = rules(1_900, &|i| format!("a{i}: a{} \"x\"\n", i + 1));
    let terminals = rules(1_900, &|i| format!("A{i}: (\"z\" A{} \"x\")? \"w\"\n", i + 1));
    let doubling = rules(60, &|i| format!("A{i}: A{} A{}\n", i + 1, i + 1));
    let rule_doubling = rules(60, &|i| format!("a{i}: a{} a{}\n", i + 1, i + 1));
    ends(vec![
        lark("start: start\n"),
        lark("start: start start | \"\"\n"),
        lark("start: start start | \"a\"\n"),
        lark("start: a\na: b\nb: a\n"),
        lark("A: A \"x\"\nstart: A\n"),
        lark(format!("start: a0\n{chain}a1900: \"y\"\n")),
        lark(format!("start: A0\n{terminals}A1900: \"y\"\n")),
        lark(format!("start: A0\n{doubling}A60: \"y\"\n")),
        lark(format!("start: a0\n{rule_doubling}a60: \"y\"\n")),
        lark("start: \"a\"~1000000000\n"),
        lark("start: (\"a\" | \"b\")~0..4294967295\n"),
        lark("start: ((\"a\"~1000)~1000)~1000\n"),
        lark("start: A\nA: (((\"a\"~1000)~1000)~1000)\n"),
        lark(format!("start: {}\n", "\"a\" | ".repeat(50_000) + "\"b\"")),
        lark(format!("start: {}\n", "\"a\" ".repeat(50_000))),
        lark(format!("start: \"{}\"\n", "x".repeat(500_000))),
        lark(format!("start: {}\"a\"{}\n", "(".repeat(1000), ")".repeat(1000))),
        lark(format!("start: {}\"a\"{}\n", "(\"b\" ".repeat(1000), ")?".repeat(1000))),
        lark(format!("start: A\nA: {}\"a\"{}\n", "(\"b\" ".repeat(1000), ")?".repeat(1000))),
        lark(format!("start: \"a\"{}\n", "?".repeat(100_000))),
        lark("start: /(a*)*b/\n"),
        lark("start: %json {\"$ref\": \"#\"}\n"),
        lark(format!("start: %json {}\n", "[".repeat(120))),
        lark(format!("start: {}\n", "%lark { start: ".repeat(100))),
        lark("%llguidance {\"no_such\": 1}\nstart: \"a\"\n"),
        lark("%import common.NO_SUCH\nstart: \"a\"\n"),
        lark("start: <[0]> <[999999]>\n"),
        lark("start: @other\n"),
        lark("start: \"\\u0000\\xff\"\n"),
        lark("\u{0}\u{FFFF}é🦀\n"),
        lark("start: é\n"),
        lark(format!("start: \"a\" // {}\n  é\n", "é".repeat(300))),
    ]);
}

#[test]
fn hostile_expressions_end() {
    ends(vec![
        regex("(a*)*b"),
        regex("(a|aa)+$"),
        regex("(x+x+)+y"),
        regex("(.*a.{1000}){20}"),
        regex("a{1000000}"),
        regex("a{4294967295}"),
        regex("((a{1000}){1000}){1000}"),
        regex(r"\p{L}{500}\p{Greek}{500}"),
        regex(r"(\w|\d|\s){1000}"),
        regex("a".repeat(500_000)),
        regex("a|".repeat(200_000) + "b"),
        regex("a?".repeat(3_000)),
        regex("[^a]".repeat(3_000)),
        regex("(".repeat(100) + "a" + &")*".repeat(100)),
        regex("("),
        regex("é/🦀\n\"\u{0}"),
        regex("\\"),
    ]);
}

#[test]
fn a_source_that_is_as_long_as_it_may_be_is_read() {
    let text = format!("start: \"a\"\n{}", "// a comment\n".repeat((limits::MAX_SOURCE_BYTES - 100) / 13));
    compiler(&byte_level()).compile(&lark(text)).unwrap();
}
