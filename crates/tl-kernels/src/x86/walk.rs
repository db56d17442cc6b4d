//! How the rows of a weight are walked over, and what is prefetched meanwhile.

use crate::element::FloatSlice;
use crate::quant::prefetch::Prefetch;
use crate::quant::rows::Rows;

/// How far ahead memory is prefetched where rows are read one after the other. Not a multiple of the page size: lines a whole number
/// of pages apart compete for the same cache sets.
const AHEAD_BYTES: usize = 6144;
/// The same for interleaved rows, each of which advances more slowly.
const AHEAD_BESIDE_BYTES: usize = 1600;
/// A line of the caches.
const LINE_BYTES: usize = 64;

/// Registers of floats that are walked over as one group.
pub(crate) const GROUP: usize = 4;

/// How many pieces of so many bytes are walked over as one group: two or four, a whole number of lines for most formats, so that which
/// lines begin in which part of it is known beforehand. Where two are enough, fewer are left over at the end of a row.
const fn group_of(piece_bytes: usize) -> usize {
    if (2 * piece_bytes).is_multiple_of(LINE_BYTES) { 2 } else { 4 }
}

/// The number of a piece in its group, and how its row is prefetched. Two fields, which are passed in registers and are constants when
/// the compiler decides what to inline: a struct of three would go through memory.
#[derive(Clone, Copy)]
pub(crate) struct PrefetchPosition {
    piece: usize,
    prefetch: Option<Prefetch>,
}

impl PrefetchPosition {
    /// Piece `piece` of a group, in one of `S` rows; `NON_TEMPORAL`: of a row that bypasses the second cache.
    #[inline(always)]
    pub(crate) fn new<const S: usize, const NON_TEMPORAL: bool>(piece: usize) -> PrefetchPosition {
        let prefetch = match (S, NON_TEMPORAL) {
            (1, false) => Prefetch::Sequential,
            (1, true) => Prefetch::NonTemporal,
            _ => Prefetch::Interleaved,
        };
        PrefetchPosition { piece, prefetch: Some(prefetch) }
    }

    /// Nothing is prefetched.
    pub(crate) const NONE: PrefetchPosition = PrefetchPosition { piece: 0, prefetch: None };

    /// A piece that is a line of its own.
    pub(crate) fn of_line(prefetch: Prefetch) -> PrefetchPosition {
        PrefetchPosition { piece: 0, prefetch: Some(prefetch) }
    }

    /// Prefetches memory some way behind `at`: part `part` of `n_parts` of as many lines as `at` has. Each line is requested
    /// once, and the requests are spread between the products. Both matter: requesting all at once is slower by a sixth, and
    /// requesting a tenth of them twice loses a tenth. So the numbers are constants where this is inlined, and each request
    /// is an instruction of its own, since the compiler would gather them.
    #[inline(always)]
    pub(crate) fn prefetch<T>(self, at: &T, part: usize, n_parts: usize) {
        let before = self.piece * size_of::<T>();
        let line = |part: usize| (before + part * size_of::<T>() / n_parts + LINE_BYTES / 2) / LINE_BYTES;
        let group = std::ptr::from_ref(at).cast::<u8>().wrapping_sub(before);
        for line in line(part)..line(part + 1) {
            self.prefetch_line(group.wrapping_add(line * LINE_BYTES));
        }
    }

    /// Prefetches the line that begins between the requests of a group and those of the next, if there is one: groups of no whole
    /// number of lines would leave it out, and hardware prefetching that follows the requests stops at the gap. `last`: the last
    /// piece of the group.
    #[inline(always)]
    fn prefetch_between_groups<T>(self, last: &T) {
        let group = group_of(size_of::<T>()) * size_of::<T>();
        let beyond = group % LINE_BYTES;
        let first = std::ptr::from_ref(last).cast::<u8>().wrapping_sub(group - size_of::<T>());
        if beyond != 0 && first.addr() % LINE_BYTES >= LINE_BYTES - beyond {
            self.prefetch_line(first.wrapping_add(group - beyond));
        }
    }

    /// Prefetches the line some way behind `at`. Of sequential rows the lines go to the second cache, which has three times as many
    /// outstanding requests as the first, or past it; of interleaved rows to the first. A hint: it reads nothing, wherever it points.
    #[inline(always)]
    fn prefetch_line(self, at: *const u8) {
        let (far, near) = (at.wrapping_add(AHEAD_BYTES), at.wrapping_add(AHEAD_BESIDE_BYTES));
        // SAFETY: the instructions have no effect but on the caches.
        unsafe {
            match self.prefetch {
                Some(Prefetch::Interleaved) => {
                    std::arch::asm!("prefetcht0 [{}]", in(reg) near, options(nostack, readonly, preserves_flags));
                }
                Some(Prefetch::Sequential) => {
                    std::arch::asm!("prefetcht1 [{}]", in(reg) far, options(nostack, readonly, preserves_flags));
                }
                Some(Prefetch::NonTemporal) => {
                    std::arch::asm!("prefetchnta [{}]", in(reg) far, options(nostack, readonly, preserves_flags));
                }
                None => (),
            }
        }
    }
}

/// How many floats a slice has.
#[inline(always)]
pub(crate) fn n_floats(x: FloatSlice<'_>) -> usize {
    match x {
        FloatSlice::F32(values) => values.len(),
        FloatSlice::F16(values) => values.len(),
        FloatSlice::Bf16(values) => values.len(),
    }
}

/// The first `length` bytes of row `index` of each of `S` streams.
#[inline(always)]
pub(crate) fn side_by_side<'a, const S: usize>(rows: &Rows<'a>, index: usize, length: usize) -> [&'a [u8]; S] {
    let mut side_by_side = [&rows.bytes[..0]; S];
    for (stream, row) in side_by_side.iter_mut().enumerate() {
        *row = &rows.row_and_rest(stream, index)[..length];
    }
    side_by_side
}

/// Adds all whole pieces of `S` rows to their sums: `unpack` makes of one, which lies at the given place of its group, what adds its
/// products with the activations for it.
#[inline(always)]
pub(crate) fn walk<const S: usize, const NON_TEMPORAL: bool, const BYTES: usize, P, T: Copy, G: Fn(T, &P) -> T>(
    rows: [&[[u8; BYTES]]; S],
    x: &[P],
    sums: [T; S],
    unpack: &impl Fn(&[u8; BYTES], PrefetchPosition) -> G,
) -> [T; S] {
    match const { group_of(BYTES) } {
        2 => walk_groups::<2, S, NON_TEMPORAL, _, _, _, _>(rows, x, sums, unpack),
        _ => walk_groups::<4, S, NON_TEMPORAL, _, _, _, _>(rows, x, sums, unpack),
    }
}

/// The same in groups of `G` pieces, two or four.
#[inline(always)]
fn walk_groups<
    'r,
    const G: usize,
    const S: usize,
    const NON_TEMPORAL: bool,
    const BYTES: usize,
    P,
    T: Copy,
    Add: Fn(T, &P) -> T,
>(
    rows: [&'r [[u8; BYTES]]; S],
    x: &[P],
    mut sums: [T; S],
    unpack: &impl Fn(&[u8; BYTES], PrefetchPosition) -> Add,
) -> [T; S] {
    const { assert!(G == 2 || G == 4) };
    let n_pieces = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == n_pieces), "rows of one length");
    // SAFETY: `index` is below `n_pieces`: there are as many pieces in the groups and behind them.
    let piece = |row: &&'r [[u8; BYTES]], index: usize| -> &'r [u8; BYTES] { unsafe { row.get_unchecked(index) } };
    // Each place is written out: in a loop over them it would be no constant.
    macro_rules! add_pieces {
        ($index:expr, $position:literal, $x:expr) => {
            for (sum, row) in sums.iter_mut().zip(&rows) {
                let position = PrefetchPosition::new::<S, NON_TEMPORAL>($position);
                *sum = unpack(piece(row, $index), position)(*sum, $x);
            }
        };
    }
    let (groups, last) = x[..n_pieces].as_chunks::<G>();
    for (g, group) in groups.iter().enumerate() {
        add_pieces!(G * g, 0, &group[0]);
        add_pieces!(G * g + 1, 1, &group[1]);
        if G == 4 {
            add_pieces!(G * g + 2, 2, &group[2]);
            add_pieces!(G * g + 3, 3, &group[3]);
        }
        for row in &rows {
            PrefetchPosition::new::<S, NON_TEMPORAL>(G - 1).prefetch_between_groups(piece(row, G * g + G - 1));
        }
    }
    let first = groups.len() * G;
    if let [x, ..] = last {
        add_pieces!(first, 0, x);
    }
    if let [_, y, ..] = last {
        add_pieces!(first + 1, 1, y);
    }
    if let [_, _, z, ..] = last {
        add_pieces!(first + 2, 2, z);
    }
    sums
}

/// The products of `S` rows of floats with `x`: `add` adds those of a register, whose elements lie in `BYTES` bytes. A row is a whole
/// number of them.
#[inline(always)]
pub(crate) fn walk_floats<
    const S: usize,
    const NON_TEMPORAL: bool,
    const BYTES: usize,
    const LANES: usize,
    X,
    T: Copy,
>(
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
                PrefetchPosition::new::<S, NON_TEMPORAL>(i).prefetch(&group[i], 0, 1);
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
