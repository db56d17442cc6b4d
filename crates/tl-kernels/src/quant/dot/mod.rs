//! Dot products of rows of a weight with the activations of one token.
//!
//! [`stretch`] multiplies what [`Stretch`] holds, for any format, with any instructions. `pairs` (AVX2) and `avx512` have what the
//! formats' own dot products are made of: a format brings its few instructions as closures and nothing else. `avx2` has the
//! floats, and loads for both.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pairs;

#[cfg(target_arch = "x86_64")]
use super::Rows;
use super::activations::{BLOCK, RowStretch};
use super::block::{BlockFormat, Stretch};

/// How far ahead of the bytes at hand memory is asked for. Not a number of pages: a line that lies pages behind the one at hand
/// competes with it.
#[cfg(target_arch = "x86_64")]
const AHEAD_BYTES: usize = 6144;
/// The same for the first cache.
#[cfg(target_arch = "x86_64")]
const NEAR_BYTES: usize = 3072;
/// A line of the caches.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Sums of a row of floats, a register each.
#[cfg(target_arch = "x86_64")]
const FLOAT_SUMS: usize = 4;

/// Pieces of a row that are walked over as one group. For most formats a group is a whole number of lines, so that which lines
/// begin in which part of it is known beforehand.
#[cfg(target_arch = "x86_64")]
const GROUP: usize = 4;

/// Which piece of its [`GROUP`] one is.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Place(pub(crate) usize);

#[cfg(target_arch = "x86_64")]
impl Place {
    /// Asks for memory [`AHEAD_BYTES`] behind what is at hand, `at`: part `part` of `n_parts` of as many lines as it has. Each
    /// line is asked for once, and they come one by one between the products. Both matter: the same all at once are
    /// served slower by a sixth, and with a tenth of them asked for twice a tenth is lost. So the numbers are constants
    /// where this is inlined, and each request is written out, since the compiler would gather them. The lines go to the second
    /// cache, which waits for three times as many at once as the first. A hint: it reads nothing, wherever it points.
    #[inline(always)]
    pub(crate) fn ask_ahead<T>(self, at: &T, part: usize, n_parts: usize) {
        for line in self.lines(at, part, n_parts) {
            let line = line.wrapping_add(AHEAD_BYTES);
            // SAFETY: the instruction has no effect but on the caches.
            unsafe { std::arch::asm!("prefetcht1 [{}]", in(reg) line, options(nostack, readonly, preserves_flags)) };
        }
    }

    /// As [`Place::ask_ahead`], [`NEAR_BYTES`] ahead and into the first cache: for products of so few instructions that Intel's CPUs have
    /// the loads of a whole page in view, and would come to a line before they had asked for it. AMD's are slower by it.
    #[inline(always)]
    pub(crate) fn ask_near<T>(self, at: &T, part: usize, n_parts: usize) {
        for line in self.lines(at, part, n_parts) {
            let line = line.wrapping_add(NEAR_BYTES);
            // SAFETY: the instruction has no effect but on the caches.
            unsafe { std::arch::asm!("prefetcht0 [{}]", in(reg) line, options(nostack, readonly, preserves_flags)) };
        }
    }

    /// A byte of each line that begins in the part.
    #[inline(always)]
    fn lines<T>(self, at: &T, part: usize, n_parts: usize) -> impl Iterator<Item = *const u8> {
        let before = self.0 * size_of::<T>();
        let line = |part: usize| (before + part * size_of::<T>() / n_parts + LINE_BYTES / 2) / LINE_BYTES;
        let group = std::ptr::from_ref(at).cast::<u8>().wrapping_sub(before);
        (line(part)..line(part + 1)).map(move |line| group.wrapping_add(line * LINE_BYTES))
    }
}

/// Asks for the line that begins between what a group has asked for and what the next one will, where there is one: groups of no
/// whole number of lines would leave it out, and a CPU whose own prefetching follows their requests stops at it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ask_between<T>(group: &T) {
    let (first, beyond) = (std::ptr::from_ref(group).cast::<u8>(), size_of::<T>() % LINE_BYTES);
    if beyond != 0 && first.addr() % LINE_BYTES >= LINE_BYTES - beyond {
        let line = first.wrapping_add(size_of::<T>() - beyond + AHEAD_BYTES);
        // SAFETY: the instruction has no effect but on the caches.
        unsafe { std::arch::asm!("prefetcht1 [{}]", in(reg) line, options(nostack, readonly, preserves_flags)) };
    }
}

/// Adds all whole pieces of a row to sums: `add` adds one, which lies at the given place of its group, with what is prepared for it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn walk<const BYTES: usize, P, S>(
    pieces: &[[u8; BYTES]],
    prepared: &[P],
    mut sums: S,
    add: &impl Fn(S, &[u8; BYTES], &P, Place) -> S,
) -> S {
    let (groups, last) = pieces.as_chunks::<GROUP>();
    let (prepared_groups, prepared_last) = prepared.as_chunks::<GROUP>();
    for (group, [x, y, z, w]) in groups.iter().zip(prepared_groups) {
        let [a, b, c, d] = group;
        sums = add(sums, a, x, Place(0));
        sums = add(sums, b, y, Place(1));
        sums = add(sums, c, z, Place(2));
        sums = add(sums, d, w, Place(3));
        ask_between(group);
    }
    for (place, (piece, prepared)) in last.iter().zip(prepared_last).enumerate() {
        sums = match place {
            0 => add(sums, piece, prepared, Place(0)),
            1 => add(sums, piece, prepared, Place(1)),
            _ => add(sums, piece, prepared, Place(2)),
        };
    }
    sums
}

/// The products of a row of floats with `x`, in sums that do not wait for each other: `add` adds those of a register, whose
/// elements lie in `BYTES` bytes. A row is a whole number of them. `NEAR`: memory is asked for into the first cache.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn walk_floats<const NEAR: bool, const BYTES: usize, const LANES: usize, X, S: Copy>(
    row: &[u8],
    x: &[X],
    zero: S,
    add: &impl Fn(S, &[u8; BYTES], &[X; LANES]) -> S,
) -> [S; FLOAT_SUMS] {
    let (groups, rest) = row.as_chunks::<BYTES>().0.as_chunks::<FLOAT_SUMS>();
    let (x_groups, x_rest) = x.as_chunks::<LANES>().0.as_chunks::<FLOAT_SUMS>();
    let mut sums = [zero; FLOAT_SUMS];
    for (group, x) in groups.iter().zip(x_groups) {
        for (i, (sum, (elements, x))) in sums.iter_mut().zip(group.iter().zip(x)).enumerate() {
            match NEAR {
                true => Place(0).ask_near(group, i, FLOAT_SUMS),
                false => Place(0).ask_ahead(group, i, FLOAT_SUMS),
            }
            *sum = add(*sum, elements, x);
        }
    }
    for (sum, (elements, x)) in sums.iter_mut().zip(rest.iter().zip(x_rest)) {
        *sum = add(*sum, elements, x);
    }
    sums
}

/// The dot product of a stretch of a row with a stretch of activations.
#[inline(always)]
pub(crate) fn stretch<F: BlockFormat>(w: &Stretch, x: &RowStretch) -> f32 {
    let groups = w.values.chunks_exact(F::GROUP).zip(x.values.chunks_exact(F::GROUP));
    let mut total = 0.0;
    for (g, (w_values, x_values)) in groups.enumerate() {
        let products =
            w_values.iter().zip(x_values).map(|(&w, &x)| (i32::from(w) - i32::from(F::OFFSET)) * i32::from(x));
        total += w.scales[g] * x.scales[g * F::GROUP / BLOCK] * products.sum::<i32>() as f32;
    }
    // A minimum stands for 32 elements, as a total does.
    let minima = || w.minima.iter().zip(&x.totals).map(|(minimum, total)| minimum * total).sum::<f32>();
    if F::HAS_MINIMA { total + minima() } else { total }
}
