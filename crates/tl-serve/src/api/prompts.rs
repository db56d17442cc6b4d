//! The prompts of a text completion: a text, tokens, or a list of either.

use serde_json::Value;
use tl_engine::Tokenizer;

use super::error::{ApiError, ApiResult};

/// Reads `prompt`: one list of tokens for each.
pub(crate) fn read(value: Option<Value>, tokenizer: &Tokenizer) -> ApiResult<Vec<Vec<u32>>> {
    match value {
        None => Err(ApiError::param("prompt", "it is missing")),
        Some(Value::String(text)) => Ok(vec![tokenizer.encode(&text)]),
        Some(Value::Array(list)) if list.first().is_some_and(Value::is_number) => Ok(vec![tokens(&list, "prompt")?]),
        Some(Value::Array(list)) if !list.is_empty() => list
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Ok(tokenizer.encode(&text)),
                Value::Array(list) => tokens(&list, "prompt"),
                _ => Err(wrong()),
            })
            .collect(),
        Some(_) => Err(wrong()),
    }
}

fn wrong() -> ApiError {
    ApiError::param("prompt", "expected a text, a list of tokens, or a list of either")
}

/// Token ids.
pub(crate) fn tokens(list: &[Value], param: &str) -> ApiResult<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    list.iter()
        .map(|value| id(value).ok_or_else(|| ApiError::param(param, "a token is no whole number of 32 bits")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prompts() {
        let path = tl_testing::project_file("models/demo-q8_0.gguf");
        let tokenizer = tl_engine::Model::load(path, &tl_device::Device::cpu()).unwrap().tokenizer().unwrap();
        let a = tokenizer.encode("a");
        let check = |prompt: Value, expected: Option<Vec<Vec<u32>>>| {
            assert_eq!(read(Some(prompt.clone()), &tokenizer).ok(), expected, "{prompt}");
        };
        check(json!("a"), Some(vec![a.clone()]));
        check(json!(["a", [1, 2]]), Some(vec![a, vec![1, 2]]));
        check(json!([1, 2]), Some(vec![vec![1, 2]]));
        for wrong in [json!([]), json!(1), json!([[-1]]), json!([1, "a"]), json!([[1.5]]), json!([[4294967296u64]])] {
            check(wrong, None);
        }
        assert!(read(None, &tokenizer).is_err());
    }
}
