//! Pages: the memory of a cache that many sequences share.
//!
//! A page is [`PAGE_LEN`] tokens in all layers. Who owns which page is the caller's to know; a step says which sequences
//! it continues, and with which pages.

use tl_device::{DType, Device};
use tl_tensor::Tensor;
use tl_tensor::ops::PagedSequence;

use super::{CachePart, Keeps, KvCache, Memory, Part};
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
    fn clear(&mut self) {
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

impl KvCache {
    /// A cache of `n_pages` pages, for steps of several sequences of up to `max_len` tokens each: see
    /// [`KvCache::begin_step`]. Layers with windows keep all tokens of a sequence.
    ///
    /// # Errors
    /// As for [`KvCache::with_parts`]; a part that keeps a state, which cannot lie in pages; more pages than there are
    /// numbers for.
    pub fn with_pages(
        device: &Device,
        parts: &[CachePart],
        n_pages: usize,
        max_len: usize,
        dtype: DType,
    ) -> Result<KvCache> {
        let rows = n_pages.saturating_mul(PAGE_LEN);
        let mut cache = KvCache { capacity: max_len, n_pages: Some(n_pages), ..KvCache::default() };
        if u32::try_from(rows).is_err() {
            return Err(ModelError::CacheFull { len: 0, adding: rows, capacity: u32::MAX as usize });
        }
        for part in parts {
            let mut made = Part::new(device, part.in_pages()?, rows, dtype)?;
            made.of = *part;
            if let (Memory::Rows(rows), Keeps::KeysAndValues(spec)) = (&mut made.memory, part.keeps) {
                rows.spec = spec;
            }
            cache.parts.push(made);
        }
        Ok(cache)
    }

    /// The number of pages; `None` if the cache is that of one sequence.
    pub fn n_pages(&self) -> Option<usize> {
        self.n_pages
    }

    /// Says which sequences the next step continues: its tokens are theirs, in this order. After the step their pages
    /// hold these tokens too.
    ///
    /// # Errors
    /// A cache without pages; a sequence that adds nothing, has too few pages, one that does not exist, or too many
    /// tokens.
    pub fn begin_step<'a>(&mut self, sequences: impl IntoIterator<Item = StepSequence<'a>>) -> Result<()> {
        self.abandon_step();
        self.step_sequences.clear();
        for sequence in sequences {
            if let Err(error) = self.add_sequence(sequence) {
                self.step_sequences.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    fn add_sequence(&mut self, StepSequence { pages, held, adding }: StepSequence<'_>) -> Result<()> {
        let refused = |reason| Err(ModelError::CacheSequence { reason });
        let Some(n_pages) = self.n_pages else { return refused("it has no pages") };
        let len = held.saturating_add(adding);
        if len > self.capacity {
            return Err(ModelError::CacheFull { len: held, adding, capacity: self.capacity });
        }
        if adding == 0 {
            return refused("a sequence adds no token");
        }
        let Some(used) = pages.get(..len.div_ceil(PAGE_LEN)) else { return refused("a sequence has too few pages") };
        if used.iter().any(|page| *page as usize >= n_pages) {
            return refused("a sequence has a page that the cache has not");
        }
        let step = &mut self.step_sequences;
        step.sequences.push(Entry { first_page: step.tables.len(), n_pages: used.len(), held, adding });
        step.tables.extend_from_slice(used);
        step.positions.extend((held..len).map(|position| position as i32));
        Ok(())
    }

    /// Tokens of the step that was begun.
    pub fn step_len(&self) -> usize {
        self.step_sequences.len()
    }

    /// Ends a step of several sequences: the next one has to be said.
    pub fn end_step(&mut self) {
        self.step_sequences.clear();
    }

    /// The positions of a step's tokens, `[n]`; `None` where they follow [`KvCache::len`].
    ///
    /// # Errors
    /// Lack of memory.
    pub fn step_positions(&mut self) -> Result<Option<Tensor<i32>>> {
        let memory = self.parts.iter().find_map(|part| match &part.memory {
            Memory::Rows(rows) => Some(rows.keys.device()),
            Memory::States(_) => None,
        });
        let Some(device) = memory.cloned() else { return Ok(None) };
        if self.n_pages.is_none() {
            return Ok(None);
        }
        let step = &mut self.step_sequences;
        if step.shared_positions.is_none() {
            step.shared_positions = Some(Tensor::from_slice(&device, &step.positions, vec![step.positions.len()])?);
        }
        Ok(step.shared_positions.clone())
    }
}
