//! Items at a file's top level: functions, imports, `main`, tests, statements.

use crate::Diagnostic;
use crate::ast::{File, Function, Impl, Import, Item, Main, Name, Parameter, Struct, Test, Type, TypeKind};
use crate::parser::cursor::Parser;
use crate::token::TokenKind;

impl Parser<'_> {
    pub(super) fn file(&mut self) -> File {
        let mut items = Vec::new();
        let mut has_wrong_relations = false;
        loop {
            while matches!(self.kind(), TokenKind::Newline | TokenKind::Semicolon) {
                self.advance();
            }
            match self.kind() {
                TokenKind::End => return File { items, has_wrong_relations },
                TokenKind::CloseBrace => {
                    self.report(Diagnostic::error(self.token().span, "this `}` closes nothing"));
                    self.advance();
                    self.recovering = false;
                    continue;
                }
                TokenKind::Minus if !items.is_empty() => {
                    let diagnostic = self.leading_minus();
                    self.report_and_continue(diagnostic);
                    items.push(Item::Statement(self.statement()));
                }
                _ => {
                    let is_relational = self.at_relational_item();
                    items.extend(self.item());
                    has_wrong_relations |= is_relational && self.recovering;
                }
            }
            self.statement_end();
        }
    }

    fn item(&mut self) -> Option<Item> {
        match self.kind() {
            TokenKind::Fn => Some(Item::Function(self.function(None))),
            TokenKind::Import => Some(Item::Import(self.import())),
            TokenKind::Main => {
                let span = self.advance().span;
                Some(Item::Main(Main { span, body: self.block("`main`") }))
            }
            // These words are no keywords: elsewhere they are names.
            TokenKind::Identifier if self.ahead(1).kind == TokenKind::Str && self.at_word("test") => {
                Some(Item::Test(self.test()))
            }
            TokenKind::Identifier if self.at_relational_item() => Some(self.relational_item()),
            TokenKind::Struct => Some(Item::Struct(self.struct_declaration())),
            TokenKind::Impl => Some(Item::Impl(self.impl_block())),
            _ => Some(Item::Statement(self.statement())),
        }
    }

    /// Reports a reserved word and skips its block.
    pub(super) fn reserved_word(&mut self) {
        let word = self.advance();
        let message = format!("`{}` is not available in this version", self.slice(word.span));
        self.report(Diagnostic::error(word.span, message));
        while !matches!(
            self.kind(),
            TokenKind::OpenBrace | TokenKind::Newline | TokenKind::Semicolon | TokenKind::CloseBrace | TokenKind::End
        ) {
            self.advance();
        }
        if self.at(TokenKind::OpenBrace) {
            self.skip_braces();
        }
    }

    fn struct_declaration(&mut self) -> Struct {
        let start = self.advance().span;
        let name = self.name("the struct's name");
        let mut fields = Vec::new();
        if self.expect(TokenKind::OpenBrace, " and the fields") {
            self.comma_list(TokenKind::CloseBrace, |parser| {
                let field = parser.parameter(None);
                fields.push(field);
            });
        }
        Struct { name, fields, span: self.span_from(start) }
    }

    fn impl_block(&mut self) -> Impl {
        let start = self.advance().span;
        let name = self.name("a struct's name");
        let mut functions = Vec::new();
        if !self.expect(TokenKind::OpenBrace, " and the functions") {
            return Impl { name, functions, span: self.span_from(start) };
        }
        loop {
            while matches!(self.kind(), TokenKind::Newline | TokenKind::Semicolon) {
                self.advance();
            }
            match self.kind() {
                TokenKind::Fn => functions.push(self.function(Some(&name))),
                TokenKind::CloseBrace | TokenKind::End => break,
                _ => {
                    let diagnostic = self.expected("`fn` or `}`");
                    self.report(diagnostic.hint("an `impl` holds functions only"));
                    self.synchronize();
                }
            }
            self.statement_end();
        }
        if !self.eat(TokenKind::CloseBrace) {
            self.report(Diagnostic::error(name.span, "the `{` behind this name is never closed"));
        }
        Impl { name, functions, span: self.span_from(start) }
    }

    /// `fn …`; `owner` is the struct around it.
    fn function(&mut self, owner: Option<&Name>) -> Function {
        let start = self.advance().span;
        let name = self.name("the function's name");
        let mut parameters = Vec::new();
        if self.expect(TokenKind::OpenParen, " and the parameters") {
            self.comma_list(TokenKind::CloseParen, |parser| {
                let parameter = parser.parameter(owner);
                parameters.push(parameter);
            });
        }
        let result = self.eat(TokenKind::Arrow).then(|| self.ty());
        let span = self.span_from(start);
        let body = self.block("the function");
        Function { name, parameters, result, body, span }
    }

    fn parameter(&mut self, owner: Option<&Name>) -> Parameter {
        let name = self.name("a name");
        if self.eat(TokenKind::Colon) {
            return Parameter { name, ty: self.ty() };
        }
        if let Some(owner) = owner
            && &*name.text == "self"
        {
            let ty = Type { kind: TypeKind::Named(owner.clone()), span: name.span };
            return Parameter { name, ty };
        }
        let diagnostic = self.expected("`:` and a type");
        self.report(diagnostic.hint("parameters and fields have a type, as in `x: float16[?, ?]`"));
        let ty = Type { kind: TypeKind::Error, span: name.span };
        Parameter { name, ty }
    }

    /// Reads elements separated by commas up to and including the closing bracket. A trailing comma is allowed.
    pub(super) fn comma_list(&mut self, close: TokenKind, element: impl FnMut(&mut Self)) {
        self.with_list(true, |parser| parser.elements(close, element));
    }

    fn elements(&mut self, close: TokenKind, mut element: impl FnMut(&mut Self)) {
        self.skip_newlines(close);
        while !self.at(close) {
            let before = self.position;
            element(self);
            self.skip_newlines(close);
            if self.at(close) {
                break;
            }
            if !self.eat(TokenKind::Comma) {
                let what = format!("`,` or {}", close.describe());
                let diagnostic = self.expected(&what);
                self.report(diagnostic);
                return;
            }
            if self.position == before {
                return;
            }
        }
        self.advance();
    }

    /// `test "name" { … }`; the current token is the word.
    fn test(&mut self) -> Test {
        self.advance();
        let span = self.advance().span;
        let name = Name { text: self.string(span), span };
        Test { name, body: self.block("the test") }
    }

    /// Skips newlines before the closing brace of a list; those in other brackets are no tokens.
    fn skip_newlines(&mut self, close: TokenKind) {
        while close == TokenKind::CloseBrace && self.at(TokenKind::Newline) {
            self.advance();
        }
    }

    fn import(&mut self) -> Import {
        let start = self.advance().span;
        if self.at(TokenKind::Str) {
            let token = self.advance();
            let path = self.string(token.span);
            let alias = self.eat(TokenKind::As).then(|| self.name("a name for the file"));
            return Import { path, span: token.span, alias };
        }
        let diagnostic = self.expected("a path in quotes");
        self.report(diagnostic.hint("as in `import \"layers.tl\"`"));
        Import { path: "".into(), span: start, alias: None }
    }
}
