//! The pages of the KV cache: which sequence has which, and the beginnings of prompts that free pages still hold.
//!
//! The beginnings of prompts are kept in *chunks*: [`CHUNK`] tokens that begin at a multiple of it. A chunk has the same
//! bits whoever computes it, since it always goes through the model as one step; so sequences share chunks without
//! changing anybody's text. A chunk that no sequence uses stays until its pages are needed: it costs nothing.

use std::collections::{HashMap, VecDeque};

use tl_model::PAGE_LEN;

/// Tokens of a prompt that go through the model at once.
pub(crate) const CHUNK: usize = 4 * PAGE_LEN;

/// Pages of a chunk.
const CHUNK_PAGES: usize = CHUNK / PAGE_LEN;

/// The chunk before a text's first.
const NO_CHUNK: u64 = 0;

/// A chunk's name: the chunk before it, and its tokens.
type Key = (u64, Box<[u32]>);

/// The pages of a cache.
#[derive(Debug)]
pub(crate) struct PagePool {
    n_pages: usize,
    free: Vec<u32>,
    chunks: HashMap<Key, u64>,
    entries: HashMap<u64, Entry>,
    /// Chunks that no sequence uses, the one to go first in front.
    idle: VecDeque<u64>,
    next_id: u64,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    pages: [u32; CHUNK_PAGES],
    users: usize,
}

/// The pages of a sequence: first those of chunks, then its own.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// All of them, in order.
    pub(crate) table: Vec<u32>,
    chunks: Vec<u64>,
}

impl Pages {
    /// Tokens that the chunks hold.
    pub(crate) fn shared_tokens(&self) -> usize {
        self.chunks.len() * CHUNK
    }
}

impl PagePool {
    pub(crate) fn new(n_pages: usize) -> PagePool {
        PagePool {
            n_pages,
            free: (0..n_pages as u32).rev().collect(),
            chunks: HashMap::with_capacity(n_pages / CHUNK_PAGES),
            entries: HashMap::with_capacity(n_pages / CHUNK_PAGES),
            idle: VecDeque::with_capacity(n_pages / CHUNK_PAGES),
            next_id: NO_CHUNK + 1,
        }
    }

    /// Pages that no sequence uses.
    pub(crate) fn n_free(&self) -> usize {
        self.free.len() + self.idle.len() * CHUNK_PAGES
    }

    pub(crate) fn n_used(&self) -> usize {
        self.n_pages - self.n_free()
    }

    /// Pages for a sequence of up to `len` tokens that begins with `prompt`, those of chunks that are there included;
    /// `None` if too few are free. At least the prompt's last token is left to be computed.
    pub(crate) fn book(&mut self, prompt: &[u32], len: usize) -> Option<Pages> {
        let needed = len.div_ceil(PAGE_LEN);
        let chunks = self.find(prompt);
        let n_idle = chunks.iter().filter(|id| self.entries.get(id).is_some_and(|entry| entry.users == 0)).count();
        let n_own = needed.saturating_sub(chunks.len() * CHUNK_PAGES);
        if n_own + n_idle * CHUNK_PAGES > self.n_free() {
            return None;
        }
        let mut pages = Pages { table: Vec::with_capacity(needed), chunks: Vec::with_capacity(needed / CHUNK_PAGES) };
        for id in chunks {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.users += 1;
                pages.table.extend(entry.pages);
                pages.chunks.push(id);
            }
        }
        let entries = &self.entries;
        self.idle.retain(|id| entries.get(id).is_some_and(|entry| entry.users == 0));
        while pages.table.len() < needed {
            match self.free.pop() {
                Some(page) => pages.table.push(page),
                None => self.evict(),
            }
        }
        Some(pages)
    }

    /// The chunks with which a prompt begins.
    fn find(&self, prompt: &[u32]) -> Vec<u64> {
        let mut found = Vec::new();
        let mut before = NO_CHUNK;
        let known = prompt.get(..prompt.len().saturating_sub(1)).unwrap_or_default();
        for tokens in known.chunks_exact(CHUNK) {
            let Some(id) = self.chunks.get(&(before, Box::from(tokens))) else { break };
            found.push(*id);
            before = *id;
        }
        found
    }

    /// Frees the pages of the idle chunk to go first.
    fn evict(&mut self) {
        let Some(entry) = self.idle.pop_front().and_then(|id| self.entries.remove(&id)) else { return };
        self.chunks.remove(&entry.key);
        self.free.extend(entry.pages);
    }

    /// Lets others use the chunk of `prompt` that has just been computed, the one behind those that `pages` shares.
    pub(crate) fn share(&mut self, pages: &mut Pages, prompt: &[u32]) {
        let first = pages.shared_tokens();
        let (Some(tokens), Some(own)) = (
            prompt.get(first..first + CHUNK),
            pages.table.get(first / PAGE_LEN..).and_then(|own| own.first_chunk::<CHUNK_PAGES>()),
        ) else {
            return;
        };
        let key: Key = (pages.chunks.last().copied().unwrap_or(NO_CHUNK), Box::from(tokens));
        // Another sequence has computed the same at the same time: this one keeps its own.
        if self.chunks.contains_key(&key) {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.chunks.insert(key.clone(), id);
        self.entries.insert(id, Entry { key, pages: *own, users: 1 });
        pages.chunks.push(id);
    }

    /// Takes the pages of a sequence back; those of chunks stay as they are until they are needed.
    pub(crate) fn give_back(&mut self, pages: Pages) {
        self.free.extend(pages.table.iter().skip(pages.chunks.len() * CHUNK_PAGES));
        // Later chunks are of no use without the earlier ones, so they go first.
        for id in pages.chunks.into_iter().rev() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.users -= 1;
            if entry.users == 0 {
                self.idle.push_back(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(seed: u32, len: usize) -> Vec<u32> {
        (0..len as u32).map(|i| seed * 1000 + i).collect()
    }

    #[test]
    fn prompts_share_what_they_begin_with() {
        let mut pool = PagePool::new(20);
        let text = prompt(1, 2 * CHUNK + 5);
        let mut first = pool.book(&text, text.len() + 10).unwrap();
        assert_eq!((first.table.len(), first.shared_tokens(), pool.n_used()), (9, 0, 9));
        pool.share(&mut first, &text);
        // One chunk is there; the second is not yet.
        let mut second = pool.book(&text, text.len() + 10).unwrap();
        assert_eq!((second.shared_tokens(), pool.n_used()), (CHUNK, 14));
        pool.share(&mut second, &text);
        pool.share(&mut first, &text);
        assert_eq!((first.shared_tokens(), second.shared_tokens()), (CHUNK, 2 * CHUNK));
        pool.give_back(first);
        pool.give_back(second);
        assert_eq!((pool.n_used(), pool.n_free()), (0, 20));
        // Both are still known, and whole prompts leave a token to compute.
        let third = pool.book(&text, text.len()).unwrap();
        assert_eq!((third.shared_tokens(), pool.n_used()), (2 * CHUNK, 9));
        pool.give_back(third);
        let whole = pool.book(&text[..2 * CHUNK], 2 * CHUNK + 1).unwrap();
        assert_eq!(whole.shared_tokens(), CHUNK);
        pool.give_back(whole);
        // What is needed for others goes, the end of a text before its beginning.
        let other = pool.book(&prompt(2, 10), 15 * PAGE_LEN).unwrap();
        assert_eq!(pool.find(&text).len(), 1);
        assert!(pool.book(&prompt(3, 10), 6 * PAGE_LEN).is_none());
        pool.give_back(other);
        assert_eq!(pool.n_free(), 20);
    }

    /// Whatever sequences come and go, a page belongs to one sequence, or to one chunk, or is free.
    #[test]
    fn no_page_is_lost_or_given_twice() {
        let mut state = 7u64;
        let mut random = move |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let mut pool = PagePool::new(33);
        let mut running: Vec<(Vec<u32>, Pages)> = Vec::new();
        for _ in 0..20_000 {
            match random(3) {
                0 => {
                    let text = prompt(random(3) as u32, 1 + random(3 * CHUNK));
                    let len = text.len() + random(100);
                    let free = pool.n_free();
                    match pool.book(&text, len) {
                        Some(pages) => running.push((text, pages)),
                        None => assert!(free < len.div_ceil(PAGE_LEN)),
                    }
                }
                1 if !running.is_empty() => {
                    let at = random(running.len());
                    let (text, pages) = &mut running[at];
                    pool.share(pages, text);
                }
                _ if !running.is_empty() => {
                    let at = random(running.len());
                    let (_, pages) = running.swap_remove(at);
                    pool.give_back(pages);
                }
                _ => {}
            }
            let mut owners = vec![0; 33];
            pool.free.iter().for_each(|page| owners[*page as usize] += 1);
            pool.entries.values().flat_map(|entry| entry.pages).for_each(|page| owners[page as usize] += 1);
            for (_, pages) in &running {
                pages.table[pages.chunks.len() * CHUNK_PAGES..].iter().for_each(|page| owners[*page as usize] += 1);
                let of_chunks = pages.chunks.iter().flat_map(|id| pool.entries[id].pages);
                assert!(of_chunks.eq(pages.table[..pages.chunks.len() * CHUNK_PAGES].iter().copied()));
            }
            assert!(owners.iter().all(|n| *n == 1), "{owners:?}");
            assert!(pool.idle.iter().all(|id| pool.entries[id].users == 0));
            assert_eq!(pool.idle.len(), pool.entries.values().filter(|entry| entry.users == 0).count());
            assert_eq!(pool.chunks.len(), pool.entries.len());
        }
    }
}
