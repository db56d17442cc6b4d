//! The messages of a chat completion.

use serde_json::{Map, Value, json};
use tl_chat::json_kind;
use tl_engine::Message;

use super::error::{ApiError, ApiResult};
use super::fields::Fields;

/// Maximum number of messages.
const MAX_MESSAGES: usize = 4096;

/// Reads the messages of a request.
pub(crate) fn read(list: Vec<Value>) -> ApiResult<Vec<Message>> {
    if list.is_empty() || list.len() > MAX_MESSAGES {
        return Err(ApiError::param("messages", format_args!("expected 1 to {MAX_MESSAGES}, found {}", list.len())));
    }
    list.into_iter().enumerate().map(|(index, value)| message(value, &format!("messages[{index}]"))).collect()
}

fn message(value: Value, place: &str) -> ApiResult<Message> {
    let mut fields = Fields::within(value, place)?;
    let role = fields.required_text("role")?;
    let role = match role.as_str() {
        "developer" => "system",
        "system" | "user" | "assistant" | "tool" => &role,
        _ => {
            let problem = "expected system, developer, user, assistant or tool";
            return Err(ApiError::param(&fields.name("role"), problem));
        }
    };
    let content = content(&mut fields)?;
    let calls = if role == "assistant" { tool_calls(&mut fields)? } else { None };
    if content.is_none() && calls.is_none() {
        return Err(fields.missing("content"));
    }
    let mut message = Message::new(role, content.unwrap_or_default());
    if let Some(calls) = calls {
        message = message.with("tool_calls", calls);
    }
    if let Some(name) = fields.text("name")? {
        message = message.with("name", name);
    }
    if role == "tool" {
        message = message.with("tool_call_id", fields.required_text("tool_call_id")?);
    }
    if role == "assistant" {
        fields.neutral("refusal", &[])?;
        fields.neutral("audio", &[])?;
        fields.neutral("function_call", &[])?;
        fields.neutral("annotations", &[json!([])])?;
    }
    fields.end()?;
    Ok(message)
}

/// A text, or a list of parts of type text.
fn content(fields: &mut Fields) -> ApiResult<Option<String>> {
    let place = fields.name("content");
    match fields.take("content") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(parts)) => {
            parts.into_iter().map(|part| text_part(part, &place)).collect::<ApiResult<_>>().map(Some)
        }
        Some(other) => {
            Err(ApiError::param(&place, format_args!("expected a text or a list, found {}", json_kind(&other))))
        }
    }
}

fn text_part(part: Value, place: &str) -> ApiResult<String> {
    let mut part = Fields::within(part, place)?;
    match part.required_text("type")?.as_str() {
        "text" => {
            let text = part.required_text("text")?;
            part.end()?;
            Ok(text)
        }
        _ => Err(ApiError::param(place, "this server takes parts of type text only")),
    }
}

/// The calls of an earlier answer. Clients give their arguments as text, templates read an object.
fn tool_calls(fields: &mut Fields) -> ApiResult<Option<Value>> {
    let place = fields.name("tool_calls");
    let Some(list) = fields.list("tool_calls")? else { return Ok(None) };
    let calls = list.into_iter().map(|call| tool_call(call, &place)).collect::<ApiResult<Vec<Value>>>()?;
    Ok(Some(Value::Array(calls)).filter(|calls| calls != &json!([])))
}

fn tool_call(value: Value, place: &str) -> ApiResult<Value> {
    let mut call = Fields::within(value, place)?;
    let id = call.text("id")?.unwrap_or_default();
    call.neutral("type", &[json!("function")])?;
    // A client may send back the place of a streamed call.
    call.integer("index", 0..=usize::MAX)?;
    let function = call.take("function").ok_or_else(|| call.missing("function"))?;
    call.end()?;
    let mut function = Fields::within(function, &format!("{place}.function"))?;
    let name = function.required_text("name")?;
    let place = function.name("arguments");
    let arguments = match function.take("arguments") {
        None => Value::Object(Map::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Map::new()),
        Some(Value::String(text)) => super::json::object(text.as_bytes())
            .map(Value::Object)
            .map_err(|_| ApiError::param(&place, "expected a JSON object as text"))?,
        Some(object @ Value::Object(_)) => object,
        Some(_) => return Err(ApiError::param(&place, "expected a JSON object as text")),
    };
    function.end()?;
    Ok(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let check = |list: Value, expected: Result<Value, &str>| {
            let Value::Array(list) = list else { panic!("no list") };
            match (read(list), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(serde_json::to_value(found).unwrap(), expected),
                (Err(error), Err(expected)) => assert!(error.json().to_string().contains(expected), "{error:?}"),
                (found, _) => panic!("{found:?}"),
            }
        };
        check(
            json!([{"role": "developer", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]}]),
            Ok(json!([{"role": "system", "content": "a"}, {"role": "user", "content": "bc"}])),
        );
        let call = |arguments: Value| {
            json!([{"role": "assistant", "content": null, "tool_calls":
            [{"id": "x", "type": "function", "function": {"name": "f", "arguments": arguments}}]}])
        };
        let mut object = call(json!({"a": 1}));
        object[0]["content"] = json!("");
        check(call(json!("{\"a\": 1}")), Ok(object));
        check(call(json!("{")), Err("arguments: expected a JSON object as text"));
        check(json!([]), Err("expected 1 to 4096, found 0"));
        check(json!([1]), Err("messages[0]: expected an object, found a number"));
        check(json!([{"content": "a"}]), Err("messages[0].role: it is missing"));
        check(json!([{"role": "robot", "content": "a"}]), Err("messages[0].role: expected system"));
        check(json!([{"role": "user"}]), Err("messages[0].content: it is missing"));
        check(json!([{"role": "user", "content": [{"type": "image_url"}]}]), Err("parts of type text only"));
        check(json!([{"role": "user", "content": "a", "mood": 1}]), Err("messages[0].mood"));
        check(json!([{"role": "tool", "content": "a"}]), Err("tool_call_id: it is missing"));
    }
}
