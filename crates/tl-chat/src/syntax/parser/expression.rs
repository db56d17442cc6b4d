//! Expressions. The precedence of operators is Jinja's, from `if`–`else` (lowest) over `or`, `and`, `not`, comparisons,
//! `+ -`, `~`, `* / // %`, `**` and signs to postfix operators (highest).

use super::super::ast::{Arguments, Comparison, Expression, Filter, Operator, Postfix};
use super::super::lexer::TokenKind;
use super::Parser;
use crate::error::Result;

impl Parser {
    /// One expression, or several with commas between them: a tuple. `ends` are words that end it.
    pub(super) fn tuple(&mut self, ends: &[&str]) -> Result<Expression> {
        self.sequence(ends, |parser| parser.expression())
    }

    pub(super) fn sequence(
        &mut self,
        ends: &[&str],
        item: impl Fn(&mut Self) -> Result<Expression>,
    ) -> Result<Expression> {
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

    pub(super) fn expression(&mut self) -> Result<Expression> {
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

    pub(super) fn or(&mut self) -> Result<Expression> {
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

    pub(super) fn filter(&mut self) -> Result<Filter> {
        let name = self.name()?;
        let arguments = if self.is_symbol("(") { self.arguments()? } else { Arguments::default() };
        Ok(Filter { name, arguments })
    }

    /// A test, after `is`.
    fn test(&mut self) -> Result<Postfix> {
        let negated = self.skip_word("not");
        let name = self.name()?;
        let mut arguments = Arguments::default();
        if self.is_word("is") {
            return self.error("one `is` cannot follow another; put the first in brackets");
        }
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
