//! Calls of operations, builtins and functions. Arguments are evaluated onto the stack of values and read there.

use smallvec::SmallVec;
use tl_device::{DType, Role};
use tl_syntax::Span;
use tl_tensor::Tensor;
use tl_tensor::ops::{Arg, Kind, Op, Param, apply_as};

use crate::declared::{Declared, show_declared};
use crate::eval::binding::{Sizes, coerce};
use crate::eval::error::{ControlFlow, Evaluated, add_call, coded_error, error_at, missing_value, raise};
use crate::eval::evaluator::{Evaluator, MAX_CALLS};
use crate::eval::indexing::{PathTarget, node_of};
use crate::ints::Ints;
use crate::ir::{Argument, Expr, ExprKind, Function, OpCall, Parameter};
use crate::library::{self, Args, Builtin, BuiltinError};
use crate::stack::has_room;
use crate::value::{Handle, Number, Value};

/// Where an operation's operand is read.
// A tag of a whole word makes copies word by word instead of in pieces.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(super) enum OperandLocation<'e> {
    /// Left out.
    Missing,
    Constant(&'e Value),
    Number(Number),
    /// This value of the stack: a variable, or an operand evaluated onto it.
    Stack(usize),
    /// The weight with this number of the model that this value of the stack belongs to.
    Weight(usize, u32),
    /// Several tensors, on the stack after the other operands.
    Tensors,
}

impl<'a> Evaluator<'a> {
    /// Evaluates an expression onto the stack.
    pub(super) fn push(&mut self, expr: &Expr) -> Evaluated<()> {
        match &expr.kind {
            ExprKind::Op(call) => self.op(call, Role::Activation, expr.span),
            ExprKind::Call { function, arguments } => self.call(*function, arguments, expr.span),
            ExprKind::Block(block) => self.push_block(block),
            ExprKind::If(node) => {
                let (drops, block) = match self.condition(&node.condition)? {
                    true => (&node.then_drops, &node.then),
                    false => (&node.otherwise_drops, &node.otherwise),
                };
                self.drop_slots(drops);
                self.push_block(block)
            }
            ExprKind::Expect { operand, ty, what } => {
                self.push(operand)?;
                self.expect(ty, what, expr.span)
            }
            ExprKind::Binary { operator, left, right } => {
                let value = match self.number_at(expr) {
                    Some(number) => number.into(),
                    None => self.binary_of(*operator, left, right, expr.span)?,
                };
                self.stack.push(value);
                Ok(())
            }
            // The common kinds of variables are pushed without a value in between.
            ExprKind::Local { slot, last, .. } => {
                match self.slot(*slot) {
                    Value::Int(n) => {
                        let n = *n;
                        self.stack.push(Value::Int(n));
                    }
                    value @ Value::Tensor(_) if *last => {
                        let value = std::mem::take(value);
                        self.stack.push(value);
                    }
                    Value::Tensor(tensor) => {
                        let tensor = tensor.clone();
                        self.stack.push(Value::Tensor(tensor));
                    }
                    _ => {
                        let value = self.expr(expr)?;
                        self.stack.push(value);
                    }
                }
                Ok(())
            }
            _ => {
                let value = self.expr(expr)?;
                self.stack.push(value);
                Ok(())
            }
        }
    }

    /// Evaluates the elements of a literal list of ints without making the list.
    fn push_ints(&mut self, elements: &[Expr]) -> Evaluated<()> {
        let mut ints: SmallVec<[i64; 8]> = SmallVec::new();
        for element in elements {
            ints.push(self.int(element)?);
        }
        self.stack.push(Value::Ints(Ints::new(&ints)));
        Ok(())
    }

    /// Applies an operation. Its result is pushed; its memory is taken for `role`.
    #[inline(never)]
    pub(super) fn op(&mut self, call: &OpCall, role: Role, span: Span) -> Evaluated<()> {
        if call.ends_chain && role == Role::Activation && !self.device.is_gpu() {
            let value = self.chain(call, span)?;
            self.stack.push(value);
            return Ok(());
        }
        let in_place = call.reads_in_place();
        let first = self.stack.len();
        let mut places: SmallVec<[OperandLocation<'_>; 8]> = SmallVec::new();
        for (argument, param) in call.arguments.iter().zip(call.row.params) {
            places.push(match argument {
                Argument::Missing => OperandLocation::Missing,
                Argument::One(expr) => self.operand(expr, param.kind, in_place)?,
                Argument::Several(elements) if param.kind == Kind::Ints => {
                    self.push_ints(elements)?;
                    OperandLocation::Stack(self.stack.len() - 1)
                }
                Argument::Several(_) => OperandLocation::Tensors,
            });
        }
        let tensors_at = self.stack.len();
        if let Some(Argument::Several(elements)) = call.tensors.and_then(|at| call.arguments.get(at)) {
            elements.iter().try_for_each(|element| self.push(element))?;
        }
        match call.tensors {
            None => self.run_op(call, role, (&places, &[], first), span)?,
            Some(at) => {
                let tensors = self.take_tensors(places.get(at).copied(), tensors_at, call.row, span)?;
                self.run_op(call, role, (&places, &tensors, first), span)?;
            }
        }
        if in_place {
            self.drop_slots(&call.ends);
        }
        Ok(())
    }

    /// Where an operand is read: a variable in its slot if `in_place`, anything else on top of the stack.
    pub(super) fn operand<'e>(&mut self, expr: &'e Expr, kind: Kind, in_place: bool) -> Evaluated<OperandLocation<'e>> {
        match &expr.kind {
            ExprKind::Constant(value) => match &**value {
                value @ (Value::Int(_) | Value::Float(_)) if kind != Kind::Ints => {
                    return Ok(OperandLocation::Constant(value));
                }
                value @ (Value::Bool(_) | Value::Str(_) | Value::DType(_)) => {
                    return Ok(OperandLocation::Constant(value));
                }
                _ => {}
            },
            ExprKind::Local { slot, name, .. } if in_place => {
                let place = self.frame + *slot as usize;
                match self.stack.get(place) {
                    Some(Value::Tensor(_) | Value::None | Value::Bool(_)) => return Ok(OperandLocation::Stack(place)),
                    Some(Value::Int(_) | Value::Float(_)) if kind != Kind::Ints => {
                        return Ok(OperandLocation::Stack(place));
                    }
                    None | Some(Value::Absent | Value::Recycled(_)) => {
                        return Err(missing_value(self.slot(*slot), name, expr.span));
                    }
                    // The variable keeps its value until the operation has read it: `OpCall::ends` drops it.
                    Some(value) => self.stack.push(value.clone()),
                }
                self.coerce_operand(kind, expr.span)?;
                return Ok(OperandLocation::Stack(self.stack.len() - 1));
            }
            ExprKind::Binary { .. } | ExprKind::Convert { .. }
                if in_place
                    && matches!(kind, Kind::TensorOrNumber | Kind::Number)
                    && let Some(number) = self.number_at(expr) =>
            {
                return Ok(OperandLocation::Number(number));
            }
            ExprKind::Optional(path) if in_place && takes_tensor(kind) && path.is_place_expr() => {
                match (self.follow_path(path), path.base_slot()) {
                    (PathTarget::Missing, _) => return Ok(OperandLocation::Missing),
                    (PathTarget::Node(node), Some(slot)) if matches!(node.tensor(), Ok(Some(_))) => {
                        return Ok(OperandLocation::Weight(self.frame + slot as usize, node.number()));
                    }
                    _ => {}
                }
                let value = self.optional(path)?;
                self.stack.push(value);
                return Ok(OperandLocation::Stack(self.stack.len() - 1));
            }
            ExprKind::Field { .. } if in_place && expr.is_place_expr() => {
                if takes_tensor(kind)
                    && let Some(weight) = self.weight_at(expr)
                {
                    return Ok(weight);
                }
                match (kind, self.number_at(expr)) {
                    (Kind::TensorOrNumber | Kind::Number, Some(number)) => return Ok(OperandLocation::Number(number)),
                    (Kind::Int | Kind::IntOrIds, Some(number @ Number::Int(_))) => {
                        return Ok(OperandLocation::Number(number));
                    }
                    _ => {}
                }
                let value = self.path(expr)?;
                self.stack.push(value);
                self.coerce_operand(kind, expr.span)?;
                return Ok(OperandLocation::Stack(self.stack.len() - 1));
            }
            _ => {}
        }
        self.push(expr)?;
        self.coerce_operand(kind, expr.span)?;
        Ok(OperandLocation::Stack(self.stack.len() - 1))
    }

    /// The weight that a path leads to from a local variable.
    fn weight_at(&self, path: &Expr) -> Option<OperandLocation<'static>> {
        let node = self.node_at(path)?;
        node.tensor().ok()??;
        Some(OperandLocation::Weight(self.frame + path.base_slot()? as usize, node.number()))
    }

    /// Converts the value on top of the stack to the parameter's kind, if the checker did not know its type.
    fn coerce_operand(&mut self, kind: Kind, span: Span) -> Evaluated<()> {
        let Some(top) = self.stack.last_mut() else { return Ok(()) };
        let made = match (kind, &*top) {
            (Kind::Ints, Value::Int(n)) => Value::ints(&[*n]),
            (
                Kind::Tensor | Kind::Weight | Kind::TensorOrNumber | Kind::Ids | Kind::IntOrIds,
                Value::Handle(Handle::Node(node)),
            ) => Value::tensor(library::node_tensor(node).map_err(|error| raise(error, span))?.clone()),
            (
                Kind::Tensor | Kind::Weight | Kind::TensorOrNumber | Kind::Ids | Kind::IntOrIds,
                Value::Ints(_) | Value::List(_),
            ) => {
                let dtype = if matches!(kind, Kind::Ids | Kind::IntOrIds) { DType::I32 } else { DType::F16 };
                Value::tensor(library::from_list(self.device, top, dtype).map_err(|error| raise(error, span))?)
            }
            _ => return Ok(()),
        };
        *top = made;
        Ok(())
    }

    /// Applies an operation to the operands at `places`. Its result replaces the values of the stack from `first` on.
    #[inline(never)]
    fn run_op(
        &mut self,
        call: &OpCall,
        role: Role,
        (places, tensors, first): (&[OperandLocation<'_>], &[Tensor], usize),
        span: Span,
    ) -> Evaluated<()> {
        let row = call.row;
        let made = {
            let mut arguments: SmallVec<[Arg<'_>; 8]> = SmallVec::new();
            for (place, param) in places.iter().zip(row.params) {
                arguments.push(match place {
                    OperandLocation::Tensors => Arg::Tensors(tensors),
                    _ if param.kind == Kind::Tensors => Arg::Tensors(tensors),
                    place => self.argument(*place, row, param, span)?,
                });
            }
            self.device.set_location(crate::location::location(span));
            apply_as(role, &mut call.site.borrow_mut(), row, self.device, &arguments)
        };
        match made {
            Ok(raw) => {
                match self.stack.get_mut(first) {
                    Some(place) => *place = Value::tensor(raw.into()),
                    None => self.stack.push(Value::tensor(raw.into())),
                }
                self.stack.truncate(first + 1);
                Ok(())
            }
            Err(error) => Err(raise(BuiltinError::from(error), span)),
        }
    }

    /// The operand at a place, as an argument for the parameter.
    #[inline]
    pub(super) fn argument<'s>(
        &'s self,
        place: OperandLocation<'s>,
        row: &'static Op,
        param: &Param,
        span: Span,
    ) -> Evaluated<Arg<'s>> {
        let Some(value) = self.value_at(&place) else { return Ok(self.number_or_weight(&place)) };
        Ok(match (param.kind, value) {
            (
                Kind::Tensor | Kind::Weight | Kind::TensorOrNumber | Kind::Ids | Kind::IntOrIds,
                Value::Tensor(tensor),
            ) => Arg::from(&**tensor),
            (_, Value::Absent) => param.default.map_or(Arg::None, tl_tensor::ops::DefaultValue::arg),
            (_, Value::None) if param.default.is_some() => Arg::None,
            (Kind::TensorOrNumber | Kind::Number | Kind::Int | Kind::IntOrIds, Value::Int(n)) => Arg::Int(*n),
            (Kind::TensorOrNumber | Kind::Number, Value::Float(x)) => Arg::Number(*x),
            (Kind::Ints, Value::Ints(ints)) => Arg::Ints(ints.as_slice()),
            (Kind::Bool, Value::Bool(truth)) => Arg::Bool(*truth),
            (Kind::Text, Value::Str(text)) => Arg::Text(text),
            (Kind::DType, Value::DType(dtype)) => Arg::DType(*dtype),
            (_, value) => {
                let message = format!("`{}`: `{}` cannot be {}", row.name, param.name, value.describe());
                return Err(error_at(span, message));
            }
        })
    }

    /// The value at a place; `None` for numbers and weights.
    pub(super) fn value_at<'s>(&'s self, place: &OperandLocation<'s>) -> Option<&'s Value> {
        match *place {
            OperandLocation::Constant(value) => Some(value),
            OperandLocation::Stack(at) => Some(self.stack.get(at).unwrap_or(&Value::Absent)),
            OperandLocation::Missing | OperandLocation::Tensors => Some(&Value::Absent),
            OperandLocation::Number(_) | OperandLocation::Weight(..) => None,
        }
    }

    /// The argument of a place that is a number or a weight.
    fn number_or_weight<'s>(&'s self, place: &OperandLocation<'s>) -> Arg<'s> {
        match *place {
            OperandLocation::Number(Number::Int(n)) => Arg::Int(n),
            OperandLocation::Number(Number::Float(x)) => Arg::Number(x),
            OperandLocation::Weight(at, number) => {
                let node = self.stack.get(at).and_then(node_of).map(|node| node.at(number));
                node.and_then(|node| node.tensor().ok()?).map_or(Arg::None, Arg::from)
            }
            _ => Arg::None,
        }
    }

    /// The tensors of a list parameter: those on the stack after the arguments, or the elements of a list.
    #[inline(never)]
    fn take_tensors(
        &mut self,
        place: Option<OperandLocation<'_>>,
        tensors_at: usize,
        row: &'static Op,
        span: Span,
    ) -> Evaluated<SmallVec<[Tensor; 4]>> {
        let mut tensors = SmallVec::new();
        let mut add = |value: Value| match value {
            Value::Tensor(tensor) => {
                tensors.push(tensor.into_inner());
                Ok(())
            }
            other => {
                Err(error_at(span, format!("`{}` takes a list of tensors, and one is {}", row.name, other.describe())))
            }
        };
        let list = match place {
            Some(OperandLocation::Stack(at)) => self.stack.get(at).cloned(),
            Some(OperandLocation::Constant(value)) => Some(value.clone()),
            _ => None,
        };
        match list {
            Some(Value::List(values)) => values.iter().cloned().try_for_each(add)?,
            _ => self.stack.drain(tensors_at..).try_for_each(&mut add)?,
        }
        Ok(tensors)
    }

    #[inline(never)]
    pub(super) fn builtin(&mut self, row: &'static Builtin, arguments: &[Argument], span: Span) -> Evaluated<Value> {
        let first = self.stack.len();
        let mut rest: &[Expr] = &[];
        for (argument, param) in arguments.iter().zip(row.params) {
            match argument {
                Argument::Missing => self.stack.push(param.default.map_or(Value::Absent, Value::from)),
                Argument::One(expr) => self.push(expr)?,
                Argument::Several(exprs) => rest = exprs,
            }
        }
        rest.iter().try_for_each(|expr| self.push(expr))?;
        // The row may use the evaluator, so the stack with its arguments is moved out meanwhile.
        let result = self.run_builtin(row, first, span);
        self.stack.truncate(first);
        result
    }

    fn run_builtin(&mut self, row: &'static Builtin, first: usize, span: Span) -> Evaluated<Value> {
        self.check_heap(span)?;
        self.device.set_location(crate::location::location(span));
        let mut stack = std::mem::take(&mut self.stack);
        let values = stack.get_mut(first..).unwrap_or_default();
        let mut args = Args { name: row.name, params: row.params, values };
        let result = (row.run)(&mut self.context(), &mut args);
        self.stack = stack;
        result.map_err(|error| raise(error, span))
    }

    /// Calls a function of the program. Its result is pushed.
    #[inline(never)]
    fn call(&mut self, function: u32, arguments: &[Expr], span: Span) -> Evaluated<()> {
        let Some(function) = self.program.functions.get(function as usize) else {
            return Err(error_at(span, "this function does not exist"));
        };
        let first = self.stack.len();
        for argument in arguments {
            self.push(argument)?;
        }
        self.call_on_stack(function, first, span)
    }

    /// Calls a function whose arguments are on the stack from `first` on. Its result replaces them.
    pub(super) fn call_on_stack(&mut self, function: &'a Function, first: usize, span: Span) -> Evaluated<()> {
        if self.open_calls >= MAX_CALLS || !has_room() {
            let message =
                format!("`{}` is called more deeply than there is room for ({} calls)", function.name, self.open_calls);
            return Err(error_at(span, message));
        }
        self.check_heap(span)?;
        let saved = (self.frame, self.sizes, self.function);
        self.open_calls += 1;
        let result = self.enter(function, first, span);
        self.open_calls -= 1;
        (self.frame, self.sizes, self.function) = saved;
        // Of the function's values on the stack only the result stays.
        match &result {
            Ok(()) if self.stack.len() > first + 1 => {
                self.move_top_to(first);
                self.stack.truncate(first + 1);
            }
            Ok(()) => {}
            Err(_) => self.stack.truncate(first),
        }
        result
    }

    /// Runs a function whose arguments are on the stack from `first` on. Its result is pushed.
    fn enter(&mut self, function: &'a Function, first: usize, span: Span) -> Evaluated<()> {
        self.step(span)?;
        let mut sizes: Sizes = SmallVec::from_elem(None, function.sizes.len());
        self.bind_parameters(function, first, &mut sizes, span)?;
        self.stack.resize_with(first + function.slots as usize, Value::default);
        if !sizes.is_empty() {
            for (place, size) in self.stack.iter_mut().skip(first + function.parameters.len()).zip(&sizes) {
                if let Some(size) = size {
                    *place = Value::Int(*size as i64);
                }
            }
        }
        (self.frame, self.sizes) = (first, first + function.parameters.len());
        self.function = Some(function);
        match self.push_block(&function.body) {
            Ok(()) if matches!(function.result, Declared::Unit) => self.stack.push(Value::Unit),
            Ok(()) => {}
            Err(ControlFlow::Return) => {
                let returned = std::mem::take(&mut self.returned);
                self.stack.push(returned);
            }
            Err(other) => return Err(add_call(other, &function.name, span)),
        }
        Ok(())
    }

    fn bind_parameters(&mut self, function: &Function, first: usize, sizes: &mut Sizes, span: Span) -> Evaluated<()> {
        let device = self.device;
        if function.has_plain_parameters && self.stack.iter().skip(first).zip(&function.parameters).all(is_plain) {
            return Ok(());
        }
        for (value, parameter) in self.stack.iter_mut().skip(first).zip(&function.parameters) {
            let fitted = coerce(device, value, &parameter.ty, sizes);
            if let Err(mismatch) = fitted {
                let wanted = show_declared(&parameter.ty, &function.sizes);
                let (given, reason) = (value.describe(), mismatch.in_brackets(&function.sizes));
                let message =
                    format!("`{}`: `{}` is {wanted}, and is given {given}{reason}", function.name, parameter.name);
                return Err(coded_error(span, message, mismatch.code()));
            }
        }
        Ok(())
    }
}

/// Whether a value is of its parameter's plain type.
fn is_plain((value, parameter): (&Value, &Parameter)) -> bool {
    matches!(
        (&parameter.ty, value),
        (Declared::Int, Value::Int(_))
            | (Declared::Float, Value::Float(_))
            | (Declared::Bool, Value::Bool(_))
            | (Declared::Str, Value::Str(_))
    )
}

fn takes_tensor(kind: Kind) -> bool {
    matches!(kind, Kind::Tensor | Kind::Weight | Kind::TensorOrNumber | Kind::Ids | Kind::IntOrIds)
}
