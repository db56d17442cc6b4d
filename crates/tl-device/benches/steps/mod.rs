//! The takes and returns of a llama model's steps, written down: what the benches and the traces replay.
//!
//! The order is that of a real forward pass, layer by layer, with every result given back at its last use; a test of the
//! crate that owns the model compares the two.

use tl_device::{DType, Layout};

/// The most tokens that go through the model at once.
pub(crate) const PREFILL_CHUNK: usize = 512;

/// The sizes of a llama model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Llama {
    pub(crate) n_layers: usize,
    pub(crate) dim: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) ffn_dim: usize,
    pub(crate) vocab_size: usize,
}

/// TinyLlama 1.1B.
pub(crate) const TINYLLAMA: Llama =
    Llama { n_layers: 22, dim: 2048, n_heads: 32, n_kv_heads: 4, head_dim: 64, ffn_dim: 5632, vocab_size: 32000 };

/// A request or a return. Tensors are numbered in the order of their requests; layouts stand in [`Steps::layouts`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    Take { layout: usize },
    Return { tensor: usize },
}

/// Requests and returns in order. At the end everything is returned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    pub(crate) layouts: Vec<Layout>,
    pub(crate) actions: Vec<Action>,
    n_taken: usize,
}

impl Steps {
    /// How many requests there are.
    pub(crate) fn n_taken(&self) -> usize {
        self.n_taken
    }

    /// Bytes of all requests together.
    #[allow(dead_code)] // not every program that includes this file asks
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |action: &Action| match action {
            Action::Take { layout } => self.layouts[*layout].len_bytes().unwrap_or(0) as u64,
            Action::Return { .. } => 0,
        };
        self.actions.iter().map(bytes).sum()
    }

    /// Requests a tensor, and gives its number.
    pub(crate) fn take(&mut self, layout: Layout) -> usize {
        let layout = self.layouts.iter().position(|known| *known == layout).unwrap_or_else(|| {
            self.layouts.push(layout);
            self.layouts.len() - 1
        });
        self.actions.push(Action::Take { layout });
        self.n_taken += 1;
        self.n_taken - 1
    }

    /// Returns tensors.
    pub(crate) fn give_back(&mut self, tensors: &[usize]) {
        self.actions.extend(tensors.iter().map(|&tensor| Action::Return { tensor }));
    }
}

impl Llama {
    /// Adds a forward pass of `n` tokens, in parts of at most [`PREFILL_CHUNK`].
    pub(crate) fn forward(&self, steps: &mut Steps, n: usize) {
        let mut left = n;
        while left > 0 {
            let part = left.min(PREFILL_CHUNK);
            left -= part;
            let x = self.layers(steps, part);
            if left == 0 {
                let h = steps.take(Layout::from(vec![1, self.dim]));
                steps.give_back(&[x]);
                let logits = steps.take(Layout::from(vec![1, self.vocab_size]));
                steps.give_back(&[h, logits]);
            } else {
                steps.give_back(&[x]);
            }
        }
    }

    /// The forward pass of `n` tokens alone.
    #[allow(dead_code)] // not every program that includes this file asks
    pub(crate) fn step(&self, n: usize) -> Steps {
        let mut steps = Steps::default();
        self.forward(&mut steps, n);
        steps
    }

    /// Embedding and layers; gives the tensor that they end with.
    fn layers(&self, steps: &mut Steps, n: usize) -> usize {
        let ids = steps.take(Layout::new(DType::I32, [n]));
        let mut x = steps.take(Layout::from(vec![n, self.dim]));
        steps.give_back(&[ids]);
        for _ in 0..self.n_layers {
            x = self.layer(steps, n, x);
        }
        x
    }

    fn layer(&self, steps: &mut Steps, n: usize, x: usize) -> usize {
        let hidden = || Layout::from(vec![n, self.dim]);
        let kv = || Layout::from(vec![n, self.n_kv_heads * self.head_dim]);
        let heads = || Layout::from(vec![n, self.n_heads, self.head_dim]);
        let ffn = || Layout::from(vec![n, self.ffn_dim]);
        let h = steps.take(hidden());
        let q = steps.take(Layout::from(vec![n, self.n_heads * self.head_dim]));
        let k = steps.take(kv());
        let v = steps.take(kv());
        steps.give_back(&[h]);
        let turned_q = steps.take(heads());
        steps.give_back(&[q]);
        let turned_k = steps.take(Layout::from(vec![n, self.n_kv_heads, self.head_dim]));
        steps.give_back(&[k]);
        let attended = steps.take(heads());
        steps.give_back(&[turned_k, turned_q, v]);
        let out = steps.take(hidden());
        steps.give_back(&[attended]);
        let sum = steps.take(hidden());
        steps.give_back(&[x, out]);
        let h = steps.take(hidden());
        let gate = steps.take(ffn());
        let up = steps.take(ffn());
        steps.give_back(&[h]);
        let gated = steps.take(ffn());
        steps.give_back(&[gate, up]);
        let fed = steps.take(hidden());
        steps.give_back(&[gated]);
        let next = steps.take(hidden());
        steps.give_back(&[fed, sum]);
        next
    }
}
