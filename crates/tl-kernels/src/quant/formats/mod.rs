//! The block formats, each a file with its codec and one constant; what several of them share stands beside them: `nibbles`,
//! `two_bits` and `k_scales` (how numbers are stored), `search` (finding scales).

pub(crate) mod dense;
pub(crate) mod integer_format;
pub(crate) mod iq4_nl;
pub(crate) mod iq4_xs;
mod k_scales;
pub(crate) mod mxfp4;
mod nibbles;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q4_k;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;
mod search;
mod table;
mod two_bits;

pub use dense::{BF16, F16, F32};
pub use iq4_nl::IQ4_NL;
pub use iq4_xs::IQ4_XS;
pub use mxfp4::MXFP4;
pub use q2_k::Q2_K;
pub use q3_k::Q3_K;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4_K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5_K;
pub use q6_k::Q6_K;
pub use q8_0::{Q8_0, Q8Block};
pub use table::FORMATS;
