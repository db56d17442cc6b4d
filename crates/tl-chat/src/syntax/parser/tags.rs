//! Tags: statements, and the bodies between them.

use super::super::ast::{
    Callable, CallableId, Expression, Filter, For, NameId, Postfix, Statement, StatementKind, Target,
};
use super::super::lexer::TokenKind;
use super::Parser;
use crate::error::Result;

/// Tags of Jinja that need other templates, or that no chat template uses.
const ABSENT_TAGS: [&str; 9] = ["include", "import", "from", "extends", "block", "autoescape", "do", "trans", "debug"];

impl Parser {
    /// Statements up to a tag named in `ends`, which is passed as far as its name, or to the end of the text.
    pub(super) fn body(&mut self, ends: &[&'static str]) -> Result<(Vec<Statement>, &'static str)> {
        let mut statements = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.next() {
                None if ends.is_empty() => return Ok((statements, "")),
                None => return self.error(format!("the text ends before `{{% {} %}}`", ends[ends.len() - 1])),
                Some(TokenKind::Text(text)) => StatementKind::Text(text),
                Some(TokenKind::PrintBegin) => {
                    let value = self.tuple(&[])?;
                    if self.peek() != Some(&TokenKind::PrintEnd) {
                        return self.unexpected("`}}`");
                    }
                    self.position += 1;
                    StatementKind::Print(value)
                }
                Some(TokenKind::TagBegin) => {
                    let tag = self.word()?;
                    if let Some(end) = ends.iter().find(|end| **end == tag) {
                        return Ok((statements, end));
                    }
                    self.nested(|parser| parser.tag(&tag))?
                }
                Some(_) => return self.unexpected("text or a tag"),
            };
            statements.push(Statement { line, kind });
        }
    }

    /// A whole body whose one end is `end`, with the end of that tag.
    fn block(&mut self, end: &'static str) -> Result<Vec<Statement>> {
        self.expect_tag_end()?;
        let (body, _) = self.body(&[end])?;
        self.expect_tag_end()?;
        Ok(body)
    }

    fn tag(&mut self, tag: &str) -> Result<StatementKind> {
        match tag {
            "if" => self.if_tag(),
            "for" => self.for_tag(),
            "set" => self.set_tag(),
            "macro" => {
                let name = self.name()?;
                let callable = self.callable(name, "endmacro", None)?;
                Ok(StatementKind::Macro { name, callable: callable.1 })
            }
            "call" => {
                let caller = self.names.id("caller");
                let (call, caller) = self.callable(caller, "endcall", Some(()))?;
                match call {
                    Some(call) => Ok(StatementKind::Call { call, caller }),
                    None => self.error("`call` must be followed by a call"),
                }
            }
            "filter" => {
                let filters = self.filters_of_block(true)?;
                Ok(StatementKind::FilterBlock { filters, body: self.block("endfilter")? })
            }
            "with" => {
                let mut bindings = Vec::new();
                while self.peek() != Some(&TokenKind::TagEnd) {
                    if !bindings.is_empty() {
                        self.expect_symbol(",")?;
                    }
                    let target = self.target()?;
                    self.expect_symbol("=")?;
                    bindings.push((target, self.expression()?));
                }
                Ok(StatementKind::With { bindings, body: self.block("endwith")? })
            }
            "generation" => Ok(StatementKind::Scope(self.block("endgeneration")?)),
            "break" | "continue" => {
                if self.n_loops == 0 {
                    return self.error(format!("`{tag}` outside of a loop"));
                }
                self.expect_tag_end()?;
                Ok(if tag == "break" { StatementKind::Break } else { StatementKind::Continue })
            }
            _ if ABSENT_TAGS.contains(&tag) => {
                self.error(format!("the tag `{tag}` is not part of chat templates here"))
            }
            _ if tag.starts_with("end") || matches!(tag, "else" | "elif") => {
                self.error(format!("`{tag}` ends or continues nothing"))
            }
            _ => self.error(format!("there is no tag `{tag}`")),
        }
    }

    fn if_tag(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        loop {
            let condition = self.tuple(&[])?;
            self.expect_tag_end()?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            match end {
                "elif" => continue,
                "else" => return Ok(StatementKind::If { branches, otherwise: self.block("endif")? }),
                _ => {
                    self.expect_tag_end()?;
                    return Ok(StatementKind::If { branches, otherwise: Vec::new() });
                }
            }
        }
    }

    fn for_tag(&mut self) -> Result<StatementKind> {
        let target = self.target()?;
        if !self.skip_word("in") {
            return self.unexpected("`in`");
        }
        let iterable = self.sequence(&["if", "recursive"], |parser| parser.or())?;
        let condition = if self.skip_word("if") { Some(self.expression()?) } else { None };
        if self.is_word("recursive") {
            return self.error("recursive loops are not part of chat templates here; use a macro");
        }
        self.expect_tag_end()?;
        self.n_loops += 1;
        let body = self.body(&["else", "endfor"]);
        self.n_loops -= 1;
        let (body, end) = body?;
        let otherwise = if end == "else" {
            self.block("endfor")?
        } else {
            self.expect_tag_end()?;
            Vec::new()
        };
        Ok(StatementKind::For(Box::new(For { target, iterable, condition, body, otherwise })))
    }

    fn set_tag(&mut self) -> Result<StatementKind> {
        let target = self.target()?;
        if self.skip_symbol("=") {
            let value = self.tuple(&[])?;
            self.expect_tag_end()?;
            return Ok(StatementKind::Set { target, value });
        }
        let filters = self.filters_of_block(false)?;
        Ok(StatementKind::SetBlock { target, filters, body: self.block("endset")? })
    }

    fn target(&mut self) -> Result<Target> {
        let bracketed = self.skip_symbol("(");
        let first = self.name()?;
        if !bracketed && self.skip_symbol(".") {
            return Ok(Target::Attribute(first, self.name()?));
        }
        let mut names = vec![first];
        let mut is_tuple = false;
        while self.skip_symbol(",") {
            is_tuple = true;
            match self.peek() {
                Some(TokenKind::Name(word)) if word != "in" => names.push(self.name()?),
                _ => break,
            }
        }
        if bracketed {
            self.expect_symbol(")")?;
        }
        Ok(if is_tuple { Target::Names(names) } else { Target::Name(first) })
    }

    /// `name(parameters) %}body{% end`, or for `call`: `(parameters) call %}body{% end`.
    fn callable(
        &mut self,
        name: NameId,
        end: &'static str,
        call_block: Option<()>,
    ) -> Result<(Option<Expression>, CallableId)> {
        let mut parameters = Vec::new();
        if call_block.is_none() || self.is_symbol("(") {
            self.expect_symbol("(")?;
            while !self.skip_symbol(")") {
                if !parameters.is_empty() {
                    self.expect_symbol(",")?;
                    if self.skip_symbol(")") {
                        break;
                    }
                }
                let parameter = self.name()?;
                let default = if self.skip_symbol("=") { Some(self.expression()?) } else { None };
                parameters.push((parameter, default));
            }
        }
        let call = match call_block {
            None => None,
            Some(()) => Some(self.expression()?),
        };
        if let Some(call) = &call
            && !matches!(call, Expression::Postfix(_, chain) if matches!(chain.last(), Some(Postfix::Call(_))))
        {
            return self.error("`call` must be followed by a call");
        }
        let n_loops = std::mem::take(&mut self.n_loops);
        let body = self.block(end);
        self.n_loops = n_loops;
        self.callables.push(Callable { name, parameters, body: body? });
        Ok((call, self.callables.len() - 1))
    }

    /// `name | name(…)` after `filter`, or `| name | name(…)` after the target of `set`.
    fn filters_of_block(&mut self, first_is_bare: bool) -> Result<Vec<Filter>> {
        let mut filters = Vec::new();
        if first_is_bare {
            filters.push(self.filter()?);
        }
        while self.skip_symbol("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }
}
