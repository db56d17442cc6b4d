//! Running rows of the table of operations, in files that stand on each other:
//!
//! - `kernel.rs` takes the memory of the result and runs the kernel: on the CPU, on a GPU, or, where the GPU has no program,
//!   on the CPU over copies (`host_fallback.rs`). `work.rs` says what a kernel costs.
//! - `contiguous.rs` is the operation that copies what a kernel cannot read by strides.
//! - `run.rs` prepares the arguments for the kernel.
//! - `apply.rs` asks the rule (`rules.rs`) before, or a call site that remembers it (`site.rs`).
//! - `chain.rs` runs several elementwise operations in one pass.
//!
//! No file here knows an operation but `contiguous`; `work.rs` knows some by name.

mod apply;
mod chain;
pub(crate) mod contiguous;
mod host_fallback;
mod kernel;
mod rules;
mod run;
mod site;
mod work;

pub use apply::{apply, apply_as, apply_at};
pub use chain::{Link, MAX_LINKS, MAX_WAITING, apply_chain, link_layout};
pub use site::Site;
pub(crate) use work::attention_work;
