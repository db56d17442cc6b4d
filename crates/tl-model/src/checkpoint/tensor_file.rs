//! Named tensors in a safetensors file: what a program saves, and loads again.

use std::io::{self, Write};
use std::path::Path;

use tl_device::{DType, Device, Layout};
use tl_tensor::Tensor;

use super::contents::{Access, MAX_TENSORS, in_file};
use super::safetensors::{MAX_DIMS, MAX_NAME_BYTES, METADATA, StoredTensor, StoredType, parse};
use crate::error::{ModelError, Result};
use crate::format::TensorType;

/// Tensors ready to be written as a file.
pub struct TensorFile<'a> {
    /// Length and text of the header.
    header: Vec<u8>,
    /// In the order of their data.
    tensors: Vec<(&'a str, &'a Tensor)>,
}

impl<'a> TensorFile<'a> {
    /// The file of these tensors.
    ///
    /// # Errors
    /// [`ModelError::NotSaved`] for a tensor that such a file cannot hold.
    pub fn new(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<TensorFile<'a>> {
        let mut tensors: Vec<(&str, &Tensor)> = tensors.into_iter().collect();
        // Data of large elements comes first, so that every tensor is aligned.
        tensors.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().block_bytes()));
        let mut text = String::from("{");
        let mut end = 0;
        for (index, (name, tensor)) in tensors.iter().enumerate() {
            let refused = |problem: String| ModelError::NotSaved { name: (*name).to_owned(), problem };
            let dtype = stored_name(tensor.dtype()).map_err(refused)?;
            if name.len() > MAX_NAME_BYTES || *name == METADATA {
                return Err(refused(format!("a name has at most {MAX_NAME_BYTES} bytes, and is not {METADATA:?}")));
            }
            if tensor.rank() > MAX_DIMS || index == MAX_TENSORS {
                return Err(refused(format!(
                    "a file has at most {MAX_TENSORS} tensors of at most {MAX_DIMS} dimensions"
                )));
            }
            let start = end;
            end += tensor.n_elems() * tensor.dtype().block_bytes();
            let separator = if index == 0 { "" } else { "," };
            let (name, dims) = (serde_json::Value::from(*name), tensor.dims());
            text += &format!(
                "{separator}{name}:{{\"dtype\":\"{dtype}\",\"shape\":{dims:?},\"data_offsets\":[{start},{end}]}}"
            );
        }
        text.push('}');
        // The data begins at a multiple of eight.
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend(text.into_bytes());
        Ok(TensorFile { header, tensors })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of the writer, and of reading the tensors.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.header)?;
        for (_, tensor) in &self.tensors {
            let mut written = Ok(());
            let mut put = |bytes: &[u8]| {
                if written.is_ok() {
                    written = out.write_all(bytes);
                }
            };
            tensor.read_bytes(&mut put).map_err(io::Error::other)?;
            written?;
        }
        Ok(())
    }
}

fn stored_name(dtype: DType) -> std::result::Result<&'static str, String> {
    match dtype {
        DType::F16 => Ok("F16"),
        DType::F32 => Ok("F32"),
        DType::I32 => Ok("I32"),
        DType::Bool => Ok("BOOL"),
        DType::Block(format) => Err(format!("a {} weight is not saved; convert it first, `w as float16`", format.name)),
    }
}

/// The tensors of a safetensors file with their names, in the order of their data.
///
/// # Errors
/// A file that cannot be read or is no such file, a tensor of a type that tensors do not have, memory that cannot be had.
pub fn load_tensors(device: &Device, path: &Path) -> Result<Vec<(String, Tensor)>> {
    let file = Access::Mapped.open(path)?;
    in_file(path, || parse(file.bytes())?.into_iter().map(|stored| load(device, file.bytes(), stored)).collect())
}

fn load(device: &Device, file: &[u8], stored: StoredTensor) -> Result<(String, Tensor)> {
    let StoredTensor { name, stored_type, dims, data } = stored;
    let refused = |problem: String| ModelError::NotLoaded { name: name.clone(), problem };
    let bytes = file.get(data).unwrap_or_default();
    let dtype = match &stored_type {
        StoredType::Known(TensorType::F16) => DType::F16,
        StoredType::Known(TensorType::F32 | TensorType::BF16) => DType::F32,
        StoredType::Other(other) if other == "I32" => DType::I32,
        StoredType::Other(other) if other == "BOOL" => DType::Bool,
        other => return Err(refused(format!("its type is {other}; F16, BF16, F32, I32 and BOOL can be loaded"))),
    };
    let layout = Layout::new(dtype, dims);
    let expected = layout.len_bytes().map_err(tl_device::Error::from)?;
    if let StoredType::Known(TensorType::BF16) = stored_type {
        // A bfloat16 is the first half of a float32.
        device.check_heap(expected, || format!("`{name}` as {layout}"))?;
        let wide: Vec<u8> = bytes.chunks_exact(2).flat_map(|pair| [0, 0, pair[0], pair[1]]).collect();
        return Ok((name, Tensor::from_bytes(device, &layout, &wide)?));
    }
    if bytes.len() != expected {
        return Err(refused(format!("{layout} takes {expected} bytes, and its data has {}", bytes.len())));
    }
    if dtype == DType::Bool && bytes.iter().any(|byte| *byte > 1) {
        return Err(refused("its data has bytes other than 0 and 1".to_owned()));
    }
    Ok((name, Tensor::from_bytes(device, &layout, bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(tensors: &[(&str, &Tensor)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        TensorFile::new(tensors.iter().copied()).unwrap().write(&mut bytes).unwrap();
        bytes
    }

    fn read(device: &Device, bytes: &[u8]) -> Result<Vec<(String, Tensor)>> {
        parse(bytes)?.into_iter().map(|stored| load(device, bytes, stored)).collect()
    }

    fn bytes_of(tensor: &Tensor) -> Vec<u8> {
        let mut bytes = Vec::new();
        tensor.read_bytes(&mut |part| bytes.extend_from_slice(part)).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let device = Device::cpu();
        let halves = Tensor::from_bytes(&device, &Layout::new(DType::F16, [3]), &[0, 0x3c, 0, 0x80, 1, 0x7e]).unwrap();
        let floats = Tensor::<f32>::from_slice(&device, &[1.5, f32::INFINITY, -2.0, 1e-40, 0.0, 7.0], [2, 3]).unwrap();
        let transposed = floats.transpose(0, 1).unwrap();
        let ints = Tensor::<i32>::from_slice(&device, &[i32::MIN, 7], [1, 2, 1]).unwrap();
        let bools = Tensor::<bool>::from_slice(&device, &[true, false, true], [3]).unwrap();
        let empty = Tensor::<f32>::from_slice(&device, &[], [0, 4]).unwrap();
        let number = Tensor::<f32>::from_slice(&device, &[3.0], []).unwrap();
        let all = [
            ("halves", halves),
            ("bools", bools.into_dyn()),
            ("transposed \"\\ é\n", transposed.into_dyn()),
            ("", ints.into_dyn()),
            ("empty", empty.into_dyn()),
            ("number", number.into_dyn()),
        ];
        let named: Vec<(&str, &Tensor)> = all.iter().map(|(name, tensor)| (*name, tensor)).collect();
        let found = read(&device, &written(&named)).unwrap();
        assert_eq!(found.len(), all.len());
        for (name, tensor) in &all {
            let (_, own) = found.iter().find(|(found, _)| found == name).unwrap();
            assert_eq!((own.layout(), bytes_of(own)), (tensor.layout(), bytes_of(tensor)), "{name}");
        }
        assert_eq!(read(&device, &written(&[])).unwrap().len(), 0);
    }

    #[test]
    fn files_that_lie() {
        let device = Device::cpu();
        let check = |header: &str, data: &[u8], expected: &str| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(data);
            match (read(&device, &bytes), expected) {
                (Ok(_), "") => {}
                (Ok(_), expected) => panic!("{header} was read; expected: {expected}"),
                (Err(error), expected) => {
                    let error = error.to_string();
                    assert!(!expected.is_empty() && error.contains(expected), "{header}: {error}");
                }
            }
        };
        let one = |dtype: &str, shape: &str, end: usize| {
            format!("{{\"a\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}")
        };
        check(&one("BOOL", "[2]", 2), &[0, 1], "");
        check(&one("BF16", "[1]", 2), &[0x80, 0x3f], "");
        check(&one("BOOL", "[2]", 2), &[0, 2], "`a` cannot be loaded: its data has bytes other than 0 and 1");
        check(&one("I32", "[2]", 4), &[0; 4], "int32[2] takes 8 bytes, and its data has 4");
        check(&one("F64", "[1]", 8), &[0; 8], "its type is F64; F16, BF16, F32, I32 and BOOL can be loaded");
        check(&one("F32", "[2]", 8), &[0; 4], "tensor `a`");
        check(&one("I32", "[9223372036854775807,4]", 0), &[], "more elements than can be counted");
        check("{", &[], "the safetensors header");
    }
}
