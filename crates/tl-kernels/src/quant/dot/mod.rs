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

/// How far ahead of the bytes at hand memory is asked for, where one row comes after the other. Not a number of pages: a line that lies
/// pages behind the one at hand competes with it.
#[cfg(target_arch = "x86_64")]
const AHEAD_BYTES: usize = 6144;
/// The same for rows side by side, each of which goes on more slowly.
#[cfg(target_arch = "x86_64")]
const AHEAD_BESIDE_BYTES: usize = 1600;
/// A line of the caches.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Pieces of a row that are walked over as one group. For most formats a group is a whole number of lines, so that which lines
/// begin in which part of it is known beforehand.
#[cfg(target_arch = "x86_64")]
const GROUP: usize = 4;

/// Which piece of its [`GROUP`] one is, and whether its row is walked beside others.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Place {
    piece: usize,
    beside: bool,
}

#[cfg(target_arch = "x86_64")]
impl Place {
    /// Piece `piece` of a group, in one of `n_streams` rows.
    #[inline(always)]
    pub(crate) fn new(piece: usize, n_streams: usize) -> Place {
        Place { piece, beside: n_streams > 1 }
    }

    /// Asks for memory some way behind what is at hand, `at`: part `part` of `n_parts` of as many lines as it has. Each
    /// line is asked for once, and they come one by one between the products. Both matter: the same all at once are
    /// served slower by a sixth, and with a tenth of them asked for twice a tenth is lost. So the numbers are constants
    /// where this is inlined, and each request is written out, since the compiler would gather them.
    #[inline(always)]
    pub(crate) fn ask_ahead<T>(self, at: &T, part: usize, n_parts: usize) {
        let before = self.piece * size_of::<T>();
        let line = |part: usize| (before + part * size_of::<T>() / n_parts + LINE_BYTES / 2) / LINE_BYTES;
        let group = std::ptr::from_ref(at).cast::<u8>().wrapping_sub(before);
        for line in line(part)..line(part + 1) {
            self.ask(group.wrapping_add(line * LINE_BYTES));
        }
    }

    /// Asks for the line that begins between what a group has asked for and what the next one will, where there is one: groups of no
    /// whole number of lines would leave it out, and a CPU whose own prefetching follows their requests stops at it. `last`:
    /// the last piece of the group.
    #[inline(always)]
    fn ask_between<T>(self, last: &T) {
        let (group, beyond) = (GROUP * size_of::<T>(), GROUP * size_of::<T>() % LINE_BYTES);
        let first = std::ptr::from_ref(last).cast::<u8>().wrapping_sub(group - size_of::<T>());
        if beyond != 0 && first.addr() % LINE_BYTES >= LINE_BYTES - beyond {
            self.ask(first.wrapping_add(group - beyond));
        }
    }

    /// Asks for the line that many bytes behind `at`. Of one row after the other the lines go to the second cache, which waits for three
    /// times as many at once as the first; of rows side by side to the first. A hint: it reads nothing, wherever it points.
    #[inline(always)]
    fn ask(self, at: *const u8) {
        let (far, near) = (at.wrapping_add(AHEAD_BYTES), at.wrapping_add(AHEAD_BESIDE_BYTES));
        // SAFETY: the instructions have no effect but on the caches.
        unsafe {
            match self.beside {
                true => std::arch::asm!("prefetcht0 [{}]", in(reg) near, options(nostack, readonly, preserves_flags)),
                false => std::arch::asm!("prefetcht1 [{}]", in(reg) far, options(nostack, readonly, preserves_flags)),
            }
        }
    }
}

/// Adds all whole pieces of `S` rows to their sums: `add` adds one, which lies at the given place of its group, with what is prepared
/// for it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn walk<'r, const S: usize, const BYTES: usize, P, T: Copy>(
    rows: [&'r [[u8; BYTES]]; S],
    prepared: &[P],
    mut sums: [T; S],
    add: &impl Fn(T, &[u8; BYTES], &P, Place) -> T,
) -> [T; S] {
    let n_pieces = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == n_pieces), "rows of one length");
    // SAFETY: `index` is below `n_pieces`: it counts pieces of the groups, which are made of as many.
    let piece = |row: &&'r [[u8; BYTES]], index: usize| -> &'r [u8; BYTES] { unsafe { row.get_unchecked(index) } };
    let (groups, last) = prepared[..n_pieces].as_chunks::<GROUP>();
    for (g, [x, y, z, w]) in groups.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum = add(*sum, piece(row, GROUP * g), x, Place::new(0, S));
        }
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum = add(*sum, piece(row, GROUP * g + 1), y, Place::new(1, S));
        }
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum = add(*sum, piece(row, GROUP * g + 2), z, Place::new(2, S));
        }
        for (sum, row) in sums.iter_mut().zip(&rows) {
            let last = piece(row, GROUP * g + 3);
            *sum = add(*sum, last, w, Place::new(3, S));
            Place::new(3, S).ask_between(last);
        }
    }
    let first = groups.len() * GROUP;
    for (place, prepared) in last.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(&rows) {
            let bytes = &row[first + place];
            *sum = match place {
                0 => add(*sum, bytes, prepared, Place::new(0, S)),
                1 => add(*sum, bytes, prepared, Place::new(1, S)),
                _ => add(*sum, bytes, prepared, Place::new(2, S)),
            };
        }
    }
    sums
}

/// The products of `S` rows of floats with `x`: `add` adds those of a register, whose elements lie in `BYTES` bytes. A row is a whole
/// number of them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn walk_floats<const S: usize, const BYTES: usize, const LANES: usize, X, T: Copy>(
    rows: [&[u8]; S],
    x: &[X],
    zero: T,
    add: &impl Fn(T, &[u8; BYTES], &[X; LANES]) -> T,
) -> [[T; GROUP]; S] {
    let mut pieces = [&[[0u8; BYTES]; 0][..]; S];
    for (pieces, row) in pieces.iter_mut().zip(&rows) {
        *pieces = row.as_chunks::<BYTES>().0;
    }
    let (groups, last) = x.as_chunks::<LANES>().0.as_chunks::<GROUP>();
    // Sums that do not wait for each other.
    let mut sums = [[zero; GROUP]; S];
    for (g, x) in groups.iter().enumerate() {
        for (sums, pieces) in sums.iter_mut().zip(&pieces) {
            let group = &pieces[GROUP * g..][..GROUP];
            for i in 0..GROUP {
                Place::new(i, S).ask_ahead(&group[i], 0, 1);
                sums[i] = add(sums[i], &group[i], &x[i]);
            }
        }
    }
    for (i, x) in last.iter().enumerate() {
        for (sums, pieces) in sums.iter_mut().zip(&pieces) {
            sums[i] = add(sums[i], &pieces[groups.len() * GROUP + i], x);
        }
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
