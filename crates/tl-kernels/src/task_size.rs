//! How much work is worth a task.

/// Multiply-adds below which a product is not worth waking a worker for.
pub(crate) const PARALLEL_MIN: usize = 64 * 1024;

/// Elements of rows that a task reads; what is smaller runs on the calling thread.
pub(crate) const ROW_TASK_ELEMS: usize = 32 * 1024;
