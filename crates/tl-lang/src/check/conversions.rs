//! Values against written types, with the implicit conversions: an int becomes a `float`, a list of numbers becomes a tensor.

use std::sync::Arc;

use tl_device::DType;
use tl_syntax::ast;
use tl_syntax::{Diagnostic, Span};
use tl_tensor::ops::{Size, TensorType};

use crate::check::checker::{Checker, error_value};
use crate::check::typed::{Bindings, Typed, accepts};
use crate::declared::{Declared, DeclaredDtype, declared_type, show_declared};
use crate::ir::{Expr, ExprKind, TypeSource};
use crate::types::{Known, Type, list_sizes};
use crate::value::Value;

/// The dtype of a written one; `None` for `float`.
pub(super) fn dtype(written: ast::TensorDtype) -> Option<DType> {
    match written {
        ast::TensorDtype::Float16 => Some(DType::F16),
        ast::TensorDtype::Float32 => Some(DType::F32),
        ast::TensorDtype::Int32 => Some(DType::I32),
        ast::TensorDtype::Bool => Some(DType::Bool),
        ast::TensorDtype::Float => None,
    }
}

impl Checker {
    /// A value that must fit a written type, whose size names are those of the enclosing function.
    pub(super) fn expect(&mut self, value: Typed, declared: &Declared, what: TypeSource) -> Typed {
        let span = value.span();
        if matches!(declared, Declared::Tensor(..)) && self.is_joined(&value) {
            return Typed::new(Expr::unit(span), declared_type(declared, &|name| self.frame.size(name)));
        }
        let names = self.frame.sizes.clone();
        let sizes = self.frame.size_values.iter().map(|size| Some(*size)).collect();
        let mut bindings = Bindings { names: &names, sizes, are_own: true };
        let declared_ty = declared_type(declared, &|name| self.frame.size(name));
        if let Err(mismatch) = accepts(declared, &value.ty, &value.known, &mut bindings) {
            let place = match &what {
                TypeSource::Variable(name) => format!("`{name}` is declared as {}", show_declared(declared, &names)),
                TypeSource::Result => format!("this function returns {}", show_declared(declared, &names)),
                TypeSource::Conversion => format!("`as` names {}", show_declared(declared, &names)),
            };
            let message = format!("{place}, and is given {}{}", self.show(&value.ty), in_brackets(&mismatch.reason));
            let mut diagnostic = with_conversion_hint(Diagnostic::error(span, message), declared, &value.ty);
            diagnostic.code = mismatch.code;
            if let (true, TypeSource::Variable(name)) = (diagnostic.hints.is_empty(), &what) {
                diagnostic = diagnostic.hint(format!("`let {name} = …` declares another variable of that name"));
            }
            self.report(diagnostic);
            if mismatch.code.is_none() {
                return Typed::new(Expr::unit(span), declared_ty);
            }
        }
        let (ty, known) = refined(declared_ty, &value.ty, &value.known);
        if let Declared::Float = declared {
            return self.float_of(value);
        }
        if is_certain(declared, &value.ty) {
            return value;
        }
        let kind = ExprKind::Expect { operand: Box::new(value.expr), ty: Box::new(declared.clone()), what };
        Typed { expr: Expr::new(kind, span), ty, known }
    }

    /// A number as a `float`.
    pub(super) fn float_of(&mut self, value: Typed) -> Typed {
        if value.ty != Type::Int {
            return value;
        }
        let span = value.span();
        let kind = match value.expr.kind {
            ExprKind::Constant(number) if let Value::Int(n) = *number => {
                ExprKind::Constant(Box::new(Value::Float(n as f64)))
            }
            _ => ExprKind::Convert { operand: Box::new(value.expr), to: Box::new(Declared::Float) },
        };
        let known = match value.known {
            Known::Int(Size::Known(n)) => Known::Float(n as f64),
            _ => Known::Nothing,
        };
        Typed { known, ..Typed::new(Expr::new(kind, span), Type::Float) }
    }

    /// Whether a sum of lists stands where a tensor is expected, which is reported: `+` joins lists.
    fn is_joined(&mut self, value: &Typed) -> bool {
        let is_sum = matches!(value.expr.kind, ExprKind::Binary { operator: ast::BinaryOperator::Add, .. });
        let is_joined = is_sum && value.ty.may_become_tensor();
        if is_joined {
            let diagnostic = Diagnostic::error(value.span(), "`+` joins two lists, and a tensor is expected here");
            self.report(diagnostic.hint("to add numbers, make a tensor of one side: `from_list([0.0]) + [1.0]`"));
        }
        is_joined
    }

    /// A list of numbers as a tensor.
    pub(super) fn tensor_of(&mut self, value: Typed, dtype: DType) -> Typed {
        self.is_joined(&value);
        let span = value.span();
        let sizes = match list_sizes(&value.known) {
            Ok(sizes) => sizes.or_else(|| literal_sizes(&value.expr)),
            Err((code, reason)) => {
                let message = format!("this list cannot become a tensor: {reason}");
                self.report(Diagnostic::error(span, message).code(code));
                None
            }
        };
        let known = match value.known {
            Known::Ints(ints) if dtype == DType::I32 => Known::Ids(ints),
            _ => Known::Nothing,
        };
        let kind = ExprKind::FromList { operand: Box::new(value.expr), dtype };
        let ty = Type::Tensor(TensorType { dtype: Some(dtype), sizes });
        Typed { expr: Expr::new(kind, span), ty, known }
    }

    /// A condition, and its value if that is known.
    pub(super) fn condition(&mut self, expr: &ast::Expr) -> (Expr, Option<bool>) {
        let value = self.expr(expr);
        if !matches!(value.ty, Type::Bool | Type::Unknown | Type::Never) {
            let message = format!("a condition must be a bool, and this is {}", self.show(&value.ty));
            let mut diagnostic = Diagnostic::error(value.span(), message);
            match &value.ty {
                Type::Int | Type::Float => diagnostic = diagnostic.hint("compare it: `x != 0`"),
                Type::Tensor(_) => diagnostic = diagnostic.hint("take one element's value with `item(t)`"),
                _ => {}
            }
            self.report(diagnostic);
        }
        let known = match value.known {
            Known::Bool(known) if self.frame.trials == 0 => Some(known),
            _ => None,
        };
        (value.expr, known)
    }

    /// `operand as type`.
    pub(super) fn conversion(&mut self, operand: &ast::Expr, written: &ast::Type, span: Span) -> Typed {
        let value = self.expr(operand);
        let is_tensor = matches!(value.ty, Type::Tensor(_)) || value.ty.may_become_tensor();
        match &written.kind {
            ast::TypeKind::Dtype(to) if let Some(to) = dtype(*to) => self.cast(value, to, span),
            ast::TypeKind::Bool if is_tensor => self.cast(value, DType::Bool, span),
            ast::TypeKind::Tensor { dtype: to, .. } if let Some(to) = dtype(*to) => {
                let declared = self.declared(written, None);
                let value = self.cast(value, to, span);
                self.expect(value, &declared, TypeSource::Conversion)
            }
            ast::TypeKind::Tensor { .. } => {
                let diagnostic = Diagnostic::error(written.span, "`as` converts to one dtype, and `float[…]` is two");
                self.report(diagnostic.hint("write `as float16` or `as float32`"));
                error_value(span)
            }
            ast::TypeKind::Int => self.convert(value, Declared::Int, span),
            ast::TypeKind::Float => self.convert(value, Declared::Float, span),
            ast::TypeKind::Bool => self.convert(value, Declared::Bool, span),
            ast::TypeKind::Error => error_value(span),
            _ => {
                let diagnostic = Diagnostic::error(written.span, "`as` converts numbers and tensors only");
                self.report(diagnostic.hint("`str(x)` makes a string"));
                error_value(span)
            }
        }
    }

    fn cast(&mut self, value: Typed, dtype: DType, span: Span) -> Typed {
        if value.ty.may_become_tensor() {
            return self.tensor_of(value, dtype);
        }
        if !value.ty.may_be_tensor() {
            let message = format!("{} cannot become a tensor of {dtype}", self.show(&value.ty));
            let mut diagnostic = Diagnostic::error(value.span(), message);
            if value.ty.is_number() {
                diagnostic = diagnostic
                    .hint("a number takes the type of the tensor that it meets; `full([], x)` makes a tensor of it");
            }
            self.report(diagnostic);
            return error_value(span);
        }
        let name = Arc::from("cast");
        let dtype_value =
            Typed { expr: Expr::of(Value::DType(dtype), span), ty: Type::Dtype, known: Known::DType(dtype) };
        self.op_by_name(&name, vec![Some(value), Some(dtype_value)], span)
    }

    fn convert(&mut self, value: Typed, to: Declared, span: Span) -> Typed {
        let ty = declared_type(&to, &|_| Size::Unknown);
        if value.ty == ty {
            return value;
        }
        let possible = match value.ty {
            Type::Unknown | Type::Never => true,
            Type::Int | Type::Float | Type::Bool => to != Declared::Bool,
            _ => false,
        };
        if !possible {
            let message = format!("{} cannot be converted to {}", self.show(&value.ty), self.show(&ty));
            let mut diagnostic = Diagnostic::error(value.span(), message);
            match (&value.ty, &to) {
                (Type::Tensor(_), _) => {
                    diagnostic = diagnostic.hint("`item(t)` gives the value of a tensor with one element")
                }
                (Type::Str, _) => diagnostic = diagnostic.hint("`int(s)` and `float(s)` read a number from a string"),
                (_, Declared::Bool) => diagnostic = diagnostic.hint("compare it: `x != 0`"),
                _ => {}
            }
            self.report(diagnostic);
            return Typed::new(Expr::unit(span), ty);
        }
        let known = match (&ty, value.known) {
            (Type::Int, known @ Known::Int(_)) => known,
            (Type::Float, Known::Int(Size::Known(n))) => Known::Float(n as f64),
            _ => Known::Nothing,
        };
        let kind = ExprKind::Convert { operand: Box::new(value.expr), to: Box::new(to) };
        Typed { expr: Expr::new(kind, span), ty, known }
    }
}

/// A reason in brackets, for the end of a message.
pub(super) fn in_brackets(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

/// Adds a hint if a conversion is all that is missing.
pub(super) fn with_conversion_hint(diagnostic: Diagnostic, declared: &Declared, given: &Type) -> Diagnostic {
    match (declared, given) {
        (Declared::Int, Type::Float) => diagnostic.hint("`x as int` cuts the fraction off"),
        (Declared::Str, _) => diagnostic.hint("`str(x)` makes a string"),
        (Declared::Int | Declared::Float, Type::Tensor(_)) => {
            diagnostic.hint("`item(t)` gives the value of a tensor with one element")
        }
        (
            Declared::Tensor(DeclaredDtype::Exactly(wanted), dims),
            Type::Tensor(TensorType { dtype: Some(found), sizes }),
        ) if wanted != found && sizes.as_ref().is_none_or(|sizes| sizes.len() == dims.len()) => {
            diagnostic.hint(format!("convert it with `x as {wanted}`"))
        }
        (Declared::Tensor(..), Type::Optional) => diagnostic.hint(IF_LET),
        _ => diagnostic,
    }
}

/// A hint for values that may be `none`.
pub(super) const IF_LET: &str = "`if let t = … { … }` runs its block where there is a tensor, and calls it `t` there";

/// Whether the running program need not check the value again.
fn is_certain(declared: &Declared, given: &Type) -> bool {
    match (declared, given) {
        (Declared::Tensor(..) | Declared::List(_) | Declared::Map(..) | Declared::Optional(_), _)
        | (_, Type::Unknown) => false,
        (Declared::Unknown, _) | (_, Type::Never) => true,
        _ => true,
    }
}

/// The declared type, with what it leaves open taken from the value, and what is known of the value after its conversion.
pub(super) fn refined(declared: Type, given: &Type, known: &Known) -> (Type, Known) {
    let mut ty = match (declared, given) {
        (Type::Tensor(ty), _) => ty,
        (Type::List(declared), Type::List(given)) => return refined_list(*declared, given, known),
        (Type::Optional, Type::Tensor(given)) => return (Type::Optional, Known::Optional(Some(given.clone()))),
        (Type::Float, Type::Int) => {
            let known = known.size().known().map_or(Known::Nothing, |n| Known::Float(n as f64));
            return (Type::Float, known);
        }
        (Type::Unknown, given) => return (given.clone(), known.clone()),
        (declared, given) if declared.same_kind(given) => return (declared, known.clone()),
        (declared, _) => return (declared, Known::Nothing),
    };
    let of_list = TensorType { dtype: None, sizes: list_sizes(known).unwrap_or_default() };
    let given = match given {
        Type::Tensor(given) => given,
        given if given.may_become_tensor() => &of_list,
        _ => return (Type::Tensor(ty), Known::Nothing),
    };
    if let (Some(sizes), Some(given)) = (&mut ty.sizes, &given.sizes) {
        for (size, given) in sizes.iter_mut().zip(given) {
            // A written number stays; a written name or `?` gives way to what is known.
            if size.known().is_none() && (*given != Size::Unknown) {
                *size = *given;
            }
        }
    }
    // A weight keeps its stored format.
    ty.dtype = given.dtype.or(ty.dtype);
    let known = match known {
        Known::Ids(_) => known.clone(),
        _ => Known::Nothing,
    };
    (Type::Tensor(ty), known)
}

fn refined_list(declared: Type, given: &Type, known: &Known) -> (Type, Known) {
    let known = match known {
        Known::Elements(elements) => {
            let elements = elements.iter().map(|(ty, known)| refined(declared.clone(), ty, known));
            Known::elements(elements)
        }
        known => known.clone(),
    };
    (Type::list(refined(declared, given, &Known::Nothing).0), known)
}

/// The sizes of a long literal list of lists, from its first parts.
fn literal_sizes(expr: &Expr) -> Option<tl_tensor::ops::Sizes> {
    match &expr.kind {
        ExprKind::List(elements) => {
            let first = elements.first()?;
            let is_list = matches!(first.kind, ExprKind::List(_))
                || matches!(first.constant(), Some(Value::List(_) | Value::Ints(_)));
            if !is_list {
                return None;
            }
            let inner = literal_sizes(first)?;
            Some(std::iter::once(Size::Known(elements.len() as i64)).chain(inner).collect())
        }
        ExprKind::Constant(value) => value_sizes(value),
        _ => None,
    }
}

fn value_sizes(value: &Value) -> Option<tl_tensor::ops::Sizes> {
    match value {
        Value::Ints(ints) => Some([Size::Known(ints.len() as i64)].into_iter().collect()),
        Value::List(elements) => {
            let inner = match elements.first() {
                Some(first @ (Value::List(_) | Value::Ints(_))) => value_sizes(first)?,
                Some(Value::Int(_) | Value::Float(_) | Value::Bool(_)) | None => tl_tensor::ops::Sizes::new(),
                Some(_) => return None,
            };
            Some(std::iter::once(Size::Known(elements.len() as i64)).chain(inner).collect())
        }
        _ => None,
    }
}
