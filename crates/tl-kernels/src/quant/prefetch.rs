//! How a weight is prefetched when a few tokens are multiplied by it.

/// Rows that [`Prefetch::Interleaved`] multiplies side by side.
pub(crate) const STREAMS: usize = 8;

/// The ways of prefetching a weight.
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

    /// How many places of the weight are read at once.
    pub fn n_streams(self) -> usize {
        match self {
            Prefetch::Sequential | Prefetch::NonTemporal => 1,
            Prefetch::Interleaved => STREAMS,
        }
    }
}
