//! Offsets of elements, for programs that step through operands at any strides.

use smallvec::SmallVec;

/// The most dimensions that a program steps through.
pub(crate) const MAX_RANK: usize = 4;

/// Dimensions and strides of several operands of one shape, with neighbouring dimensions merged where they are
/// contiguous in all operands, padded with 1 at the front. `None` where more than [`MAX_RANK`] remain.
pub(crate) fn collapse<const N: usize>(
    dims: &[usize],
    strides: [&[usize]; N],
) -> Option<([u32; MAX_RANK], [[u32; MAX_RANK]; N])> {
    let mut merged: SmallVec<[(usize, [usize; N]); 8]> = SmallVec::new();
    for (axis, &dim) in dims.iter().enumerate() {
        if dim == 1 {
            continue;
        }
        let own: [usize; N] = std::array::from_fn(|operand| strides[operand][axis]);
        match merged.last_mut() {
            Some((last, outer)) if (0..N).all(|operand| outer[operand] == own[operand] * dim) => {
                *last *= dim;
                *outer = own;
            }
            _ => merged.push((dim, own)),
        }
    }
    if merged.len() > MAX_RANK {
        return None;
    }
    let first = MAX_RANK - merged.len();
    let mut all = ([1; MAX_RANK], [[0; MAX_RANK]; N]);
    for (i, (dim, strides)) in merged.iter().enumerate() {
        all.0[first + i] = u32::try_from(*dim).ok()?;
        for (operand, &stride) in strides.iter().enumerate() {
            all.1[operand][first + i] = u32::try_from(stride).ok()?;
        }
    }
    Some(all)
}

/// `index(i, dims, strides)`: the offset of element `i` of a tensor with these dimensions.
pub(crate) const INDEX: &str = "
fn index(i: u32, dims: vec4<u32>, strides: vec4<u32>) -> u32 {
    let a = i / dims.w;
    let b = a / dims.z;
    let c = b / dims.y;
    return (i - a * dims.w) * strides.w + (a - b * dims.z) * strides.z + (b - c * dims.y) * strides.y + c * strides.x;
}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_dimensions_become_one() {
        let check = |dims: &[usize], a: &[usize], b: &[usize], expected: Option<([u32; 4], [[u32; 4]; 2])>| {
            assert_eq!(collapse(dims, [a, b]), expected, "{dims:?} {a:?} {b:?}");
        };
        check(&[2, 3, 4], &[12, 4, 1], &[12, 4, 1], Some(([1, 1, 1, 24], [[0, 0, 0, 1]; 2])));
        check(&[2, 3, 4], &[12, 4, 1], &[0, 0, 1], Some(([1, 1, 6, 4], [[0, 0, 4, 1], [0, 0, 0, 1]])));
        check(&[2, 1, 4], &[4, 9, 1], &[1, 7, 2], Some(([1, 1, 2, 4], [[0, 0, 4, 1], [0, 0, 1, 2]])));
        check(&[], &[], &[], Some(([1; 4], [[0; 4]; 2])));
        check(&[2, 2, 2, 2, 2], &[1, 2, 4, 8, 16], &[0; 5], None);
    }
}
