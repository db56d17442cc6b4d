//! Known values as values of the running program and back: with a model's file, the checker computes what depends on it alone.

use smallvec::SmallVec;
use tl_device::Device;
use tl_syntax::Span;
use tl_syntax::{Code, Diagnostic};
use tl_tensor::Random;
use tl_tensor::ops::{Size, Sizes, TensorType};

use crate::check::checker::Checker;
use crate::check::typed::Typed;
use crate::host::CapturedHost;
use crate::library::{self, Args, Builtin, BuiltinError, Context};
use crate::types::{Known, ModelPart, Type};
use crate::value::{Handle, Value};

impl Checker {
    /// What is known of a model's field. Parts that it lacks are reported, unless the program asks whether they are there.
    pub(super) fn model_field(&mut self, receiver: &Typed, name: &str, ty: &Type, span: Span) -> Option<(Type, Known)> {
        if receiver.known == Known::Model(ModelPart::Missing) {
            return Some((ty.clone(), Known::Model(ModelPart::Missing)));
        }
        let Known::Model(_) = receiver.known else { return None };
        let value = value_of(&receiver.known)?;
        Some(self.part_of_model(library::field(&value, name), ty, span))
    }

    /// What is known of a numbered part of a model.
    pub(super) fn model_element(
        &mut self,
        receiver: &Known,
        index: Size,
        ty: &Type,
        span: Span,
    ) -> Option<(Type, Known)> {
        let (Known::Model(ModelPart::Node(_)), Size::Known(index)) = (receiver, index) else { return None };
        let value = value_of(receiver)?;
        Some(self.part_of_model(library::indexed_part(&value, index), ty, span))
    }

    /// The part, or that it is missing, of which `ty` is known.
    fn part_of_model(&mut self, part: Result<Value, BuiltinError>, ty: &Type, span: Span) -> (Type, Known) {
        match part {
            Ok(value) => known_of(&value),
            Err(error) => {
                if self.optional_paths == 0 {
                    let mut diagnostic = Diagnostic::error(span, error.message).code(Code::MissingPart);
                    diagnostic.hints.extend(error.hint);
                    self.report(diagnostic);
                }
                (ty.clone(), Known::Model(ModelPart::Missing))
            }
        }
    }

    /// The value of a builtin that depends on the model and known values alone.
    pub(super) fn builtin_constant(
        &mut self,
        row: &'static Builtin,
        arguments: &[Option<Typed>],
        span: Span,
    ) -> Option<(Type, Known)> {
        let model = self.model.clone()?;
        if row.name == "load_model" {
            return Some((Type::Handle(crate::types::HandleKind::Model), Known::Model(ModelPart::Whole(model))));
        }
        if !row.is_constant {
            return None;
        }
        let value = |(argument, param): (&Option<Typed>, &library::Param)| match argument {
            Some(value) => value_of(&value.known),
            None => param.default.map(Value::from),
        };
        let mut values: SmallVec<[Value; 4]> = arguments.iter().zip(row.params).map(value).collect::<Option<_>>()?;
        let mut args = Args { name: row.name, params: row.params, values: &mut values };
        match constant(model.device(), row, &mut args) {
            Ok(value) => Some(known_of(&value)),
            Err(error) => {
                self.report(Diagnostic::error(span, error.message).code(Code::MissingPart));
                None
            }
        }
    }
}

fn constant(device: &Device, row: &Builtin, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let mut context = Context {
        device,
        host: &mut CapturedHost::default(),
        random: &mut Random::new(0),
        sampler: &mut None,
        seed: &mut 0,
        open_model: |_| Err(tl_model::ModelError::Architecture { found: String::new(), known: String::new() }),
    };
    (row.run)(&mut context, args)
}

/// The value, if it is known.
fn value_of(known: &Known) -> Option<Value> {
    Some(match known {
        Known::Int(Size::Known(n)) => Value::Int(*n),
        Known::Float(x) => Value::Float(*x),
        Known::Bool(truth) => Value::Bool(*truth),
        Known::Text(text) => Value::text(text),
        Known::DType(dtype) => Value::DType(*dtype),
        Known::Ints(sizes) => Value::ints(&sizes.iter().map(|size| size.known()).collect::<Option<Vec<i64>>>()?),
        Known::Model(ModelPart::Whole(model)) => Value::Handle(Handle::model(model.clone(), None)),
        Known::Model(ModelPart::Config(model)) => Value::Handle(Handle::config(model.clone())),
        Known::Model(ModelPart::Node(node)) => Value::Handle(Handle::Node(node.clone())),
        _ => return None,
    })
}

fn known_of(value: &Value) -> (Type, Known) {
    match value {
        Value::Int(n) => (Type::Int, Known::Int(Size::Known(*n))),
        Value::Float(x) => (Type::Float, Known::Float(*x)),
        Value::Bool(truth) => (Type::Bool, Known::Bool(*truth)),
        Value::Str(text) => (Type::Str, Known::Text(std::sync::Arc::from(&**text))),
        Value::DType(dtype) => (Type::Dtype, Known::DType(*dtype)),
        Value::Ints(ints) => {
            let sizes: Sizes = ints.as_slice().iter().map(|n| Size::Known(*n)).collect();
            (Type::list(Type::Int), Known::Ints(sizes))
        }
        Value::Tensor(tensor) => {
            let sizes: Sizes = tensor.dims().iter().map(|size| Size::Known(*size as i64)).collect();
            (Type::Tensor(TensorType::new(Some(tensor.dtype()), sizes)), Known::Nothing)
        }
        Value::Handle(handle) => {
            let known = match handle {
                Handle::Model(model) => Known::Model(ModelPart::Whole(model.weights.clone())),
                Handle::Config(model) => Known::Model(ModelPart::Config(model.weights.clone())),
                Handle::Node(node) => Known::Model(ModelPart::Node(node.clone())),
                _ => Known::Nothing,
            };
            (Type::Handle(handle.kind()), known)
        }
        _ => (Type::Unknown, Known::Nothing),
    }
}
