//! Arrays on the stack of which only the used part is initialized.
#![allow(unsafe_code)]

use bytemuck::Zeroable;
use std::mem::MaybeUninit;

/// A value that begins with a line of the cache: see [`Scratch`].
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Aligned<T>(pub(crate) T);

/// Room for up to `N` values, uninitialized. It is aligned to a cache line, so that no load or store of a register straddles two.
#[repr(C, align(64))]
pub(crate) struct Scratch<T, const N: usize>([MaybeUninit<T>; N]);

impl<T: Copy + Zeroable, const N: usize> Scratch<T, N> {
    /// The first `len` values, zeros now. Panics where there is no room for them.
    #[inline(always)]
    pub(crate) fn zeroed(&mut self, len: usize) -> &mut [T] {
        self.filled(len, |_| T::zeroed())
    }
}

impl<T: Copy, const N: usize> Scratch<T, N> {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Scratch([const { MaybeUninit::uninit() }; N])
    }

    /// The first `len` values; the one at `index` is `value(index)`. Panics where there is no room for them.
    #[inline(always)]
    pub(crate) fn filled(&mut self, len: usize, value: impl Fn(usize) -> T) -> &mut [T] {
        let part = &mut self.0[..len];
        for (index, place) in part.iter_mut().enumerate() {
            place.write(value(index));
        }
        // SAFETY: every value of the part has just been written, and the slice borrows the room exclusively.
        unsafe { std::slice::from_raw_parts_mut(part.as_mut_ptr().cast(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_written() {
        let mut scratch = Scratch::<f32, 100>::new();
        for len in [0, 1, 7, 100] {
            assert_eq!(scratch.zeroed(len), vec![0.0; len]);
            scratch.zeroed(len).fill(1.0);
            assert!(scratch.filled(len, |index| index as f32).iter().copied().eq((0..len).map(|index| index as f32)));
        }
    }
}
