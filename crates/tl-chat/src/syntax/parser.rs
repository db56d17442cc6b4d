//! Tokens to a tree, by recursive descent. The precedence of operators is Jinja's, from `if`–`else` (lowest) over `or`,
//! `and`, `not`, comparisons, `+ -`, `~`, `* / // %`, `**` and signs to what follows an operand (highest).

use std::collections::HashMap;

use super::ast::{
    Arguments, Callable, CallableId, Comparison, Expression, Filter, For, NameId, Operator, Postfix, Statement,
    StatementKind, Target, Template,
};
use super::lexer::{Token, TokenKind, tokenize};
use crate::error::{ChatError, Result};

/// How deeply tags and brackets may nest. Published templates nest 15 deep.
const MAX_NESTING: usize = 80;

/// Tags of Jinja that need other templates, or that no chat template uses.
const ABSENT_TAGS: [&str; 9] = ["include", "import", "from", "extends", "block", "autoescape", "do", "trans", "debug"];

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

    // ---- tags ----

    /// Statements up to a tag named in `ends`, which is passed as far as its name, or to the end of the text.
    fn body(&mut self, ends: &[&'static str]) -> Result<(Vec<Statement>, &'static str)> {
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

    // ---- expressions ----

    /// One expression, or several with commas between them: a tuple. `ends` are words that end it.
    fn tuple(&mut self, ends: &[&str]) -> Result<Expression> {
        self.sequence(ends, |parser| parser.expression())
    }

    fn sequence(&mut self, ends: &[&str], item: impl Fn(&mut Self) -> Result<Expression>) -> Result<Expression> {
        let first = item(self)?;
        if !self.is_symbol(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_symbol(",") {
            let at_end = match self.peek() {
                None | Some(TokenKind::PrintEnd | TokenKind::TagEnd | TokenKind::Symbol(")")) => true,
                Some(TokenKind::Name(word)) => ends.contains(&word.as_str()),
                _ => false,
            };
            if at_end {
                break;
            }
            items.push(item(self)?);
        }
        Ok(Expression::Tuple(items))
    }

    fn expression(&mut self) -> Result<Expression> {
        self.nested(|parser| {
            let mut value = parser.or()?;
            if parser.skip_word("if") {
                let condition = parser.or()?;
                let otherwise = if parser.skip_word("else") { Some(parser.expression()?) } else { None };
                value = Expression::Conditional(Box::new((value, condition, otherwise)));
            }
            Ok(value)
        })
    }

    fn or(&mut self) -> Result<Expression> {
        let first = self.and()?;
        if !self.is_word("or") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_word("or") {
            operands.push(self.and()?);
        }
        Ok(Expression::Or(operands))
    }

    fn and(&mut self) -> Result<Expression> {
        let first = self.not()?;
        if !self.is_word("and") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_word("and") {
            operands.push(self.not()?);
        }
        Ok(Expression::And(operands))
    }

    fn not(&mut self) -> Result<Expression> {
        if self.skip_word("not") {
            return Ok(Expression::Not(Box::new(self.nested(|parser| parser.not())?)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expression> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek() {
                Some(TokenKind::Symbol("==")) => Comparison::Equal,
                Some(TokenKind::Symbol("!=")) => Comparison::NotEqual,
                Some(TokenKind::Symbol("<")) => Comparison::Less,
                Some(TokenKind::Symbol("<=")) => Comparison::LessEqual,
                Some(TokenKind::Symbol(">")) => Comparison::Greater,
                Some(TokenKind::Symbol(">=")) => Comparison::GreaterEqual,
                Some(TokenKind::Name(word)) if word == "in" => Comparison::In,
                Some(TokenKind::Name(word)) if word == "not" && self.is_word_at(1, "in") => Comparison::NotIn,
                _ => break,
            };
            self.position += if comparison == Comparison::NotIn { 2 } else { 1 };
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Compare(Box::new(first), rest) })
    }

    /// Operands of one precedence with the operators between them.
    fn chain(
        &mut self,
        operators: &[(&str, Operator)],
        operand: fn(&mut Self) -> Result<Expression>,
    ) -> Result<Expression> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.is_symbol(symbol)) {
            self.position += 1;
            rest.push((*operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Arithmetic(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Result<Expression> {
        self.chain(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::concat)
    }

    fn concat(&mut self) -> Result<Expression> {
        let first = self.product()?;
        if !self.is_symbol("~") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_symbol("~") {
            operands.push(self.product()?);
        }
        Ok(Expression::Concat(operands))
    }

    fn product(&mut self) -> Result<Expression> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Remainder),
        ];
        self.chain(&operators, Self::power)
    }

    fn power(&mut self) -> Result<Expression> {
        self.chain(&[("**", Operator::Power)], |parser| parser.unary(true))
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expression> {
        let operand = if self.skip_symbol("-") {
            Expression::Negative(Box::new(self.nested(|parser| parser.unary(false))?))
        } else if self.skip_symbol("+") {
            Expression::Positive(Box::new(self.nested(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let mut chain = Vec::new();
        self.postfix(&mut chain)?;
        loop {
            if !with_filters {
                break;
            }
            if self.skip_symbol("|") {
                chain.push(Postfix::Filter(self.filter()?));
            } else if self.skip_word("is") {
                chain.push(self.test()?);
            } else if self.is_symbol("(") {
                chain.push(Postfix::Call(self.arguments()?));
            } else {
                break;
            }
        }
        Ok(if chain.is_empty() { operand } else { Expression::Postfix(Box::new(operand), chain) })
    }

    fn postfix(&mut self, chain: &mut Vec<Postfix>) -> Result<()> {
        loop {
            if self.skip_symbol(".") {
                match self.peek() {
                    Some(TokenKind::Integer(value)) => {
                        chain.push(Postfix::Index(Expression::Integer(*value)));
                        self.position += 1;
                    }
                    _ => chain.push(Postfix::Attribute(self.name()?)),
                }
            } else if self.skip_symbol("[") {
                let index = self.nested(|parser| parser.subscript())?;
                chain.push(index);
                self.expect_symbol("]")?;
            } else if self.is_symbol("(") {
                chain.push(Postfix::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    fn subscript(&mut self) -> Result<Postfix> {
        let mut bounds = [None, None, None];
        let mut part = 0;
        while !self.is_symbol("]") {
            if self.skip_symbol(":") {
                part += 1;
                if part == 3 {
                    return self.error("a slice has at most three parts");
                }
            } else if bounds[part].is_none() {
                bounds[part] = Some(self.expression()?);
            } else {
                return self.unexpected("`]`");
            }
        }
        if part > 0 {
            return Ok(Postfix::Slice(Box::new(bounds)));
        }
        match bounds[0].take() {
            Some(index) => Ok(Postfix::Index(index)),
            None => self.unexpected("an index"),
        }
    }

    fn arguments(&mut self) -> Result<Arguments> {
        self.expect_symbol("(")?;
        let mut arguments = Arguments::default();
        let mut is_first = true;
        while !self.skip_symbol(")") {
            if !is_first {
                self.expect_symbol(",")?;
                if self.skip_symbol(")") {
                    break;
                }
            }
            is_first = false;
            if self.is_symbol("*") || self.is_symbol("**") {
                return self.error("arguments by `*` and `**` are not part of chat templates here");
            }
            if matches!(self.peek(), Some(TokenKind::Name(_))) && self.peek_at(1) == Some(&TokenKind::Symbol("=")) {
                let name = self.name()?;
                self.expect_symbol("=")?;
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty() {
                arguments.positional.push(self.expression()?);
            } else {
                return self.error("an argument without a name follows one with a name");
            }
        }
        Ok(arguments)
    }

    fn filter(&mut self) -> Result<Filter> {
        let name = self.name()?;
        let arguments = if self.is_symbol("(") { self.arguments()? } else { Arguments::default() };
        Ok(Filter { name, arguments })
    }

    /// What follows `is`.
    fn test(&mut self) -> Result<Postfix> {
        let negated = self.skip_word("not");
        let name = self.name()?;
        let mut arguments = Arguments::default();
        let argument_follows = match self.peek() {
            Some(TokenKind::Symbol("(")) => {
                arguments = self.arguments()?;
                false
            }
            Some(TokenKind::Name(word)) => !matches!(word.as_str(), "else" | "or" | "and" | "is" | "if" | "not" | "in"),
            Some(TokenKind::String(_) | TokenKind::Integer(_) | TokenKind::Float(_)) => true,
            Some(TokenKind::Symbol(symbol)) => matches!(*symbol, "[" | "{"),
            _ => false,
        };
        if argument_follows {
            let operand = self.primary()?;
            let mut chain = Vec::new();
            self.postfix(&mut chain)?;
            let operand = if chain.is_empty() { operand } else { Expression::Postfix(Box::new(operand), chain) };
            arguments.positional.push(operand);
        }
        Ok(Postfix::Test { filter: Filter { name, arguments }, negated })
    }

    fn primary(&mut self) -> Result<Expression> {
        match self.peek() {
            Some(TokenKind::Symbol("(" | "[" | "{")) => return self.nested(|parser| parser.bracketed()),
            Some(TokenKind::Name(_) | TokenKind::String(_) | TokenKind::Integer(_) | TokenKind::Float(_)) => {}
            _ => return self.unexpected("a value"),
        }
        Ok(match self.next() {
            Some(TokenKind::Name(word)) => match word.as_str() {
                "true" | "True" => Expression::Bool(true),
                "false" | "False" => Expression::Bool(false),
                "none" | "None" => Expression::None,
                _ => Expression::Name(self.names.id(&word)),
            },
            Some(TokenKind::String(mut text)) => {
                while let Some(TokenKind::String(_)) = self.peek() {
                    if let Some(TokenKind::String(more)) = self.next() {
                        text.push_str(&more);
                    }
                }
                Expression::String(text)
            }
            Some(TokenKind::Integer(value)) => Expression::Integer(value),
            Some(TokenKind::Float(value)) => Expression::Float(value),
            _ => return self.unexpected("a value"),
        })
    }

    fn bracketed(&mut self) -> Result<Expression> {
        if self.skip_symbol("(") {
            if self.skip_symbol(")") {
                return Ok(Expression::Tuple(Vec::new()));
            }
            let value = self.tuple(&[])?;
            self.expect_symbol(")")?;
            return Ok(value);
        }
        if self.skip_symbol("[") {
            let mut items = Vec::new();
            while !self.skip_symbol("]") {
                if !items.is_empty() {
                    self.expect_symbol(",")?;
                    if self.skip_symbol("]") {
                        break;
                    }
                }
                items.push(self.expression()?);
            }
            return Ok(Expression::List(items));
        }
        self.expect_symbol("{")?;
        let mut entries = Vec::new();
        while !self.skip_symbol("}") {
            if !entries.is_empty() {
                self.expect_symbol(",")?;
                if self.skip_symbol("}") {
                    break;
                }
            }
            let key = self.expression()?;
            self.expect_symbol(":")?;
            entries.push((key, self.expression()?));
        }
        Ok(Expression::Dict(entries))
    }
}
