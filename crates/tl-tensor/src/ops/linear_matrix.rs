//! `x · wᵀ + b` of many tokens with the matrix instructions of a GPU (cooperative matrices): tiles of `float16`, sums
//! in `float32`.
//!
//! A workgroup has four subgroups and computes 128 tokens of 64 rows; each subgroup 64 tokens of 32 rows. Where a
//! device runs smaller subgroups than its largest there are more than four, and several compute the same, because
//! matrix instructions must be in uniform control flow.

use std::fmt::Write as _;

use half::f16;
use tl_device::{DType, Device, ShaderTarget};

use crate::gpu::Wgsl;
use crate::quant::wgsl::WeightLoads;
use crate::tensor::Tensor;
use crate::{Error, Random};

/// Tokens of a workgroup.
pub(super) const TOKENS: usize = 128;
/// Rows of the weight of a workgroup.
pub(super) const ROWS: usize = 64;
/// The fewest tokens for which the larger tiles pay.
const MIN_TOKENS: usize = 32;
/// Elements from one row of a tile to the next: 32, and padding so that rows begin in different banks.
const STRIDE: usize = 40;
/// Bytes of shared memory: two tiles of `float16`, and four squares of sums.
const SHARED_BYTES: usize = (TOKENS + ROWS) * STRIDE * 2 + 4 * 16 * 16 * 4;

/// Whether the matrix instructions of the first device agree with the programs of the second, which has none. The
/// product covers every part of a tile, more than one tile, and a bias.
pub(super) fn agree(with: &Device, without: &Device) -> bool {
    let (m, k, n) = (TOKENS + 2, 96, 2 * ROWS + 4);
    let product = |device: &Device| -> Result<Vec<f16>, Error> {
        let mut random = Random::new(1);
        let mut tensor = |dims: &[usize]| {
            let values: Vec<f16> =
                (0..dims.iter().product()).map(|_| f16::from_f32(random.uniform() * 2.0 - 1.0)).collect();
            Tensor::from_vec(device, values, dims)
        };
        let (x, w, bias) = (tensor(&[m, k])?, tensor(&[n, k])?, tensor(&[n])?);
        x.linear_with_bias(&w, &bias)?.to_vec()
    };
    let (Ok(found), Ok(expected)) = (product(with), product(without)) else { return false };
    // Sums of 96 products of numbers up to 1, rounded to `float16`.
    found.len() == m * n
        && expected.len() == m * n
        && found.iter().zip(&expected).all(|(found, expected)| (found.to_f32() - expected.to_f32()).abs() < 0.05)
}

/// The matrix instructions that a product uses.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Matrix {
    /// Rows and columns of a matrix: 16 or 8.
    pub(super) size: usize,
    /// Invocations of a workgroup: four of the largest subgroups.
    lanes: usize,
}

impl Matrix {
    /// The instructions for a product of `m` tokens; `None`: no instructions. Activations and weights of `float32`
    /// would be rounded, so they use none.
    pub(super) fn new(target: &ShaderTarget, m: usize, x: DType, w: DType) -> Option<Matrix> {
        let size = match target {
            ShaderTarget { has_matrix_16: true, .. } => 16,
            ShaderTarget { has_matrix_8: true, .. } => 8,
            _ => return None,
        };
        let lanes = 4 * target.subgroup?.1;
        let is_served = target.has_f16 && x == DType::F16 && w != DType::F32 && m >= MIN_TOKENS;
        let fits = lanes <= target.max_workgroup_size.min(256) && target.max_workgroup_bytes as usize >= SHARED_BYTES;
        (is_served && fits).then_some(Matrix { size, lanes: lanes as usize })
    }

    /// The program. `wgsl` has all bindings, `x4` and `bias4` of the programs of `linear`.
    pub(super) fn source(&self, wgsl: Wgsl, w: WeightLoads) -> String {
        let Matrix { size, lanes } = *self;
        let (down, across) = (64 / size, 32 / size);
        let memory = format!(
            "
alias Left = coop_mat{size}x{size}<f16, A>;
alias Right = coop_mat{size}x{size}<f16, B>;
alias Sums = coop_mat{size}x{size}<f32, C>;
var<workgroup> left: array<f16, {}>;
var<workgroup> right: array<f16, {}>;
var<workgroup> squares: array<f32, {}>;",
            TOKENS * STRIDE,
            ROWS * STRIDE,
            4 * size * size
        );
        let mut zero = String::new();
        for (r, c) in (0..down).flat_map(|r| (0..across).map(move |c| (r, c))) {
            let _ = writeln!(zero, "    var c{r}_{c} = coopLoadT<Sums>(&squares[0], {size}u);");
        }
        let body = format!(
            "let n_down = (p.m + {TOKENS}u - 1u) / {TOKENS}u;
    let tile = group / n_down;
    let top = (group - tile * n_down) * {TOKENS}u;
    let start = tile * {ROWS}u;
    if start >= p.n_rows {{ return; }}
    let token_half = (subgroup >> 1u) & 1u;
    let row_half = subgroup & 1u;
    for (var i = lane; i < {n_squares}u; i += {lanes}u) {{ squares[i] = 0.0; }}
    workgroupBarrier();
{zero}    for (var base = 0u; base < p.k; base += 32u) {{
        workgroupBarrier();
        {loads}
        workgroupBarrier();
{products}    }}
    {stores}",
            n_squares = 4 * size * size,
            loads = self.loads(w),
            products = self.products(),
            stores = self.stores(),
        );
        let builtins = "@builtin(subgroup_id) subgroup: u32, ";
        wgsl.enable("wgpu_cooperative_matrix").text(&memory).main_with(builtins, lanes as u32, &body)
    }

    /// Loads the tiles, a row of 32 elements of each token and of each row of the weight.
    fn loads(&self, w: WeightLoads) -> String {
        let (lanes, part) = (self.lanes, w.part());
        let n_parts = ROWS as u32 * 32 / part;
        let set = |tile: &str, value: &str, first: u32| {
            let each = |e: u32| format!("{tile}[to + {}u] = f16({value}[{e}]);", first + e);
            (0..4).map(each).collect::<Vec<_>>().join(" ")
        };
        let weights: String =
            (0..part / 4).map(|q| format!("            {}\n", set("right", &format!("v[{q}]"), 4 * q))).collect();
        format!(
            "for (var q = lane; q < {n_quarters}u; q += {lanes}u) {{
            let row = q >> 3u;
            let i = base + (q & 7u) * 4u;
            let at = p.x_offset + (top + row) * p.k;
            var v = vec4<f32>();
            if top + row < p.m && i < p.k {{ v = x4(at + i, at + p.k); }}
            let to = row * {STRIDE}u + (q & 7u) * 4u;
            {tokens}
        }}
        for (var q = lane; q < {n_parts}u; q += {lanes}u) {{
            let row = q & {row_mask}u;
            let part = q / {ROWS}u;
            let i = base + part * {part}u;
            let at = p.w_offset + (start + row) * p.k;
            var v = array<vec4<f32>, {quarters}>();
            if start + row < p.n_rows && i < p.k {{ v = part_w(at + i, at + p.k); }}
            let to = row * {STRIDE}u + part * {part}u;
{weights}        }}",
            n_quarters = TOKENS * 8,
            tokens = set("left", "v", 0),
            row_mask = ROWS - 1,
            quarters = part / 4,
        )
    }

    /// Adds the products of the tiles, a matrix's width at a time.
    fn products(&self) -> String {
        let size = self.size;
        let (down, across) = (64 / size, 32 / size);
        let mut text = String::new();
        for step in (0..32).step_by(size) {
            text.push_str("            {\n");
            for r in 0..down {
                let at = format!("(token_half * 64u + {}u) * {STRIDE}u + {step}u", r * size);
                let _ = writeln!(text, "            let a{r} = coopLoadT<Left>(&left[{at}], {STRIDE}u);");
            }
            for c in 0..across {
                let at = format!("(row_half * 32u + {}u) * {STRIDE}u + {step}u", c * size);
                let _ = writeln!(text, "            let b{c} = coopLoad<Right>(&right[{at}], {STRIDE}u);");
            }
            for (r, c) in (0..down).flat_map(|r| (0..across).map(move |c| (r, c))) {
                let _ = writeln!(text, "            c{r}_{c} = coopMultiplyAdd(a{r}, b{c}, c{r}_{c});");
            }
            text.push_str("            }\n");
        }
        text
    }

    /// Stores the sums through shared memory, one square of each subgroup at a time.
    fn stores(&self) -> String {
        let Matrix { size, lanes } = *self;
        let (square, quarters) = (size * size, size / 4);
        let mut text = String::new();
        for (r, c) in (0..64 / size).flat_map(|r| (0..32 / size).map(move |c| (r, c))) {
            let _ = write!(
                text,
                "workgroupBarrier();
    coopStoreT(c{r}_{c}, &squares[(subgroup & 3u) * {square}u], {size}u);
    workgroupBarrier();
    for (var q = lane; q < {square}u; q += {lanes}u) {{
        let worker = q / {n_quarters}u;
        let within = q % {n_quarters}u;
        let token = top + (worker >> 1u) * 64u + {first_token}u + within / {quarters}u;
        let row = start + (worker & 1u) * 32u + {first_row}u + within % {quarters}u * 4u;
        if token < p.m && row < p.n_rows {{
            let v = vec4<f32>(squares[q * 4u], squares[q * 4u + 1u], squares[q * 4u + 2u], squares[q * 4u + 3u]);
            store4_out((token * p.n + p.first + row) / 4u, v + bias4(row));
        }}
    }}
    ",
                n_quarters = square / 4,
                first_token = r * size,
                first_row = c * size,
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use naga::back::{msl, spv};
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::*;
    use crate::ops::linear_gpu::matrix_program;
    use crate::quant::FORMATS;

    /// Checks that the program of a format is valid, and translates to Vulkan and Metal.
    fn check(format: &crate::quant::Format, target: &ShaderTarget) {
        let matrix = Matrix::new(target, 512, DType::F16, format.dtype);
        if format.dtype == DType::F32 {
            return assert!(matrix.is_none(), "float32 would be rounded");
        }
        let matrix = matrix.expect("the target has matrices");
        assert_eq!(matrix.size, if target.has_matrix_16 { 16 } else { 8 });
        let text = matrix_program(target, format.dtype, matrix);
        let shown = |error: String| format!("{}: {error}\n{text}", format.dtype);
        let module = naga::front::wgsl::parse_str(&text).map_err(|error| shown(error.emit_to_string(&text))).unwrap();
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
        let info = validator.validate(&module).map_err(|error| shown(error.emit_to_string(&text))).unwrap();
        let spirv = spv::Options { lang_version: (1, 6), ..spv::Options::default() };
        spv::write_vec(&module, &info, &spirv, None).map_err(|error| shown(error.to_string())).unwrap();
        let metal = msl::Options { lang_version: (3, 1), fake_missing_bindings: true, ..msl::Options::default() };
        let written = msl::write_string(&module, &info, &metal, &msl::PipelineOptions::default());
        written.map_err(|error| shown(error.to_string())).unwrap();
    }

    #[test]
    fn programs_with_matrices_are_valid() {
        let mut target = ShaderTarget::default();
        (target.has_f16, target.subgroup, target.max_workgroup_bytes) = (true, Some((32, 32)), 32 << 10);
        for size in [8, 16] {
            (target.has_matrix_8, target.has_matrix_16) = (size == 8, size == 16);
            FORMATS.iter().for_each(|format| check(format, &target));
        }
        // Subgroups too large, too little shared memory, too few tokens: other programs serve.
        let is_served = |change: &dyn Fn(&mut ShaderTarget), m| {
            let mut other = target.clone();
            change(&mut other);
            Matrix::new(&other, m, DType::F16, DType::F16).is_some()
        };
        assert!(is_served(&|_| (), MIN_TOKENS) && !is_served(&|_| (), MIN_TOKENS - 1));
        assert!(!is_served(&|other| other.subgroup = Some((4, 128)), 512));
        assert!(!is_served(&|other| other.max_workgroup_bytes = 16 << 10, 512));
    }
}
