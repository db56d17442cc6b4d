//! Values against written types: dtype, rank, sizes and names are compared, and implicit conversions made.

use std::sync::Arc;

use smallvec::SmallVec;
use tl_device::{DType, Device};
use tl_syntax::Code;
use tl_tensor::Tensor;

use crate::declared::{Declared, DeclaredDim, DeclaredDtype, dtype_fits, float_code, float_of_code};
use crate::eval::evaluator::Evaluator;
use crate::library::{self, BuiltinError};
use crate::stack::has_room;
use crate::value::{Handle, Map, Shared, Value};

/// Why a value does not fit a written type. The message is made only if it is shown.
#[derive(Debug)]
pub(super) enum TypeMismatch {
    Kind,
    DType,
    Rank { found: usize, expected: usize },
    Size { found: usize, expected: usize },
    Named { name: u32, first: usize, found: usize },
    Floats { first: DType, found: DType },
    Other(BuiltinError),
}

impl TypeMismatch {
    /// The code of the error, if it is about shapes.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            TypeMismatch::Rank { .. } | TypeMismatch::Size { .. } | TypeMismatch::Named { .. } => {
                Some(Code::WrittenSizes)
            }
            TypeMismatch::Other(error) => error.code,
            TypeMismatch::Kind | TypeMismatch::DType | TypeMismatch::Floats { .. } => None,
        }
    }

    /// The reason in brackets, for a message that names both types.
    pub(super) fn in_brackets(&self, names: &[Arc<str>]) -> String {
        match self {
            TypeMismatch::Kind => String::new(),
            TypeMismatch::DType => " (the dtypes differ; convert it with `as`)".into(),
            TypeMismatch::Rank { found, expected } => format!(" (it has {found} dimensions, not {expected})"),
            TypeMismatch::Size { found, expected } => format!(" (the size {found} is not {expected})"),
            TypeMismatch::Named { name, first, found } => {
                let name = names.get(*name as usize).map_or("a name", |name| name);
                format!(" (`{name}` is {first} and {found} at once)")
            }
            TypeMismatch::Floats { first, found } => {
                format!(" (`float` is {first} and {found} at once; convert one with `as`)")
            }
            TypeMismatch::Other(error) => format!(" ({})", error.message),
        }
    }
}

/// The values of a signature's size names.
pub(super) type Sizes = SmallVec<[Option<usize>; 8]>;

/// Converts the value to the type; on an error the value is unchanged.
pub(super) fn coerce(device: &Device, value: &mut Value, ty: &Declared, sizes: &mut Sizes) -> Result<(), TypeMismatch> {
    if !has_room() {
        return Err(TypeMismatch::Other(BuiltinError::too_deep()));
    }
    match (ty, &*value) {
        (Declared::Tensor(dtype, dims), Value::Tensor(tensor)) => return check_tensor(tensor, *dtype, dims, sizes),
        (Declared::Tensor(dtype, dims), Value::Ints(_) | Value::List(_)) => {
            let dtype_of_list = match dtype {
                DeclaredDtype::Exactly(dtype) => *dtype,
                DeclaredDtype::Float(name) => {
                    let bound = name.and_then(|name| sizes.get(name as usize).copied().flatten());
                    bound.map_or(DType::F16, float_of_code)
                }
            };
            let tensor = library::from_list(device, value, dtype_of_list).map_err(TypeMismatch::Other)?;
            check_tensor(&tensor, *dtype, dims, sizes)?;
            *value = Value::tensor(tensor);
        }
        (Declared::Tensor(dtype, dims), Value::Handle(Handle::Node(node))) => {
            let tensor = library::node_tensor(node).map_err(TypeMismatch::Other)?.clone();
            check_tensor(&tensor, *dtype, dims, sizes)?;
            *value = Value::tensor(tensor);
        }
        (Declared::Optional(_), Value::None) => {}
        (Declared::Optional(tensor), _) => return coerce(device, value, tensor, sizes),
        (Declared::Float, Value::Int(n)) => *value = Value::Float(*n as f64),
        (Declared::List(element), Value::Ints(_) | Value::List(_)) => {
            return coerce_list(device, value, element, sizes);
        }
        (Declared::Map(key, element), Value::Map(_)) => return coerce_map(device, value, (key, element), sizes),
        (Declared::Struct(ty), Value::Struct(given)) if *ty == given.ty => {}
        (Declared::Handle(kind), Value::Handle(handle)) if handle.kind() == *kind => {}
        (Declared::Int, Value::Int(_))
        | (Declared::Float, Value::Float(_))
        | (Declared::Bool, Value::Bool(_))
        | (Declared::Str, Value::Str(_))
        | (Declared::Unit, Value::Unit)
        | (Declared::Unknown, _) => {}
        _ => return Err(TypeMismatch::Kind),
    }
    Ok(())
}

fn coerce_list(device: &Device, value: &mut Value, element: &Declared, sizes: &mut Sizes) -> Result<(), TypeMismatch> {
    match (&*value, element) {
        (Value::Ints(_), Declared::Int | Declared::Unknown) => return Ok(()),
        (Value::Ints(ints), _) if ints.len() == 0 => return Ok(()),
        _ => {}
    }
    let len = value.list_len().unwrap_or(0);
    let mut elements: Vec<Value> = (0..len).filter_map(|index| value.element(index)).collect();
    elements.iter_mut().try_for_each(|value| coerce(device, value, element, sizes))?;
    *value = Value::list(elements);
    Ok(())
}

fn coerce_map(
    device: &Device,
    value: &mut Value,
    (key, element): (&Declared, &Declared),
    sizes: &mut Sizes,
) -> Result<(), TypeMismatch> {
    let Value::Map(map) = value else { return Ok(()) };
    // Checked before the map is copied: most need no conversion.
    for known in map.keys() {
        coerce(device, &mut Value::from(known), key, sizes)?;
    }
    let fits = |value: &Value| {
        matches!(
            (element, value),
            (Declared::Int, Value::Int(_))
                | (Declared::Float, Value::Float(_))
                | (Declared::Bool, Value::Bool(_))
                | (Declared::Str, Value::Str(_))
                | (Declared::Unknown, _)
        )
    };
    if map.values().all(fits) {
        return Ok(());
    }
    let mut made = Map::clone(map);
    made.values_mut().try_for_each(|value| coerce(device, value, element, sizes))?;
    *map = Shared::new(made);
    Ok(())
}

fn check_tensor(
    tensor: &Tensor,
    dtype: DeclaredDtype,
    dims: &[DeclaredDim],
    sizes: &mut Sizes,
) -> Result<(), TypeMismatch> {
    let found = tensor.dtype();
    // A weight keeps its stored dtype.
    let is_weight = tensor.is_learnable() && found.is_float();
    match dtype {
        DeclaredDtype::Exactly(exact) if !(dtype_fits(dtype, found) || is_weight && exact.is_float()) => {
            return Err(TypeMismatch::DType);
        }
        DeclaredDtype::Float(_) if !dtype_fits(dtype, found) => return Err(TypeMismatch::DType),
        DeclaredDtype::Float(Some(name)) if found.is_float() && !is_weight => match sizes.get_mut(name as usize) {
            Some(Some(first)) if *first != float_code(found) => {
                return Err(TypeMismatch::Floats { first: float_of_code(*first), found });
            }
            Some(place) => *place = Some(float_code(found)),
            None => {}
        },
        _ => {}
    }
    let shape = tensor.dims();
    if shape.len() != dims.len() {
        return Err(TypeMismatch::Rank { found: shape.len(), expected: dims.len() });
    }
    for (dim, size) in dims.iter().zip(shape) {
        match *dim {
            DeclaredDim::Any => {}
            DeclaredDim::Known(expected) if expected != *size => {
                return Err(TypeMismatch::Size { found: *size, expected });
            }
            DeclaredDim::Known(_) => {}
            DeclaredDim::Named(name) => match sizes.get_mut(name as usize) {
                Some(Some(first)) if *first != *size => {
                    return Err(TypeMismatch::Named { name, first: *first, found: *size });
                }
                Some(place) => *place = Some(*size),
                None => {}
            },
        }
    }
    Ok(())
}

impl Evaluator<'_> {
    /// The names of the running function's sizes.
    pub(super) fn size_names(&self) -> &[Arc<str>] {
        self.function.map_or(&[], |function| &function.sizes)
    }

    /// The value of a size name of the running function.
    pub(super) fn bound_size(&self, name: u32) -> Option<usize> {
        match self.stack.get(self.sizes + name as usize) {
            Some(Value::Int(n)) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The values of the running function's size names.
    pub(super) fn sizes_here(&self) -> Sizes {
        (0..self.size_names().len() as u32).map(|name| self.bound_size(name)).collect()
    }
}
