//! Conversations: messages through the model's own template, answers as text, the KV cache kept from turn to turn.

use tl_chat::{DateTime, Message};
use tl_model::{
    ChatForm, Constraint, ConstraintState, DecodeStream, LanguageModel, Result, SamplingOptions, StopStrings,
};

use crate::model::Model;
use crate::session::{Session, Step};

/// Options of a conversation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChatOptions {
    /// Maximum tokens of the whole conversation.
    pub context: usize,
    /// Maximum tokens of an answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// The date available to the template.
    pub now: DateTime,
}

impl ChatOptions {
    /// Answers of up to 1024 tokens in a conversation of up to `context`, at temperature 0.8 and top-p 0.95.
    pub fn new(context: usize) -> ChatOptions {
        let sampling = SamplingOptions::default().with_temperature(0.8).with_top_p(0.95);
        let now = DateTime::from_unix_seconds(0);
        ChatOptions { context, max_tokens: 1024, sampling, stop: Vec::new(), now }
    }
}

/// Reason for the end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerEnd {
    /// The model ended it.
    EndOfTurn,
    /// The answer is complete by its constraint: nothing may follow it.
    ConstraintComplete,
    /// A stop text was generated.
    StopString,
    /// The answer has the maximum number of tokens.
    MaxTokens,
    /// The conversation fills the context.
    ContextFull,
    /// The caller cancelled it.
    Cancelled,
}

/// A conversation with a model.
///
/// The text of a message never becomes a special token.
#[derive(Debug)]
pub struct Chat {
    session: Session,
    form: ChatForm,
    options: ChatOptions,
    messages: Vec<Message>,
    /// The text of the session's tokens: messages as the template writes them, answers as generated.
    written: String,
    stop: StopStrings,
}

/// A running answer.
#[derive(Debug)]
pub struct Answer<'a> {
    chat: &'a mut Chat,
    stream: DecodeStream,
    text: String,
    left: usize,
    end: Option<AnswerEnd>,
    /// Whether the answer joined the conversation.
    is_kept: bool,
}

impl Chat {
    /// A conversation without messages.
    ///
    /// # Errors
    /// A model without a chat template or a tokenizer, an invalid template, options out of range, lack of memory.
    pub fn new(model: &Model, options: ChatOptions) -> Result<Chat> {
        let form = ChatForm::of(model.weights())?;
        let stop = StopStrings::new(&options.stop)?;
        let session = Session::new(model, options.context, options.sampling)?;
        Ok(Chat { session, form, options, messages: Vec::new(), written: String::new(), stop })
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The session of the conversation.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Sets the constraint of every answer from the next one on; `None` allows anything.
    ///
    /// # Errors
    /// The error of [`Constraint::reset`].
    pub fn set_constraint(&mut self, constraint: Option<Box<dyn Constraint>>) -> Result<()> {
        self.session.set_constraint(constraint)
    }

    /// Starts over with these messages.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Adds a message and begins the answer to it. On an error the conversation stays as it was.
    ///
    /// # Errors
    /// A message that the template rejects, a conversation that exceeds the context.
    pub fn say(&mut self, message: Message) -> Result<Answer<'_>> {
        self.messages.push(message);
        if let Err(error) = self.write() {
            self.messages.pop();
            return Err(error);
        }
        Ok(self.answer())
    }

    /// Begins the answer to the conversation as it is.
    ///
    /// # Errors
    /// As for [`Chat::say`].
    pub fn reply(&mut self) -> Result<Answer<'_>> {
        self.write()?;
        Ok(self.answer())
    }

    fn answer(&mut self) -> Answer<'_> {
        let left = self.options.max_tokens;
        self.stop.reset();
        Answer { chat: self, stream: DecodeStream::new(), text: String::new(), left, end: None, is_kept: false }
    }

    /// Makes the conversation the session's text. Where it continues the text written so far, the existing tokens stay:
    /// the model then reads its own answer as it was generated.
    fn write(&mut self) -> Result<()> {
        let text = self.form.text(&self.messages, self.options.now)?;
        let rest = text.strip_prefix(&*self.written).filter(|_| !self.written.is_empty());
        let tokens = match rest {
            Some(rest) => [self.session.tokens(), &self.form.encode_rest(rest)].concat(),
            None => self.form.encode(&text),
        };
        self.session.set_text(&tokens)?;
        self.written = text;
        Ok(())
    }
}

impl Answer<'_> {
    /// The next piece of the answer, whole characters only; `None` at its end. A piece may be empty.
    ///
    /// # Errors
    /// Lack of memory. The answer so far stays part of the conversation.
    #[allow(clippy::should_implement_trait)] // it lends what it holds
    pub fn next(&mut self) -> Option<Result<&str>> {
        if self.end.is_some() {
            return None;
        }
        match self.advance() {
            Ok(Some(piece)) => Some(Ok(&self.text[piece..])),
            Ok(None) => None,
            Err(error) => {
                self.end = Some(AnswerEnd::Cancelled);
                Some(Err(error))
            }
        }
    }

    /// Runs one step; returns the offset in the text at which its piece begins.
    fn advance(&mut self) -> Result<Option<usize>> {
        let begin = self.text.len();
        let chat = &mut *self.chat;
        if chat.session.constraint_state() == Some(ConstraintState::Complete) {
            return Ok(self.finish(AnswerEnd::ConstraintComplete, begin));
        }
        if self.left == 0 {
            return Ok(self.finish(AnswerEnd::MaxTokens, begin));
        }
        if chat.session.is_full() {
            return Ok(self.finish(AnswerEnd::ContextFull, begin));
        }
        let Step::Token(token) = chat.session.step()? else { return Ok(Some(begin)) };
        if chat.session.model().is_end(token) {
            chat.session.forget_last();
            return Ok(self.finish(AnswerEnd::EndOfTurn, begin));
        }
        self.left -= 1;
        let piece = self.stream.next(chat.form.tokenizer(), token)?;
        chat.written.push_str(piece);
        self.text.push_str(chat.stop.push(piece));
        if chat.stop.found().is_some() {
            self.end = Some(AnswerEnd::StopString);
            self.keep();
        }
        Ok(Some(begin))
    }

    /// Ends the answer with the text that was held back.
    fn finish(&mut self, end: AnswerEnd, begin: usize) -> Option<usize> {
        let rest = self.stream.finish();
        self.chat.written.push_str(rest);
        let stop = &mut self.chat.stop;
        self.text.push_str(stop.push(rest));
        self.text.push_str(stop.finish());
        self.end = Some(if stop.found().is_some() { AnswerEnd::StopString } else { end });
        self.keep();
        (self.text.len() > begin).then_some(begin)
    }

    /// Ends the answer here. The text so far stays part of the conversation.
    pub fn cancel(&mut self) {
        if self.end.is_none() {
            self.end = Some(AnswerEnd::Cancelled);
        }
        self.keep();
    }

    /// The answer so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// State of the answer under its constraint; `None` without one. An answer that ended in [`ConstraintState::Open`]
    /// is cut off.
    pub fn constraint_state(&self) -> Option<ConstraintState> {
        self.chat.session.constraint_state()
    }

    /// Reason for its end; `None` while it runs.
    pub fn end(&self) -> Option<AnswerEnd> {
        self.end
    }

    fn keep(&mut self) {
        if !self.is_kept {
            self.is_kept = true;
            self.chat.messages.push(Message::new("assistant", self.text.as_str()));
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Model {
    /// Answers a conversation: a list of messages, usually with the user's last. Passes the answer to `each` piece by
    /// piece, and returns it whole.
    ///
    /// # Errors
    /// As for [`Chat::new`] and [`Chat::say`].
    pub fn chat(&self, messages: &[Message], options: ChatOptions, each: &mut dyn FnMut(&str)) -> Result<String> {
        let mut chat = Chat::new(self, options)?;
        chat.set_messages(messages.to_vec());
        let mut answer = chat.reply()?;
        while let Some(piece) = answer.next() {
            each(piece?);
        }
        Ok(answer.text().to_owned())
    }
}
