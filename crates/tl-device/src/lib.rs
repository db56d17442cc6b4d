//! Bytes on a device: who has them, where they come from, where they go.
//!
//! A [`Device`] serves requests for memory from three sources, in this order: the [`TensorBuffer`], whose buffers were
//! reserved by exact layout beforehand; the [`BufferPool`], which keeps what comes back; the system. A request yields a
//! [`Lease`], unique and writable; [`Lease::share`] makes it a [`Storage`], shared and read-only; the last handle gives
//! the memory back by itself. Taking, sharing, cloning and returning never allocate on the heap.
//!
//! This crate knows data types and dimensions ([`Layout`]), and nothing of tensors or operations.

mod admission;
mod arena;
mod available;
mod cpu;
mod device;
mod error;
mod fit;
mod formula;
#[cfg(feature = "gpu")]
mod gpu;
mod gpu_options;
pub mod heap;
mod launch;
mod layout;
mod ledger;
mod memory;
mod plan;
mod pool;
mod recorder;
mod reserve;
mod state;
mod stats;
mod steps;
mod storage;
mod symbolic;
mod symbolic_row;
mod sync;
mod tally;
mod tensor_buffer;
mod trace;

pub use admission::{Admission, Entered, SessionPlan};
pub use available::{Available, MemoryBound, available_memory};
pub use cpu::Mapping;
pub use device::{BufferPool, Device, DeviceOptions, LaunchListener, MemoryOptions, Scope, Simulation, Work};
pub use error::{Error, GpuProblem, bytes};
pub use fit::{FitError, FittedPlan};
pub use gpu_options::{GpuChoice, GpuInfo, GpuKind, GpuOptions, GpuStats};
pub use launch::{Binding, Launch, MAX_IMMEDIATE_BYTES, ShaderTarget};
pub use layout::{BlockFormat, DType, Layout, Shape};
pub use memory::{Purpose, Role};
pub use plan::{PlanError, PlanRow, ReservationPlan};
pub use stats::{BufferPoolStats, LayoutStats, MemoryStats, ReserveKind, TensorBufferStats};
pub use storage::{Lease, Storage};
pub use symbolic::{SizeRange, SymbolicPlan};
pub use tensor_buffer::{HoldsMemory, StillShared, TensorBuffer};
pub use tl_kernels::{Isa, has_address_space};
pub use trace::{Action, ArenaPlan, Event, Source, Trace, TraceTotals, TracedLayout, TracedSite};
