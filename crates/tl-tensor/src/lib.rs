//! Tensors and the operations on them.
//!
//! A [`Tensor`] is a view of memory that a [`Device`](tl_device::Device) gave. Operations are rows of the table
//! [`ops::OPS`]; every one is applied through [`ops::apply`], which checks the operands by the row's shape rule, takes
//! the memory of the result through the device's one door, and runs the kernel. The methods of `Tensor` are the same
//! rows. Formats that weights are stored in are rows of [`quant::FORMATS`].
//!
//! The files, from the bottom up: sizes, strides, errors, operands and tensors as data; `op/`, what a row is made of;
//! `cpu/` and `gpu/`, what kernels of several operations share; `dispatch/`, which runs rows; `ops/`, the operations.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod cpu;
mod dispatch;
mod element;
mod error;
mod gpu;
mod op;
mod operand;
pub mod ops;
pub mod quant;
mod random;
mod size;
mod strides;
mod tensor;
mod tensor_mut;
mod term;
mod transfer;

pub use element::Element;
pub use error::{Error, OpError, describe};
pub use ops::CreateTensors;
pub use random::Random;
pub use strides::Strides;
pub use tensor::{Dyn, DynTensor, Tensor};
pub use tensor_mut::TensorMut;
