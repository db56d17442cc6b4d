//! Checked expressions with their inferred types, and the test of a value against a written type.
//!
//! What is unknown is left to run time: in doubt, the checker accepts.

use std::sync::Arc;

use tl_syntax::{Code, Span};
use tl_tensor::ops::{ArgType, Size, TensorType};

use crate::declared::{Declared, DeclaredDim, DeclaredDtype, dtype_fits};
use crate::ir::Expr;
use crate::types::{Known, StructType, Type, list_sizes};

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
            (Type::Tensor(ty), Known::Ids(ids)) => ArgType::Ids(ty.clone(), ids),
            (Type::Tensor(ty), _) => ArgType::Tensor(ty.clone()),
            (Type::Int, known) => ArgType::Int(known.size()),
            (Type::Float, _) => ArgType::Number,
            (Type::Bool, Known::Bool(value)) => ArgType::Bool(Some(*value)),
            (Type::Bool, _) => ArgType::Bool(None),
            (Type::Str, Known::Text(text)) => ArgType::Text(Some(text)),
            (Type::Str, _) => ArgType::Text(None),
            (Type::Dtype, Known::DType(dtype)) => ArgType::DType(Some(*dtype)),
            (Type::Dtype, _) => ArgType::DType(None),
            (Type::Optional, Known::Optional(Some(ty))) => ArgType::Tensor(ty.clone()),
            (Type::Optional, Known::Optional(None)) => ArgType::None,
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
pub(crate) struct Bindings<'a> {
    pub(crate) names: &'a [Arc<str>],
    pub(crate) sizes: Vec<Option<Size>>,
    /// Whether these are the names of the enclosing function, whose sizes are given.
    pub(crate) are_own: bool,
}

/// Why a value does not fit a written type.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// The broken rule, without the types; empty if the kinds differ.
    pub(crate) reason: String,
    pub(crate) code: Option<Code>,
}

impl Mismatch {
    const KIND: Mismatch = Mismatch { reason: String::new(), code: None };

    fn sizes(reason: String) -> Mismatch {
        Mismatch { reason, code: Some(Code::WrittenSizes) }
    }
}

/// Tests a value of the type `given` against a written type, as far as types and value are known. Binds the signature's size
/// names.
pub(crate) fn accepts(
    declared: &Declared,
    given: &Type,
    known: &Known,
    bindings: &mut Bindings<'_>,
) -> Result<(), Mismatch> {
    let fits = match (declared, given) {
        (_, Type::Unknown | Type::Never) | (Declared::Unknown, _) => true,
        (Declared::Int, Type::Int) | (Declared::Float, Type::Int | Type::Float) => true,
        (Declared::Bool, Type::Bool) | (Declared::Str, Type::Str) | (Declared::Unit, Type::Unit) => true,
        (Declared::Tensor(dtype, dims), Type::Tensor(given)) => {
            return accepts_tensor(*dtype, dims, given, bindings);
        }
        (Declared::Optional(tensor), Type::Optional) => match known {
            Known::Optional(Some(ty)) => {
                return accepts(tensor, &Type::Tensor(ty.clone()), &Known::Nothing, bindings);
            }
            _ => true,
        },
        (Declared::Optional(tensor), given) => return accepts(tensor, given, known, bindings),
        (Declared::Tensor(dtype, dims), given) if given.may_become_tensor() => {
            let sizes = list_sizes(known).map_err(|(code, reason)| Mismatch { reason, code: Some(code) })?;
            return accepts_tensor(*dtype, dims, &TensorType { dtype: None, sizes }, bindings);
        }
        (Declared::Tensor(..), given) => given.may_be_tensor(),
        (Declared::List(declared), Type::List(given)) => {
            if let Known::Elements(elements) = known {
                return elements.iter().try_for_each(|(ty, known)| accepts(declared, ty, known, bindings));
            }
            return accepts(declared, given, &Known::Nothing, bindings);
        }
        (Declared::Map(key, value), Type::Map(given_key, given_value)) => {
            accepts(key, given_key, &Known::Nothing, bindings)?;
            return accepts(value, given_value, &Known::Nothing, bindings);
        }
        (Declared::Struct(declared), Type::Struct(given)) if declared != given && declared.name == given.name => {
            let home = |ty: &StructType| ty.home.as_deref().unwrap_or("this program").to_owned();
            let reason = match declared.home == given.home {
                true => "it was declared differently before".to_owned(),
                false => format!("one is declared in {}, the other in {}", home(declared), home(given)),
            };
            return Err(Mismatch { reason, code: None });
        }
        (Declared::Struct(declared), Type::Struct(given)) => declared == given,
        (Declared::Handle(declared), Type::Handle(given)) => declared == given,
        _ => false,
    };
    if fits { Ok(()) } else { Err(Mismatch::KIND) }
}

fn accepts_tensor(
    dtype: DeclaredDtype,
    dims: &[DeclaredDim],
    given: &TensorType,
    bindings: &mut Bindings<'_>,
) -> Result<(), Mismatch> {
    if given.dtype.is_some_and(|given| !dtype_fits(dtype, given)) {
        return Err(Mismatch { reason: "the dtypes differ".into(), code: None });
    }
    let Some(sizes) = &given.sizes else { return Ok(()) };
    if sizes.len() != dims.len() {
        return Err(Mismatch::sizes(format!("it has {} dimensions, not {}", sizes.len(), dims.len())));
    }
    for (dim, size) in dims.iter().zip(sizes) {
        match *dim {
            DeclaredDim::Any => {}
            DeclaredDim::Known(expected) => {
                if size.equals(Size::Known(expected as i64)) == Some(false) {
                    return Err(Mismatch::sizes(format!("the size {size} is not {expected}")));
                }
            }
            DeclaredDim::Named(name) => {
                let Some(binding) = bindings.sizes.get_mut(name as usize) else { continue };
                if let Some(first) = *binding
                    && first.equals(*size) == Some(false)
                {
                    let name = bindings.names.get(name as usize).map_or("?", |name| name);
                    return Err(Mismatch::sizes(if bindings.are_own && first.to_string() == name {
                        format!("the size {size} is not `{name}`")
                    } else {
                        format!("`{name}` is {first} and {size} at once")
                    }));
                }
                if !matches!(binding, Some(Size::Known(_))) && *size != Size::Unknown {
                    *binding = Some(*size);
                }
            }
        }
    }
    Ok(())
}
