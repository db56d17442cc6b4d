//! The language, feature by feature.
//!
//! `features.json` has templates with what Jinja2 3.1.6 makes of them (sandboxed and immutable, `trim_blocks`,
//! `lstrip_blocks`, loop controls, and `tojson` by `json.dumps` without ASCII escapes), and templates that it refuses.

use serde_json::{Map, Value, json};
use tl_chat::{ChatError, ChatTemplate, DateTime, Message, Request};

fn request<'a>(messages: &'a [Message], extra: Option<&'a Map<String, Value>>) -> Request<'a> {
    Request {
        messages,
        tools: None,
        add_generation_prompt: true,
        bos_token: "<s>",
        eos_token: "</s>",
        extra,
        now: DateTime::from_unix_seconds(951_782_400),
    }
}

fn render(source: &str) -> Result<String, ChatError> {
    ChatTemplate::new(source)?.render(&request(&[Message::new("user", "Hi")], None))
}

#[test]
fn templates_mean_what_jinja2_says() {
    let features: Value = serde_json::from_str(include_str!("features.json")).unwrap();
    let mut extra = features["context"].as_object().unwrap().clone();
    let messages: Vec<Message> = serde_json::from_value(extra.remove("messages").unwrap()).unwrap();
    let mut differences = Vec::new();
    for pair in features["texts"].as_array().unwrap() {
        let (source, expected) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        let text = ChatTemplate::new(source).and_then(|template| template.render(&request(&messages, Some(&extra))));
        if text.as_deref() != Ok(expected) {
            differences.push(format!("{source:?}:\n     got {text:?}\n  wanted {expected:?}"));
        }
    }
    for source in features["errors"].as_array().unwrap() {
        let source = source.as_str().unwrap();
        let text = ChatTemplate::new(source).and_then(|template| template.render(&request(&messages, Some(&extra))));
        if let Ok(text) = text {
            differences.push(format!("{source:?}: {text:?}, where an error is expected"));
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn what_a_template_is_told() {
    let extra = json!({ "enable_thinking": false, "documents": [{ "title": "t" }] });
    let tools = json!([{ "type": "function", "function": { "name": "now", "b": 1, "a": 2 } }]);
    let message =
        Message::new("assistant", "x").with("tool_calls", json!([{ "id": "1" }])).with("reasoning_content", "r");
    for (source, expected) in [
        ("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}", "<s></s>True"),
        ("{{ enable_thinking }}{{ documents[0].title }}{{ unknown is defined }}", "FalsetFalse"),
        ("{{ tools | tojson }}", r#"[{"type": "function", "function": {"name": "now", "b": 1, "a": 2}}]"#),
        ("{{ messages[0].tool_calls[0].id }}{{ messages[0].reasoning_content }}{{ messages[0].role }}", "1rassistant"),
        ("{{ strftime_now('%d %b %Y') }}", "29 Feb 2000"),
        ("{% generation %}a{{ messages[0].content }}{% endgeneration %}", "ax"),
        ("{{ none is iterable }}", "False"),
    ] {
        let messages = [message.clone()];
        let request = Request { tools: Some(&tools), ..request(&messages, extra.as_object()) };
        let text = ChatTemplate::new(source).unwrap().render(&request);
        assert_eq!(text.as_deref(), Ok(expected), "{source}");
    }
    assert_eq!(render("{{ tools }}{{ documents }}").as_deref(), Ok("NoneNone"));
}

#[test]
fn errors_say_what_and_where() {
    for (source, expected) in [
        ("a\n{{ 'x' + 1 }}", "chat template, line 2: `+` between values of types str and int"),
        (
            "{{ raise_exception('No system, please') }}",
            "the chat template refuses this conversation: No system, please",
        ),
        ("\n\n{% if x %}", "chat template, line 3: the text ends before `{% endif %}`"),
        ("{{ tools.functions.first }}", "chat template, line 1: `functions` is undefined"),
        (
            "{{ messages[0].append }}{% include 'x' %}",
            "chat template, line 1: the tag `include` is not part of chat templates here",
        ),
        ("{{ strftime_now('%Q') }}", "chat template, line 1: `strftime_now`: \"%Q\" is no directive that is known"),
        ("{{ 'a'|frobnicate }}", "chat template, line 1: there is no filter `frobnicate`"),
        (
            "{{ [1].append(2) }}",
            "chat template, line 1: `append` would change a list: templates cannot change lists and dicts; use a namespace, and `+`",
        ),
    ] {
        assert_eq!(render(source).map_err(|error| error.to_string()), Err(expected.to_owned()), "{source}");
    }
}

#[test]
fn templates_of_a_configuration() {
    let read = |json: Value, name: &str| ChatTemplate::from_config(Some(&json), name).map(|_| ());
    assert_eq!(ChatTemplate::from_config(None, "default").map(|_| ()), Err(ChatError::NoTemplate));
    assert_eq!(read(Value::Null, "default"), Err(ChatError::NoTemplate));
    assert_eq!(read(json!([]), "default"), Err(ChatError::NoTemplate));
    assert_eq!(read(json!("{{ 1 }}"), "default"), Ok(()));
    assert_eq!(read(json!(3), "default"), Err(ChatError::NotATemplate { found: "a number" }));
    let named = json!([{ "name": "default", "template": "d" }, { "name": "tool_use", "template": "t" }]);
    for (name, expected) in [("default", "d"), ("tool_use", "t"), ("rag", "d")] {
        let template = ChatTemplate::from_config(Some(&named), name).unwrap();
        assert_eq!(template.render(&request(&[], None)).as_deref(), Ok(expected));
    }
    let without_default = json!([{ "name": "rag", "template": "r" }]);
    assert_eq!(
        read(without_default, "default"),
        Err(ChatError::NoTemplateNamed { wanted: "default".to_owned(), names: vec!["rag".to_owned()] })
    );
}

#[test]
fn messages_need_a_role() {
    assert_eq!(Message::from_fields(Map::new()), Err(ChatError::NoRole { found: "none" }));
    let error = serde_json::from_value::<Message>(json!({ "role": 1 })).unwrap_err().to_string();
    assert_eq!(error, "a message must have a `role` that is a text; this one has a number");
    let message: Message = serde_json::from_value(json!({ "content": null, "role": "tool", "id": 1 })).unwrap();
    assert_eq!((message.role(), message.content()), ("tool", None));
    assert_eq!(serde_json::to_string(&message).unwrap(), r#"{"content":null,"role":"tool","id":1}"#);
    assert_eq!(Message::new("user", "x").with("role", 3).role(), "user");
}

#[test]
fn probes_tell_what_reaches_the_model() {
    let each = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let refusing = format!("{{% if messages[0].role == 'system' %}}{{{{ raise_exception('no') }}}}{{% endif %}}{each}");
    let skipping = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}";
    let with_tools = format!("{{% for t in tools or [] %}}{{{{ t.function.name }}}}{{% endfor %}}{each}");
    for (source, system, tools) in
        [(each, true, false), (&refusing, false, false), (skipping, false, false), (&with_tools, true, true)]
    {
        let template = ChatTemplate::new(source).unwrap();
        assert_eq!((template.accepts_system(), template.accepts_tools()), (system, tools), "{source}");
    }
}

#[test]
fn a_template_is_shared_between_threads() {
    let template = ChatTemplate::new("{{ messages[0].content }}").unwrap();
    std::thread::scope(|scope| {
        for content in ["a", "b"] {
            let template = &template;
            scope.spawn(move || {
                assert_eq!(template.render(&request(&[Message::new("user", content)], None)).as_deref(), Ok(content));
            });
        }
    });
}
