//! `swiglu`: the gated activation of feed-forward layers.

use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl};
use crate::op::kernel::with_float;
use crate::op::rule::same;
use crate::op::{Call, Dispatch, Group, Kind, Op, OpKernel, TensorType, required};
use crate::size::{Size, Sizes};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&SWIGLU];

static SWIGLU: Op = Op {
    name: "swiglu",
    group: Group::Transformer,
    doc: "`silu(gate) · up`, in one pass (Shazeer, 2020). `gate: [..], up: [..] → [..]`.",
    params: &[required("gate", Kind::Tensor), required("up", Kind::Tensor)],
    rule: |args| {
        let dtype = args.common_dtype(&[0, 1])?;
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
            return Err(OpError::DType { operand: "gate", expected: "float16 or float32 (cast it first)", found });
        }
        let ((gate, _), (up, _)) = (args.tensor(0)?, args.tensor(1)?);
        if gate.len() != up.len() {
            return Err(OpError::Rank { operand: "up", expected: "as many dimensions as gate", found: up.len() });
        }
        let sizes: Result<Sizes, OpError> =
            gate.iter().zip(up).map(|(&a, &b): (&Size, &Size)| same("gate and up differ", a, b)).collect();
        Ok(TensorType::new(dtype, sizes?))
    },
    kernel: OpKernel::Contiguous(|call| {
        let (gate, up, threads) = (call.operand(0)?, call.operand(1)?, call.threads);
        with_float!(gate.dtype, "gate", T => {
            tl_kernels::swiglu::<T>(threads, gate.slice()?, up.slice()?, call.out()?);
            Ok(())
        })
    }),
    gpu: Some(swiglu_gpu),
};

fn swiglu_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let (gate, up) = (call.operand(0)?, call.operand(1)?);
    if !(gate.fits_u32() && up.fits_u32()) {
        return Ok(Dispatch::Unsupported);
    }
    let is_wide = gate.offset.is_multiple_of(4) && up.offset.is_multiple_of(4);
    let dtype = call.dtype;
    let source = |wgsl: Wgsl| {
        let (wgsl, load) = if is_wide {
            let load = "let g = load4_gate((p.gate >> 2u) + four); let u = load4_up((p.up >> 2u) + four);";
            (wgsl.read4("gate", dtype).read4("up", dtype), load)
        } else {
            let load = "let g_at = p.gate + four * 4u;
    let u_at = p.up + four * 4u;
    let g = vec4<f32>(load_gate(g_at), load_gate(g_at + 1u), load_gate(g_at + 2u), load_gate(g_at + 3u));
    let u = vec4<f32>(load_up(u_at), load_up(u_at + 1u), load_up(u_at + 2u), load_up(u_at + 3u));";
            (wgsl.read("gate", dtype).read("up", dtype), load)
        };
        wgsl.write("out", dtype).params("n: u32, gate: u32, up: u32").main(
            WORKGROUP,
            &format!(
                "let four = group * {WORKGROUP}u + lane;
    if four * 4u >= p.n {{ return; }}
    {load}
    store4_out(four, g / (1.0 + exp(-g)) * u);"
            ),
        )
    };
    let (gate, up, n) = (gate.on_gpu()?, up.on_gpu()?, call.n_out());
    let flags = u32::from(is_wide);
    let shader = ShaderVariant { name: "swiglu", dtypes: &[dtype], flags, reports_faults: false, source: &source };
    let words = Immediates::from_slice(&[n as u32, gate.offset, up.offset]);
    call.launch(&shader, &[gate.binding, up.binding], &words, n.div_ceil(4 * WORKGROUP as usize))
}

impl<T> Tensor<T> {
    /// `silu(self) · up`.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes or types differ.
    pub fn swiglu<U>(&self, up: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&SWIGLU, &[up.into()])
    }
}
