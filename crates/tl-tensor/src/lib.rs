//! Tensors and the operations on them.
//!
//! A [`Tensor`] is a view of memory that a [`Device`](tl_device::Device) gave. Operations are rows of the table
//! [`ops::OPS`]; every one is applied through [`ops::apply`], which checks the operands by the row's shape rule, takes the
//! memory of the result through the device's one door, and runs the kernel. The methods of `Tensor` are the same rows.
//! Formats that weights are stored in are rows of [`quant::FORMATS`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod error;
pub mod ops;
pub mod quant;
mod random;
mod tensor;

pub use error::{Error, Fault, describe};
pub use random::Random;
pub use tensor::{CreateTensors, Dyn, Element, Raw, Strides, Tensor, TensorMut};
