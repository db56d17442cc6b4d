//! Types that a program writes. Checker and evaluator compare values with them.

use std::sync::Arc;

use smallvec::SmallVec;
use tl_device::DType;
use tl_tensor::ops::{Size, Sizes, TensorType};

use crate::types::{HandleKind, StructType, Type, show};

/// A written type with its names resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Declared {
    Int,
    Float,
    Bool,
    Str,
    Unit,
    Tensor(DeclaredDtype, SmallVec<[DeclaredDim; 4]>),
    List(Box<Declared>),
    Map(Box<Declared>, Box<Declared>),
    Struct(Arc<StructType>),
    /// A tensor of this type or `none`.
    Optional(Box<Declared>),
    Handle(HandleKind),
    /// An error that was reported.
    Unknown,
}

/// The dtype in a written tensor type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeclaredDtype {
    Exactly(DType),
    /// `float`: one of the float types, the same for all types of a signature that name it. The index of [`FLOAT`] among the
    /// signature's names; `None` if the enclosing function has no such parameter.
    Float(Option<u32>),
}

/// The name, among a signature's size names, whose value in a call is the [`float_code`] of `float`. No program can write it.
pub(crate) const FLOAT: &str = " float";

/// A float type encoded as a size.
pub(crate) fn float_code(dtype: DType) -> usize {
    usize::from(dtype == DType::F32)
}

/// The float type that a size encodes.
pub(crate) fn float_of_code(code: usize) -> DType {
    if code == float_code(DType::F32) { DType::F32 } else { DType::F16 }
}

/// A dimension in a written type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeclaredDim {
    Known(usize),
    Any,
    /// The index among the signature's names.
    Named(u32),
}

/// Whether a tensor of the dtype `given` may stand where `declared` is written: weights keep their format.
pub(crate) fn dtype_fits(declared: DeclaredDtype, given: DType) -> bool {
    match declared {
        DeclaredDtype::Exactly(declared) => {
            declared == given || (declared.is_float() && matches!(given, DType::Block(_)))
        }
        DeclaredDtype::Float(_) => given.is_float() || matches!(given, DType::Block(_)),
    }
}

/// The written dtype, unless it is `float`.
pub(crate) fn exact_dtype(declared: DeclaredDtype) -> Option<DType> {
    match declared {
        DeclaredDtype::Exactly(dtype) => Some(dtype),
        DeclaredDtype::Float(_) => None,
    }
}

/// The type of a declaration. `size` gives the values of the signature's names.
pub(crate) fn declared_type(declared: &Declared, size: &dyn Fn(u32) -> Size) -> Type {
    match declared {
        Declared::Int => Type::Int,
        Declared::Float => Type::Float,
        Declared::Bool => Type::Bool,
        Declared::Str => Type::Str,
        Declared::Unit => Type::Unit,
        Declared::Tensor(dtype, dims) => {
            let sizes: Sizes = dims
                .iter()
                .map(|dim| match *dim {
                    DeclaredDim::Known(n) => Size::Known(n as i64),
                    DeclaredDim::Any => Size::Unknown,
                    DeclaredDim::Named(name) => size(name),
                })
                .collect();
            Type::Tensor(TensorType { dtype: exact_dtype(*dtype), sizes: Some(sizes) })
        }
        Declared::List(element) => Type::list(declared_type(element, size)),
        Declared::Map(key, value) => Type::map(declared_type(key, size), declared_type(value, size)),
        Declared::Struct(ty) => Type::Struct(ty.clone()),
        Declared::Optional(_) => Type::Optional,
        Declared::Handle(kind) => Type::Handle(*kind),
        Declared::Unknown => Type::Unknown,
    }
}

/// A written type as messages show it.
pub(crate) fn show_declared(declared: &Declared, names: &[Arc<str>]) -> String {
    match declared {
        Declared::Tensor(dtype, dims) => {
            let dims: Vec<String> = dims
                .iter()
                .map(|dim| match dim {
                    DeclaredDim::Known(n) => n.to_string(),
                    DeclaredDim::Any => "?".into(),
                    DeclaredDim::Named(name) => names.get(*name as usize).map_or("?", |name| name).to_string(),
                })
                .collect();
            let dtype = exact_dtype(*dtype).map_or("float", DType::name);
            format!("{dtype}[{}]", dims.join(", "))
        }
        Declared::List(element) => format!("[{}]", show_declared(element, names)),
        Declared::Map(key, value) => format!("{{{}: {}}}", show_declared(key, names), show_declared(value, names)),
        Declared::Optional(tensor) => format!("{}?", show_declared(tensor, names)),
        other => show(&declared_type(other, &|_| Size::Unknown)),
    }
}
