//! Items at a file's top level: functions, imports, `main`, tests, statements.

use crate::Diagnostic;
use crate::ast::{File, Function, Import, Item, Main, Name, Parameter, Test, Type, TypeKind};
use crate::parser::cursor::Parser;
use crate::token::TokenKind;

impl Parser<'_> {
    pub(super) fn file(&mut self) -> File {
        let mut items = Vec::new();
        loop {
            while matches!(self.kind(), TokenKind::Newline | TokenKind::Semicolon) {
                self.advance();
            }
            match self.kind() {
                TokenKind::End => return File { items },
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
                _ => items.extend(self.item()),
            }
            self.statement_end();
        }
    }

    fn item(&mut self) -> Option<Item> {
        match self.kind() {
            TokenKind::Fn => Some(Item::Function(self.function())),
            TokenKind::Import => Some(Item::Import(self.import())),
            TokenKind::Main => {
                let span = self.advance().span;
                Some(Item::Main(Main { span, body: self.block("`main`") }))
            }
            // The word is no keyword: elsewhere it is a name.
            TokenKind::Identifier
                if self.ahead(1).kind == TokenKind::Str && self.slice(self.token().span) == "test" =>
            {
                Some(Item::Test(self.test()))
            }
            TokenKind::Struct | TokenKind::Impl => {
                self.reserved_word();
                None
            }
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

    fn function(&mut self) -> Function {
        let start = self.advance().span;
        let name = self.name("the function's name");
        let mut parameters = Vec::new();
        if self.expect(TokenKind::OpenParen, " and the parameters") {
            self.comma_list(TokenKind::CloseParen, |parser| {
                let parameter = parser.parameter();
                parameters.push(parameter);
            });
        }
        let result = self.eat(TokenKind::Arrow).then(|| self.ty());
        let span = self.span_from(start);
        let body = self.block("the function");
        Function { name, parameters, result, body, span }
    }

    fn parameter(&mut self) -> Parameter {
        let name = self.name("a parameter's name");
        if self.eat(TokenKind::Colon) {
            return Parameter { name, ty: self.ty() };
        }
        let diagnostic = self.expected("`:` and the parameter's type");
        self.report(diagnostic.hint("every parameter has a type, as in `x: float16[?, ?]`"));
        let ty = Type { kind: TypeKind::Error, span: name.span };
        Parameter { name, ty }
    }

    /// Reads elements separated by commas up to and including the closing bracket. A trailing comma is allowed.
    pub(super) fn comma_list(&mut self, close: TokenKind, mut element: impl FnMut(&mut Self)) {
        while !self.at(close) {
            let before = self.position;
            element(self);
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

    fn import(&mut self) -> Import {
        let start = self.advance().span;
        if self.at(TokenKind::Str) {
            let token = self.advance();
            return Import { path: self.string(token.span), span: token.span };
        }
        let diagnostic = self.expected("a path in quotes");
        self.report(diagnostic.hint("as in `import \"layers.tl\"`"));
        Import { path: "".into(), span: start }
    }
}
