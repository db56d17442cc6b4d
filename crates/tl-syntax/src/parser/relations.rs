//! Relations: entities, facts, rules and queries. Their words are names everywhere else.

use crate::Span;
use crate::ast::{
    Atom, BinaryOperator, Elements, Entity, ExprKind, Fact, Factor, Item, Literal, Query, Relation, Rule, SoftIndex,
    SoftRule, Term, TermKind,
};
use crate::parser::cursor::Parser;
use crate::token::TokenKind;

/// The words that begin items.
const WORDS: [&str; 4] = ["entity", "relation", "fact", "rule"];

impl Parser<'_> {
    /// Two names in a row, which begin nothing else.
    pub(super) fn at_relational_item(&self) -> bool {
        self.ahead(1).kind == TokenKind::Identifier && WORDS.iter().any(|word| self.at_word(word))
    }

    pub(super) fn at_query(&self) -> bool {
        let next = self.ahead(1).kind;
        // `query not in x` looks a variable of that name up.
        let is_negated = next == TokenKind::Not && self.ahead(2).kind != TokenKind::In;
        (next == TokenKind::Identifier || is_negated) && self.at_word("query")
    }

    pub(super) fn relational_item(&mut self) -> Item {
        let word = self.advance().span;
        match self.slice(word) {
            "entity" => Item::Entity(self.entity(word)),
            "relation" => Item::Relation(self.relation(word)),
            "fact" => {
                let atom = self.atom();
                Item::Fact(Fact { atom, span: self.span_from(word) })
            }
            _ if self.ahead(1).kind == TokenKind::OpenBracket => Item::SoftRule(self.soft_rule(word)),
            _ => Item::Rule(self.rule(word)),
        }
    }

    fn entity(&mut self, start: Span) -> Entity {
        let name = self.name("the entity's name");
        self.expect(TokenKind::Equal, " and the entity's elements");
        let elements = if self.eat(TokenKind::OpenBrace) {
            let mut names = Vec::new();
            self.comma_list(TokenKind::CloseBrace, |parser| names.push(parser.name("the name of an element")));
            Elements::Named(names)
        } else {
            Elements::Numbered(self.expression())
        };
        Entity { name, elements, span: self.span_from(start) }
    }

    fn relation(&mut self, start: Span) -> Relation {
        let name = self.name("the relation's name");
        let mut sets = Vec::new();
        if self.expect(TokenKind::OpenParen, " and the entities of its places") {
            self.comma_list(TokenKind::CloseParen, |parser| sets.push(parser.name("an entity's name")));
        }
        let value = self.eat(TokenKind::Equal).then(|| self.expression());
        Relation { name, sets, value, span: self.span_from(start) }
    }

    /// `Parent(x, ann)`
    fn atom(&mut self) -> Atom {
        let name = self.name("a relation");
        let mut terms = Vec::new();
        if self.expect(TokenKind::OpenParen, " behind the relation") {
            self.comma_list(TokenKind::CloseParen, |parser| terms.push(parser.term()));
        }
        let span = self.span_from(name.span);
        Atom { name, terms, span }
    }

    fn term(&mut self) -> Term {
        let span = self.token().span;
        let kind = match self.kind() {
            TokenKind::Identifier if self.at_word("_") => {
                self.advance();
                TermKind::Any
            }
            TokenKind::Identifier => TermKind::Name(self.name("a variable").text),
            TokenKind::Int | TokenKind::OpenParen => TermKind::Value(Box::new(self.primary())),
            _ => {
                let diagnostic = self.expected("a variable, an element or `_`");
                self.report(diagnostic.hint("an int that is computed stands in parentheses, as in `Edge((n + 1), x)`"));
                TermKind::Any
            }
        };
        Term { kind, span: self.span_from(span) }
    }

    fn rule(&mut self, start: Span) -> Rule {
        let head = self.atom();
        let mut body = Vec::new();
        if self.rule_arrow() {
            body.push(self.literal());
            while self.eat(TokenKind::Comma) {
                body.push(self.literal());
            }
        }
        Rule { head, body, span: self.span_from(start) }
    }

    /// `<-`, which elsewhere is `<` and `-`.
    fn rule_arrow(&mut self) -> bool {
        let (less, minus) = (self.token(), self.ahead(1));
        let is_arrow =
            less.kind == TokenKind::Less && minus.kind == TokenKind::Minus && less.span.end == minus.span.start;
        if is_arrow {
            self.advance();
            self.advance();
        } else {
            let diagnostic = self.expected("`<-` and the rule's conditions");
            self.report(diagnostic.hint("as in `rule Ancestor(x, z) <- Parent(x, y), Ancestor(y, z)`"));
        }
        is_arrow
    }

    fn literal(&mut self) -> Literal {
        if self.eat(TokenKind::Not) {
            return Literal::Atom { atom: self.atom(), is_negated: true };
        }
        if self.at(TokenKind::Identifier) && self.ahead(1).kind == TokenKind::OpenParen {
            return Literal::Atom { atom: self.atom(), is_negated: false };
        }
        let left = self.term();
        let operator = self.comparison();
        Literal::Comparison { operator, left, right: self.term() }
    }

    fn comparison(&mut self) -> BinaryOperator {
        let operator = match self.kind() {
            TokenKind::EqualEqual => BinaryOperator::Equal,
            TokenKind::NotEqual => BinaryOperator::NotEqual,
            TokenKind::Less => BinaryOperator::Less,
            TokenKind::LessEqual => BinaryOperator::LessEqual,
            TokenKind::Greater => BinaryOperator::Greater,
            TokenKind::GreaterEqual => BinaryOperator::GreaterEqual,
            _ => {
                let diagnostic = self.expected("a comparison, or `(` behind a relation's name");
                self.report(diagnostic.hint("a condition is `Parent(x, y)`, `not Parent(x, y)` or `x != y`"));
                return BinaryOperator::Equal;
            }
        };
        self.advance();
        operator
    }

    /// `query Parent(ann, x), Parent(x, y)`; in a list, the comma is the list's.
    pub(super) fn query(&mut self) -> ExprKind {
        self.advance();
        let mut body = Vec::new();
        loop {
            body.push(self.literal());
            if self.in_list || !self.eat(TokenKind::Comma) {
                return ExprKind::Query(Query { body });
            }
        }
    }

    fn soft_rule(&mut self, start: Span) -> SoftRule {
        let name = self.name("the tensor's name");
        self.advance();
        let mut indices = Vec::new();
        self.comma_list(TokenKind::CloseBracket, |parser| {
            let name = parser.name("an index");
            indices.push(SoftIndex { name, is_normalized: parser.eat(TokenKind::Dot) });
        });
        let (mut factors, mut temperature) = (Vec::new(), None);
        if self.rule_arrow() {
            factors.push(self.factor());
            while self.eat(TokenKind::Star) {
                factors.push(self.factor());
            }
            temperature = self.eat(TokenKind::Slash).then(|| self.expression());
        }
        SoftRule { name, indices, factors, temperature, span: self.span_from(start) }
    }

    /// `Embed[x, d]`, `Parent(x, y)`
    fn factor(&mut self) -> Factor {
        let is_relation = self.ahead(1).kind == TokenKind::OpenParen;
        if is_relation {
            return Factor { atom: self.atom(), is_relation };
        }
        let name = self.name("a tensor");
        let mut terms = Vec::new();
        if self.eat(TokenKind::OpenBracket) {
            self.comma_list(TokenKind::CloseBracket, |parser| terms.push(parser.term()));
        } else {
            let diagnostic = self.expected("`[` and the indices");
            let hint =
                "a factor is a tensor with its indices, as in `Embed[x, d]`, or a relation, as in `Parent(x, y)`";
            self.report(diagnostic.hint(hint));
        }
        let span = self.span_from(name.span);
        Factor { atom: Atom { name, terms, span }, is_relation }
    }
}
