//! How a weight is read from memory when a few tokens are multiplied by it.

/// Rows that are multiplied side by side, where they are.
pub(crate) const STREAMS: usize = 8;

/// The ways of reading a weight. In all of them memory is asked for ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// Row after row, into the second cache.
    Sequential,
    /// Eight rows side by side, each from another eighth of the weight.
    Interleaved,
    /// Row after row, past the second cache: with AVX-512 alone.
    NonTemporal,
}

impl Prefetch {
    /// All of them.
    pub const ALL: [Prefetch; 3] = [Prefetch::Sequential, Prefetch::Interleaved, Prefetch::NonTemporal];

    /// In how many places at once the weight is read.
    pub fn n_streams(self) -> usize {
        match self {
            Prefetch::Sequential | Prefetch::NonTemporal => 1,
            Prefetch::Interleaved => STREAMS,
        }
    }
}
