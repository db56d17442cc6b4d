//! Seeded random numbers: the same seed gives the same tensors on every machine.

use half::f16;
use tl_device::{DType, Device, Layout, Role};

use crate::Error;
use crate::cpu::convert::store_f32;
use crate::tensor::{DynTensor, Tensor, take};

/// A generator of 64-bit numbers: SplitMix64 (Steele, Lea, Flood 2014), a counter and a mixing function.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator that starts from this seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next number, all 64 bits of it random.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 (included) to 1 (excluded), with 24 random bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A number from the standard normal distribution, by Box and Muller's transform.
    pub fn normal(&mut self) -> f32 {
        // One minus a number below 1 is never 0, so the logarithm is finite.
        let radius = (-2.0 * (1.0 - f64::from(self.uniform())).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(self.uniform());
        (radius * angle.cos()) as f32
    }

    /// A `float16` or `float32` tensor of uniform numbers from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none, [`Error::ElementType`] for a layout that is not of floats.
    pub fn uniform_tensor(&mut self, device: &Device, layout: &Layout) -> Result<Tensor, Error> {
        self.fill(device, layout, "rand", Random::uniform)
    }

    /// A `float16` or `float32` tensor of standard normal numbers.
    ///
    /// # Errors
    /// As for [`Random::uniform_tensor`].
    pub fn normal_tensor(&mut self, device: &Device, layout: &Layout) -> Result<Tensor, Error> {
        self.fill(device, layout, "randn", Random::normal)
    }

    fn fill(
        &mut self,
        device: &Device,
        layout: &Layout,
        op: &'static str,
        next: fn(&mut Self) -> f32,
    ) -> Result<Tensor, Error> {
        if !layout.dtype().is_float() {
            return Err(Error::ElementType { expected: DType::F16, found: layout.dtype() });
        }
        let mut lease = take(device, layout, Role::Activation, op)?;
        let mut block = [0f32; 256];
        let mut stored = [0u8; 256 * 4];
        let isa = device.threads().isa();
        let size = layout.dtype().block_bytes();
        let mut at = 0;
        while at < lease.len_bytes() {
            let n = block.len().min((lease.len_bytes() - at) / size);
            block[..n].fill_with(|| next(self));
            // The largest uniform float32 rounds to 1 in float16, which is excluded.
            if op == "rand" && layout.dtype() == DType::F16 {
                block[..n].iter_mut().for_each(|x| *x = x.min(f16::ONE.to_f32() - f16::EPSILON.to_f32() / 2.0));
            }
            store_f32(isa, &block[..n], layout.dtype(), &mut stored[..n * size]);
            lease.write(at, &stored[..n * size]).map_err(|error| Error::Memory { op, error })?;
            at += n * size;
        }
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), layout)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_repetition() {
        let device = Device::cpu();
        let layout = Layout::new(DType::F32, [100, 100]);
        let normal =
            Random::new(7).normal_tensor(&device, &layout).unwrap().into_typed::<f32>().unwrap().to_vec().unwrap();
        let mean = normal.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e4;
        let variance = normal.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / 1e4;
        // Five standard errors of 10,000 samples.
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.08, "{mean} {variance}");
        let again =
            Random::new(7).normal_tensor(&device, &layout).unwrap().into_typed::<f32>().unwrap().to_vec().unwrap();
        assert_eq!(normal, again);
        let half =
            Random::new(7).uniform_tensor(&device, &Layout::from(vec![10_000])).unwrap().into_typed::<f16>().unwrap();
        assert!(half.to_vec().unwrap().iter().all(|&x| x >= f16::ZERO && x < f16::ONE));
    }
}
