//! The merges that a file lists as texts, resolved to ids.
//!
//! Knows the vocabulary, not the use of merges. A file has hundreds of thousands, and each takes three look-ups, so
//! they are resolved in blocks (cache misses overlap) and in parts, one for each of a few threads.

use std::ops::Range;
use std::thread;

use tl_device::has_address_space;

use super::bytes::push_spelled;
use super::vocab::{BLOCK, Probe, Vocab};
use crate::error::{ModelError, Result};

/// Fewer merges than this are not worth a thread.
const MIN_PER_THREAD: usize = 1 << 14;
/// More threads than this compete for memory bandwidth.
const MAX_THREADS: usize = 4;

/// The two texts of a merge (UTF-8), as the file spells them.
pub(super) type Texts<'a> = (&'a [u8], &'a [u8]);

/// A part of the merges in ids.
#[derive(Debug, Default)]
pub(super) struct Merges {
    /// Left, right and result.
    pub(super) ids: Vec<[u32; 3]>,
    /// The characters on both sides of each merge; empty for a byte-level vocabulary.
    pub(super) meeting: Vec<(u32, u32)>,
}

/// The parts into which this many merges are divided: ranges of ranks, at least one.
pub(super) fn parts(n_merges: usize) -> impl Iterator<Item = Range<usize>> {
    let n_threads = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_THREADS);
    let n_parts = (n_merges / MIN_PER_THREAD).clamp(1, n_threads);
    (0..n_parts).map(move |part| n_merges * part / n_parts..n_merges * (part + 1) / n_parts)
}

/// Address space of a thread: its stack, and its initial allocations.
const THREAD_BYTES: usize = 3 << 20;

/// The merges in ids, part by part. Each part comes with its range of ranks.
///
/// # Errors
/// A merge whose left text, right text or result is not a token; errors of the parts' iterators.
pub(super) fn resolve<'a, I>(vocab: &Vocab, byte_level: bool, parts: &[(Range<usize>, I)]) -> Result<Vec<Merges>>
where
    I: Iterator<Item = Result<Texts<'a>>> + Clone + Send + Sync,
{
    let run = |(ranks, merges): &(Range<usize>, I)| resolve_part(vocab, byte_level, ranks.clone(), merges.clone());
    let Some((first, others)) = parts.split_first() else { return Ok(Vec::new()) };
    thread::scope(|scope| {
        let spawn = |part| match has_address_space(THREAD_BYTES) {
            true => thread::Builder::new().spawn_scoped(scope, move || run(part)).map_err(|_| part),
            false => Err(part),
        };
        let others: Vec<_> = others.iter().map(spawn).collect();
        let mut resolved = vec![run(first)?];
        for other in others {
            resolved.push(match other {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                // No further thread could be started.
                Err(part) => run(part)?,
            });
        }
        Ok(resolved)
    })
}

/// Merges that are looked up together.
#[derive(Default)]
struct Block<'a> {
    texts: Vec<Texts<'a>>,
    /// All texts, in the tokens' spelling.
    bytes: Vec<u8>,
    /// For each merge: start of the left text, start of the right text, and its end.
    bounds: Vec<[usize; 3]>,
    probes: Vec<[Probe; 2]>,
}

impl<'a> Block<'a> {
    /// Takes the next merges; `false` at the end.
    fn fill(
        &mut self,
        merges: impl Iterator<Item = Result<Texts<'a>>>,
        byte_level: bool,
        vocab: &Vocab,
    ) -> Result<bool> {
        self.texts.clear();
        self.bytes.clear();
        self.bounds.clear();
        self.probes.clear();
        for merge in merges.take(BLOCK) {
            let (left, right) = merge?;
            let bytes = &mut self.bytes;
            let start = bytes.len();
            let mut push = |text: &[u8]| {
                if byte_level {
                    push_spelled(text, bytes);
                } else {
                    bytes.extend_from_slice(text);
                }
                bytes.len()
            };
            let (middle, end) = (push(left), push(right));
            self.texts.push((left, right));
            self.bounds.push([start, middle, end]);
            self.probes.push([vocab.probe(&self.bytes[start..middle]), vocab.probe(&self.bytes[middle..end])]);
        }
        Ok(!self.texts.is_empty())
    }
}

fn resolve_part<'a>(
    vocab: &Vocab,
    byte_level: bool,
    ranks: Range<usize>,
    mut merges: impl Iterator<Item = Result<Texts<'a>>>,
) -> Result<Merges> {
    let mut found = Merges { ids: Vec::with_capacity(ranks.len()), meeting: Vec::new() };
    let mut block = Block::default();
    let mut last = 0;
    while block.fill(merges.by_ref(), byte_level, vocab)? {
        vocab.read_ahead(block.probes.iter().flatten());
        for ((&texts, &[start, middle, end]), probes) in block.texts.iter().zip(&block.bounds).zip(&block.probes) {
            let (left, right) = (&block.bytes[start..middle], &block.bytes[middle..end]);
            let ids = (vocab.find_from(left, probes[0]), vocab.find_from(right, probes[1]));
            let whole = vocab.find_near(&block.bytes[start..end], last);
            let ((Some(left), Some(right)), Some(whole)) = (ids, whole) else {
                return Err(no_token(ranks.start + found.ids.len(), texts, ids));
            };
            found.ids.push([left, right, whole]);
            last = whole;
        }
        if !byte_level {
            found.meeting.extend(block.texts.iter().map(|(left, right)| (last_char(left), first_char(right))));
        }
    }
    Ok(found)
}

fn no_token(rank: usize, (left, right): Texts<'_>, ids: (Option<u32>, Option<u32>)) -> crate::ModelError {
    let [left, right] = [left, right].map(|text| String::from_utf8_lossy(text).into_owned());
    let absent = match ids {
        (None, _) => left.clone(),
        (_, None) => right.clone(),
        _ => format!("{left}{right}"),
    };
    ModelError::bad_tokenizer(format!("merge {rank} joins {left:?} and {right:?}, but {absent:?} is no token"))
}

fn first_char(text: &[u8]) -> u32 {
    let rest = text.get(1..).unwrap_or_default();
    let end = rest.iter().position(|&byte| !is_continuation(byte)).unwrap_or(rest.len());
    code_of(text.get(..=end).unwrap_or_default())
}

fn last_char(text: &[u8]) -> u32 {
    let start = text.iter().rposition(|&byte| !is_continuation(byte)).unwrap_or(0);
    code_of(text.get(start..).unwrap_or_default())
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// The code point of a character in UTF-8.
fn code_of(bytes: &[u8]) -> u32 {
    let (lead, rest) = match *bytes {
        [lead, ref rest @ ..] => (u32::from(lead), rest),
        [] => return 0,
    };
    let bits = match rest.len() {
        0 => lead,
        1 => lead & 0x1F,
        2 => lead & 0x0F,
        _ => lead & 0x07,
    };
    rest.iter().fold(bits, |code, &byte| code << 6 | u32::from(byte & 0x3F))
}

#[cfg(test)]
mod tests {
    use super::super::vocab::Kind;
    use super::*;

    #[test]
    fn parts_have_every_rank_once() {
        for n in [0, 1, MIN_PER_THREAD * 2 - 1, MIN_PER_THREAD * 3 + 1, MIN_PER_THREAD * 40 + 7] {
            let ranks: Vec<usize> = parts(n).flatten().collect();
            assert!(ranks.into_iter().eq(0..n) && parts(n).count() >= 1, "{n}");
        }
    }

    #[test]
    fn characters_where_texts_meet() {
        for text in ["a", "éa", "a漢", "🦀▁", "▁🦀", "\u{10FFFF}\u{80}\u{7FF}\u{800}", ""] {
            let code = |c: Option<char>| c.map_or(0, u32::from);
            assert_eq!(first_char(text.as_bytes()), code(text.chars().next()), "{text:?}");
            assert_eq!(last_char(text.as_bytes()), code(text.chars().next_back()), "{text:?}");
        }
    }

    /// The tokens are all texts of one to three of these letters, the merges all ways to make one of two.
    #[test]
    fn every_part_gives_what_one_look_up_gives() {
        let letters = ["a", "b", "é", "漢", "🦀", "long-letter"];
        let mut texts: Vec<String> = letters.map(str::to_owned).to_vec();
        for first in letters {
            texts.extend(letters.iter().map(|second| format!("{first}{second}")));
        }
        let mut vocab = Vocab::new();
        texts.iter().for_each(|text| vocab.push(text.as_bytes(), Kind::Normal).unwrap());
        vocab.index(&[&[Kind::Normal]]);
        let pairs: Vec<(&str, &str)> = letters.iter().flat_map(|a| letters.iter().map(move |b| (*a, *b))).collect();
        let merges = |ranks: &Range<usize>| {
            let texts = pairs[ranks.clone()].iter().map(|(left, right)| Ok((left.as_bytes(), right.as_bytes())));
            (ranks.clone(), texts)
        };
        for cuts in [vec![0, 36], vec![0, 1, 36], vec![0, 5, 5, 35, 36]] {
            let parts: Vec<_> = cuts.windows(2).map(|cut| merges(&(cut[0]..cut[1]))).collect();
            let found = resolve(&vocab, false, &parts).unwrap();
            let id = |text: &str| texts.iter().position(|other| other == text).unwrap() as u32;
            let expected = pairs.iter().map(|(a, b)| [id(a), id(b), id(&format!("{a}{b}"))]);
            assert!(found.iter().flat_map(|part| &part.ids).copied().eq(expected), "{cuts:?}");
            assert_eq!(found.iter().map(|part| part.meeting.len()).sum::<usize>(), 36);
        }
        let check = |left: &'static str, right: &'static str, absent: &str| {
            let good = (0..1, vec![Ok((&b"a"[..], &b"b"[..]))].into_iter());
            let bad = (1..2, vec![Ok((left.as_bytes(), right.as_bytes()))].into_iter());
            let clone = |part: &(Range<usize>, std::vec::IntoIter<std::result::Result<Texts<'static>, ()>>)| {
                (part.0.clone(), part.1.clone().map(|texts| texts.map_err(|()| ModelError::bad_tokenizer(""))))
            };
            let error = resolve(&vocab, false, &[clone(&good), clone(&bad)]).unwrap_err().to_string();
            assert!(error.contains("merge 1 joins") && error.contains(&format!("{absent:?} is no token")), "{error}");
        };
        check("x", "b", "x");
        check("a", "xyz", "xyz");
        check("ab", "b", "abb");
    }
}
