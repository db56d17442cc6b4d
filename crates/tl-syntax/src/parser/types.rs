//! Written types.

use crate::Diagnostic;
use crate::ast::{Dim, DimKind, TensorDtype, Type, TypeKind};
use crate::parser::cursor::Parser;
use crate::token::TokenKind;

impl Parser<'_> {
    /// A type in a declaration.
    pub(super) fn ty(&mut self) -> Type {
        let ty = self.ty_or_dtype();
        if let TypeKind::Dtype(dtype) = ty.kind {
            let message = format!("`{}` is a dtype: a tensor's type also tells its dimensions", dtype.name());
            let hint = format!("write `{}[?, ?]`, with a number, a name or `?` for each dimension", dtype.name());
            self.report_and_continue(Diagnostic::error(ty.span, message).hint(hint));
            return Type { kind: TypeKind::Error, span: ty.span };
        }
        ty
    }

    /// A type after `as`, where a dtype alone is allowed.
    pub(super) fn ty_or_dtype(&mut self) -> Type {
        let error = |span| Type { kind: TypeKind::Error, span };
        self.nested(error, |parser| parser.ty_body())
    }

    fn ty_body(&mut self) -> Type {
        let start = self.token().span;
        let kind = match self.kind() {
            TokenKind::Identifier => self.named_type(),
            TokenKind::OpenBracket => {
                self.advance();
                let element = self.ty();
                self.expect(TokenKind::CloseBracket, " behind the list's element type");
                TypeKind::List(Box::new(element))
            }
            TokenKind::OpenBrace => self.map_type(),
            TokenKind::OpenParen => {
                self.advance();
                self.expect(TokenKind::CloseParen, "");
                TypeKind::Unit
            }
            _ => {
                let diagnostic = self.expected("a type");
                self.report(diagnostic);
                TypeKind::Error
            }
        };
        let ty = Type { kind, span: self.span_from(start) };
        if !self.eat(TokenKind::Question) {
            return ty;
        }
        let span = self.span_from(start);
        if !matches!(ty.kind, TypeKind::Tensor { .. } | TypeKind::Error) {
            let diagnostic = Diagnostic::error(span, "only a tensor may be left out: `float32[n]?`");
            self.report_and_continue(diagnostic);
            return Type { kind: TypeKind::Error, span };
        }
        Type { kind: TypeKind::Optional(Box::new(ty)), span }
    }

    /// `{K: V}`
    fn map_type(&mut self) -> TypeKind {
        self.advance();
        let key = self.ty();
        self.expect(TokenKind::Colon, " behind the type of the keys");
        let value = self.ty();
        self.expect(TokenKind::CloseBrace, " behind the type of the values");
        TypeKind::Map(Box::new(key), Box::new(value))
    }

    fn named_type(&mut self) -> TypeKind {
        let name = self.name("a type");
        if self.eat(TokenKind::Dot) {
            return TypeKind::Imported { module: name, name: self.name("a struct's name") };
        }
        let with_dims = self.at(TokenKind::OpenBracket);
        if with_dims && let Some(dtype) = TensorDtype::from_name(&name.text) {
            return TypeKind::Tensor { dtype, dims: self.dims() };
        }
        if with_dims && &*name.text == TensorDtype::Float.name() {
            return TypeKind::Tensor { dtype: TensorDtype::Float, dims: self.dims() };
        }
        if with_dims {
            let message = format!("`{}` has no dimensions", name.text);
            let hint = "tensors are `float16[…]`, `float32[…]`, `float[…]`, `int32[…]` and `bool[…]`; a list is `[T]`";
            self.report_and_continue(Diagnostic::error(name.span, message).hint(hint));
            self.dims();
            return TypeKind::Error;
        }
        match &*name.text {
            "int" => TypeKind::Int,
            "float" => TypeKind::Float,
            "bool" => TypeKind::Bool,
            "string" => TypeKind::String,
            text => match TensorDtype::from_name(text) {
                Some(dtype) => TypeKind::Dtype(dtype),
                None => TypeKind::Named(name),
            },
        }
    }

    fn dims(&mut self) -> Vec<Dim> {
        self.advance();
        let mut dims = Vec::new();
        self.comma_list(TokenKind::CloseBracket, |parser| {
            let dim = parser.dim();
            dims.push(dim);
        });
        dims
    }

    fn dim(&mut self) -> Dim {
        let token = self.token();
        let kind = match token.kind {
            TokenKind::Int => {
                self.advance();
                DimKind::Known(self.integer(token.span))
            }
            TokenKind::Question => {
                self.advance();
                DimKind::Any
            }
            TokenKind::Identifier => DimKind::Named(self.name("a size").text),
            _ => {
                let diagnostic = self.expected("a dimension: a number, a name or `?`");
                self.report(diagnostic);
                DimKind::Any
            }
        };
        Dim { kind, span: token.span }
    }
}
