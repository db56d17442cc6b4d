//! Expressions: literals, names, operators, branches. Calls are in `calls`, indices in `indexing`.

use std::sync::Arc;

use tl_device::DType;
use tl_syntax::ast::{self, BinaryOperator, UnaryOperator};
use tl_syntax::{Diagnostic, Span};
use tl_tensor::ops::Size;

use crate::check::checker::{Checker, error_value};
use crate::check::mention::MentionKind;
use crate::check::scope::{State, Variable, VariableLocation};
use crate::check::typed::Typed;
use crate::ir::{Block, Drops, Expr, ExprKind, If, Statement};
use crate::library;
use crate::types::{HandleKind, Known, ModelPart, Type};
use crate::value::Value;

/// The most branches of one `if`: each is a level of nesting in the checked program.
const MAX_BRANCHES: usize = 200;

/// The value in the place of a tensor that is not there.
const NONE: &str = "none";

/// Values as other languages name them.
const FOREIGN_VALUES: &[(&str, &str)] =
    &[("True", "true"), ("False", "false"), ("None", NONE), ("null", NONE), ("nil", NONE), ("NULL", NONE)];

/// The checker does not track the elements of longer lists.
const MAX_KNOWN: usize = 1024;

/// The dtype of that name.
pub(super) fn dtype_named(name: &str) -> Option<DType> {
    // `q8_0` names no type of a declared tensor, only that of KV caches and reservations.
    let q8_0 = (name == DType::Q8_0.name()).then_some(DType::Q8_0);
    ast::TensorDtype::from_name(name).and_then(super::conversions::dtype).or(q8_0)
}

impl Checker {
    pub(super) fn expr(&mut self, expr: &ast::Expr) -> Typed {
        if self.only_shapes > 0 {
            self.instances.count();
        }
        let span = expr.span;
        let constant = |value, ty, known| Typed { expr: Expr::of(value, span), ty, known };
        match &expr.kind {
            ast::ExprKind::Int(n) => constant(Value::Int(*n), Type::Int, Known::Int(Size::Known(*n))),
            ast::ExprKind::Float(x) => constant(Value::Float(*x), Type::Float, Known::Float(*x)),
            ast::ExprKind::Bool(b) => constant(Value::Bool(*b), Type::Bool, Known::Bool(*b)),
            ast::ExprKind::Str(text) => constant(Value::text(text), Type::Str, Known::Text(text.clone())),
            ast::ExprKind::Unit => Typed::new(Expr::unit(span), Type::Unit),
            ast::ExprKind::Name(name) => self.name(name, span),
            ast::ExprKind::List(elements) => self.list(elements, span),
            ast::ExprKind::Map(entries) => self.map(entries, span),
            ast::ExprKind::Format(pieces) => self.format_string(pieces, span),
            ast::ExprKind::Struct { module, name, fields } => self.struct_literal(module.as_ref(), name, fields, span),
            ast::ExprKind::Unary { operator, operand } => self.unary(*operator, operand, span),
            ast::ExprKind::Binary { operator, operator_span, left, right } => {
                self.binary(*operator, *operator_span, left, right, span)
            }
            ast::ExprKind::As { operand, ty } => self.conversion(operand, ty, span),
            ast::ExprKind::Range { start, end } => {
                let (start, end) = (self.int(start, "a range's start"), self.int(end, "a range's end"));
                let known = Known::Range(start.known.size(), end.known.size());
                let kind = ExprKind::Range { start: Box::new(start.expr), end: Box::new(end.expr) };
                Typed { expr: Expr::new(kind, span), ty: Type::Range, known }
            }
            ast::ExprKind::Call { module, qualifier, name, arguments } => {
                let value = self.call((module.as_ref(), qualifier.as_ref()), name, arguments, span);
                self.mention_result(name, &value.ty);
                value
            }
            ast::ExprKind::Method { receiver, name, arguments } => {
                let value = self.method(receiver, name, arguments, span);
                self.mention_result(name, &value.ty);
                value
            }
            ast::ExprKind::Field { receiver, name } => {
                let value = self.field(receiver, name, span);
                self.mention(name.span, None, MentionKind::Field, &value.ty);
                value
            }
            ast::ExprKind::Index { receiver, indices } => self.index(receiver, indices, span),
            ast::ExprKind::Optional(path) => self.optional(path, span),
            ast::ExprKind::Query(query) => self.query(query, span),
            ast::ExprKind::IfLet { name, value, then, otherwise } => {
                self.if_let(name, value, (then, otherwise.as_ref()), span, true)
            }
            ast::ExprKind::If { branches, otherwise } => self.if_expression(branches, otherwise.as_ref(), span, true),
            ast::ExprKind::Block(block) => {
                let (block, ty, known) = self.block_for_value(block);
                Typed { expr: Expr::new(ExprKind::Block(block), span), ty, known }
            }
            ast::ExprKind::With { buffer, body } => {
                let buffer = self.buffer(buffer);
                let (block, ty, known) = self.block_for_value(body);
                let body = Box::new(Expr::new(ExprKind::Block(block), body.span));
                Typed { expr: Expr::new(ExprKind::With { buffer: Box::new(buffer), body }, span), ty, known }
            }
            ast::ExprKind::Trace { body } => self.trace(body, span),
            ast::ExprKind::Error => error_value(span),
        }
    }

    /// An expression whose value is not used: its branches may have different types.
    pub(super) fn expr_for_effect(&mut self, expr: &ast::Expr) -> Typed {
        let typed = |kind, diverges: bool| {
            Typed::new(Expr::new(kind, expr.span), if diverges { Type::Never } else { Type::Unit })
        };
        match &expr.kind {
            ast::ExprKind::If { branches, otherwise } => {
                self.if_expression(branches, otherwise.as_ref(), expr.span, false)
            }
            ast::ExprKind::IfLet { name, value, then, otherwise } => {
                self.if_let(name, value, (then, otherwise.as_ref()), expr.span, false)
            }
            ast::ExprKind::Block(block) => {
                let (block, diverges) = self.block_for_effect(block);
                typed(ExprKind::Block(block), diverges)
            }
            ast::ExprKind::With { buffer, body } => {
                let buffer = Box::new(self.buffer(buffer));
                let (block, diverges) = self.block_for_effect(body);
                let body = Box::new(Expr::new(ExprKind::Block(block), body.span));
                typed(ExprKind::With { buffer, body }, diverges)
            }
            _ => self.expr(expr),
        }
    }

    /// `buffer_trace { … }`. The block's value is not used: the expression's value is the plan.
    fn trace(&mut self, body: &ast::Block, span: Span) -> Typed {
        let (block, diverges) = self.block_for_effect(body);
        let body = Box::new(Expr::new(ExprKind::Block(block), body.span));
        let ty = if diverges { Type::Never } else { Type::Handle(HandleKind::Plan) };
        Typed::new(Expr::new(ExprKind::Trace(body), span), ty)
    }

    fn buffer(&mut self, buffer: &ast::Expr) -> Expr {
        let buffer = self.expr(buffer);
        if !matches!(buffer.ty, Type::Handle(HandleKind::TensorBuffer) | Type::Unknown | Type::Never) {
            let message = format!("`with` takes a TensorBuffer, not {}", self.show(&buffer.ty));
            self.report(Diagnostic::error(buffer.span(), message).hint("`let buf = TensorBuffer::new()` makes one"));
        }
        buffer.expr
    }

    fn name(&mut self, name: &Arc<str>, span: Span) -> Typed {
        if let Some(id) = self.scopes().find(name) {
            let (Some(location), Some(state)) =
                (self.frame.scopes.variables.get(id).map(|variable| variable.location), self.state(id).cloned())
            else {
                return error_value(span);
            };
            if let Some(declared_at) = self.frame.scopes.variables.get(id).map(|variable| variable.span) {
                self.lint_read(declared_at);
            }
            if let Some(recycled) = state.recycled {
                let diagnostic = Diagnostic::error(span, format!("`{name}` was recycled before, and is used here"));
                self.report(diagnostic.label(recycled, "recycled here"));
            }
            let definition = self.frame.scopes.variables.get(id).map(|variable| variable.span);
            self.mention(span, definition, MentionKind::Variable, &state.ty);
            let kind = match location {
                VariableLocation::Slot(slot) => ExprKind::Local { slot, last: false, name: name.clone() },
                VariableLocation::Global(index) => ExprKind::Global { index, last: false },
            };
            return Typed { expr: Expr::new(kind, span), ty: state.ty, known: state.known };
        }
        if let Some(index) = self.names().globals.get(name).copied()
            && let Some(global) = self.globals.get_mut(index as usize)
            && self.frame.result.is_some()
        {
            global.is_used = true;
            let ty = global.state.clone().unwrap_or(Type::Unknown);
            let (ty, known) =
                if global.is_assigned { (ty.widened(), Known::Nothing) } else { (ty, global.known.clone()) };
            self.mention_global(index, span, &ty);
            return Typed { expr: Expr::new(ExprKind::Global { index, last: false }, span), ty, known };
        }
        if let Some(dtype) = dtype_named(name) {
            let kind = ExprKind::Constant(Box::new(Value::DType(dtype)));
            return Typed { expr: Expr::new(kind, span), ty: Type::Dtype, known: Known::DType(dtype) };
        }
        if &**name == NONE {
            let known = Known::Optional(None);
            return Typed { expr: Expr::of(Value::None, span), ty: Type::Optional, known };
        }
        self.unknown_name(name, span);
        error_value(span)
    }

    fn unknown_name(&mut self, name: &str, span: Span) {
        let mut diagnostic = Diagnostic::error(span, format!("unknown name `{name}`"));
        let is_function = self.names().functions.contains_key(name) || library::is_known(name);
        if let Some(file) = self.names().not_imported.get(name) {
            let hint = format!("{file:?} gives it a value, but importing takes `fn` and `tensor` declarations only");
            diagnostic = diagnostic.hint(hint);
        } else if self.relations.is_entity(name) {
            let hint = format!("`{name}` is an entity; `query {name}(x)` gives its elements");
            diagnostic = diagnostic.hint(hint);
        } else if let Some(last) = self.relations.known_from(name) {
            diagnostic = diagnostic.label(last, format!("`{name}` has its value behind this, the last rule or fact"));
        } else if is_function {
            diagnostic = diagnostic.hint(format!("`{name}` is a function: call it with `{name}(…)`"));
        } else if self.names().modules.contains_key(name) {
            diagnostic = diagnostic.hint(format!("`{name}` is an imported file: `{name}.f(…)` calls its function `f`"));
        } else if self.names().structs.contains_key(name) {
            diagnostic = diagnostic.hint(format!("`{name}` is a struct: `{name} {{ field: value, … }}` makes one"));
        } else if let Some((_, own)) = FOREIGN_VALUES.iter().find(|(foreign, _)| *foreign == name) {
            diagnostic = diagnostic.hint(format!("write `{own}`"));
        } else {
            let globals = self.names().globals.keys().map(|name| &**name);
            let known = self.frame.scopes.names().chain(globals);
            if let Some(near) = crate::names::nearest(name, known) {
                diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
            }
        }
        self.report(diagnostic);
    }

    fn list(&mut self, elements: &[ast::Expr], span: Span) -> Typed {
        let mut elements: Vec<Typed> = elements.iter().map(|element| self.expr(element)).collect();
        let has_float = elements.iter().any(|element| element.ty == Type::Float);
        if has_float && elements.iter().all(|element| element.ty.is_number()) {
            elements = elements.into_iter().map(|element| self.float_of(element)).collect();
        }
        let joined = elements.iter().map(|element| element.ty.clone()).reduce(|a, b| a.join(&b));
        let known = known_elements(&elements);
        let ty = Type::list(joined.filter(|ty| *ty != Type::Never).unwrap_or(Type::Unknown));
        let is_constant = |element: &Typed| matches!(element.expr.kind, ExprKind::Constant(_));
        let kind = if elements.iter().all(is_constant) {
            let values = elements.into_iter().filter_map(|element| match element.expr.kind {
                ExprKind::Constant(value) => Some(*value),
                _ => None,
            });
            ExprKind::Constant(Box::new(Value::list(values)))
        } else {
            ExprKind::List(elements.into_iter().map(|element| element.expr).collect())
        };
        Typed { expr: Expr::new(kind, span), ty, known }
    }

    /// An expression that must be an `int`.
    pub(super) fn int(&mut self, expr: &ast::Expr, what: &str) -> Typed {
        let value = self.expr(expr);
        if !matches!(value.ty, Type::Int | Type::Unknown | Type::Never) {
            let message = format!("{what} must be an int, and this is {}", self.show(&value.ty));
            self.error(value.span(), message);
        }
        value
    }

    fn unary(&mut self, operator: UnaryOperator, operand: &ast::Expr, span: Span) -> Typed {
        let operand = self.expr(operand);
        let negates = operator == UnaryOperator::Negate;
        match (operand.expr.constant(), negates) {
            (Some(Value::Int(n)), true) if *n != i64::MIN => {
                let (expr, known) = (Expr::of(Value::Int(-n), span), Known::Int(Size::Known(-n)));
                return Typed { expr, ty: Type::Int, known };
            }
            (Some(Value::Float(x)), true) => {
                let (expr, known) = (Expr::of(Value::Float(-x), span), Known::Float(-x));
                return Typed { expr, ty: Type::Float, known };
            }
            _ => {}
        }
        match (&operand.ty, negates) {
            (Type::Tensor(_) | Type::Handle(HandleKind::Node), _) => {
                return self.op_by_name(if negates { "neg" } else { "logical_not" }, vec![Some(operand)], span);
            }
            (Type::Int | Type::Float, true) | (Type::Bool, false) | (Type::Unknown | Type::Never, _) => {}
            (ty, _) => {
                let message = format!("`{}` cannot be applied to {}", operator.symbol(), self.show(ty));
                self.error(span, message);
                return error_value(span);
            }
        }
        let known = match (&operand.known, negates) {
            (Known::Int(size), true) => Known::Int(Size::Known(0).minus(*size)),
            (Known::Float(x), true) => Known::Float(-x),
            (Known::Bool(value), false) => Known::Bool(!value),
            _ => Known::Nothing,
        };
        let ty = operand.ty;
        let operand = Box::new(operand.expr);
        let kind = if negates { ExprKind::Negate(operand) } else { ExprKind::Not(operand) };
        Typed { expr: Expr::new(kind, span), ty, known }
    }

    fn binary(
        &mut self,
        operator: BinaryOperator,
        operator_span: Span,
        left: &ast::Expr,
        right: &ast::Expr,
        span: Span,
    ) -> Typed {
        let left = self.expr(left);
        // The right side of `and` and `or` may not be evaluated, so its states are joined with those before it.
        let before = matches!(operator, BinaryOperator::And | BinaryOperator::Or).then(|| self.scopes().snapshot());
        let decides = Known::Bool(operator == BinaryOperator::Or);
        let is_dead = before.is_some() && left.known == decides && self.frame.trials == 0;
        let right = self.reached_unless(is_dead, |checker| checker.expr(right));
        if let Some(before) = before {
            self.scopes().join(&before);
        }
        self.operation(operator, operator_span, left, right, span)
    }

    fn if_expression(
        &mut self,
        branches: &[(ast::Expr, ast::Block)],
        otherwise: Option<&ast::Block>,
        span: Span,
        has_value: bool,
    ) -> Typed {
        if branches.len() > MAX_BRANCHES {
            self.error(span, format!("this `if` has more than {MAX_BRANCHES} branches"));
            return error_value(span);
        }
        let Some(((condition, then), rest)) = branches.split_first() else {
            let (block, ty, known) = match otherwise {
                Some(block) => self.branch(block, has_value),
                None => (Block::default(), Type::Unit, Known::Nothing),
            };
            return Typed { expr: Expr::new(ExprKind::Block(block), span), ty, known };
        };
        let (condition, holds) = self.condition(condition);
        let before = self.scopes().snapshot();
        let (then_block, mut then_type, then_known) =
            self.reached_unless(holds == Some(false), |checker| checker.branch(then, has_value));
        let after_then = self.scopes().snapshot();
        self.scopes().restore(before);
        let mut other =
            self.reached_unless(holds == Some(true), |checker| checker.if_expression(rest, otherwise, span, has_value));
        let kinds = (then_type.clone(), other.ty.clone());
        match holds {
            Some(true) => other.ty = Type::Never,
            Some(false) => then_type = Type::Never,
            None => {}
        }
        if other.ty == Type::Never {
            self.scopes().restore(after_then);
        } else if then_type != Type::Never {
            self.scopes().join(&after_then);
        }
        let is_last = rest.is_empty();
        if has_value && !kinds.0.same_kind(&kinds.1) && !(is_last && otherwise.is_none()) {
            self.branches_differ(&kinds.0, &kinds.1, span);
        }
        let known = match (&then_type, &other.ty) {
            (Type::Never, _) => other.known.clone(),
            (_, Type::Never) => then_known,
            _ => then_known.join(&other.known),
        };
        let ty = if has_value && is_last && otherwise.is_none() && then_type != Type::Never {
            Type::Unit
        } else {
            then_type.join(&other.ty)
        };
        let otherwise = match other.expr.kind {
            ExprKind::Block(block) => block,
            kind => Block { statements: Vec::new(), value: Some(Box::new(Expr::new(kind, span))) },
        };
        let drops = Drops::new();
        let node = If { condition, then: then_block, then_drops: drops.clone(), otherwise, otherwise_drops: drops };
        Typed { expr: Expr::new(ExprKind::If(Box::new(node)), span), ty, known }
    }

    /// `path?`, whose path leads into a model.
    fn optional(&mut self, path: &ast::Expr, span: Span) -> Typed {
        self.optional_paths += 1;
        let path = self.expr(path);
        self.optional_paths -= 1;
        let leads_into_model = match &path.expr.kind {
            ExprKind::Field { .. } => matches!(path.ty, Type::Tensor(_) | Type::Handle(HandleKind::Node)),
            _ => path.ty.is_open(),
        };
        if !leads_into_model {
            let message = format!("`?` stands behind a part of a model only, and this is {}", self.show(&path.ty));
            let hint = "as in `model.output.weight?`, which is that tensor or `none`";
            self.report(Diagnostic::error(span, message).hint(hint));
        }
        let known = match (&path.ty, &path.known) {
            (_, Known::Model(ModelPart::Missing)) => Known::Optional(None),
            (Type::Tensor(ty), _) if self.model.is_some() && ty.sizes.is_some() => Known::Optional(Some(ty.clone())),
            _ => Known::Nothing,
        };
        Typed { expr: Expr::new(ExprKind::Optional(Box::new(path.expr)), span), ty: Type::Optional, known }
    }

    /// `if let name = value {…} else {…}`: a new variable, and a branch on whether it is `none`.
    fn if_let(
        &mut self,
        name: &ast::Name,
        value: &ast::Expr,
        (then, otherwise): (&ast::Block, Option<&ast::Block>),
        span: Span,
        has_value: bool,
    ) -> Typed {
        let value = self.expr(value);
        if !matches!(value.ty, Type::Optional | Type::Unknown | Type::Never) {
            let message = format!("this is always there: it is {}", self.show(&value.ty));
            let hint = format!("`let {} = …` gives it a name", name.text);
            self.report(Diagnostic::error(value.span(), message).hint(hint));
        }
        let slot = self.frame.new_slot(&Type::Optional);
        let value_span = value.span();
        let before = self.scopes().snapshot();
        self.scopes().open();
        let variable = Variable {
            name: name.text.clone(),
            span: name.span,
            location: VariableLocation::Slot(slot),
            declared: None,
        };
        let (ty, is_there) = match &value.known {
            Known::Optional(Some(ty)) => (Type::Tensor(ty.clone()), Some(true)),
            Known::Optional(None) => (Type::any_tensor(), Some(false)),
            _ => (Type::any_tensor(), None),
        };
        let is_there = is_there.filter(|_| self.frame.trials == 0);
        self.mention(name.span, Some(name.span), MentionKind::Variable, &ty);
        self.scopes().declare(variable, State::of(ty, Known::Nothing));
        let (then_block, mut then_type, then_known) =
            self.reached_unless(is_there == Some(false), |checker| checker.branch(then, has_value));
        self.scopes().close();
        let after_then = self.scopes().snapshot();
        self.scopes().restore(before);
        let (otherwise_block, mut other_type, other_known) = match otherwise {
            Some(block) => self.reached_unless(is_there == Some(true), |checker| checker.branch(block, has_value)),
            None => (Block::default(), Type::Unit, Known::Nothing),
        };
        let kinds = (then_type.clone(), other_type.clone());
        match is_there {
            Some(true) => other_type = Type::Never,
            Some(false) => then_type = Type::Never,
            None => {}
        }
        if other_type == Type::Never {
            self.scopes().restore(after_then);
        } else if then_type != Type::Never {
            self.scopes().join(&after_then);
        }
        if has_value && otherwise.is_some() && !kinds.0.same_kind(&kinds.1) {
            self.branches_differ(&kinds.0, &kinds.1, span);
        }
        let (ty, known) = match (has_value && otherwise.is_some(), &then_type, &other_type) {
            (_, Type::Never, _) => (other_type, other_known),
            (_, _, Type::Never) => (then_type, then_known),
            (true, ..) => (then_type.join(&other_type), then_known.join(&other_known)),
            (false, ..) => (Type::Unit, Known::Nothing),
        };
        let local = ExprKind::Local { slot, last: false, name: name.text.clone() };
        let condition = Expr::new(ExprKind::IsPresent(Box::new(Expr::new(local, value_span))), value_span);
        let drops = Drops::new();
        let node = If {
            condition,
            then: then_block,
            then_drops: drops.clone(),
            otherwise: otherwise_block,
            otherwise_drops: drops,
        };
        let set = Statement::Set { slot, value: value.expr, unread: false };
        let branch = Expr::new(ExprKind::If(Box::new(node)), span);
        let block = Block { statements: vec![set], value: Some(Box::new(branch)) };
        Typed { expr: Expr::new(ExprKind::Block(block), span), ty, known }
    }

    fn branch(&mut self, block: &ast::Block, has_value: bool) -> (Block, Type, Known) {
        if has_value {
            return self.block_for_value(block);
        }
        let (block, diverges) = self.block_for_effect(block);
        (block, if diverges { Type::Never } else { Type::Unit }, Known::Nothing)
    }

    fn branches_differ(&mut self, one: &Type, other: &Type, span: Span) {
        let message = format!("the branches of this `if` give {} and {}", self.show(one), self.show(other));
        self.report(Diagnostic::error(span, message).hint("all branches must give values of one type"));
    }
}

/// What is known of a list's elements.
fn known_elements(elements: &[Typed]) -> Known {
    if elements.len() > MAX_KNOWN {
        return Known::Nothing;
    }
    if !elements.is_empty() && elements.iter().all(|element| element.ty == Type::Int) {
        return Known::Ints(elements.iter().map(|element| element.known.size()).collect());
    }
    Known::elements(elements.iter().map(|element| (element.ty.clone(), element.known.clone())))
}
