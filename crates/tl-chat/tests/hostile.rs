//! Templates and conversations that want too much: each ends in an error.

use proptest::prelude::*;
use serde_json::json;
use tl_chat::{ChatError, ChatTemplate, DateTime, Limits, Message, Request};

fn request(messages: &[Message]) -> Request<'_> {
    Request {
        messages,
        tools: None,
        add_generation_prompt: true,
        bos_token: "",
        eos_token: "",
        extra: None,
        now: DateTime::from_unix_seconds(0),
    }
}

fn render(source: &str) -> Result<String, ChatError> {
    // A tenth of the work that is allowed otherwise, so that the test is short.
    let limits = Limits { steps: 2_000_000, ..Limits::default() };
    ChatTemplate::with_limits(source, limits)?.render(&request(&[Message::new("user", "Hi")]))
}

/// `before`, then `step` `n` times, then `after`.
fn repeated(before: &str, step: &str, n: usize, after: &str) -> String {
    format!("{before}{}{after}", step.repeat(n))
}

#[test]
fn what_does_not_end_or_builds_too_much_is_an_error() {
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}";
    let doubling = "{% set ns = namespace(a='x', b=[1], c=[1]) %}{% for i in range(60) %}";
    let cases = [
        // Work.
        format!("{loops}{{% endfor %}}{{% endfor %}}"),
        format!("{loops}x{{% endfor %}}{{% endfor %}}"),
        format!("{loops}{{% set x = 'abc' in 'abcd' %}}{{% endfor %}}{{% endfor %}}"),
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}".to_owned(),
        "{{ range(99999)|unique|list|length }}".to_owned(),
        "{% set x = range(99999)|list %}{% for i in range(99999) %}{{ i in x }}{% endfor %}".to_owned(),
        "{% set t = 'a' * 9000000 %}{% for i in range(99999) %}{{ t.count('b') }}{{ t[-1] }}{{ t|length }}{% endfor %}"
            .to_owned(),
        "{% set t = 'ab' * 900000 %}{% for i in range(99999) %}{{ t == t + '' }}{% endfor %}".to_owned(),
        "{{ ('a' * 3000000).strip('b' * 3000000 + 'a') }}".to_owned(),
        // Memory.
        "{{ 'x' * 99999999999 }}".to_owned(),
        "{{ 'x' * 170141183460469231731687303715884105727 }}".to_owned(),
        "{{ [1] * 99999999999 }}".to_owned(),
        "{{ ['x' * 1000] * 99999 }}".to_owned(),
        format!("{doubling}{{% set ns.a = ns.a + ns.a %}}{{% endfor %}}"),
        format!("{doubling}{{% set ns.a = ns.a ~ ns.a %}}{{% endfor %}}"),
        format!("{doubling}{{% set ns.a = ns.a.replace('x', 'xx') %}}{{% endfor %}}"),
        format!("{doubling}{{% set ns.a = ns.a|replace('', 'xx') %}}{{% endfor %}}"),
        format!("{doubling}{{% set ns.a = ns.a.join([ns.a, ns.a]) %}}{{% endfor %}}"),
        format!("{doubling}{{% set ns.a %}}{{{{ ns.a }}}}{{{{ ns.a }}}}{{% endset %}}{{% endfor %}}"),
        format!("{doubling}{{% set ns.b = ns.b + ns.b %}}{{% endfor %}}"),
        // Lists that share their items: small in memory, endless when walked.
        format!("{doubling}{{% set ns.b = [ns.b, ns.b] %}}{{% endfor %}}{{{{ ns.b }}}}"),
        format!("{doubling}{{% set ns.b = [ns.b, ns.b] %}}{{% endfor %}}{{{{ '' ~ ns.b }}}}"),
        format!("{doubling}{{% set ns.b = [ns.b, ns.b] %}}{{% endfor %}}{{{{ ns.b|tojson|length }}}}"),
        format!("{doubling}{{% set ns.b = [ns.b, ns.b] %}}{{% endfor %}}{{{{ ns.b|string|length }}}}"),
        format!("{doubling}{{% set ns.b = [ns.b, ns.b] %}}{{% endfor %}}{{{{ '%s' % [ns.b] }}}}"),
        format!(
            "{doubling}{{% set ns.b = [ns.b, ns.b] %}}{{% set ns.c = [ns.c, ns.c] %}}{{% endfor %}}{{{{ ns.b == ns.c }}}}"
        ),
        format!(
            "{doubling}{{% set ns.b = [ns.b, ns.b] %}}{{% set ns.c = [ns.c, ns.c] %}}{{% endfor %}}{{{{ ns.b in [ns.c] }}}}"
        ),
        format!(
            "{doubling}{{% set ns.b = [ns.b, ns.b] %}}{{% set ns.c = [ns.c, ns.c] %}}{{% endfor %}}{{{{ [ns.b, ns.c]|sort }}}}"
        ),
        // Widths, precisions, indents.
        "{{ '%999999999999d' % 1 }}".to_owned(),
        "{{ '%.999999999f' % 1.5 }}".to_owned(),
        "{{ '%99999999999999999999999999d' % 1 }}".to_owned(),
        "{{ '{:>99999999999}'.format(1) }}".to_owned(),
        "{{ 'a'.center(99999999999) }}{{ 'a'.zfill(99999999999) }}".to_owned(),
        "{{ 'a'|indent(99999999999, true) }}".to_owned(),
        "{{ [1]|tojson(indent=99999999999) }}".to_owned(),
        "{{ ('\t' * 99999).expandtabs(99999999) }}".to_owned(),
        "{{ [1]|batch(99999999999, 'x')|list }}{{ [1]|slice(99999999999)|list }}".to_owned(),
        "{{ range(99999999999999) }}".to_owned(),
        "{{ strftime_now('%c' * 9999) }}".to_owned(),
        // Values that contain themselves, or nest without end.
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".to_owned(),
        "{% set ns = namespace() %}{% set ns.a = [ns] %}".to_owned(),
        "{% set ns = namespace() %}{% set ns.a = {'k': (ns,)} %}".to_owned(),
        "{% macro m() %}{% endmacro %}{% set ns = namespace(a=m) %}".to_owned(),
        "{% for x in [1] %}{% set y = [loop] %}{% endfor %}".to_owned(),
        "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% endfor %}".to_owned(),
        "{% set ns = namespace(a={}) %}{% for i in range(99999) %}{% set ns.a = {'k': ns.a} %}{% endfor %}".to_owned(),
        "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a.count] %}{% endfor %}".to_owned(),
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}".to_owned(),
        // Numbers.
        "{{ 9 ** 9999 }}".to_owned(),
        "{{ 170141183460469231731687303715884105727 + 1 }}".to_owned(),
        "{{ 1 % 0 }}".to_owned(),
        // Text that nests.
        repeated("{{ ", "(", 9999, ""),
        repeated("{{ ", "[", 9999, ""),
        repeated("{{ ", "not ", 9999, "1 }}"),
        repeated("{{ ", "- ", 9999, "1 }}"),
        repeated("{{ 1", " if 1 else 1", 9999, " }}"),
        repeated("", "{% if 1 %}", 9999, ""),
        repeated("", "{% for x in y %}", 9999, ""),
        repeated("{{ x", "[x", 9999, ""),
    ];
    for source in &cases {
        let shown: String = source.chars().take(200).collect();
        let result = render(source);
        assert!(result.is_err(), "{shown}: rendered {} bytes", result.unwrap_or_default().len());
    }
}

#[test]
fn the_deepest_recursion_fits_half_of_a_thread_s_stack() {
    let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(30), "]".repeat(30));
    let sources = [
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}".to_owned(),
        format!("{{% macro f(x) %}}{{{{ {} }}}}{{% endmacro %}}{{{{ f(1) }}}}", nested("f(x)")),
        format!("{{% macro f(x) %}}{}{{{{ f(x) }}}}{}{{% endmacro %}}{{{{ f(1) }}}}", "{% if 1 %}".repeat(60), "{% endif %}".repeat(60)),
        format!(
            "{{% macro f(x) %}}{}{{{{ f(x) }}}}{}{{% endmacro %}}{{{{ f(1) }}}}",
            "{% for y in [1] %}".repeat(60),
            "{% endfor %}".repeat(60)
        ),
        "{% macro f(x) %}{% call f(x) %}{{ caller() }}{% endcall %}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% set ns = namespace(a=[]) %}{% for i in range(120) %}{% set ns.a = [ns.a] %}{% endfor %}{% macro f(x) %}{{ x|tojson }}{{ x }}{{ x == [x] }}{{ f(x) }}{% endmacro %}{{ f(ns.a) }}".to_owned(),
        format!("{{{{ {} }}}}", nested("1|map('map', 'map')")),
    ];
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let results = thread.spawn(move || sources.map(|source| render(&source))).unwrap().join().unwrap();
    for result in &results[..6] {
        assert!(
            matches!(result, Err(ChatError::Limit { what: "levels of nested bodies and calls", .. })),
            "{result:?}"
        );
    }
}

#[test]
fn long_chains_are_no_nesting() {
    for (source, expected) in [
        (repeated("{{ 0", " + 1", 9999, " }}"), "9999"),
        (repeated("{{ ('a'", " ~ 'b'", 9999, ")|length }}"), "10000"),
        (repeated("{{ 'a'", "|upper", 9999, " }}"), "A"),
        (repeated("{{ 1", " and 1", 9999, " }}"), "1"),
        (repeated("{{ 1", " == 1", 9999, " }}"), "True"),
        (repeated("{% if 0 %}", "{% elif 0 %}", 9999, "{% else %}x{% endif %}"), "x"),
        (repeated("{{ [", "1,", 9999, "]|length }}"), "9999"),
    ] {
        assert_eq!(render(&source).as_deref(), Ok(expected), "{}", &source[..40]);
    }
}

#[test]
fn limits_are_those_that_are_given() {
    let exceeded = |source: &str, limits: Limits| {
        let template = ChatTemplate::with_limits(source, limits)?;
        template.render(&request(&[Message::new("user", "Hi")]))
    };
    let limits = Limits { source_bytes: 200, output_bytes: 10, memory_bytes: 2000, steps: 100 };
    assert_eq!(exceeded("{{ 'x' * 10 }}", limits).as_deref(), Ok("xxxxxxxxxx"));
    for (source, what, limit) in
        [("{{ 'x' * 11 }}", "bytes of text", 10), ("{% for x in range(200) %}{% endfor %}", "steps", 100)]
    {
        assert_eq!(exceeded(source, limits), Err(ChatError::Limit { line: 1, what, limit }), "{source}");
    }
    let error = exceeded("{{ ('x' * 20000)|length }}", limits).unwrap_err();
    assert!(matches!(error, ChatError::Limit { what: "steps" | "bytes of memory", .. }), "{error}");
    let long = "x".repeat(201);
    assert_eq!(exceeded(&long, limits), Err(ChatError::SourceTooLong { len: 201, limit: 200 }));
    // The conversation's own memory comes on top of the limit.
    let template = ChatTemplate::with_limits("{{ messages|length }}", limits).unwrap();
    let messages = vec![Message::new("user", "y".repeat(5000)); 1];
    assert_eq!(template.render(&request(&messages)).as_deref(), Ok("1"));
}

#[test]
fn json_that_nests_too_deeply_is_an_error() {
    let mut deep = json!(1);
    for _ in 0..101 {
        deep = json!([deep]);
    }
    let template = ChatTemplate::new("{{ tools }}").unwrap();
    let error = template.render(&Request { tools: Some(&deep), ..request(&[]) }).unwrap_err();
    assert_eq!(error, ChatError::InputTooDeep { what: "the list of tools", limit: 100 });
    let message = Message::new("user", "x").with("arguments", deep);
    let error = template.render(&request(&[message])).unwrap_err();
    assert_eq!(error, ChatError::InputTooDeep { what: "a message", limit: 100 });
}

/// Pieces that templates are made of.
const PIECES: [&str; 60] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-%}",
    "{%-",
    "{{-",
    "-}}",
    " if ",
    " else ",
    " for ",
    " in ",
    " endif ",
    " endfor ",
    " set ",
    " macro ",
    " endmacro ",
    " is ",
    " not ",
    " and ",
    " or ",
    " x ",
    " messages ",
    "messages[0]",
    " loop ",
    ".content",
    ".split('a')",
    "|length",
    "|tojson",
    "|map('upper')",
    "|list",
    "[::-1]",
    "[1:]",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    " = ",
    " == ",
    " + ",
    " * ",
    " ~ ",
    " % ",
    "'a'",
    "\"é\"",
    "12",
    "1.5",
    "namespace(a=1)",
    "range(3)",
    " none ",
    "\n",
    "text",
    "raw",
    "|replace('a','')",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_ends_in_text_or_an_error(pieces in prop::collection::vec(0..PIECES.len(), 0..40)) {
        let source: String = pieces.iter().map(|at| PIECES[*at]).collect();
        let _ = render(&source);
    }

    #[test]
    fn any_expression_ends_in_text_or_an_error(pieces in prop::collection::vec(18..PIECES.len(), 0..12)) {
        let inner: String = pieces.iter().map(|at| PIECES[*at]).collect();
        let _ = render(&format!("{{{{ {inner} }}}}"));
    }

    #[test]
    fn any_characters_end_in_text_or_an_error(source in "[ -~\n\u{e9}\u{1f600}{}%#'\"-]{0,80}") {
        let _ = render(&source);
    }
}
