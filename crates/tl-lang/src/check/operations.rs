//! Operators and calls of operations: arguments are converted to the kinds of their parameters, and the row's shape rule gives
//! the type of the result.

use smallvec::SmallVec;
use tl_device::DType;
use tl_syntax::ast::BinaryOperator;
use tl_syntax::{Diagnostic, Span};
use tl_tensor::OpError;
use tl_tensor::ops::{ArgType, DefaultValue, Kind, Op, Param, RuleArgs, Size, TensorType};

use crate::arithmetic;
use crate::check::checker::{Checker, error_value};
use crate::check::conversions::IF_LET;
use crate::check::known_values::{known_logic, known_result};
use crate::check::typed::Typed;
use crate::ir::{Argument, Block, Drops, Expr, ExprKind, If, OpCall};
use crate::op_code::code_of;
use crate::types::{HandleKind, Known, Type, show_tensor};
use crate::value::Value;

impl Checker {
    pub(super) fn op_by_name(&mut self, name: &str, arguments: Vec<Option<Typed>>, span: Span) -> Typed {
        match tl_tensor::ops::by_name(name) {
            Some(op) => self.op(op, arguments, span),
            None => {
                self.error(span, format!("the operation `{name}` is not available"));
                error_value(span)
            }
        }
    }

    /// A call of an operation with its arguments in the order of the parameters.
    pub(super) fn op(&mut self, op: &'static Op, arguments: Vec<Option<Typed>>, span: Span) -> Typed {
        let dtype = arguments.iter().flatten().find_map(|value| match &value.ty {
            Type::Tensor(ty) => ty.dtype,
            _ => None,
        });
        // A list becomes a tensor of the dtype of the other operands.
        let dtype = dtype.filter(|dtype| !matches!(dtype, DType::Block(_))).unwrap_or(DType::F16);
        let mut fits = true;
        let mut values = Vec::with_capacity(arguments.len());
        for (param, value) in op.params.iter().zip(arguments) {
            let value = value.map(|value| self.op_argument(op, param, value, dtype, &mut fits));
            values.push(value);
        }
        if !fits {
            return Typed::new(Expr::unit(span), Type::any_tensor());
        }
        let ty = self.apply_rule(op, &values, span);
        let arguments = values.into_iter().zip(op.params).map(|(value, param)| argument(value, param)).collect();
        Typed::new(Expr::new(ExprKind::Op(Box::new(OpCall::new(op, arguments))), span), ty)
    }

    fn op_argument(&mut self, op: &Op, param: &Param, value: Typed, dtype: DType, fits: &mut bool) -> Typed {
        let is_ints = |ty: &Type| matches!(ty, Type::List(element) if matches!(**element, Type::Int | Type::Unknown));
        let ok = match (param.kind, &value.ty) {
            (_, Type::Unknown | Type::Never) => true,
            (Kind::Tensor | Kind::Weight | Kind::Ids, Type::Optional) if param.default.is_some() => true,
            (Kind::Ids | Kind::IntOrIds, ty) if ty.may_become_tensor() => return self.tensor_of(value, DType::I32),
            (Kind::Tensor | Kind::Weight | Kind::TensorOrNumber, ty) if ty.may_become_tensor() => {
                return self.tensor_of(value, dtype);
            }
            (Kind::Tensor | Kind::Weight | Kind::Ids, ty) => ty.may_be_tensor(),
            (Kind::TensorOrNumber, ty) => ty.may_be_tensor() || ty.is_number(),
            (Kind::IntOrIds, ty) => ty.may_be_tensor() || *ty == Type::Int,
            (Kind::Tensors, Type::List(element)) => element.may_be_tensor(),
            (Kind::Int, Type::Int) | (Kind::Number, Type::Int | Type::Float) | (Kind::Bool, Type::Bool) => true,
            (Kind::Ints, ty) => *ty == Type::Int || is_ints(ty),
            (Kind::Text, Type::Str) | (Kind::DType, Type::Dtype) => true,
            _ => false,
        };
        if !ok {
            let wanted = describe_kind(param.kind);
            let given = self.show(&value.ty);
            let message = format!("`{}`: `{}` must be {wanted}, and is given {given}", op.name, param.name);
            let diagnostic = Diagnostic::error(value.span(), message);
            self.report(match value.ty {
                Type::Optional => diagnostic.hint(IF_LET),
                Type::Int
                    if param.kind == Kind::DType && op.params.first().is_some_and(|first| first.kind == Kind::Ints) =>
                {
                    diagnostic.hint(format!("a shape is one list: `{}([3, 4])`", op.name))
                }
                _ => diagnostic,
            });
            *fits = false;
        }
        value
    }

    /// The result's type by the operation's shape rule, whose errors are reported.
    fn apply_rule(&mut self, op: &'static Op, values: &[Option<Typed>], span: Span) -> Type {
        let types: SmallVec<[ArgType<'_>; 8]> = values
            .iter()
            .zip(op.params)
            .map(|(value, param)| match value {
                Some(value) => rule_argument(value, param),
                None => param.default.map_or(ArgType::None, default_type),
            })
            .collect();
        match (op.rule)(&RuleArgs(&types)) {
            Ok(ty) => Type::Tensor(ty),
            Err(OpError::Unknown) => Type::any_tensor(),
            Err(error) => {
                let mut operands = Vec::new();
                for ty in &types {
                    match ty {
                        ArgType::Tensor(ty) | ArgType::Ids(ty, _) => operands.push(show_tensor(ty)),
                        ArgType::Tensors(all) => operands.extend(all.iter().map(show_tensor)),
                        _ => {}
                    }
                }
                let mut diagnostic = Diagnostic::error(span, tl_tensor::describe(op.name, &operands, &error));
                diagnostic.code = code_of(&error);
                diagnostic.hints.extend(size_hint(&error));
                self.report(diagnostic);
                Type::any_tensor()
            }
        }
    }

    /// An operator between two values.
    pub(super) fn operation(
        &mut self,
        operator: BinaryOperator,
        operator_span: Span,
        left: Typed,
        right: Typed,
        span: Span,
    ) -> Typed {
        use BinaryOperator::{Add, And, MatMul, Or};
        let is_tensor = |ty: &Type| matches!(ty, Type::Tensor(_) | Type::Handle(HandleKind::Node));
        let with_tensor = is_tensor(&left.ty) || is_tensor(&right.ty);
        let may_meet_tensor = |ty: &Type| ty.may_be_tensor() || ty.may_become_tensor() || ty.is_number();
        if operator == MatMul
            || (with_tensor
                && operator != BinaryOperator::In
                && may_meet_tensor(&left.ty)
                && may_meet_tensor(&right.ty))
        {
            return self.op_by_name(arithmetic::operation_name(operator), vec![Some(left), Some(right)], span);
        }
        let ty = match (operator, &left.ty, &right.ty) {
            (And | Or, Type::Bool | Type::Unknown | Type::Never, Type::Bool | Type::Unknown | Type::Never) => {
                let known = known_logic(operator, &left.known, &right.known);
                return Typed { known, ..logic(operator, left, right, span) };
            }
            (And | Or, _, _) => None,
            (BinaryOperator::In, element, container) => is_in(element, container).then_some(Type::Bool),
            (_, Type::Unknown | Type::Never, _) | (_, _, Type::Unknown | Type::Never) if operator.is_comparison() => {
                Some(if with_tensor { Type::any_tensor() } else { Type::Unknown })
            }
            (_, Type::Unknown | Type::Never, _) | (_, _, Type::Unknown | Type::Never) => Some(Type::Unknown),
            (operator, a, b) if operator.is_comparison() => comparison(operator, a, b).then_some(Type::Bool),
            (_, Type::Int, Type::Int) => Some(Type::Int),
            (_, a, b) if a.is_number() && b.is_number() => Some(Type::Float),
            (Add, Type::Str, Type::Str) => Some(Type::Str),
            (Add, Type::List(a), Type::List(b)) if a.same_kind(b) => Some(Type::List(Box::new(a.join(b)))),
            _ => None,
        };
        let Some(ty) = ty else {
            self.operator_does_not_fit(operator, operator_span, &left, &right);
            return error_value(span);
        };
        let known = known_result(operator, &left.known, &right.known);
        let kind = ExprKind::Binary { operator, left: Box::new(left.expr), right: Box::new(right.expr) };
        Typed { expr: Expr::new(kind, span), ty, known }
    }

    fn operator_does_not_fit(&mut self, operator: BinaryOperator, span: Span, left: &Typed, right: &Typed) {
        let (a, b) = (self.show(&left.ty), self.show(&right.ty));
        let message = format!("`{}` cannot stand between {a} and {b}", operator.symbol());
        let diagnostic = Diagnostic::error(span, message).label(left.span(), &*a).label(right.span(), &*b);
        let has_text = left.ty == Type::Str || right.ty == Type::Str;
        self.report(match operator {
            BinaryOperator::In => diagnostic.hint("`in` looks in a list, a map's keys, a range or a string"),
            BinaryOperator::Add if has_text => diagnostic.hint("`str(x)` makes a string of any value"),
            _ => diagnostic,
        });
    }
}

/// `a and b` evaluates `b` only if `a` is true: it becomes an `if`.
fn logic(operator: BinaryOperator, left: Typed, right: Typed, span: Span) -> Typed {
    let value = |expr| Block { statements: Vec::new(), value: Some(Box::new(expr)) };
    let constant = |truth| value(Expr::of(Value::Bool(truth), span));
    let right = value(right.expr);
    let (then, otherwise) = match operator {
        BinaryOperator::And => (right, constant(false)),
        _ => (constant(true), right),
    };
    let drops = Drops::new();
    let node = If { condition: left.expr, then, then_drops: drops.clone(), otherwise, otherwise_drops: drops };
    Typed::new(Expr::new(ExprKind::If(Box::new(node)), span), Type::Bool)
}

/// Whether `element in container` has a meaning.
fn is_in(element: &Type, container: &Type) -> bool {
    match container {
        Type::Unknown | Type::Never => true,
        Type::List(of) => element.same_kind(of) || (element.is_number() && of.is_number()),
        Type::Map(key, _) => element.same_kind(key),
        Type::Str => matches!(element, Type::Str | Type::Unknown | Type::Never),
        Type::Range => matches!(element, Type::Int | Type::Unknown | Type::Never),
        _ => false,
    }
}

fn comparison(operator: BinaryOperator, a: &Type, b: &Type) -> bool {
    let is_equality = matches!(operator, BinaryOperator::Equal | BinaryOperator::NotEqual);
    match (a, b) {
        (a, b) if a.is_number() && b.is_number() => true,
        (Type::Str, Type::Str) => true,
        (Type::Bool, Type::Bool) | (Type::Dtype, Type::Dtype) | (Type::Unit, Type::Unit) => is_equality,
        (Type::List(a), Type::List(b)) => is_equality && (a.same_kind(b) || (a.is_number() && b.is_number())),
        (Type::Map(..), Type::Map(..)) | (Type::Struct(_), Type::Struct(_)) => is_equality && a.same_kind(b),
        _ => false,
    }
}

/// How a program says that two sizes are equal.
fn size_hint(error: &OpError) -> Option<String> {
    let (OpError::Sizes { left, right, .. } | OpError::Elements { from: left, to: right }) = error else { return None };
    match (left, right) {
        (Size::Known(_), Size::Known(_)) => None,
        (size @ Size::Known(_), name) | (name, size @ Size::Known(_)) if !name.to_string().contains([' ', '?']) => {
            Some(format!("`{name}` may be any size; if it is always {size}, the signature must say so"))
        }
        (left, right) => {
            let are_names = [left, right].iter().all(|size| !size.to_string().contains([' ', '?']));
            are_names.then(|| {
                format!(
                    "`{left}` and `{right}` may be any sizes; if they are always equal, use one name for both in the signature"
                )
            })
        }
    }
}

fn argument(value: Option<Typed>, param: &Param) -> Argument {
    let Some(value) = value else { return Argument::Missing };
    let span = value.span();
    match (param.kind, value.expr.kind) {
        // A literal list is not made: the operation reads its elements.
        (Kind::Tensors | Kind::Ints, ExprKind::List(elements)) => Argument::Several(elements),
        (_, kind) => Argument::One(Expr::new(kind, span)),
    }
}

fn rule_argument<'a>(value: &'a Typed, param: &Param) -> ArgType<'a> {
    match (param.kind, value.arg_type()) {
        (Kind::Ints, ArgType::Int(size)) => ArgType::Ints([size].into_iter().collect()),
        (Kind::Tensors, _) => tensors_type(value),
        // A value of unknown type: the rule must not take it for a tensor.
        (Kind::Int, ArgType::Tensor(_)) => ArgType::Int(Size::Unknown),
        (Kind::Number, ArgType::Tensor(_)) => ArgType::Number,
        (Kind::Bool, ArgType::Tensor(_)) => ArgType::Bool(None),
        (Kind::Text, ArgType::Tensor(_)) => ArgType::Text(None),
        (Kind::DType, ArgType::Tensor(_)) => ArgType::DType(None),
        (_, arg) => arg,
    }
}

/// The types of a list of tensors, if it is a literal.
fn tensors_type(value: &Typed) -> ArgType<'_> {
    match &value.known {
        Known::Elements(elements) => {
            let types = elements.iter().map(|(ty, _)| match ty {
                Type::Tensor(ty) => ty.clone(),
                _ => TensorType::default(),
            });
            ArgType::Tensors(types.collect())
        }
        // One operand of unknown sizes makes the rule undecided.
        _ => ArgType::Tensors([TensorType::default()].into_iter().collect()),
    }
}

fn default_type(default: DefaultValue) -> ArgType<'static> {
    match default {
        DefaultValue::Absent => ArgType::None,
        DefaultValue::Int(n) => ArgType::Int(Size::Known(n)),
        DefaultValue::Number(_) => ArgType::Number,
        DefaultValue::Bool(value) => ArgType::Bool(Some(value)),
        DefaultValue::Text(text) => ArgType::Text(Some(text)),
    }
}

fn describe_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Tensor => "a tensor",
        Kind::Weight => "a tensor or a weight",
        Kind::TensorOrNumber => "a tensor or a number",
        Kind::Tensors => "a list of tensors",
        Kind::Ids => "an int32 tensor or a list of ints",
        Kind::Int => "an int",
        Kind::IntOrIds => "an int, an int32 tensor or a list of ints",
        Kind::Ints => "a list of ints",
        Kind::Number => "a number",
        Kind::Bool => "a bool",
        Kind::Text => "a string",
        Kind::DType => "a dtype, such as float16",
    }
}
