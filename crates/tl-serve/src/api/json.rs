//! JSON from clients, bounded before it is parsed: in depth, and in the number of its values.

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};

/// Maximum nesting.
pub(crate) const MAX_DEPTH: usize = 64;

/// Maximum number of values, each of which takes up to a hundred bytes once it is parsed.
pub(crate) const MAX_VALUES: usize = 100_000;

/// Parses an object.
///
/// # Errors
/// A body that is no JSON object, or exceeds the bounds.
pub(crate) fn object(body: &[u8]) -> ApiResult<Map<String, Value>> {
    check(body)?;
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::bad("the body is JSON, but no object")),
        Err(error) => Err(ApiError::bad(format!("the body is not JSON: {error}"))),
    }
}

/// Counts brackets and commas outside strings.
fn check(body: &[u8]) -> ApiResult<()> {
    let (mut depth, mut values) = (0usize, 0usize);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(ApiError::bad(format!("the body's JSON is nested deeper than {MAX_DEPTH}")));
        }
        if values > MAX_VALUES {
            return Err(ApiError::bad(format!("the body's JSON has more than {MAX_VALUES} values")));
        }
    }
    Ok(())
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        let check = |body: &[u8], expected: Option<&str>| {
            let error = object(body).err().map(|error| error.json().to_string());
            assert_eq!(error.is_some(), expected.is_some(), "{error:?}");
            assert!(error.unwrap_or_default().contains(expected.unwrap_or_default()));
        };
        check(br#"{"a": [1, "]]\"[["]}"#, None);
        check(b"[1]", Some("no object"));
        check(b"", Some("not JSON"));
        check(b"{\"a\": \"\xff\"}", Some("not JSON"));
        check(b"{\"a\"", Some("not JSON"));
        check("[".repeat(1000).as_bytes(), Some("deeper than 64"));
        check(format!("{{\"a\": {}1{}}}", "[".repeat(63), "]".repeat(63)).as_bytes(), None);
        check(format!("[{}1]", "1,".repeat(MAX_VALUES + 1)).as_bytes(), Some("more than 100000 values"));
        check(b"\"\\", Some("not JSON"));
    }
}
