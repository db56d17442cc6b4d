//! What products are computed in.

/// What the products of many tokens are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `f32`.
    Float32,
    /// Products of bytes, sums in `i32`.
    Integer,
    /// Products of `bf16`, sums in `f32`.
    Bfloat16,
    /// The same by AMX.
    Tiles {
        /// How many it takes for one multiply-add of a weight and an activation: those of all their `bf16` parts.
        products: usize,
    },
}
