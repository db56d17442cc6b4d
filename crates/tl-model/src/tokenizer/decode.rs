//! Streaming conversion of token ids to text: whole characters only, no allocation per token after the first few.

use super::encoder::Tokenizer;
use super::normalize::SPACE;
use super::vocab::Kind;
use crate::error::Result;

/// State of one stream of tokens: bytes of an unfinished character, and the text of the last token.
#[derive(Clone, Debug)]
pub struct DecodeStream {
    /// At the start of a text, where encoding put a space.
    at_start: bool,
    /// Bytes of an unfinished character, at most three between tokens.
    pending: [u8; 4],
    n_pending: usize,
    text: String,
}

impl DecodeStream {
    /// A stream whose first token continues a text, as the first generated token continues a prompt. After a token that
    /// marks the beginning of a text, the next one is at the start.
    pub fn new() -> DecodeStream {
        // Pieces are short: a larger buffer is seldom needed, and then kept.
        DecodeStream { at_start: false, pending: [0; 4], n_pending: 0, text: String::with_capacity(256) }
    }

    /// A stream whose first token begins a text: a space in front of it is dropped.
    pub fn from_start() -> DecodeStream {
        DecodeStream { at_start: true, ..DecodeStream::new() }
    }

    /// The text that this token completes: empty while a character is unfinished, and for control tokens.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn next(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<&str> {
        self.text.clear();
        let (kind, bytes) = tokenizer.entry(id)?;
        match kind {
            Kind::Byte(byte) => {
                self.at_start = false;
                self.push_byte(byte);
            }
            Kind::Control => {
                self.flush();
                self.at_start |= tokenizer.bos() == Some(id);
            }
            Kind::Unknown => {
                self.flush();
                self.at_start = false;
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
            Kind::Normal | Kind::Unused if tokenizer.byte_level => {
                self.at_start = false;
                self.push_bytes(bytes);
            }
            Kind::UserDefined | Kind::Verbatim if tokenizer.byte_level => {
                self.at_start = false;
                self.flush();
                self.push_bytes(bytes);
            }
            Kind::Normal | Kind::UserDefined | Kind::Unused | Kind::Verbatim => {
                self.flush();
                let added = self.at_start && tokenizer.strips_first_space;
                // The tokens of such a vocabulary were parsed as UTF-8.
                let piece = std::str::from_utf8(bytes).unwrap_or_default();
                let piece = if added { piece.strip_prefix(SPACE).unwrap_or(piece) } else { piece };
                self.at_start = false;
                self.text.extend(piece.chars().map(|c| if c == SPACE { ' ' } else { c }));
            }
        }
        Ok(&self.text)
    }

    /// Ends the stream: a character that is still unfinished gives U+FFFD.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        self.flush();
        &self.text
    }

    /// Replaces an unfinished character by U+FFFD.
    fn flush(&mut self) {
        if self.n_pending > 0 {
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.n_pending = 0;
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) if self.n_pending == 0 => self.text.push_str(text),
            _ => bytes.iter().for_each(|&byte| self.push_byte(byte)),
        }
    }

    /// Adds a byte; writes a completed character, or U+FFFD for invalid bytes.
    fn push_byte(&mut self, byte: u8) {
        // At most three bytes are kept between calls.
        self.pending[self.n_pending] = byte;
        self.n_pending += 1;
        while self.n_pending > 0 {
            match std::str::from_utf8(&self.pending[..self.n_pending]) {
                Ok(text) => {
                    self.text.push_str(text);
                    self.n_pending = 0;
                }
                Err(error) => {
                    // No valid part comes first: it was written when its last byte came.
                    let Some(bad) = error.error_len() else { return };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    self.pending.copy_within(bad..self.n_pending, 0);
                    self.n_pending -= bad;
                }
            }
        }
    }
}

impl Default for DecodeStream {
    fn default() -> DecodeStream {
        DecodeStream::new()
    }
}

impl Tokenizer {
    /// The text of ids: control tokens give nothing, invalid UTF-8 gives U+FFFD, and the space that encoding put before
    /// the text is removed.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut stream = DecodeStream::from_start();
        let mut text = String::new();
        for &id in ids {
            text.push_str(stream.next(self, id)?);
        }
        text.push_str(stream.finish());
        Ok(text)
    }
}
