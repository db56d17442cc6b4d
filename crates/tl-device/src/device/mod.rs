//! `Device`: memory, and the threads that compute on it.

mod gpu;
mod handle;
mod measure;
mod simulated;
mod take;

pub use handle::Device;
pub use measure::Scope;
pub use take::BufferPool;
