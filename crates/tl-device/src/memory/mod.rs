//! Sources of memory and its return.
//!
//! `allocator.rs` is the entry point, outside the lock; `state.rs` has the books under it, which own the sums
//! (`ledger.rs`), the pool, and the reserves with their arenas.

mod allocator;
mod arena;
mod guide;
mod ledger;
mod pool;
mod ranges;
mod reserve;
mod reserving;
mod state;
pub(crate) mod thread_context;
mod thread_sets;

pub(crate) use allocator::Memory;
pub(crate) use state::CurrentBuffer;
