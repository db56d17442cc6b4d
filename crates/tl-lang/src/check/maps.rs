//! Maps and f-strings.

use tl_syntax::ast;
use tl_syntax::{Diagnostic, Span};

use crate::check::checker::Checker;
use crate::check::typed::Typed;
use crate::declared::Declared;
use crate::ir::{Expr, ExprKind, FormatPiece, Index, Maker};
use crate::types::Type;

impl Checker {
    /// `{key: value, …}`
    pub(super) fn map(&mut self, entries: &[(ast::Expr, ast::Expr)], span: Span) -> Typed {
        let mut parts = Vec::with_capacity(entries.len() * 2);
        let (mut keys, mut values) = (None, Vec::with_capacity(entries.len()));
        for (key, value) in entries {
            let key = self.expr(key);
            match &keys {
                None => {
                    if !is_key(&key.ty) {
                        self.wrong_key(&key);
                    }
                    keys = Some(key.ty.clone());
                }
                Some(keys) => self.check_key(keys, &key),
            }
            parts.push(key.expr);
            values.push(self.expr(value));
        }
        let is_number = |value: &Typed| value.ty.is_number();
        if values.iter().any(|value| value.ty == Type::Float) && values.iter().all(is_number) {
            values = values.into_iter().map(|value| self.float_of(value)).collect();
        }
        let value = values.iter().map(|value| value.ty.clone()).reduce(|a, b| a.join(&b)).unwrap_or(Type::Unknown);
        let ty = Type::map(keys.unwrap_or(Type::Unknown), value);
        // Keys and values in turns.
        let parts: Vec<Expr> = parts.into_iter().zip(values).flat_map(|(key, value)| [key, value.expr]).collect();
        let kind = ExprKind::Make { maker: Box::new(Maker::Map), parts: parts.into() };
        Typed::new(Expr::new(kind, span), ty)
    }

    /// Reports a key that a map with keys of the type `wanted` cannot have.
    pub(super) fn check_key(&mut self, wanted: &Type, key: &Typed) {
        if !is_key(&key.ty) {
            self.wrong_key(key);
        } else if !wanted.same_kind(&key.ty) {
            let message =
                format!("the keys of this map are of type {}, and this is {}", self.show(wanted), self.show(&key.ty));
            self.error(key.span(), message);
        }
    }

    fn wrong_key(&mut self, key: &Typed) {
        let message = format!("a map's key must be a string or an int, and this is {}", self.show(&key.ty));
        self.error(key.span(), message);
    }

    /// The written type of a map's keys.
    pub(super) fn declared_key(&mut self, written: &ast::Type) -> Declared {
        match self.declared(written, None) {
            key @ (Declared::Int | Declared::Str | Declared::Unknown) => key,
            _ => {
                self.error(written.span, "a map's keys are strings or ints");
                Declared::Unknown
            }
        }
    }

    /// `map[key]`
    pub(super) fn index_map(
        &mut self,
        receiver: Typed,
        keys: &Type,
        value: Type,
        indices: &[ast::Index],
        span: Span,
    ) -> Typed {
        let [ast::Index::At(at)] = indices else {
            self.report(Diagnostic::error(span, "a map takes one key").hint("as in `map[\"name\"]`"));
            return Typed::new(Expr::unit(span), value);
        };
        let key = self.expr(at);
        self.check_key(keys, &key);
        Typed::new(Expr::index(receiver.expr, [Index::At(key.expr)].into_iter().collect(), span), value)
    }

    /// `f"{a} and {b:.2}"`
    pub(super) fn format_string(&mut self, written: &[ast::FormatPiece], span: Span) -> Typed {
        let mut parts = Vec::new();
        let mut pieces = Vec::with_capacity(written.len());
        for piece in written {
            match piece {
                ast::FormatPiece::Text(text) => pieces.push(FormatPiece::Text(text.clone())),
                ast::FormatPiece::Value { value, format } => {
                    let value = self.expr(value);
                    let is_number = matches!(value.ty, Type::Int | Type::Float | Type::Tensor(_)) || value.ty.is_open();
                    if format.precision.is_some() && !is_number {
                        let message = format!("decimals are for numbers, and this is {}", self.show(&value.ty));
                        self.error(value.span(), message);
                    }
                    pieces.push(FormatPiece::Value(*format));
                    parts.push(value.expr);
                }
            }
        }
        let maker = Box::new(Maker::Format(pieces.into()));
        Typed::new(Expr::new(ExprKind::Make { maker, parts: parts.into() }, span), Type::Str)
    }
}

fn is_key(ty: &Type) -> bool {
    matches!(ty, Type::Int | Type::Str | Type::Unknown | Type::Never)
}
