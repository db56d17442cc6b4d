//! Rows of a weight as they are read: one after the other, or several runs of them side by side.

use super::prefetch::Prefetch;

/// Rows of whole blocks, in one or more *streams*: runs of rows that lie one after the other, each somewhere else in memory.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The bytes from the first stream's first row on.
    pub bytes: &'a [u8],
    /// Bytes of a row.
    pub length: usize,
    /// How they are read, and so how many streams there are.
    pub prefetch: Prefetch,
    /// Rows from a stream's first one to that of the next stream.
    pub stream_stride: usize,
}

impl<'a> Rows<'a> {
    /// The bytes of row `index` of a stream.
    #[inline(always)]
    pub(crate) fn row(&self, stream: usize, index: usize) -> &'a [u8] {
        &self.row_and_rest(stream, index)[..self.length]
    }

    /// The bytes of that row and all that follow it.
    #[inline(always)]
    pub(crate) fn row_and_rest(&self, stream: usize, index: usize) -> &'a [u8] {
        &self.bytes[(stream * self.stream_stride + index) * self.length..]
    }

    /// The rows of one stream after those of the other, each with its place in `out`.
    #[inline(always)]
    pub(crate) fn with_sums<'o>(self, out: &'o mut [f32]) -> impl Iterator<Item = (&'a [u8], &'o mut f32)> {
        let n_rows = out.len() / self.prefetch.n_streams();
        out.iter_mut().enumerate().map(move |(j, out)| (self.row(j / n_rows, j % n_rows), out))
    }
}
