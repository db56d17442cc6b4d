//! Copies into part of a tensor: a part of a concatenation, rows of a cache.

use tl_device::{Binding, DType, Lease};

use super::indexing::{INDEX, collapse};
use super::launch::{Immediates, ShaderVariant, launch};
use super::wgsl::{WORKGROUP, Wgsl};
use crate::OpError;
use crate::op::kernel::Dispatch;
use crate::operand::Operand;

/// Where a part goes: of every `block` elements of the result, the part has `len` from `first` on. The result has
/// `n_out`.
pub(crate) struct Destination {
    pub(crate) block: usize,
    pub(crate) first: usize,
    pub(crate) len: usize,
    pub(crate) n_out: usize,
}

/// Copies an operand into its part of a tensor and leaves the rest unchanged.
pub(crate) fn copy_part(
    lease: &mut Lease,
    dtype: DType,
    x: &Operand,
    target: &Destination,
) -> Result<Dispatch, OpError> {
    let Some((dims, [strides])) = collapse(x.dims, [x.strides]).filter(|_| x.fits_u32()) else {
        return Ok(Dispatch::Unsupported);
    };
    // Programs store no block formats.
    let is_same = x.dtype == dtype && !matches!(dtype, DType::Block(_));
    let is_served = is_same || x.dtype.is_float() && dtype.is_float();
    if !is_served || target.n_out > u32::MAX as usize {
        return Ok(Dispatch::Unsupported);
    }
    let source = |wgsl: Wgsl| {
        wgsl.read("x", x.dtype)
            .write("out", dtype)
            .params(
                "dims: vec4<u32>, strides: vec4<u32>, offset: u32, block: u32, first: u32, len: u32, start: u32, end: u32",
            )
            .text(INDEX)
            .main(
                WORKGROUP,
                "let four = p.start / 4u + group * 256u + lane;
    if four * 4u >= p.end { return; }
    var v = load4_out(four);
    for (var k = 0u; k < 4u; k++) {
        let i = four * 4u + k;
        let row = i / p.block;
        let column = i - row * p.block;
        if i < p.end && column >= p.first && column < p.first + p.len {
            v[k] = load_x(p.offset + index(row * p.len + column - p.first, p.dims, p.strides));
        }
    }
    store4_out(four, v);",
            )
    };
    let dtypes = [x.dtype, dtype];
    let shader = ShaderVariant { name: "place", dtypes: &dtypes, flags: 0, reports_faults: false, source: &source };
    let at = x.on_gpu()?;
    let is_one_piece = target.block >= target.n_out;
    let (start, end) = if is_one_piece { (target.first, target.first + target.len) } else { (0, target.n_out) };
    let mut words = Immediates::new();
    words.extend_from_slice(&dims);
    words.extend_from_slice(&strides);
    let numbers = [at.offset as usize, target.block.max(1), target.first, target.len, start, end];
    words.extend(numbers.iter().map(|&number| number as u32));
    let groups = (end.div_ceil(4) - start / 4).div_ceil(WORKGROUP as usize);
    if end == start {
        return Ok(Dispatch::Launched);
    }
    let device = lease.device().clone();
    launch(&device, &shader, &[at.binding], &[Binding::write(lease)], &words, groups)
}

/// Copies an operand to the elements from `first` on, converting between float types.
pub(crate) fn write_rows(lease: &mut Lease, dtype: DType, first: usize, x: &Operand) -> Result<(), OpError> {
    let n_out = lease.len_bytes() / dtype.block_bytes();
    let target = Destination { block: n_out, first, len: x.n_elems(), n_out };
    match copy_part(lease, dtype, x, &target)? {
        Dispatch::Launched => Ok(()),
        Dispatch::Unsupported => {
            Err(OpError::DType { operand: "rows", expected: "of the cache's type", found: x.dtype })
        }
    }
}

/// Moves `n` words from word `start` on to the front. The launch reads and writes one binding, so it must not write a
/// word that it reads: each launch moves at most `start` words. With `n` 0 one launch compiles the program ahead of its
/// use.
pub(crate) fn move_to_front(lease: &mut Lease, start: usize, n: usize) -> Result<(), OpError> {
    let source = |wgsl: Wgsl| {
        wgsl.write_words("out").params("source: u32, target_word: u32, n: u32").main(
            WORKGROUP,
            "let i = group * 256u + lane;
    if i < p.n { out_data[p.target_word + i] = out_data[p.source + i]; }",
        )
    };
    let shader = ShaderVariant { name: "move", dtypes: &[], flags: 0, reports_faults: false, source: &source };
    let device = lease.device().clone();
    let mut done = 0;
    loop {
        let len = start.min(n - done);
        let words = [start + done, done, len].map(|number| number as u32);
        let groups = len.div_ceil(WORKGROUP as usize).max(1);
        launch(&device, &shader, &[], &[Binding::write(lease)], &words, groups)?;
        done += len;
        if len == 0 || done == n {
            return Ok(());
        }
    }
}
