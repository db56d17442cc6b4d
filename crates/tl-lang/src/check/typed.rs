//! Checked expressions with their inferred types, and the test of a value against a written type.
//!
//! What is unknown is left to run time: in doubt, the checker accepts.

use std::sync::Arc;

use tl_syntax::Span;
use tl_tensor::ops::{ArgType, Size, TensorType};

use crate::declared::{Declared, DeclaredDim, DeclaredDtype, dtype_fits};
use crate::ir::Expr;
use crate::types::{Known, Type};

/// A checked expression, its type, and what is known of its value.
#[derive(Debug)]
pub(crate) struct Typed {
    pub(crate) expr: Expr,
    pub(crate) ty: Type,
    pub(crate) known: Known,
}

impl Typed {
    pub(crate) fn new(expr: Expr, ty: Type) -> Typed {
        Typed { expr, ty, known: Known::Nothing }
    }

    pub(crate) fn span(&self) -> Span {
        self.expr.span
    }

    /// The argument as a shape rule sees it.
    pub(crate) fn arg_type(&self) -> ArgType<'_> {
        match (&self.ty, &self.known) {
            (Type::Tensor(ty), _) => ArgType::Tensor(ty.clone()),
            (Type::Int, Known::Int(size)) => ArgType::Int(*size),
            (Type::Int, _) => ArgType::Int(Size::Unknown),
            (Type::Float, _) => ArgType::Number,
            (Type::Bool, Known::Bool(value)) => ArgType::Bool(Some(*value)),
            (Type::Bool, _) => ArgType::Bool(None),
            (Type::Str, Known::Text(text)) => ArgType::Text(Some(text)),
            (Type::Str, _) => ArgType::Text(None),
            (Type::Dtype, Known::DType(dtype)) => ArgType::DType(Some(*dtype)),
            (Type::Dtype, _) => ArgType::DType(None),
            (Type::List(_), Known::Ints(sizes)) => ArgType::Ints(sizes.clone()),
            (Type::List(element), _) => match &**element {
                Type::Tensor(ty) => {
                    ArgType::Tensors([TensorType { dtype: ty.dtype, sizes: None }].into_iter().collect())
                }
                _ => ArgType::Tensor(TensorType::default()),
            },
            _ => ArgType::Tensor(TensorType::default()),
        }
    }
}

/// The sizes that a signature's names are bound to.
pub(crate) type Bindings = Vec<Option<Size>>;

/// Tests a value of the type `given` against a written type, as far as the types are known. Binds the signature's size names.
///
/// # Errors
/// The broken rule, without the types; empty if the kinds differ.
pub(crate) fn accepts(
    declared: &Declared,
    given: &Type,
    bindings: &mut Bindings,
    names: &[Arc<str>],
) -> Result<(), String> {
    let fits = match (declared, given) {
        (_, Type::Unknown | Type::Never) | (Declared::Unknown, _) => true,
        (Declared::Int, Type::Int) | (Declared::Float, Type::Int | Type::Float) => true,
        (Declared::Bool, Type::Bool) | (Declared::Str, Type::Str) | (Declared::Unit, Type::Unit) => true,
        (Declared::Tensor(dtype, dims), Type::Tensor(given)) => {
            return accepts_tensor(*dtype, dims, given, bindings, names);
        }
        (Declared::Optional(_), Type::Optional) => true,
        (Declared::Optional(tensor), given) => return accepts(tensor, given, bindings, names),
        (Declared::Tensor(..), given) => given.may_be_tensor() || given.may_become_tensor(),
        (Declared::List(declared), Type::List(given)) => return accepts(declared, given, bindings, names),
        (Declared::Map(key, value), Type::Map(given_key, given_value)) => {
            accepts(key, given_key, bindings, names)?;
            return accepts(value, given_value, bindings, names);
        }
        (Declared::Struct(declared), Type::Struct(given)) => declared == given,
        (Declared::Handle(declared), Type::Handle(given)) => declared == given,
        _ => false,
    };
    if fits { Ok(()) } else { Err(String::new()) }
}

fn accepts_tensor(
    dtype: DeclaredDtype,
    dims: &[DeclaredDim],
    given: &TensorType,
    bindings: &mut Bindings,
    names: &[Arc<str>],
) -> Result<(), String> {
    if given.dtype.is_some_and(|given| !dtype_fits(dtype, given)) {
        return Err("the dtypes differ".into());
    }
    let Some(sizes) = &given.sizes else { return Ok(()) };
    if sizes.len() != dims.len() {
        return Err(format!("it has {} dimensions, not {}", sizes.len(), dims.len()));
    }
    for (dim, size) in dims.iter().zip(sizes) {
        match *dim {
            DeclaredDim::Any => {}
            DeclaredDim::Known(expected) => {
                if let Size::Known(size) = size
                    && *size != expected as i64
                {
                    return Err(format!("the size {size} is not {expected}"));
                }
            }
            DeclaredDim::Named(name) => {
                let Some(binding) = bindings.get_mut(name as usize) else { continue };
                if let (Some(Size::Known(first)), Size::Known(size)) = (*binding, size)
                    && first != *size
                {
                    let name = names.get(name as usize).map_or("?", |name| name);
                    return Err(format!("`{name}` is {first} and {size} at once"));
                }
                if !matches!(binding, Some(Size::Known(_))) && *size != Size::Unknown {
                    *binding = Some(*size);
                }
            }
        }
    }
    Ok(())
}
