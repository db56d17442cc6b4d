//! The types that the checker infers, and how two of them go together.
//!
//! What is not known is left to run time: every doubt is decided for the program.

use std::fmt::Write;
use std::sync::Arc;

use tl_device::DType;
use tl_syntax::Span;
use tl_tensor::ops::{ArgType, Size, Sizes, TensorType};

use crate::ir::{Declared, DeclaredDim, DeclaredDtype, Expr};
use crate::library::RecordType;
use crate::value::HandleKind;

/// What the checker knows of a value's type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    /// Nothing; also what is wrong and reported already.
    Unknown,
    /// No value: the place is never reached.
    Never,
    Int,
    Float,
    Bool,
    Str,
    Unit,
    Range,
    Dtype,
    Tensor(TensorType),
    List(Box<Type>),
    Record(&'static RecordType),
    Handle(HandleKind),
    /// A tensor or `none`.
    Optional,
}

/// What the checker knows of a value itself.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) enum Known {
    #[default]
    Nothing,
    Int(Size),
    Ints(Sizes),
    /// The types of a list's elements.
    Elements(Vec<Type>),
    Bool(bool),
    Text(Arc<str>),
    DType(DType),
}

/// A checked expression and what is known of its value.
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

    /// The value as a shape rule sees it.
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

impl Type {
    pub(crate) fn any_tensor() -> Type {
        Type::Tensor(TensorType::default())
    }

    pub(crate) fn list(element: Type) -> Type {
        Type::List(Box::new(element))
    }

    /// Whether a value of this type may hold memory that is worth giving back early.
    pub(crate) fn holds_memory(&self) -> bool {
        !matches!(self, Type::Int | Type::Float | Type::Bool | Type::Unit | Type::Range | Type::Dtype)
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Type::Int | Type::Float)
    }

    /// Whether a tensor may stand here. A model's node may turn out to be one.
    pub(crate) fn may_be_tensor(&self) -> bool {
        matches!(self, Type::Unknown | Type::Never | Type::Tensor(_) | Type::Handle(HandleKind::Node))
    }

    /// Whether a list of (lists of) numbers may stand here, out of which a tensor can be made.
    pub(crate) fn may_become_tensor(&self) -> bool {
        match self {
            Type::List(element) => {
                element.may_become_tensor() || matches!(**element, Type::Int | Type::Float | Type::Bool | Type::Unknown)
            }
            _ => false,
        }
    }

    /// Whether nothing more can be said than that it may be anything.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Type::Unknown | Type::Never)
    }

    /// Whether both are of one kind, whatever the sizes.
    pub(crate) fn same_kind(&self, other: &Type) -> bool {
        match (self, other) {
            (a, b) if a.is_open() || b.is_open() => true,
            (Type::List(a), Type::List(b)) => a.same_kind(b),
            (Type::Tensor(_) | Type::Optional, Type::Tensor(_) | Type::Optional) => true,
            (Type::Tensor(_), Type::Handle(HandleKind::Node)) | (Type::Handle(HandleKind::Node), Type::Tensor(_)) => {
                true
            }
            (a, b) => a == b,
        }
    }

    /// The type of a value that is of one of the two types.
    pub(crate) fn join(&self, other: &Type) -> Type {
        match (self, other) {
            (Type::Never, ty) | (ty, Type::Never) => ty.clone(),
            (Type::Tensor(a), Type::Tensor(b)) => Type::Tensor(join_tensors(a, b)),
            (Type::List(a), Type::List(b)) => Type::list(a.join(b)),
            (a, b) if a == b => a.clone(),
            (Type::Optional, Type::Tensor(_)) | (Type::Tensor(_), Type::Optional) => Type::Optional,
            _ => Type::Unknown,
        }
    }

    /// What remains after values that are not known have been assigned to it.
    pub(crate) fn widened(&self) -> Type {
        match self {
            Type::Tensor(_) => Type::any_tensor(),
            Type::List(element) => Type::list(element.widened()),
            ty => ty.clone(),
        }
    }
}

fn join_tensors(a: &TensorType, b: &TensorType) -> TensorType {
    let sizes = match (&a.sizes, &b.sizes) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            Some(a.iter().zip(b).map(|(a, b)| if a == b { *a } else { Size::Unknown }).collect())
        }
        _ => None,
    };
    TensorType { dtype: a.dtype.filter(|_| a.dtype == b.dtype), sizes }
}

impl Known {
    pub(crate) fn join(&self, other: &Known) -> Known {
        if self == other { self.clone() } else { Known::Nothing }
    }
}

/// The sizes that a signature's names have got.
pub(crate) type Bindings = Vec<Option<Size>>;

/// Whether a value of the type `given` may stand where `declared` is written, as far as that can be said. Binds the
/// signature's size names.
///
/// # Errors
/// The rule that is broken, without the types themselves; empty if the kinds alone say it.
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

/// Whether a tensor of the dtype `given` may stand where `declared` is written: weights keep their format.
pub(crate) fn dtype_fits(declared: DeclaredDtype, given: DType) -> bool {
    match declared {
        DeclaredDtype::Exactly(declared) => {
            declared == given || (declared.is_float() && matches!(given, DType::Block(_)))
        }
        DeclaredDtype::Float(_) => given.is_float() || matches!(given, DType::Block(_)),
    }
}

/// The dtype that is written, where it is one.
pub(crate) fn exact_dtype(declared: DeclaredDtype) -> Option<DType> {
    match declared {
        DeclaredDtype::Exactly(dtype) => Some(dtype),
        DeclaredDtype::Float(_) => None,
    }
}

/// The type that a declaration gives. `size` says what the signature's names stand for.
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
        Declared::Optional(_) => Type::Optional,
        Declared::Handle(kind) => Type::Handle(*kind),
        Declared::Unknown => Type::Unknown,
    }
}

/// A type as messages show it; `names` are those of the sizes in scope.
pub(crate) fn show(ty: &Type, names: &[Arc<str>]) -> String {
    match ty {
        Type::Unknown | Type::Never => "a value".into(),
        Type::Int => "int".into(),
        Type::Float => "float".into(),
        Type::Bool => "bool".into(),
        Type::Str => "string".into(),
        Type::Unit => "()".into(),
        Type::Range => "a range".into(),
        Type::Dtype => "a dtype".into(),
        Type::Optional => "a tensor or none".into(),
        Type::Tensor(ty) => show_tensor(ty, names),
        Type::List(element) => match &**element {
            Type::Unknown | Type::Never => "a list".into(),
            element => format!("[{}]", show(element, names)),
        },
        Type::Record(record) => record.name.into(),
        Type::Handle(kind) => kind.name().into(),
    }
}

pub(crate) fn show_tensor(ty: &TensorType, names: &[Arc<str>]) -> String {
    let mut text = ty.dtype.map_or("tensor", DType::name).to_string();
    match &ty.sizes {
        None => text.push_str("[…]"),
        Some(sizes) => {
            text.push('[');
            for (at, size) in sizes.iter().enumerate() {
                let separator = if at == 0 { "" } else { ", " };
                // Writing to a string cannot fail.
                let _ = match size {
                    Size::Known(n) => write!(text, "{separator}{n}"),
                    Size::Unknown => write!(text, "{separator}?"),
                    Size::Named(name) => {
                        write!(text, "{separator}{}", names.get(*name as usize).map_or("?", |name| name))
                    }
                };
            }
            text.push(']');
        }
    }
    text
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
        Declared::Optional(tensor) => format!("{}?", show_declared(tensor, names)),
        other => show(&declared_type(other, &|_| Size::Unknown), names),
    }
}
