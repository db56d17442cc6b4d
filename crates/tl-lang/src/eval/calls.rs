//! Calls of operations, builtins and functions. Arguments are evaluated onto the stack of values and read there.

use smallvec::SmallVec;
use tl_device::DType;
use tl_syntax::Span;
use tl_tensor::Tensor;
use tl_tensor::ops::{Arg, Kind, Op};

use crate::check::show_declared;
use crate::eval::binding::{Sizes, fit};
use crate::eval::evaluator::{Evaluated, Evaluator, Interrupt, MAX_CALLS, address_here, called_from, error_at, failed};
use crate::ir::{Argument, Expr, Function};
use crate::library::{self, Args, Builtin};
use crate::value::{Handle, Ints, Value};

impl<'a> Evaluator<'a> {
    fn push(&mut self, expr: &Expr) -> Evaluated<()> {
        let value = self.expr(expr)?;
        self.stack.push(value);
        Ok(())
    }

    /// Evaluates a list of ints that is written out, without the list.
    fn push_ints(&mut self, elements: &[Expr]) -> Evaluated<()> {
        let mut ints: SmallVec<[i64; 8]> = SmallVec::new();
        for element in elements {
            match self.expr(element)? {
                Value::Int(n) => ints.push(n),
                other => {
                    return Err(error_at(element.span, format!("this must be an int, and is {}", other.describe())));
                }
            }
        }
        self.stack.push(Value::Ints(Ints::new(&ints)));
        Ok(())
    }

    pub(super) fn op(&mut self, row: &'static Op, arguments: &[Argument], span: Span) -> Evaluated<Value> {
        let first = self.stack.len();
        for (argument, param) in arguments.iter().zip(row.params) {
            match argument {
                Argument::Missing => self.stack.push(Value::Absent),
                Argument::One(expr) => {
                    self.push(expr)?;
                    self.prepare(param.kind, expr.span)?;
                }
                Argument::Several(elements) if param.kind == Kind::Ints => self.push_ints(elements)?,
                Argument::Several(elements) => {
                    // Tensors stand behind the other arguments, in a row; their parameter's place says how many they are.
                    self.stack.push(Value::Int(elements.len() as i64));
                }
            }
        }
        let tensors_at = self.stack.len();
        for argument in arguments {
            if let Argument::Several(elements) = argument
                && tensors_of(row)
            {
                elements.iter().try_for_each(|element| self.push(element))?;
            }
        }
        let result = self.run_op(row, first, tensors_at, span);
        self.stack.truncate(first);
        result
    }

    /// Makes of the value on top of the stack what the parameter takes, where only the running program knows what it is.
    fn prepare(&mut self, kind: Kind, span: Span) -> Evaluated<()> {
        let Some(top) = self.stack.last_mut() else { return Ok(()) };
        let made = match (kind, &*top) {
            (Kind::Ints, Value::Int(n)) => Value::ints(&[*n]),
            (Kind::Tensor | Kind::Weight | Kind::TensorOrNumber | Kind::Ids, Value::Handle(Handle::Node(node))) => {
                Value::Tensor(library::node_tensor(node).map_err(|failure| failed(failure, span))?.clone())
            }
            (Kind::Tensor | Kind::Weight | Kind::TensorOrNumber | Kind::Ids, Value::Ints(_) | Value::List(_)) => {
                let dtype = if kind == Kind::Ids { DType::I32 } else { DType::F16 };
                Value::Tensor(library::from_list(self.device, top, dtype).map_err(|failure| failed(failure, span))?)
            }
            _ => return Ok(()),
        };
        *top = made;
        Ok(())
    }

    fn run_op(&mut self, row: &'static Op, first: usize, tensors_at: usize, span: Span) -> Evaluated<Value> {
        let tensors = if tensors_of(row) { self.take_tensors(first, tensors_at, row, span)? } else { SmallVec::new() };
        let values = self.stack.get(first..tensors_at).unwrap_or(&[]);
        let mut arguments: SmallVec<[Arg<'_>; 8]> = SmallVec::new();
        for (value, param) in values.iter().zip(row.params) {
            arguments.push(match (param.kind, value) {
                (Kind::Tensors, _) => Arg::Tensors(&tensors),
                (_, Value::Absent) => param.default.map_or(Arg::None, tl_tensor::ops::Default::arg),
                (Kind::Tensor | Kind::Weight | Kind::TensorOrNumber | Kind::Ids, Value::Tensor(tensor)) => {
                    Arg::from(tensor)
                }
                (Kind::TensorOrNumber | Kind::Number | Kind::Int, Value::Int(n)) => Arg::Int(*n),
                (Kind::TensorOrNumber | Kind::Number, Value::Float(x)) => Arg::Number(*x),
                (Kind::Ints, Value::Ints(ints)) => Arg::Ints(ints.as_slice()),
                (Kind::Bool, Value::Bool(truth)) => Arg::Bool(*truth),
                (Kind::Text, Value::Str(text)) => Arg::Text(text),
                (Kind::DType, Value::DType(dtype)) => Arg::DType(*dtype),
                (_, value) => {
                    let message = format!("`{}`: `{}` cannot be {}", row.name, param.name, value.describe());
                    return Err(error_at(span, message));
                }
            });
        }
        self.apply(row, &arguments, span)
    }

    /// The tensors of a list parameter: those in a row behind the arguments, or the elements of a list.
    #[inline(never)]
    fn take_tensors(
        &mut self,
        first: usize,
        tensors_at: usize,
        row: &'static Op,
        span: Span,
    ) -> Evaluated<SmallVec<[Tensor; 4]>> {
        let at = first + row.params.iter().position(|param| param.kind == Kind::Tensors).unwrap_or(0);
        let mut tensors = SmallVec::new();
        let mut add = |value: Value| match value {
            Value::Tensor(tensor) => {
                tensors.push(tensor);
                Ok(())
            }
            other => {
                Err(error_at(span, format!("`{}` takes a list of tensors, and one is {}", row.name, other.describe())))
            }
        };
        match self.stack.get(at).cloned() {
            Some(Value::List(values)) => values.iter().cloned().try_for_each(add)?,
            _ => self.stack.drain(tensors_at..).try_for_each(&mut add)?,
        }
        Ok(tensors)
    }

    pub(super) fn builtin(&mut self, row: &'static Builtin, arguments: &[Argument], span: Span) -> Evaluated<Value> {
        let first = self.stack.len();
        let mut rest: &[Expr] = &[];
        for (argument, param) in arguments.iter().zip(row.params) {
            match argument {
                Argument::Missing => self.stack.push(param.default.map_or(Value::Absent, library::Default::value)),
                Argument::One(expr) => self.push(expr)?,
                Argument::Several(exprs) => rest = exprs,
            }
        }
        rest.iter().try_for_each(|expr| self.push(expr))?;
        // The row may need the evaluator's parts, so its arguments are taken off the stack meanwhile.
        let result = self.run_builtin(row, first, span);
        self.stack.truncate(first);
        result
    }

    fn run_builtin(&mut self, row: &'static Builtin, first: usize, span: Span) -> Evaluated<Value> {
        self.device.set_location(crate::interpreter::location(span));
        let mut stack = std::mem::take(&mut self.stack);
        let values = stack.get_mut(first..).unwrap_or_default();
        let mut args = Args { row, values };
        let result = (row.run)(&mut self.context(), &mut args);
        self.stack = stack;
        result.map_err(|failure| failed(failure, span))
    }

    pub(super) fn call(&mut self, function: u32, arguments: &[Expr], span: Span) -> Evaluated<Value> {
        let Some(function) = self.program.functions.get(function as usize) else {
            return Err(error_at(span, "this function does not exist"));
        };
        let first = self.stack.len();
        for argument in arguments {
            self.push(argument)?;
        }
        if self.open_calls >= MAX_CALLS || address_here() < self.stack_end {
            let message =
                format!("`{}` is called more deeply than there is room for ({} calls)", function.name, self.open_calls);
            return Err(error_at(span, message));
        }
        let saved = (self.frame, self.sizes, self.function);
        self.open_calls += 1;
        let result = self.enter(function, first, span);
        self.open_calls -= 1;
        (self.frame, self.sizes, self.function) = saved;
        self.stack.truncate(first);
        result
    }

    fn enter(&mut self, function: &'a Function, first: usize, span: Span) -> Evaluated<Value> {
        let mut sizes: Sizes = SmallVec::from_elem(None, function.sizes.len());
        self.bind_parameters(function, first, &mut sizes, span)?;
        for size in &sizes {
            self.stack.push(size.map_or(Value::Absent, |size| Value::Int(size as i64)));
        }
        self.stack.resize(first + function.slots as usize, Value::Absent);
        (self.frame, self.sizes) = (first, first + function.parameters.len());
        self.function = Some(function);
        match self.block(&function.body) {
            Ok(value) if matches!(function.result, crate::ir::Declared::Unit) => {
                drop(value);
                Ok(Value::Unit)
            }
            Ok(value) => Ok(value),
            Err(Interrupt::Return) => Ok(std::mem::take(&mut self.returned)),
            Err(other) => Err(called_from(other, &function.name, span)),
        }
    }

    fn bind_parameters(&mut self, function: &Function, first: usize, sizes: &mut Sizes, span: Span) -> Evaluated<()> {
        for (index, parameter) in function.parameters.iter().enumerate() {
            let mut value = self.stack.get_mut(first + index).map(std::mem::take).unwrap_or_default();
            let fitted = fit(self.device, &mut value, &parameter.ty, sizes);
            if let Err(reason) = fitted {
                let wanted = show_declared(&parameter.ty, &function.sizes);
                let (given, reason) = (value.describe(), reason.in_brackets(&function.sizes));
                let message =
                    format!("`{}`: `{}` is {wanted}, and is given {given}{reason}", function.name, parameter.name);
                return Err(error_at(span, message));
            }
            if let Some(place) = self.stack.get_mut(first + index) {
                *place = value;
            }
        }
        Ok(())
    }
}

fn tensors_of(row: &Op) -> bool {
    row.params.iter().any(|param| param.kind == Kind::Tensors)
}
