//! Q2_K: blocks of 256 elements (84 bytes): 16 bytes, each with a scale (low half) and a minimum (high half) of four bits for 16
//! elements, 64 bytes of levels in pairs of bits, an `f16` for the scales and an `f16` for the minima. value = scale * level -
//! minimum. Source: the GGML formats of GGUF.

use super::search::{inverse, nearest_fit, round_to_level, scale_and_minimum};
use super::two_bits::{pack_pairs, unpack_pairs};
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 256;
pub(crate) const BYTES: usize = 84;
/// Where the levels, the scale of the scales and that of the minima are.
pub(crate) const LEVELS: usize = 16;
pub(crate) const SCALE: usize = 80;
pub(crate) const MINIMUM: usize = 82;
/// The largest level.
const TOP: i32 = 3;

/// Q2_K, 2.6 bits per weight.
pub static Q2_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q2_K;
    const NAME: &str = "q2_k";
    const ID: u32 = 10;
    const FILE_TYPE: u32 = 21;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 16;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
        let (scale, minimum) = (half_at(isa, block, SCALE), half_at(isa, block, MINIMUM));
        for ((byte, out), low) in block[..LEVELS].iter().zip(scales).zip(minima) {
            *out = scale * f32::from(byte & 15);
            *low = -(minimum * f32::from(byte >> 4));
        }
        unpack_pairs(&block[LEVELS..SCALE], values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (groups, _) = x.as_chunks::<16>();
        let mut wanted = [(0.0, 0.0); 16];
        for (wanted, x) in wanted.iter_mut().zip(groups) {
            let (scale, minimum) = scale_and_minimum(x, TOP, true);
            *wanted = (scale, -minimum);
        }
        let largest = |part: fn(&(f32, f32)) -> f32| wanted.iter().map(part).fold(0.0, f32::max) / 15.0;
        let scale = store_half(block, SCALE, largest(|(scale, _)| *scale));
        let minimum = store_half(block, MINIMUM, largest(|(_, minimum)| *minimum));
        let mut levels = [0; ELEMS];
        for (g, (x, levels)) in groups.iter().zip(levels.as_chunks_mut::<16>().0).enumerate() {
            // Four bits round far: the neighbours of what is nearest to the one and the other may be nearer together.
            let near = |wanted: f32, of: f32| {
                let middle = round_to_level(wanted * inverse(of), 0, 15);
                [middle, (middle - 1).max(0), (middle + 1).min(15)]
            };
            let (scales, minima) = (near(wanted[g].0, scale), near(wanted[g].1, minimum));
            let fit = |i: usize| (scale * scales[i / 3] as f32, -(minimum * minima[i % 3] as f32));
            let best = nearest_fit(x, TOP, &std::array::from_fn::<_, 9, _>(fit));
            block[g] = (scales[best / 3] | minima[best % 3] << 4) as u8;
            let (scale, minimum) = fit(best);
            let inverse = inverse(scale);
            for (x, level) in x.iter().zip(levels) {
                *level = round_to_level((x - minimum) * inverse, 0, TOP) as u8;
            }
        }
        pack_pairs(&levels, &mut block[LEVELS..SCALE]);
    }
}
