//! Elements of any type, one at a time, as `f64`: for types and strides that no vectorized kernel serves. An `f64`
//! represents every value of every element type exactly.

use half::f16;
use smallvec::SmallVec;
use tl_device::DType;

use crate::OpError;
use crate::operand::{Operand, OperandOrNumber};

/// Reads single elements of an operand.
#[derive(Clone, Copy)]
pub(crate) enum Reader<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
    I32(&'a [i32]),
    Bool(&'a [u8]),
    /// The same number everywhere.
    Number(f64),
}

impl<'a> Reader<'a> {
    pub(crate) fn new(operand: &Operand<'a>) -> Result<Reader<'a>, OpError> {
        Ok(match operand.dtype {
            DType::F16 => Reader::F16(operand.data()?),
            DType::F32 => Reader::F32(operand.data()?),
            DType::I32 => Reader::I32(operand.data()?),
            DType::Bool => Reader::Bool(operand.bytes),
            found => {
                return Err(OpError::DType {
                    operand: "the operand",
                    expected: "an activation, not a weight format",
                    found,
                });
            }
        })
    }

    /// As [`Reader::new`], or a number for every element.
    pub(crate) fn of(either: &OperandOrNumber<'a>) -> Result<Reader<'a>, OpError> {
        match either {
            OperandOrNumber::Operand(operand) => Reader::new(operand),
            OperandOrNumber::Number(x) => Ok(Reader::Number(*x)),
        }
    }

    /// The element at this distance from the first.
    pub(crate) fn at(&self, offset: usize) -> f64 {
        match self {
            Reader::F16(data) => data[offset].to_f64(),
            Reader::F32(data) => f64::from(data[offset]),
            Reader::I32(data) => f64::from(data[offset]),
            Reader::Bool(data) => f64::from(data[offset]),
            Reader::Number(x) => *x,
        }
    }
}

/// Stores a number as element `index` of a contiguous result: floats are rounded to nearest, integers truncated and
/// saturated, anything but 0 is `true`.
pub(crate) fn write(dtype: DType, out: &mut [u8], index: usize, value: f64) {
    let at = index * dtype.block_bytes();
    let Some(bytes) = out.get_mut(at..at + dtype.block_bytes()) else { return };
    match dtype {
        DType::F16 => bytes.copy_from_slice(&f16::from_f64(value).to_le_bytes()),
        DType::F32 => bytes.copy_from_slice(&(value as f32).to_le_bytes()),
        DType::I32 => bytes.copy_from_slice(&(value as i32).to_le_bytes()),
        DType::Bool => bytes.fill(u8::from(value != 0.0)),
        DType::Block(_) => {}
    }
}

/// Calls `body(i, offsets)` for every index of `dims` in order, with each operand's distance from its first element.
pub(crate) fn for_each_index<const N: usize>(
    dims: &[usize],
    strides: [&[usize]; N],
    mut body: impl FnMut(usize, [usize; N]),
) {
    if dims.contains(&0) {
        return;
    }
    let mut index: SmallVec<[usize; 8]> = SmallVec::from_elem(0, dims.len());
    let mut offsets = [0; N];
    let total = dims.iter().fold(1, |n: usize, &dim| n.saturating_mul(dim));
    for i in 0..total {
        body(i, offsets);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset += strides[axis];
            }
            if index[axis] < dims[axis] {
                break;
            }
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset -= strides[axis] * dims[axis];
            }
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_in_order() {
        let mut seen = Vec::new();
        for_each_index(&[2, 3], [&[3, 1], &[0, 1]], |i, offsets| seen.push((i, offsets)));
        assert_eq!(seen, [(0, [0, 0]), (1, [1, 1]), (2, [2, 2]), (3, [3, 0]), (4, [4, 1]), (5, [5, 2])]);
        for_each_index(&[2, 0], [&[1, 1]], |_, _| panic!("nothing to visit"));
        let mut scalars = 0;
        for_each_index(&[], [&[]], |_, _| scalars += 1);
        assert_eq!(scalars, 1);
    }
}
