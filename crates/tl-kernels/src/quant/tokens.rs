//! Activations of several tokens as `f32`.

/// The activations of some tokens, one token after the other.
#[derive(Clone, Copy)]
pub(crate) struct FloatTokens<'a> {
    values: &'a [f32],
    /// Elements of a token.
    k: usize,
    /// Elements from a token to the next.
    stride: usize,
}

impl<'a> FloatTokens<'a> {
    /// Tokens of `k` elements, not none, `stride` apart.
    pub(crate) fn new(values: &'a [f32], k: usize, stride: usize) -> FloatTokens<'a> {
        FloatTokens { values, k, stride }
    }

    /// How many there are.
    pub(crate) fn count(self) -> usize {
        (self.values.len() + self.stride - self.k) / self.stride
    }

    /// One of them.
    pub(crate) fn token(self, t: usize) -> &'a [f32] {
        &self.values[t * self.stride..][..self.k]
    }

    /// `T` of them, from `first` on.
    pub(crate) fn some<const T: usize>(self, first: usize) -> [&'a [f32]; T] {
        std::array::from_fn(|t| self.token(first + t))
    }
}
