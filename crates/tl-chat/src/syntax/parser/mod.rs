//! Parser: from tokens to a tree, by recursive descent. Token access is here, [`tags`] and [`expression`]s beside it.

mod expression;
mod tags;

use std::collections::HashMap;

use super::ast::{Callable, NameId, Template};
use super::lexer::{Token, TokenKind, tokenize};
use crate::error::{ChatError, Result};

/// Maximum nesting of tags and brackets. Published templates nest 15 deep.
const MAX_NESTING: usize = 80;

pub(crate) fn parse(source: &str) -> Result<Template> {
    let tokens = tokenize(source)?;
    let mut parser =
        Parser { tokens, position: 0, nesting: 0, n_loops: 0, names: Names::default(), callables: Vec::new() };
    parser.names.id("");
    let (body, _) = parser.body(&[])?;
    let loop_name = parser.names.ids.get("loop").copied();
    let caller_name = parser.names.ids.get("caller").copied();
    Ok(Template { body, names: parser.names.list, callables: parser.callables, loop_name, caller_name })
}

#[derive(Default)]
struct Names {
    list: Vec<String>,
    ids: HashMap<String, NameId>,
}

impl Names {
    fn id(&mut self, name: &str) -> NameId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.list.len() as NameId;
        self.list.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
    nesting: usize,
    /// Loops around the current tag, within the current macro.
    n_loops: usize,
    names: Names,
    callables: Vec<Callable>,
}

impl Parser {
    fn peek(&self) -> Option<&TokenKind> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<&TokenKind> {
        self.tokens.get(self.position + ahead).map(|token| &token.kind)
    }

    fn next(&mut self) -> Option<TokenKind> {
        let token = self.tokens.get_mut(self.position)?;
        self.position += 1;
        // A token is read once; its text moves into the tree.
        Some(std::mem::replace(&mut token.kind, TokenKind::TagEnd))
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.position).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(ChatError::Syntax { line: self.line(), message: message.into() })
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T> {
        let found = match self.peek() {
            None => "the end of the text".to_owned(),
            Some(TokenKind::Text(_)) => "text".to_owned(),
            Some(TokenKind::PrintBegin) => "`{{`".to_owned(),
            Some(TokenKind::PrintEnd) => "`}}`".to_owned(),
            Some(TokenKind::TagBegin) => "`{%`".to_owned(),
            Some(TokenKind::TagEnd) => "`%}`".to_owned(),
            Some(TokenKind::Name(name)) => format!("`{name}`"),
            Some(TokenKind::String(_)) => "a text in quotes".to_owned(),
            Some(TokenKind::Integer(value)) => format!("`{value}`"),
            Some(TokenKind::Float(value)) => format!("`{value}`"),
            Some(TokenKind::Symbol(symbol)) => format!("`{symbol}`"),
        };
        self.error(format!("{found} where {expected} is expected"))
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(TokenKind::Symbol(found)) if *found == symbol)
    }

    fn is_word(&self, word: &str) -> bool {
        self.is_word_at(0, word)
    }

    fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Some(TokenKind::Name(name)) if name == word)
    }

    fn skip_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.position += usize::from(found);
        found
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.position += usize::from(found);
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.skip_symbol(symbol) { Ok(()) } else { self.unexpected(&format!("`{symbol}`")) }
    }

    fn expect_tag_end(&mut self) -> Result<()> {
        if self.peek() == Some(&TokenKind::TagEnd) {
            self.position += 1;
            Ok(())
        } else {
            self.unexpected("`%}`")
        }
    }

    fn word(&mut self) -> Result<String> {
        match self.peek() {
            Some(TokenKind::Name(_)) => match self.next() {
                Some(TokenKind::Name(name)) => Ok(name),
                _ => self.unexpected("a name"),
            },
            _ => self.unexpected("a name"),
        }
    }

    fn name(&mut self) -> Result<NameId> {
        let word = self.word()?;
        Ok(self.names.id(&word))
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.nesting == MAX_NESTING {
            return self.error(format!("tags and brackets nest deeper than {MAX_NESTING} levels"));
        }
        self.nesting += 1;
        let result = parse(self);
        self.nesting -= 1;
        result
    }
}
