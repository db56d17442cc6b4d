//! The form of a model's conversations: its chat template and its tokenizer together.

use std::sync::Arc;

use serde_json::{Map, Value};
use tl_chat::{ChatError, ChatTemplate, DateTime, Message, Request};

use crate::error::{ModelError, Result};
use crate::tokenizer::{EncodeOptions, Tokenizer};
use crate::weights::Weights;

/// The form of a model's conversations: its template and its tokenizer.
///
/// A message's text never becomes a special token, whatever it contains.
#[derive(Debug)]
pub struct ChatForm {
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
}

fn chat_error(error: ChatError) -> ModelError {
    ModelError::Chat { problem: error.to_string() }
}

impl ChatForm {
    /// The form of a model's conversations.
    ///
    /// # Errors
    /// A model without a chat template or a tokenizer, an invalid template.
    pub fn of(weights: &Weights) -> Result<ChatForm> {
        let source = weights.checkpoint().chat_template().ok_or(ChatError::NoTemplate).map_err(chat_error)?;
        Ok(ChatForm { tokenizer: weights.tokenizer()?, template: ChatTemplate::new(source).map_err(chat_error)? })
    }

    /// The text of a conversation by the template, up to the beginning of the answer.
    ///
    /// # Errors
    /// A template that rejects the conversation.
    pub fn text(&self, messages: &[Message], now: DateTime) -> Result<String> {
        self.text_with(messages, None, None, now)
    }

    /// [`ChatForm::text`] with tools that the model may call, as in [`Request::tools`], and with further variables of
    /// the template.
    ///
    /// # Errors
    /// A template that rejects the conversation.
    pub fn text_with(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        extra: Option<&Map<String, Value>>,
        now: DateTime,
    ) -> Result<String> {
        // Texts come from a user or a model: they contain no special tokens.
        let messages: Vec<Message> = messages.iter().map(|message| self.protected_message(message)).collect();
        let tools = tools.map(|tools| self.protected(tools));
        let extra: Option<Map<String, Value>> =
            extra.map(|extra| extra.iter().map(|(name, value)| (name.clone(), self.protected(value))).collect());
        let token_text = |id: Option<u32>| id.and_then(|id| self.tokenizer.token_text(id)).unwrap_or_default();
        let (bos, eos) = (token_text(self.tokenizer.bos()), token_text(self.tokenizer.eos()));
        let request = Request {
            messages: &messages,
            tools: tools.as_ref(),
            add_generation_prompt: true,
            bos_token: &bos,
            eos_token: &eos,
            extra: extra.as_ref(),
            now,
        };
        self.template.render(&request).map_err(chat_error)
    }

    /// A message whose texts, but for the role, are protected.
    fn protected_message(&self, message: &Message) -> Message {
        let texts = message.fields().iter().filter(|(name, _)| *name != "role");
        texts.fold(message.clone(), |message, (name, value)| message.with(name.as_str(), self.protected(value)))
    }

    /// A value whose texts are protected. JSON from a client is of bounded depth.
    fn protected(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.tokenizer.protect(text).into_owned()),
            Value::Array(list) => list.iter().map(|value| self.protected(value)).collect(),
            Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), self.protected(value))).collect(),
            other => other.clone(),
        }
    }

    /// The template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The tokens of a conversation, up to the beginning of the answer.
    ///
    /// # Errors
    /// As for [`ChatForm::text`].
    pub fn tokens(&self, messages: &[Message], now: DateTime) -> Result<Vec<u32>> {
        Ok(self.encode(&self.text(messages, now)?))
    }

    /// The tokens of a text from [`ChatForm::text`].
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = self.encode_rest(text);
        // A template may leave the token that begins a text to the tokenizer.
        let begins = self.tokenizer.encode("");
        if !tokens.starts_with(&begins) {
            tokens.splice(0..0, begins);
        }
        tokens
    }

    /// The tokens of a later part of such a text.
    pub fn encode_rest(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode_with(text, &EncodeOptions::default().with_add_special(false).with_parse_special(true))
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}
