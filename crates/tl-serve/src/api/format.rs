//! `response_format`: what an answer must look like.

use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::fields::Fields;

/// Maximum bytes of a schema.
const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// Takes `response_format`; returns the JSON schema of the answer, if it must follow one.
pub(crate) fn take_schema(fields: &mut Fields) -> ApiResult<Option<String>> {
    let Some(value) = fields.take("response_format") else { return Ok(None) };
    let mut format = Fields::within(value, "response_format")?;
    let schema = match format.required_text("type")?.as_str() {
        "text" => None,
        "json_object" => Some(json!({"type": "object"})),
        "json_schema" => Some(schema(&mut format)?),
        _ => return Err(ApiError::param("response_format.type", "expected text, json_object or json_schema")),
    };
    format.end()?;
    let Some(schema) = schema.map(|schema| schema.to_string()) else { return Ok(None) };
    if schema.len() > MAX_SCHEMA_BYTES {
        let problem = format!("the schema has {} bytes, of at most {MAX_SCHEMA_BYTES}", schema.len());
        return Err(ApiError::param("response_format", problem));
    }
    Ok(Some(schema))
}

/// Takes `json_schema`.
fn schema(format: &mut Fields) -> ApiResult<Value> {
    let value = format.take("json_schema").ok_or_else(|| format.missing("json_schema"))?;
    let mut wrapped = Fields::within(value, "response_format.json_schema")?;
    let schema = wrapped.take("schema").ok_or_else(|| wrapped.missing("schema"))?;
    // Names it for the client; schemas are always followed strictly.
    wrapped.text("name")?;
    wrapped.text("description")?;
    wrapped.truth("strict")?;
    wrapped.end()?;
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let check = |format: Value, expected: Result<Option<&str>, &str>| {
            let Value::Object(map) = json!({"response_format": format}) else { panic!("no object") };
            match (take_schema(&mut Fields::new(map)), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected),
                (Err(error), Err(expected)) => assert!(error.json().to_string().contains(expected), "{error:?}"),
                (found, _) => panic!("{format}: {found:?}"),
            }
        };
        check(Value::Null, Ok(None));
        check(json!({"type": "text"}), Ok(None));
        check(json!({"type": "json_object"}), Ok(Some("{\"type\":\"object\"}")));
        let schema = json!({"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": {"a": 1}}});
        check(schema, Ok(Some("{\"a\":1}")));
        check(json!({"type": "xml"}), Err("expected text, json_object"));
        check(json!({}), Err("response_format.type: it is missing"));
        check(json!({"type": "json_schema"}), Err("json_schema: it is missing"));
        check(json!("json"), Err("expected an object, found a text"));
        let long = json!({"type": "json_schema", "json_schema": {"schema": {"title": "x".repeat(70_000)}}});
        check(long, Err("of at most 65536"));
    }
}
