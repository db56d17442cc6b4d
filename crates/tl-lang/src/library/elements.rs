//! The elements of tensors as numbers.

use tl_device::DType;
use tl_tensor::Tensor;

use super::error::BuiltinError;

/// All elements, in the order of their indices.
pub(crate) fn elements(tensor: &Tensor) -> Result<Vec<f64>, BuiltinError> {
    let tensor = tensor.clone();
    Ok(match tensor.dtype() {
        DType::F16 => tensor.into_typed::<half::f16>()?.to_vec()?.into_iter().map(f64::from).collect(),
        DType::F32 => tensor.into_typed::<f32>()?.to_vec()?.into_iter().map(f64::from).collect(),
        DType::I32 => tensor.into_typed::<i32>()?.to_vec()?.into_iter().map(f64::from).collect(),
        DType::Bool => tensor.into_typed::<bool>()?.to_vec()?.into_iter().map(|b| f64::from(u8::from(b))).collect(),
        DType::Block(format) => {
            let message = format!("the elements of a {} weight cannot be read", format.name);
            return Err(BuiltinError::new(message).hint("convert it first, `w as float16`"));
        }
    })
}
