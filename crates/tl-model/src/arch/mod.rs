//! What is computed with a model's weights, one file per architecture.

pub mod llama;
