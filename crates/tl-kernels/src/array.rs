//! Slices as arrays of a length that the compiler knows.

/// The array that the slice is. Panics where its length is another.
#[inline(always)]
pub(crate) fn array<T, const N: usize>(slice: &[T]) -> &[T; N] {
    match slice.first_chunk() {
        Some(array) if slice.len() == N => array,
        _ => panic!("{} values instead of {N}", slice.len()),
    }
}

/// As [`array`], to be written.
#[inline(always)]
pub(crate) fn array_mut<T, const N: usize>(slice: &mut [T]) -> &mut [T; N] {
    let len = slice.len();
    match slice.first_chunk_mut() {
        Some(array) if len == N => array,
        _ => panic!("{len} values instead of {N}"),
    }
}
