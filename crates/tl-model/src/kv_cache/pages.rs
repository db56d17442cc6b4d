//! Pages: the memory of a cache that many sequences share.
//!
//! A page is [`PAGE_LEN`] tokens in all layers. Who owns which page is the caller's to know; a step says which sequences
//! it continues, and with which pages.

use tl_device::Device;
use tl_tensor::Tensor;
use tl_tensor::ops::PagedSequence;

use crate::error::{ModelError, Result};

/// Tokens of a page.
pub const PAGE_LEN: usize = 32;

/// A sequence that a step continues.
#[derive(Clone, Copy, Debug)]
pub struct StepSequence<'a> {
    /// Its pages, in order: room for the tokens held and those added.
    pub pages: &'a [u32],
    /// Tokens held before the step.
    pub held: usize,
    /// Tokens that the step adds.
    pub adding: usize,
}

/// The sequences of a step, in memory that the next step uses again.
#[derive(Default)]
pub(super) struct PagedStep {
    sequences: Vec<Entry>,
    /// The pages of all sequences, one after the other.
    tables: Vec<u32>,
    /// The position of each token of the step.
    positions: Vec<i32>,
    /// The same as a tensor, from its first use to the end of the step.
    shared_positions: Option<Tensor<i32>>,
}

#[derive(Clone, Copy)]
struct Entry {
    first_page: usize,
    n_pages: usize,
    held: usize,
    adding: usize,
}

/// The tokens of a sequence in a step, and where they are kept: rows that lie one after the other.
pub(super) struct Run {
    pub(super) first_token: usize,
    pub(super) n_tokens: usize,
    pub(super) first_row: usize,
}

impl PagedStep {
    /// Adds a sequence in a cache of so many pages, for sequences of up to `max_len` tokens.
    pub(super) fn add(
        &mut self,
        StepSequence { pages, held, adding }: StepSequence<'_>,
        n_pages: usize,
        max_len: usize,
    ) -> Result<()> {
        let refused = |reason| Err(ModelError::CacheSequence { reason });
        let len = held.saturating_add(adding);
        if len > max_len {
            return Err(ModelError::CacheFull { len: held, adding, capacity: max_len });
        }
        if adding == 0 {
            return refused("a sequence adds no token");
        }
        let Some(used) = pages.get(..len.div_ceil(PAGE_LEN)) else { return refused("a sequence has too few pages") };
        if used.iter().any(|page| *page as usize >= n_pages) {
            return refused("a sequence has a page that the cache has not");
        }
        self.sequences.push(Entry { first_page: self.tables.len(), n_pages: used.len(), held, adding });
        self.tables.extend_from_slice(used);
        self.positions.extend((held..len).map(|position| position as i32));
        Ok(())
    }

    /// The positions of the tokens, `[n]`.
    pub(super) fn positions(&mut self, device: &Device) -> Result<Tensor<i32>> {
        if let Some(positions) = &self.shared_positions {
            return Ok(positions.clone());
        }
        let positions = Tensor::from_slice(device, &self.positions, vec![self.positions.len()])?;
        self.shared_positions = Some(positions.clone());
        Ok(positions)
    }

    pub(super) fn clear(&mut self) {
        self.shared_positions = None;
        self.sequences.clear();
        self.tables.clear();
        self.positions.clear();
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// The sequences, as attention takes them behind the step's tokens.
    pub(super) fn sequences(&self) -> impl Iterator<Item = PagedSequence<'_>> + Clone {
        self.sequences.iter().map(|entry| PagedSequence {
            pages: self.tables.get(entry.first_page..).and_then(|rest| rest.get(..entry.n_pages)).unwrap_or_default(),
            n_tokens: entry.held + entry.adding,
            n_queries: entry.adding,
        })
    }

    /// The step's tokens, in runs that do not cross pages.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut first_token = 0;
        self.sequences.iter().flat_map(move |entry| {
            let (start, end) = (entry.held, entry.held + entry.adding);
            let first = first_token;
            first_token += entry.adding;
            let firsts = std::iter::once(start).chain((start / PAGE_LEN + 1..).map(|page| page * PAGE_LEN));
            firsts.take_while(move |token| *token < end).map(move |token| Run {
                first_token: first + token - start,
                n_tokens: end.min((token / PAGE_LEN + 1) * PAGE_LEN) - token,
                first_row: self.row(entry, token),
            })
        })
    }

    fn row(&self, entry: &Entry, token: usize) -> usize {
        let page = self.tables.get(entry.first_page + token / PAGE_LEN).copied().unwrap_or(0);
        page as usize * PAGE_LEN + token % PAGE_LEN
    }
}
