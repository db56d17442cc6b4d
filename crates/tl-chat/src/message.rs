//! One message of a conversation.

use serde_json::{Map, Value};

use crate::error::{ChatError, Result};

/// A message: a JSON object with a `role`, most often with `content`, and whatever else its template reads
/// (`tool_calls`, `tool_call_id`, `reasoning_content`, …). Fields keep their order.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Message {
    fields: Map<String, Value>,
}

impl Message {
    /// A message whose content is a text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".to_owned(), Value::String(role.into()));
        fields.insert("content".to_owned(), Value::String(content.into()));
        Self { fields }
    }

    /// A message of these fields.
    ///
    /// # Errors
    ///
    /// [`ChatError::NoRole`] if `role` is absent or not a text.
    pub fn from_fields(fields: Map<String, Value>) -> Result<Self> {
        match fields.get("role") {
            Some(Value::String(_)) => Ok(Self { fields }),
            Some(other) => Err(ChatError::NoRole { found: json_kind(other) }),
            None => Err(ChatError::NoRole { found: "none" }),
        }
    }

    /// The same message with one field added or replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let name = name.into();
        let value = value.into();
        // A role stays a text.
        if name != "role" || value.is_string() {
            self.fields.insert(name, value);
        }
        self
    }

    /// Who speaks: `system`, `user`, `assistant`, `tool`, …
    pub fn role(&self) -> &str {
        self.fields.get("role").and_then(Value::as_str).unwrap_or("")
    }

    /// The content, if it is a text.
    pub fn content(&self) -> Option<&str> {
        self.fields.get("content").and_then(Value::as_str)
    }

    /// All fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}

impl<'de> serde::Deserialize<'de> for Message {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::from_fields(Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The kind of a JSON value in words, for messages: `a text`.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
