//! Matrix products from tiles in a workgroup's memory.

/// Rows, and columns, of a square of the result.
pub(crate) const TILE: usize = 64;
/// Invocations that compute a square, each eight rows and four columns of it.
pub(crate) const TILE_LANES: u32 = 128;

/// The tiles of both sides: 64 rows of 32 elements, as vectors of four. Vectors are swizzled so that neighbouring
/// invocations, four rows apart, read from different banks.
pub(crate) const TILE_MEMORY: &str = "
var<workgroup> left: array<vec4<f32>, 512>;
var<workgroup> right: array<vec4<f32>, 512>;
fn place(row: u32, quarter: u32) -> u32 { return row * 8u + (quarter ^ ((row >> 2u) & 7u)); }";

/// The sums of an invocation, `s0 .. s7`: eight rows of four columns, and their position in the square.
pub(crate) const TILE_SUMS: &str = "let rows = (lane >> 4u) * 8u;
    let columns = (lane & 15u) * 4u;
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    var s4 = vec4<f32>(); var s5 = vec4<f32>(); var s6 = vec4<f32>(); var s7 = vec4<f32>();";

/// A statement for each of the eight rows of an invocation, unrolled so that the sums stay in registers.
pub(crate) fn eight_rows(statement: impl Fn(usize) -> String) -> String {
    (0..8).map(|r| statement(r) + "\n    ").collect()
}

/// Adds the products of the tiles to the sums.
pub(crate) fn tile_products() -> String {
    let columns: String = (0..4).map(|c| format!("let b{c} = right[place(columns + {c}u, q)];\n    ")).collect();
    let rows = eight_rows(|r| {
        format!(
            "{{ let a = left[place(rows + {r}u, q)]; s{r} += vec4<f32>(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3)); }}"
        )
    });
    format!("for (var q = 0u; q < 8u; q++) {{\n    {columns}{rows}}}")
}
