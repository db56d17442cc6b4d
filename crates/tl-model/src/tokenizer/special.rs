//! Special tokens, which are cut out of a text before anything else, and the protection of a text against that.
//!
//! Knows the tokens' texts and their treatment of adjacent spaces, not their meaning.

use std::borrow::Cow;

use crate::error::{ModelError, Result};

/// The noncharacter that keeps a text from being read as a special token. Unicode gives it no meaning, ever.
pub(super) const SENTINEL: char = '\u{FDD0}';

/// The longest text of a special token; it bounds the time for each place of a text.
const MAX_LEN_BYTES: usize = 1024;

/// A token with a text of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Special {
    pub(super) text: Box<str>,
    pub(super) id: u32,
    /// Takes the spaces before it.
    pub(super) lstrip: bool,
    /// Takes the spaces behind it.
    pub(super) rstrip: bool,
    /// Recognized only without a letter, digit or underscore beside it.
    pub(super) single_word: bool,
}

/// Tokens to be cut out of texts.
#[derive(Debug)]
pub(super) struct SpecialSet {
    /// Sorted by the bytes of their texts.
    sorted: Vec<Special>,
    /// The range in `sorted` for each first byte.
    by_first: Box<[(u32, u32); 256]>,
}

/// A piece of a text: ordinary text, or a token that was cut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl SpecialSet {
    /// A set of tokens; of those with the same text, the first.
    ///
    /// # Errors
    /// A text that is too long.
    pub(super) fn new(mut specials: Vec<Special>) -> Result<SpecialSet> {
        specials.retain(|special| !special.text.is_empty());
        if let Some(long) = specials.iter().find(|special| special.text.len() > MAX_LEN_BYTES) {
            let (id, len) = (long.id, long.text.len());
            return Err(ModelError::bad_tokenizer(format!(
                "the special token {id} has a text of {len} bytes, more than {MAX_LEN_BYTES}"
            )));
        }
        specials.sort_by(|a, b| a.text.cmp(&b.text));
        specials.dedup_by(|later, first| later.text == first.text);
        let mut by_first = Box::new([(0, 0); 256]);
        for (at, special) in (0u32..).zip(&specials) {
            let range = &mut by_first[usize::from(special.text.as_bytes()[0])];
            *range = if range.1 == 0 { (at, at + 1) } else { (range.0, at + 1) };
        }
        Ok(SpecialSet { sorted: specials, by_first })
    }

    /// Drops the tokens from id `n` on.
    pub(super) fn truncate(&mut self, n: usize) -> Result<()> {
        let kept = std::mem::take(&mut self.sorted).into_iter().filter(|special| (special.id as usize) < n);
        *self = SpecialSet::new(kept.collect())?;
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Every token, sorted by text.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Special> {
        self.sorted.iter()
    }

    /// The token with this text.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let at = self.sorted.binary_search_by(|special| (*special.text).cmp(text)).ok()?;
        self.sorted.get(at).map(|special| special.id)
    }

    /// The longest token that matches the text's bytes from `at` on.
    fn longest_at(&self, bytes: &[u8], at: usize) -> Option<&Special> {
        let (low, high) = self.by_first[usize::from(*bytes.get(at)?)];
        let mut range = self.sorted.get(low as usize..high as usize)?;
        let mut best = None;
        let mut depth = 1;
        while let Some(first) = range.first() {
            if first.text.len() == depth {
                best = Some(first);
            }
            let Some(next) = bytes.get(at + depth) else { break };
            let byte = |special: &Special| special.text.as_bytes().get(depth).copied();
            let low = range.partition_point(|special| byte(special) < Some(*next));
            let high = range.partition_point(|special| byte(special) <= Some(*next));
            range = range.get(low..high).unwrap_or_default();
            depth += 1;
        }
        best
    }

    /// Splits a text: at every place the longest token, from the left.
    pub(super) fn parts<'a>(&'a self, text: &'a str) -> Parts<'a> {
        Parts { set: self, text, done: 0, searched: 0, token: None }
    }

    /// Inserts the sentinel after the first character of every token's text in this text, and where adjacent text could
    /// complete one. Sentinels in the text itself are dropped.
    pub(super) fn protect<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let clean = without_sentinel(text);
        let mut cuts = Vec::new();
        if self.ends_some(&clean) {
            cuts.push(0);
        }
        for (at, c) in clean.char_indices() {
            let next = at + c.len_utf8();
            if self.longest_at(clean.as_bytes(), at).is_some() || self.begins_some(&clean[at..]) {
                cuts.push(next);
            }
        }
        if cuts.is_empty() {
            return clean;
        }
        let mut protected = String::with_capacity(clean.len() + cuts.len() * SENTINEL.len_utf8());
        let mut done = 0;
        for cut in cuts {
            protected.push_str(&clean[done..cut]);
            protected.push(SENTINEL);
            done = cut;
        }
        protected.push_str(&clean[done..]);
        Cow::Owned(protected)
    }

    /// Whether a token's text begins with `rest`.
    fn begins_some(&self, rest: &str) -> bool {
        let Some(&first) = rest.as_bytes().first() else { return false };
        let (low, high) = self.by_first[usize::from(first)];
        if low == high || rest.len() >= MAX_LEN_BYTES {
            return false;
        }
        // Texts that begin with `rest` are adjacent, from the first that is not less than it.
        let range = self.sorted.get(low as usize..high as usize).unwrap_or_default();
        let at = range.partition_point(|special| &*special.text < rest);
        range.get(at).is_some_and(|special| special.text.starts_with(rest))
    }

    /// Whether the text begins with the end of a token's text.
    fn ends_some(&self, text: &str) -> bool {
        self.sorted.iter().any(|special| {
            let ends = special.text.char_indices().skip(1).map(|(at, _)| &special.text[at..]);
            ends.into_iter().any(|end| text.starts_with(end))
        })
    }
}

/// The text without sentinels.
pub(super) fn without_sentinel(text: &str) -> Cow<'_, str> {
    if text.contains(SENTINEL) { Cow::Owned(text.replace(SENTINEL, "")) } else { Cow::Borrowed(text) }
}

/// The parts of a text, from left to right.
pub(super) struct Parts<'a> {
    set: &'a SpecialSet,
    text: &'a str,
    /// Bytes given out so far.
    done: usize,
    /// Position at which the search continues.
    searched: usize,
    /// The token after the text that was given out last.
    token: Option<u32>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if let Some(id) = self.token.take() {
            return Some(Part::Token(id));
        }
        let bytes = self.text.as_bytes();
        while self.searched < bytes.len() && !self.set.is_empty() {
            let ranges = &self.set.by_first;
            let rest = bytes.get(self.searched..).unwrap_or_default();
            let Some(skipped) = rest.iter().position(|&byte| ranges[usize::from(byte)].1 > 0) else { break };
            let start = self.searched + skipped;
            let Some(special) = self.set.longest_at(bytes, start) else {
                self.searched = start + 1;
                continue;
            };
            let end = start + special.text.len();
            self.searched = end;
            let (before, behind) = (self.text.get(self.done..start).unwrap_or_default(), &self.text[end..]);
            if special.single_word && (before.ends_with(is_word) || behind.starts_with(is_word)) {
                continue;
            }
            let text = if special.lstrip { before.trim_end() } else { before };
            let behind = if special.rstrip { behind.trim_start() } else { behind };
            self.done = self.text.len() - behind.len();
            self.searched = self.done;
            if text.is_empty() {
                return Some(Part::Token(special.id));
            }
            self.token = Some(special.id);
            return Some(Part::Text(text));
        }
        let rest = self.text.get(self.done..).unwrap_or_default();
        self.done = self.text.len();
        self.searched = self.done;
        (!rest.is_empty()).then_some(Part::Text(rest))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special(id: u32, text: &str) -> Special {
        Special { text: text.into(), id, ..Special::default() }
    }

    fn set() -> SpecialSet {
        SpecialSet::new(vec![
            special(0, "<s>"),
            special(1, "<s><s>"),
            special(2, "ab"),
            special(3, "bc"),
            special(4, "<|é|>"),
            special(5, "ab"),
            Special { lstrip: true, rstrip: true, ..special(6, "<mask>") },
            Special { single_word: true, ..special(7, "word") },
        ])
        .unwrap()
    }

    fn cut(set: &SpecialSet, text: &str) -> String {
        let show = |part| match part {
            Part::Text(text) => format!("({text})"),
            Part::Token(id) => id.to_string(),
        };
        set.parts(text).map(show).collect()
    }

    #[test]
    fn the_longest_from_the_left() {
        let check = |text: &str, expected: &str| assert_eq!(cut(&set(), text), expected, "{text:?}");
        check("", "");
        check("x", "(x)");
        check("<s>", "0");
        check("x<s>y", "(x)0(y)");
        check("<s><s><s", "1(<s)");
        check("<s><s", "0(<s)");
        check("abc", "2(c)");
        check("bbc", "(b)3");
        check("é<|é|>é", "(é)4(é)");
        check("<|é|", "(<|é|)");
        check(" a \n<mask>\t b", "( a)6(b)");
        check("<mask> <mask>", "66");
        check("word swords word_", "7( swords word_)");
    }

    #[test]
    fn a_long_text_is_refused() {
        assert!(SpecialSet::new(vec![special(9, &"x".repeat(1025))]).unwrap_err().to_string().contains("1025 bytes"));
    }

    #[test]
    fn protection_breaks_every_occurrence() {
        let set = set();
        let check = |text: &str| {
            let protected = set.protect(text);
            assert!(!cut(&set, &protected).contains(|c: char| c.is_ascii_digit()), "{text:?}: {protected:?}");
            assert_eq!(without_sentinel(&protected), text.replace(SENTINEL, ""));
        };
        for text in
            ["", "<s>", "abc", "<s><s><s>", "<<s>s>", "<\u{FDD0}s>", "a\u{FDD0}\u{FDD0}bcab", "x<|é|>ab<", "word"]
        {
            check(text);
        }
        assert!(matches!(set.protect("nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn protected_texts_side_by_side_make_no_token() {
        let set = set();
        let texts = ["<", "s>", "<s", ">", "a", "b", "c", "<|", "é", "|>", "<s><", "x", ""];
        for first in texts {
            for second in texts {
                for third in texts {
                    let joined: String = [first, second, third].iter().map(|text| set.protect(text)).collect();
                    assert!(!cut(&set, &joined).contains(|c: char| c.is_ascii_digit()), "{joined:?}");
                }
            }
        }
    }
}
