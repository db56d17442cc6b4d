//! Published templates against what Jinja2 makes of them.
//!
//! `TL_TEMPLATES_EXPECTED` names a JSON file: a list of `{name, case, template, context, expected, error}`, where
//! `context` has the variables, `expected` is the text, or `error` what Jinja2 says. Without it, the test says so and
//! passes: the templates are their authors' and no part of this project.

use serde_json::Value;
use tl_chat::{ChatTemplate, DateTime, Message, Request};

fn render(case: &Value, now: DateTime) -> Result<String, String> {
    let source = case["template"].as_str().expect("a template");
    let mut extra = case["context"].as_object().expect("a context").clone();
    let messages: Vec<Message> = serde_json::from_value(extra.remove("messages").expect("messages")).expect("messages");
    let tools = extra.remove("tools").filter(|tools| !tools.is_null());
    let template = ChatTemplate::new(source).map_err(|error| error.to_string())?;
    let text = |name: &str| case["context"][name].as_str().unwrap_or("");
    let request = Request {
        messages: &messages,
        tools: tools.as_ref(),
        add_generation_prompt: case["context"]["add_generation_prompt"].as_bool().unwrap_or(false),
        bos_token: text("bos_token"),
        eos_token: text("eos_token"),
        extra: Some(&extra),
        now,
    };
    template.render(&request).map_err(|error| error.to_string())
}

#[test]
fn published_templates_render_as_with_jinja2() {
    let Ok(path) = std::env::var("TL_TEMPLATES_EXPECTED") else {
        eprintln!("skipped: TL_TEMPLATES_EXPECTED names no file of templates and their texts");
        return;
    };
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON");
    // The day on which the file was made, in seconds; templates write the date.
    let seconds = std::env::var("TL_TEMPLATES_DATE").map_or(1_796_040_000, |text| text.parse().expect("seconds"));
    let now = DateTime::from_unix_seconds(seconds);
    let mut differences = Vec::new();
    let (mut n_equal, mut n_errors) = (0, 0);
    for case in &cases {
        let name = format!("{} ({})", case["name"].as_str().unwrap_or("?"), case["case"].as_str().unwrap_or("?"));
        match (render(case, now), case["expected"].as_str()) {
            (Ok(text), Some(expected)) if text == expected => n_equal += 1,
            (Err(_), None) => n_errors += 1,
            (Ok(text), Some(expected)) => {
                let at = text.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
                let tail =
                    |text: &str| String::from_utf8_lossy(&text.as_bytes()[at..]).chars().take(60).collect::<String>();
                differences.push(format!("{name}: at byte {at}: {:?} for {:?}", tail(&text), tail(expected)));
            }
            (Err(error), Some(_)) => differences.push(format!("{name}: {error}")),
            (Ok(_), None) => differences.push(format!("{name}: rendered, where Jinja2 says {}", case["error"])),
        }
    }
    eprintln!("{} cases: {n_equal} equal texts, {n_errors} expected errors", cases.len());
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert!(n_equal > 0);
}
