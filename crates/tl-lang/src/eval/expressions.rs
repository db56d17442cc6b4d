//! Expressions that are neither calls nor indices.

use std::sync::Arc;

use tl_device::{Layout, Role};
use tl_syntax::Span;
use tl_syntax::ast::TensorStorage;
use tl_tensor::Tensor;

use crate::declared::{Declared, DeclaredDim, DeclaredDtype};
use crate::eval::binding::coerce;
use crate::eval::error::{Evaluated, coded_error, error_at, missing_value, raise};
use crate::eval::evaluator::Evaluator;
use crate::ir::{Expr, ExprKind, RecycleTarget, TypeSource};
use crate::library::{self, BuiltinError};
use crate::value::{Handle, List, Value};

impl Evaluator<'_> {
    /// Evaluates an expression. The most frequent kinds are here; kinds with large stack frames are in functions of their own.
    pub(super) fn expr(&mut self, expr: &Expr) -> Evaluated<Value> {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Local { slot, last, name } => {
                let place = self.slot(*slot);
                match place {
                    Value::Int(n) => Ok(Value::Int(*n)),
                    Value::Absent | Value::Recycled(_) => Err(missing_value(place, name, span)),
                    _ if *last => Ok(std::mem::take(place)),
                    value => Ok(value.clone()),
                }
            }
            ExprKind::Field { receiver, name, .. } => {
                let (value, is_in_place) = match self.node_value(expr) {
                    Some(value) => (value, true),
                    // An index in the path has moved the variable out already, and may have assigned to it.
                    None => (self.field(receiver, name, span)?, expr.is_place_expr()),
                };
                if is_in_place {
                    self.drop_slots(expr.last_read_slot().as_slice());
                }
                Ok(value)
            }
            ExprKind::Builtin { row, arguments } => self.builtin(row, arguments, span),
            ExprKind::Op(_)
            | ExprKind::Call { .. }
            | ExprKind::Block(_)
            | ExprKind::If(_)
            | ExprKind::Expect { .. } => {
                self.push(expr)?;
                Ok(self.stack.pop().unwrap_or_default())
            }
            _ => self.expr_common(expr),
        }
    }

    #[inline(never)]
    fn expr_common(&mut self, expr: &Expr) -> Evaluated<Value> {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Constant(value) => Ok((**value).clone()),
            ExprKind::Global { index, last: false } => self.global(*index, span).cloned(),
            ExprKind::Global { index, last: true } => {
                self.global(*index, span)?;
                Ok(self.globals.get_mut(*index as usize).map(std::mem::take).unwrap_or_default())
            }
            ExprKind::Binary { .. } | ExprKind::Convert { .. } if let Some(number) = self.number_at(expr) => {
                Ok(number.into())
            }
            ExprKind::Binary { operator, left, right } => self.binary_of(*operator, left, right, span),
            ExprKind::Index { .. } if let Some(element) = self.element_at(expr) => Ok(element),
            ExprKind::Index { receiver, indices, in_place } => match self.node_value(expr) {
                Some(value) => {
                    self.drop_slots(expr.last_read_slot().as_slice());
                    Ok(value)
                }
                None => self.index(receiver, indices, *in_place, span),
            },
            ExprKind::Optional(path) => {
                let value = self.optional(path)?;
                if path.is_place_expr() {
                    self.drop_slots(path.last_read_slot().as_slice());
                }
                Ok(value)
            }
            ExprKind::IsPresent(operand) => Ok(Value::Bool(match &operand.kind {
                ExprKind::Local { slot, .. } => !matches!(self.slot(*slot), Value::None),
                _ => !matches!(self.expr(operand)?, Value::None),
            })),
            ExprKind::Negate(operand) => {
                let operand = self.expr(operand)?;
                self.negate(operand, span)
            }
            ExprKind::Not(operand) => {
                let operand = self.expr(operand)?;
                self.not(operand, span)
            }
            _ => self.expr_rare(expr),
        }
    }

    /// The other kinds, apart so that the frames of the frequent ones stay small.
    #[inline(never)]
    fn expr_rare(&mut self, expr: &Expr) -> Evaluated<Value> {
        let span = expr.span;
        match &expr.kind {
            ExprKind::IsAttention(written) => Ok(Value::Bool(self.is_attention(written))),
            ExprKind::Recycle { buffer, target } => self.recycle(buffer, target, span),
            ExprKind::With { buffer, body } => self.with(buffer, span, |evaluator| evaluator.expr(body)),
            ExprKind::Trace(body) => self.trace(body),
            ExprKind::Learnable(value) => self.learnable(value),
            ExprKind::List(elements) => {
                self.check_heap(span)?;
                let first = self.stack.len();
                for element in elements {
                    let value = self.expr(element)?;
                    self.stack.push(value);
                }
                Ok(list_of(self.stack.drain(first..)))
            }
            ExprKind::Make { maker, parts } => self.make(maker, parts, span),
            ExprKind::Range { start, end } => match (self.expr(start)?, self.expr(end)?) {
                (Value::Int(start), Value::Int(end)) => Ok(Value::Range(start, end)),
                (start, end) => {
                    let message =
                        format!("a range goes from int to int, not from {} to {}", start.describe(), end.describe());
                    Err(error_at(span, message))
                }
            },
            ExprKind::Convert { operand, to } => {
                let value = self.expr(operand)?;
                convert(value, to).map_err(|error| raise(error, span))
            }
            ExprKind::FromList { operand, dtype } => {
                let value = self.expr(operand)?;
                let tensor = library::from_list(self.device, &value, *dtype).map_err(|error| raise(error, span))?;
                Ok(Value::tensor(tensor))
            }
            ExprKind::Declare { ty, storage, value } => {
                let is_parameter = *storage != TensorStorage::Ordinary;
                match value {
                    Some(value) if is_parameter => self.learnable(value),
                    Some(value) => self.expr(value),
                    None => self.zeros(ty, is_parameter).map_err(|error| raise(error, span)),
                }
            }
            _ => Err(error_at(span, "this expression cannot be evaluated")),
        }
    }

    pub(super) fn global(&self, index: u32, span: Span) -> Evaluated<&Value> {
        let name = || self.program.globals.get(index as usize).map_or("?", |name| name);
        match self.globals.get(index as usize) {
            None | Some(Value::Absent) => Err(error_at(span, format!("`{}` is read before it has a value", name()))),
            Some(value @ Value::Recycled(_)) => Err(missing_value(value, name(), span)),
            Some(value) => Ok(value),
        }
    }

    fn recycle(&mut self, buffer: &Expr, target: &RecycleTarget, span: Span) -> Evaluated<Value> {
        let Value::Handle(Handle::TensorBuffer(buffer)) = self.expr(buffer)? else {
            return Err(error_at(buffer.span, "`recycle` is a method of TensorBuffers"));
        };
        let recycled = Value::Recycled(span);
        let (value, name) = match target {
            RecycleTarget::Local { slot, name } => (std::mem::replace(self.slot(*slot), recycled), Some(name.clone())),
            RecycleTarget::Global { index } => {
                let place = self.globals.get_mut(*index as usize);
                let value = place.map(|place| std::mem::replace(place, recycled)).unwrap_or_default();
                (value, self.program.globals.get(*index as usize).cloned())
            }
            RecycleTarget::Temporary(value) => (self.expr(value)?, None),
        };
        let name = name.as_deref().unwrap_or("the tensor");
        match value {
            Value::Tensor(tensor) => match buffer.recycle(tensor.into_inner()) {
                Ok(()) => Ok(Value::Unit),
                Err(_) => {
                    let message =
                        format!("`{name}` cannot be recycled: another variable, list or view still holds its memory");
                    let error =
                        BuiltinError::new(message).hint("let it go by itself: its memory comes back with its last use");
                    Err(raise(error, span))
                }
            },
            value @ Value::Recycled(_) => Err(missing_value(&value, name, span)),
            other => Err(error_at(span, format!("`recycle` takes a tensor, not {}", other.describe()))),
        }
    }

    /// Runs `body` with another tensor buffer.
    fn with(
        &mut self,
        buffer: &Expr,
        span: Span,
        body: impl FnOnce(&mut Self) -> Evaluated<Value>,
    ) -> Evaluated<Value> {
        let buffer = match self.expr(buffer)? {
            Value::Handle(Handle::TensorBuffer(buffer)) => buffer,
            other => {
                return Err(error_at(buffer.span, format!("`with` takes a TensorBuffer, not {}", other.describe())));
            }
        };
        let device = self.device;
        let set = |buffer| device.replace_tensor_buffer(buffer).map_err(|error| raise(error.into(), span));
        let before = set(Some(buffer))?;
        let result = body(self);
        // Restored also after an error or a jump.
        set(before)?;
        result
    }

    fn trace(&mut self, body: &Expr) -> Evaluated<Value> {
        self.device.start_trace();
        let result = self.expr(body);
        // Ended also after an error or a jump.
        let plan = self.device.stop_trace().plan();
        result?;
        let plan = plan.map_err(|error| raise(error.into(), body.span))?;
        Ok(Value::Handle(Handle::Plan(Arc::new(plan))))
    }

    /// Coerces the value on top of the stack to a type that is written in the running function.
    pub(super) fn expect(&mut self, ty: &Declared, what: &TypeSource, span: Span) -> Evaluated<()> {
        let mut sizes = self.sizes_here();
        let Some(top) = self.stack.last_mut() else { return Ok(()) };
        let Err(reason) = coerce(self.device, top, ty, &mut sizes) else { return Ok(()) };
        let given = top.describe();
        let wanted = crate::declared::show_declared(ty, self.size_names());
        let place = match what {
            TypeSource::Variable(name) => format!("`{name}` is declared as {wanted}"),
            TypeSource::Result => format!("this function returns {wanted}"),
            TypeSource::Conversion => format!("`as` names {wanted}"),
        };
        let message = format!("{place}, and is given {given}{}", reason.in_brackets(self.size_names()));
        Err(coded_error(span, message, reason.code()))
    }

    /// A tensor in learnable memory: an operation writes its result there, other tensors are copied.
    fn learnable(&mut self, expr: &Expr) -> Evaluated<Value> {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Learnable(value) => return self.learnable(value),
            ExprKind::With { buffer, body } => {
                return self.with(buffer, span, |evaluator| evaluator.learnable(body));
            }
            ExprKind::Expect { operand, ty, what } => {
                let value = self.learnable(operand)?;
                self.stack.push(value);
                self.expect(ty, what, span)?;
                // The result of a conversion lies in ordinary memory.
                if matches!(self.stack.last(), Some(Value::Tensor(tensor)) if tensor.is_learnable()) {
                    return Ok(self.stack.pop().unwrap_or_default());
                }
            }
            // A view shares its operand's memory, and is copied.
            ExprKind::Op(call) if !call.row.is_view() => {
                self.op(call, Role::Learnable, span)?;
                return Ok(self.stack.pop().unwrap_or_default());
            }
            _ => self.push(expr)?,
        }
        let copied = learnable(self.stack.pop().unwrap_or_default());
        copied.map_err(|error| raise(error, span))
    }

    fn declared_layout(&self, ty: &Declared) -> Result<Layout, BuiltinError> {
        let Declared::Tensor(DeclaredDtype::Exactly(dtype), dims) = ty else {
            return Err(BuiltinError::new("only tensors are declared so"));
        };
        let size = |dim: &DeclaredDim| match *dim {
            DeclaredDim::Known(n) => Ok(n),
            DeclaredDim::Named(name) => {
                self.bound_size(name).ok_or_else(|| BuiltinError::new("this size has no value yet"))
            }
            DeclaredDim::Any => Err(BuiltinError::new("a tensor without a value needs all its sizes")),
        };
        let dims: Result<tl_device::Shape, BuiltinError> = dims.iter().map(size).collect();
        Ok(Layout::new(*dtype, dims?))
    }

    /// The memory of a declared tensor without a value.
    fn zeros(&self, ty: &Declared, is_parameter: bool) -> Result<Value, BuiltinError> {
        let layout = self.declared_layout(ty)?;
        let role = if is_parameter { Role::Learnable } else { Role::Activation };
        let mut lease = self.device.take(&layout, role)?;
        lease.fill(0).map_err(|error| tl_tensor::Error::Memory { op: "tensor", error })?;
        Ok(Value::tensor(Tensor::from_lease(lease, &layout)?))
    }
}

/// A tensor's copy in learnable memory.
fn learnable(value: Value) -> Result<Value, BuiltinError> {
    match value {
        Value::Tensor(tensor) => Ok(Value::tensor(tensor.to_learnable()?)),
        other => Err(BuiltinError::new(format!("only a tensor can be learnable, not {}", other.describe()))),
    }
}

/// A list of the values; a short one of ints takes no heap.
fn list_of(values: std::vec::Drain<'_, Value>) -> Value {
    let is_int = |value: &Value| matches!(value, Value::Int(_));
    if values.as_slice().iter().all(is_int) {
        let ints: smallvec::SmallVec<[i64; 8]> =
            values.filter_map(|value| if let Value::Int(n) = value { Some(n) } else { None }).collect();
        return Value::ints(&ints);
    }
    Value::List(List::new(values.collect()))
}

fn convert(value: Value, to: &Declared) -> Result<Value, BuiltinError> {
    Ok(match (value, to) {
        (Value::Int(n), Declared::Float) => Value::Float(n as f64),
        (Value::Bool(b), Declared::Float) => Value::Float(f64::from(u8::from(b))),
        (Value::Float(x), Declared::Int) => Value::Int(library::truncate(x)?),
        (Value::Bool(b), Declared::Int) => Value::Int(i64::from(b)),
        (value @ Value::Int(_), Declared::Int) => value,
        (value @ Value::Float(_), Declared::Float) => value,
        (value @ Value::Bool(_), Declared::Bool) => value,
        (other, to) => {
            let wanted = crate::declared::show_declared(to, &[]);
            return Err(BuiltinError::new(format!("{} cannot be converted to {wanted}", other.describe())));
        }
    })
}
