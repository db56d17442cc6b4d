//! `yarn_factors`: the divisors of angles by which `rope` reaches longer contexts.

use tl_device::DType;

use crate::OpError;
use crate::op::rule::dimension;
use crate::op::{Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, TensorType, optional, required};
use crate::size::Size;

pub(super) static OPS: &[&Op] = &[&YARN_FACTORS];

static YARN_FACTORS: Op = Op {
    name: "yarn_factors",
    group: Group::Transformer,
    doc: "What YaRN divides the angles of `rope` by, for its `factors` (Peng et al., 2023). Of the pair `i` the frequency is \
          `base^(-2i/dims)`; where it turns at least `fast` times in the `context` that the model was trained with, it stays, where it \
          turns at most `slow` times, it is divided by `factor`, and between these pairs the two are mixed, linearly in `i`. With \
          `truncate` the pairs where the mixing begins and ends are whole numbers. `→ float32[dims/2]`.",
    params: &[
        required("dims", Kind::Int),
        required("base", Kind::Number),
        required("factor", Kind::Number),
        required("context", Kind::Number),
        optional("fast", Kind::Number, DefaultValue::Number(32.0)),
        optional("slow", Kind::Number, DefaultValue::Number(1.0)),
        optional("truncate", Kind::Bool, DefaultValue::Bool(true)),
    ],
    rule: |args| {
        let n_pairs = match dimension(args.int(0))? {
            Size::Known(n) if n % 2 != 0 => {
                return Err(OpError::Value { operand: "dims", expected: "even", found: n as f64 });
            }
            n => n.quotient(Size::Known(2)),
        };
        Ok(TensorType::new(Some(DType::F32), [n_pairs].as_slice()))
    },
    kernel: OpKernel::Strided(|call| {
        let yarn = Yarn::of(call)?;
        for (pair, divisor) in call.out::<f32>()?.iter_mut().enumerate() {
            *divisor = yarn.divisor(pair);
        }
        Ok(())
    }),
    gpu: Some(|call| {
        let (yarn, n_pairs) = (Yarn::of(call)?, call.n_out());
        let Some(lease) = call.lease.as_deref_mut() else { return Ok(Dispatch::Unsupported) };
        // Computed here and uploaded a few at a time, so that nothing is allocated.
        let mut divisors = [0.0; 128];
        for first in (0..n_pairs).step_by(divisors.len()) {
            let divisors = &mut divisors[..(n_pairs - first).min(128)];
            (first..).zip(divisors.iter_mut()).for_each(|(pair, divisor)| *divisor = yarn.divisor(pair));
            let (offset, bytes) = (first * size_of::<f32>(), bytemuck::cast_slice(divisors));
            lease.write(offset, bytes).map_err(|error| OpError::Device(Box::new(error)))?;
        }
        Ok(Dispatch::Launched)
    }),
};

/// The ramp of YaRN's divisors of frequencies.
struct Yarn {
    factor: f64,
    /// The pairs where the ramp begins and ends.
    low: f64,
    high: f64,
}

impl Yarn {
    fn of(call: &Call) -> Result<Yarn, OpError> {
        let number = |index, operand, least| match call.number(index)? {
            x if x > least && x.is_finite() => Ok(x),
            found if least == 0.0 => Err(OpError::Value { operand, expected: "more than 0", found }),
            found => Err(OpError::Value { operand, expected: "more than 1", found }),
        };
        let (dims, base, factor) = (call.int(0)? as f64, number(1, "base", 1.0)?, number(2, "factor", 0.0)?);
        let (context, fast, slow) = (number(3, "context", 0.0)?, number(4, "fast", 0.0)?, number(5, "slow", 0.0)?);
        // The pair, as a fraction, that turns so many times in the context.
        let pair_of = |turns: f64| dims * (context / (turns * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
        let (low, high) = (pair_of(fast), pair_of(slow));
        let (low, high) = if call.bool(6) { (low.floor(), high.ceil()) } else { (low, high) };
        Ok(Yarn { factor, low: low.max(0.0), high: high.min(dims - 1.0) })
    }

    fn divisor(&self, pair: usize) -> f32 {
        let Yarn { factor, low, high } = *self;
        // A ramp of length 0 would divide by 0.
        let high = if high == low { high + 0.001 } else { high };
        let part = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / (part / factor + (1.0 - part))) as f32
    }
}
