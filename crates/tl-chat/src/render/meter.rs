//! Limits of a rendering, and its use of memory and work.
//!
//! Every value of a rendering holds a [`Charge`] for its bytes and releases it on drop, so the meter knows the live
//! memory. Work is counted in steps: one per visited node of the tree, and one per 64 bytes that are produced or
//! searched. Nothing is built before it is claimed.

use std::cell::Cell;
use std::rc::Rc;

use crate::error::{ChatError, Result};

/// Bounds of one template and one rendering. [`Limits::default`] suits conversations of millions of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum length of a template, in bytes.
    pub source_bytes: usize,
    /// Maximum length of the rendered text, in bytes.
    pub output_bytes: usize,
    /// Maximum memory of the values live at one time, in bytes, beyond the conversation's.
    pub memory_bytes: usize,
    /// Maximum work: operations, and 64 bytes of text count as one.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { source_bytes: 256 << 10, output_bytes: 32 << 20, memory_bytes: 64 << 20, steps: 20_000_000 }
    }
}

/// Memory and work of one rendering.
pub(super) struct Meter {
    limits: Limits,
    steps: Cell<u64>,
    live_bytes: Cell<usize>,
    /// The line being rendered, for errors.
    line: Cell<u32>,
    this: std::rc::Weak<Meter>,
}

/// Live bytes, released on drop.
pub(super) struct Charge {
    bytes: usize,
    meter: Rc<Meter>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.live_bytes.set(self.meter.live_bytes.get().saturating_sub(self.bytes));
    }
}

impl Meter {
    /// A meter for a rendering over inputs of `input_bytes`.
    pub(super) fn new(limits: Limits, input_bytes: usize) -> Rc<Self> {
        let limits = Limits { memory_bytes: limits.memory_bytes.saturating_add(input_bytes), ..limits };
        Rc::new_cyclic(|this| Self {
            limits,
            steps: Cell::new(0),
            live_bytes: Cell::new(0),
            line: Cell::new(1),
            this: this.clone(),
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn line(&self) -> u32 {
        self.line.get()
    }

    pub(super) fn set_line(&self, line: u32) {
        self.line.set(line);
    }

    pub(super) fn exceeded<T>(&self, what: &'static str, limit: u64) -> Result<T> {
        Err(ChatError::Limit { line: self.line.get(), what, limit })
    }

    /// Counts work.
    pub(super) fn step(&self, n: usize) -> Result<()> {
        let steps = self.steps.get().saturating_add(n as u64);
        self.steps.set(steps);
        if steps > self.limits.steps { self.exceeded("steps", self.limits.steps) } else { Ok(()) }
    }

    /// Counts the work of going through a text.
    pub(super) fn scan(&self, len_bytes: usize) -> Result<()> {
        self.step(len_bytes / 64)
    }

    /// Claims memory before it is filled, and counts the work of filling it.
    pub(super) fn claim(&self, bytes: usize) -> Result<Charge> {
        self.scan(bytes)?;
        let live = self.live_bytes.get().saturating_add(bytes);
        if live > self.limits.memory_bytes {
            return self.exceeded("bytes of memory", self.limits.memory_bytes as u64);
        }
        match self.this.upgrade() {
            Some(meter) => {
                self.live_bytes.set(live);
                Ok(Charge { bytes, meter })
            }
            None => self.exceeded("bytes of memory", self.limits.memory_bytes as u64),
        }
    }
}

/// A text that grows, claimed as it grows.
pub(super) struct Buffer {
    text: String,
    charge: Charge,
}

impl Buffer {
    pub(super) fn new(meter: &Meter) -> Result<Self> {
        Ok(Self { text: String::new(), charge: meter.claim(0)? })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends `text`, up to `limit` bytes in all.
    pub(super) fn push_within(&mut self, text: &str, limit: usize) -> Result<()> {
        if self.text.len().saturating_add(text.len()) > limit {
            return self.charge.meter.exceeded("bytes of text", limit as u64);
        }
        self.push(text)
    }

    pub(super) fn push(&mut self, text: &str) -> Result<()> {
        let mut more = self.charge.meter.claim(text.len())?;
        // The bytes move to the buffer's own charge.
        self.charge.bytes += std::mem::take(&mut more.bytes);
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn push_char(&mut self, character: char) -> Result<()> {
        self.push(character.encode_utf8(&mut [0; 4]))
    }

    /// Appends `text` `n` times.
    pub(super) fn push_repeated(&mut self, text: &str, n: usize) -> Result<()> {
        let mut more = self.charge.meter.claim(text.len().saturating_mul(n))?;
        self.charge.bytes += std::mem::take(&mut more.bytes);
        for _ in 0..n {
            self.text.push_str(text);
        }
        Ok(())
    }

    pub(super) fn into_parts(self) -> (String, Charge) {
        (self.text, self.charge)
    }
}
