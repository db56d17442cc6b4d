//! A chat template, and the input of a rendering.

use serde_json::{Map, Value, json};

use crate::DateTime;
use crate::error::{ChatError, Result};
use crate::message::{Message, json_kind};
use crate::render::{Limits, Variable, render};
use crate::syntax::{ast, parse};

/// A model's chat template, read once and rendered often, from any number of threads.
#[derive(Debug)]
pub struct ChatTemplate {
    template: ast::Template,
    limits: Limits,
}

/// A conversation, and the other input of a template.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The conversation so far.
    pub messages: &'a [Message],
    /// Tools that the model may call: a JSON list of `{"type": "function", "function": {…}}`.
    pub tools: Option<&'a Value>,
    /// Whether the text ends at the start of the assistant's turn.
    pub add_generation_prompt: bool,
    /// The text of the token that begins a text; empty if the model has none.
    pub bos_token: &'a str,
    /// The text of the token that ends a text; empty if the model has none.
    pub eos_token: &'a str,
    /// Further variables, such as `enable_thinking` or `documents`. They override those above.
    pub extra: Option<&'a Map<String, Value>>,
    /// The date for templates that write it.
    pub now: DateTime,
}

impl ChatTemplate {
    /// Reads a template, with the default [`Limits`].
    ///
    /// # Errors
    ///
    /// [`ChatError::SourceTooLong`], or [`ChatError::Syntax`] with the line.
    pub fn new(source: &str) -> Result<Self> {
        Self::with_limits(source, Limits::default())
    }

    /// Reads a template.
    ///
    /// # Errors
    ///
    /// As [`ChatTemplate::new`].
    pub fn with_limits(source: &str, limits: Limits) -> Result<Self> {
        if source.len() > limits.source_bytes {
            return Err(ChatError::SourceTooLong { len: source.len(), limit: limits.source_bytes });
        }
        Ok(Self { template: parse(source)?, limits })
    }

    /// Reads the value of `chat_template` in a model's configuration: a text, or a list of named texts, of which `name`
    /// is taken (`default` if it is not there).
    ///
    /// # Errors
    ///
    /// [`ChatError::NoTemplate`] if there is none, as with base models; [`ChatError::NoTemplateNamed`];
    /// [`ChatError::NotATemplate`]; and as [`ChatTemplate::new`].
    pub fn from_config(chat_template: Option<&Value>, name: &str) -> Result<Self> {
        match chat_template {
            None | Some(Value::Null) => Err(ChatError::NoTemplate),
            Some(Value::String(source)) => Self::new(source),
            Some(Value::Array(list)) => {
                let named: Vec<(&str, &str)> = list
                    .iter()
                    .filter_map(|entry| Some((entry.get("name")?.as_str()?, entry.get("template")?.as_str()?)))
                    .collect();
                let find = |wanted: &str| named.iter().find(|(found, _)| *found == wanted);
                match find(name).or_else(|| find("default")) {
                    Some((_, source)) => Self::new(source),
                    None if named.is_empty() => Err(ChatError::NoTemplate),
                    None => Err(ChatError::NoTemplateNamed {
                        wanted: name.to_owned(),
                        names: named.iter().take(20).map(|(name, _)| (*name).to_owned()).collect(),
                    }),
                }
            }
            Some(other) => Err(ChatError::NotATemplate { found: json_kind(other) }),
        }
    }

    /// Writes the conversation as text.
    ///
    /// # Errors
    ///
    /// [`ChatError::Refused`] if the template refuses the conversation; [`ChatError::Render`] with the line of an
    /// error; [`ChatError::Limit`] if it does not end, or builds too much; [`ChatError::InputTooDeep`] if messages or
    /// tools nest too deeply.
    pub fn render(&self, request: &Request<'_>) -> Result<String> {
        let null = Value::Null;
        let mut variables: Vec<(&str, Variable<'_>)> = Vec::new();
        if let Some(extra) = request.extra {
            variables.extend(extra.iter().map(|(name, value)| (name.as_str(), Variable::Json(value))));
        }
        variables.extend([
            ("messages", Variable::Objects(request.messages.iter().map(Message::fields).collect())),
            ("tools", Variable::Json(request.tools.unwrap_or(&null))),
            ("documents", Variable::Json(&null)),
            ("add_generation_prompt", Variable::Truth(request.add_generation_prompt)),
            ("bos_token", Variable::Text(request.bos_token)),
            ("eos_token", Variable::Text(request.eos_token)),
        ]);
        render(&self.template, &variables, request.now, self.limits)
    }

    /// Whether the text of a system message reaches the model: found by rendering one.
    pub fn accepts_system(&self) -> bool {
        let messages = [Message::new("system", PROBE), Message::new("user", "Hello")];
        self.shows_probe(&messages, None)
    }

    /// Whether tools reach the model: found by rendering one.
    pub fn accepts_tools(&self) -> bool {
        let tools = json!([{
            "type": "function",
            "function": {
                "name": PROBE,
                "description": "Looks something up.",
                "parameters": {
                    "type": "object",
                    "properties": { "query": { "type": "string", "description": "What is looked up." } },
                    "required": ["query"],
                },
            },
        }]);
        self.shows_probe(&[Message::new("user", "Hello")], Some(&tools))
    }

    fn shows_probe(&self, messages: &[Message], tools: Option<&Value>) -> bool {
        let request = Request {
            messages,
            tools,
            add_generation_prompt: true,
            bos_token: "",
            eos_token: "",
            extra: None,
            now: DateTime::from_unix_seconds(0),
        };
        self.render(&request).is_ok_and(|text| text.contains(PROBE))
    }
}

/// A word that occurs in no template.
const PROBE: &str = "qx7probe";
