//! Tools: how a model writes the call of one, found by its template, and the calls in an answer.
//!
//! Models differ in how they write calls. The form is found by having the template write a conversation with one: a JSON
//! object of name and arguments, perhaps between two marks such as `<tool_call>` and `</tool_call>`. Other forms are not
//! understood.

use serde_json::{Map, Value, json};
use tl_engine::{ChatForm, DateTime, Message};

use super::error::{ApiError, ApiResult};
use super::fields::Fields;

/// Maximum number of tools.
const MAX_TOOLS: usize = 128;

/// Which tools an answer may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// The model chooses.
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// The tools of a request.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// As the template reads them.
    pub(crate) list: Value,
    /// Names and the schemas of parameters.
    functions: Vec<(String, Value)>,
    pub(crate) choice: ToolChoice,
    /// Whether an answer may have several calls.
    pub(crate) are_parallel: bool,
}

/// A call in an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// A JSON object as text.
    pub(crate) arguments: String,
}

impl Tools {
    /// Takes the fields for tools; `None` where no tool may be called.
    pub(crate) fn take(fields: &mut Fields) -> ApiResult<Option<Tools>> {
        let list = fields.list("tools")?.unwrap_or_default();
        let choice = fields.take("tool_choice");
        let are_parallel = fields.truth("parallel_tool_calls")?.unwrap_or(true);
        if list.len() > MAX_TOOLS {
            return Err(ApiError::param("tools", format_args!("{} are more than {MAX_TOOLS}", list.len())));
        }
        let functions: Vec<(String, Value)> = list.iter().map(function).collect::<ApiResult<_>>()?;
        let choice = match choice {
            None => ToolChoice::Auto,
            Some(Value::String(text)) => match text.as_str() {
                "none" => return Ok(None),
                "auto" => ToolChoice::Auto,
                "required" => ToolChoice::Required,
                _ => return Err(ApiError::param("tool_choice", "expected none, auto, required or a function")),
            },
            Some(value) => ToolChoice::Named(chosen(value)?),
        };
        if let ToolChoice::Named(name) = &choice
            && !functions.iter().any(|(other, _)| other == name)
        {
            return Err(ApiError::param("tool_choice", "tools has no function of this name"));
        }
        if list.is_empty() {
            return match choice {
                ToolChoice::Auto => Ok(None),
                _ => Err(ApiError::param("tool_choice", "there are no tools")),
            };
        }
        Ok(Some(Tools { list: Value::Array(list), functions, choice, are_parallel }))
    }

    /// The grammar of an answer that must be a call, in llguidance's notation; `None` where the model chooses.
    #[cfg_attr(not(feature = "grammar"), expect(dead_code, reason = "without grammars calls cannot be forced"))]
    pub(crate) fn grammar(&self, form: &ToolForm) -> Option<String> {
        let calls: Vec<Value> = self
            .functions
            .iter()
            .filter(|(name, _)| match &self.choice {
                ToolChoice::Auto => false,
                ToolChoice::Required => true,
                ToolChoice::Named(named) => named == name,
            })
            .map(|(name, parameters)| form.schema(name, parameters))
            .collect();
        if calls.is_empty() {
            return None;
        }
        let mark = |text: &str| if text.is_empty() { String::new() } else { Value::from(text).to_string() };
        let (open, close) = (mark(&form.open), mark(&form.close));
        // Without spaces, of which a model may write any number.
        let schema = json!({ "anyOf": calls, "x-guidance": {"whitespace_flexible": false} });
        Some(format!("start: {open} call {close}\ncall: %json {schema}\n"))
    }
}

/// Checks a tool; returns its name and the schema of its parameters.
fn function(tool: &Value) -> ApiResult<(String, Value)> {
    let wrong = |problem: &str| ApiError::param("tools", problem);
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return Err(wrong("a tool's type must be \"function\""));
    }
    let function = tool.get("function").ok_or_else(|| wrong("a tool has no function"))?;
    let name = function.get("name").and_then(Value::as_str).ok_or_else(|| wrong("a function has no name"))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        return Err(wrong("a function's name must have 1 to 64 letters, digits, _ and -"));
    }
    let parameters = match function.get("parameters") {
        None | Some(Value::Null) => json!({"type": "object"}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return Err(wrong("a function's parameters must be a JSON schema")),
    };
    Ok((name.to_owned(), parameters))
}

/// The name in `{"type": "function", "function": {"name": …}}`.
fn chosen(value: Value) -> ApiResult<String> {
    let mut choice = Fields::within(value, "tool_choice")?;
    choice.neutral("type", &[json!("function")])?;
    let function = choice.take("function").ok_or_else(|| choice.missing("function"))?;
    choice.end()?;
    let mut function = Fields::within(function, "tool_choice.function")?;
    let name = function.required_text("name")?;
    function.end()?;
    Ok(name)
}

/// How a model writes calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolForm {
    /// Text before a call's JSON, from its mark on; empty if there is no mark.
    open: String,
    /// Text behind it.
    close: String,
    /// The field of the arguments: `arguments` or `parameters`.
    field: String,
}

/// Words that occur in no template.
const CALLED: &str = "qx7called";
const ARGUMENT: &str = "qx7argument";

impl ToolForm {
    /// The form of a model's calls, as its template writes them; `None` if it takes no tools, or writes them otherwise.
    pub(crate) fn of(form: &ChatForm) -> Option<ToolForm> {
        if !form.template().accepts_tools() {
            return None;
        }
        let user = Message::new("user", "Hello");
        let call = json!([{"type": "function", "id": "call00000", "function":
            {"name": CALLED, "arguments": {ARGUMENT: "value"}}}]);
        let tools = json!([{"type": "function", "function":
            {"name": "other", "description": "Another.", "parameters": {"type": "object", "properties": {}}}}]);
        let now = DateTime::from_unix_seconds(0);
        let before = form.text_with(std::slice::from_ref(&user), Some(&tools), None, now).ok()?;
        let assistant = Message::new("assistant", "").with("tool_calls", call);
        let all = form.text_with(&[user, assistant], Some(&tools), None, now).ok()?;
        let eos = form.tokenizer().eos().and_then(|id| form.tokenizer().token_text(id)).unwrap_or_default();
        ToolForm::within(all.strip_prefix(&before)?, &eos)
    }

    /// The form of the call in a turn of the assistant, which ends before `eos`.
    fn within(turn: &str, eos: &str) -> Option<ToolForm> {
        let named = turn.find(CALLED)?;
        let begin = turn.get(..named)?.rfind('{')?;
        let (call, len) = first_object(turn.get(begin..)?)?;
        let is_call = call.len() == 2 && call.get("name").and_then(Value::as_str) == Some(CALLED);
        let field = ["arguments", "parameters"]
            .into_iter()
            .find(|&field| call.get(field).is_some_and(|arguments| arguments.get(ARGUMENT).is_some()))?;
        let rest = turn.get(begin + len..)?;
        let close = if eos.is_empty() { rest } else { rest.split(eos).next().unwrap_or_default() };
        let before = turn.get(..begin)?;
        let mark = before.trim_end();
        let open = before.get(mark.rfind(char::is_whitespace).map_or(0, |at| at + 1)..)?;
        let is_marked = !open.trim().is_empty();
        // A list of calls, or a mark on one side only, is another form.
        let is_known = is_call && is_marked != close.trim().is_empty() && !open.contains('[');
        is_known.then(|| ToolForm {
            open: if is_marked { open.to_owned() } else { String::new() },
            close: close.trim_end().to_owned(),
            field: field.to_owned(),
        })
    }

    /// The schema of a call of this function.
    fn schema(&self, name: &str, parameters: &Value) -> Value {
        json!({
            "type": "object",
            "properties": {"name": {"const": name}, &self.field: parameters},
            "required": ["name", &self.field],
            "additionalProperties": false,
        })
    }
}

/// The JSON object at the beginning of a text, and its length in bytes.
fn first_object(text: &str) -> Option<(Map<String, Value>, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next()? {
        Ok(Value::Object(map)) => Some((map, values.byte_offset())),
        _ => None,
    }
}

/// Cuts calls out of an answer as it comes.
#[derive(Debug)]
pub(crate) struct ToolReader {
    form: ToolForm,
    names: Vec<String>,
    are_parallel: bool,
    /// Text that is, or may become, a call.
    held: String,
    state: ReaderState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReaderState {
    /// Nothing but space has come.
    Beginning,
    /// Text is shown; a mark may follow.
    Text,
    /// All further text is held.
    Calls,
}

impl ToolReader {
    pub(crate) fn new(form: ToolForm, tools: &Tools) -> ToolReader {
        let names = tools.functions.iter().map(|(name, _)| name.clone()).collect();
        let state = ReaderState::Beginning;
        ToolReader { form, names, are_parallel: tools.are_parallel, held: String::new(), state }
    }

    /// Adds a piece of the answer; returns the text that is no call.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        if self.state == ReaderState::Calls {
            return String::new();
        }
        let mark = self.form.open.trim();
        if mark.is_empty() {
            return self.push_unmarked();
        }
        let shown = match self.held.find(mark) {
            Some(at) => {
                self.state = ReaderState::Calls;
                at
            }
            None => self.held.len() - len_of_partial(&self.held, mark),
        };
        self.held.drain(..shown).collect()
    }

    /// Without a mark, an answer that begins with a brace is a call.
    fn push_unmarked(&mut self) -> String {
        match (self.state, self.held.trim_start().chars().next()) {
            (ReaderState::Beginning, None) => return String::new(),
            (ReaderState::Beginning, Some('{')) => self.state = ReaderState::Calls,
            _ => self.state = ReaderState::Text,
        }
        if self.state == ReaderState::Calls { String::new() } else { std::mem::take(&mut self.held) }
    }

    /// Ends the answer with its last piece: text that is no call, and the calls. What looks like a call and is none is
    /// text.
    pub(crate) fn finish(mut self, piece: &str) -> (String, Vec<ToolCall>) {
        let shown = self.push(piece);
        if self.state != ReaderState::Calls {
            return (shown + &self.held, Vec::new());
        }
        match self.calls() {
            Some(calls) => (shown, calls),
            None => (shown + &self.held, Vec::new()),
        }
    }

    fn calls(&self) -> Option<Vec<ToolCall>> {
        let (open, close) = (self.form.open.trim(), self.form.close.trim());
        let mut calls = Vec::new();
        let mut rest = self.held.trim();
        while !rest.is_empty() {
            rest = rest.strip_prefix(open)?.trim_start();
            let (call, len) = first_object(rest)?;
            calls.push(self.call(&call)?);
            rest = rest.get(len..)?.trim_start();
            // At the end the mark may be missing: a control token, or a stop string.
            rest = if rest.is_empty() { rest } else { rest.strip_prefix(close)?.trim_start() };
        }
        if !self.are_parallel {
            calls.truncate(1);
        }
        Some(calls)
    }

    fn call(&self, call: &Map<String, Value>) -> Option<ToolCall> {
        let name = call.get("name")?.as_str()?;
        let arguments = call.get(&self.form.field).filter(|arguments| arguments.is_object())?;
        let is_known = self.names.iter().any(|other| other == name);
        is_known.then(|| ToolCall { name: name.to_owned(), arguments: arguments.to_string() })
    }
}

/// Length of the longest end of `text` that begins `mark`.
fn len_of_partial(text: &str, mark: &str) -> usize {
    let longest = (mark.len() - 1).min(text.len());
    let ends = |&len: &usize| text.as_bytes().get(text.len() - len..) == mark.as_bytes().get(..len);
    (1..=longest).rev().find(ends).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hermes() -> ToolForm {
        ToolForm { open: "<tool_call>\n".into(), close: "\n</tool_call>".into(), field: "arguments".into() }
    }

    fn plain() -> ToolForm {
        ToolForm { open: String::new(), close: String::new(), field: "parameters".into() }
    }

    fn tools(choice: &Value) -> ApiResult<Option<Tools>> {
        let body = json!({"tools": [{"type": "function", "function": {"name": "add", "parameters":
            {"type": "object", "properties": {"a": {"type": "integer"}}}}}], "tool_choice": choice});
        let Value::Object(map) = body else { panic!("no object") };
        Tools::take(&mut Fields::new(map))
    }

    #[test]
    fn the_form_is_found_in_a_turn() {
        let call = |field: &str| format!("{{\"name\": \"{CALLED}\", \"{field}\": {{\"{ARGUMENT}\": \"value\"}}}}");
        let check = |turn: String, eos: &str, expected: Option<ToolForm>| {
            assert_eq!(ToolForm::within(&turn, eos), expected, "{turn}");
        };
        let marked = format!("<tool_call>\n{}\n</tool_call><|im_end|>\n", call("arguments"));
        check(marked.clone(), "<|im_end|>", Some(hermes()));
        check(format!("<think>\n\n</think>\n\n{marked}"), "<|im_end|>", Some(hermes()));
        check(format!("{}<|eot|>", call("parameters")), "<|eot|>", Some(plain()));
        check(format!("[TOOL_CALLS] [{}]</s>", call("arguments")), "</s>", None);
        check(format!("<call:{CALLED}>{{\"{ARGUMENT}\": 1}}"), "</s>", None);
        check("Hello".to_owned(), "", None);
    }

    #[test]
    fn calls_in_answers() {
        let tools = tools(&json!("auto")).unwrap().unwrap();
        let check = |form: &ToolForm, answer: &str, text: &str, calls: &[&str]| {
            // Whatever the pieces are.
            for size in [1, 3, 1000] {
                let mut reader = ToolReader::new(form.clone(), &tools);
                let pieces: Vec<String> =
                    answer.chars().collect::<Vec<_>>().chunks(size).map(String::from_iter).collect();
                let mut shown: String = pieces.iter().map(|piece| reader.push(piece)).collect();
                let (rest, found) = reader.finish("");
                shown += &rest;
                assert_eq!(shown, text, "{answer}");
                assert!(found.iter().all(|call| call.name == "add"));
                assert_eq!(found.iter().map(|call| call.arguments.as_str()).collect::<Vec<_>>(), calls, "{answer}");
            }
        };
        let one = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        check(&hermes(), one, "", &["{\"a\":1}"]);
        check(&hermes(), &format!("Let me see. {one}\n{one}"), "Let me see. ", &["{\"a\":1}", "{\"a\":1}"]);
        check(&hermes(), one.trim_end_matches("</tool_call>"), "", &["{\"a\":1}"]);
        for none in ["a < b <tool", "<tool_call>\n{\"name\"", "<tool_call>{\"name\": \"other\", \"arguments\": {}}"] {
            check(&hermes(), none, none, &[]);
        }
        check(&plain(), "{\"name\": \"add\", \"parameters\": {\"a\": 2}}", "", &["{\"a\":2}"]);
        check(&plain(), "Use {} here", "Use {} here", &[]);
        check(&plain(), "{no call}", "{no call}", &[]);
        check(&plain(), " ", " ", &[]);
    }

    #[test]
    fn choices() {
        let check = |choice: Value, expected: Result<Option<ToolChoice>, &str>| match (tools(&choice), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.map(|tools| tools.choice), expected),
            (Err(error), Err(expected)) => assert!(error.json().to_string().contains(expected)),
            (found, _) => panic!("{choice}: {found:?}"),
        };
        check(Value::Null, Ok(Some(ToolChoice::Auto)));
        check(json!("none"), Ok(None));
        check(json!("required"), Ok(Some(ToolChoice::Required)));
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        check(named("add"), Ok(Some(ToolChoice::Named("add".to_owned()))));
        check(named("sub"), Err("no function of this name"));
        check(json!("always"), Err("expected none, auto"));
        let grammar = tools(&json!("required")).unwrap().unwrap().grammar(&hermes()).unwrap();
        assert!(grammar.starts_with("start: \"<tool_call>\\n\" call \"\\n</tool_call>\"\ncall: %json {"), "{grammar}");
        assert_eq!(tools(&json!("auto")).unwrap().unwrap().grammar(&hermes()), None);
    }
}
