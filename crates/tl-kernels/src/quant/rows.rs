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

    /// All rows, `n_rows` in all streams, those of one stream after those of the other.
    #[inline(always)]
    pub(crate) fn all(self, n_rows: usize) -> impl Iterator<Item = &'a [u8]> {
        let of_stream = (n_rows / self.prefetch.n_streams()).max(1);
        (0..n_rows).map(move |j| self.row(j / of_stream, j % of_stream))
    }
}
