//! Stop strings: the search for the first of several strings in a text that arrives in pieces.
//!
//! It holds back the end of the text while that may be the beginning of a stop string, and gives out the text before
//! it. It knows neither tokens nor models; the division into pieces affects only when text is given out.
//!
//! The search is that of Aho and Corasick (1975, "Efficient string matching: an aid to bibliographic search") over
//! bytes: one pass, whatever prefixes the strings share.

use crate::error::{ModelError, Result};

/// Searches a text that arrives in pieces for the first of several strings.
///
/// The first is the one that is complete first; of several that end at the same place, the longest. So a string that is
/// contained in another may be found before that one is complete.
///
/// ```
/// use tl_model::StopStrings;
///
/// let mut stop = StopStrings::new(&["\nUser:"])?;
/// assert_eq!(stop.push("Yes.\nU"), "Yes.");
/// assert_eq!(stop.push("nder"), "\nUnder");
/// assert_eq!(stop.push(" it.\nUser: and"), " it.");
/// assert_eq!(stop.found(), Some(0));
/// # Ok::<(), tl_model::ModelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopStrings {
    /// The prefixes of the strings, each once; the first is the empty one.
    nodes: Vec<Node>,
    /// The longest prefix of a string with which the text ends.
    state: u32,
    /// The last piece after the held-back text; the first `given` bytes have been given out.
    text: String,
    given: usize,
    found: Option<usize>,
}

/// A prefix of one or more strings.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Its last byte.
    byte: u8,
    /// The first prefix that is one byte longer, and the next sibling of this one. 0: none.
    first_child: u32,
    sibling: u32,
    /// The longest other prefix that is a suffix of this one.
    suffix: u32,
    len_bytes: u32,
    /// The longest string that ends this prefix: its index and length.
    found: Option<(u32, u32)>,
}

impl StopStrings {
    /// The most strings.
    pub const MAX_STRINGS: usize = 64;
    /// The most bytes of a string.
    pub const MAX_LEN_BYTES: usize = 1024;

    /// Prepares to search for `strings`; without any, all text is given out at once.
    ///
    /// # Errors
    /// More than [`StopStrings::MAX_STRINGS`], a string that is empty or longer than [`StopStrings::MAX_LEN_BYTES`].
    pub fn new<S: AsRef<str>>(strings: &[S]) -> Result<StopStrings> {
        if strings.len() > Self::MAX_STRINGS {
            return Err(ModelError::TooManyStopStrings { count: strings.len(), limit: Self::MAX_STRINGS });
        }
        let mut longest = 0;
        let mut nodes = vec![Node::default()];
        for (string, index) in strings.iter().zip(0u32..) {
            let string = string.as_ref().as_bytes();
            if string.is_empty() || string.len() > Self::MAX_LEN_BYTES {
                let (index, limit) = (index as usize, Self::MAX_LEN_BYTES);
                return Err(ModelError::StopStringLength { index, len_bytes: string.len(), limit });
            }
            longest = longest.max(string.len());
            add_string(&mut nodes, string, index);
        }
        link_suffixes(&mut nodes);
        // Pieces are short: a larger buffer is seldom needed, and then kept.
        let text = String::with_capacity(longest + 256);
        Ok(StopStrings { nodes, state: 0, text, given: 0, found: None })
    }

    /// Adds a piece of text. Returns the text that can no longer be part of a stop string; when one is found, the text
    /// before it, and after that nothing.
    ///
    /// Allocates only for a piece longer than all before.
    pub fn push(&mut self, piece: &str) -> &str {
        self.forget_given();
        if self.found.is_some() {
            return "";
        }
        let held = self.text.len();
        self.text.push_str(piece);
        for (&byte, end) in piece.as_bytes().iter().zip(held + 1..) {
            self.state = next(&self.nodes, self.state, byte);
            if let Some((index, len_bytes)) = self.node().found {
                self.found = Some(index as usize);
                self.text.truncate(end - len_bytes as usize);
                return self.give(self.text.len());
            }
        }
        self.give(self.text.len() - self.node().len_bytes as usize)
    }

    /// Ends the text: returns the held-back text, or nothing if a stop string was found.
    pub fn finish(&mut self) -> &str {
        self.forget_given();
        self.state = 0;
        self.give(self.text.len())
    }

    /// Begins a new text with the same strings.
    pub fn reset(&mut self) {
        self.text.clear();
        (self.state, self.given, self.found) = (0, 0, None);
    }

    /// Index of the stop string that was found.
    pub fn found(&self) -> Option<usize> {
        self.found
    }

    fn node(&self) -> Node {
        self.nodes.get(self.state as usize).copied().unwrap_or_default()
    }

    /// Moves the held-back text to the front. It begins with a whole character, as every stop string does.
    fn forget_given(&mut self) {
        self.text.drain(..self.given);
        self.given = 0;
    }

    fn give(&mut self, len_bytes: usize) -> &str {
        self.given = len_bytes;
        self.text.get(..len_bytes).unwrap_or_default()
    }
}

/// Adds the missing prefixes of a string.
fn add_string(nodes: &mut Vec<Node>, string: &[u8], index: u32) {
    let mut at = 0;
    for (&byte, len_bytes) in string.iter().zip(1u32..) {
        at = match child(nodes, at, byte) {
            0 => {
                let new = nodes.len() as u32;
                let sibling = std::mem::replace(&mut nodes[at as usize].first_child, new);
                nodes.push(Node { byte, sibling, len_bytes, ..Node::default() });
                new
            }
            child => child,
        };
    }
    // Of equal strings, the first counts.
    nodes[at as usize].found.get_or_insert((index, string.len() as u32));
}

/// Finds the suffix of every node, the shorter nodes first.
fn link_suffixes(nodes: &mut [Node]) {
    let mut by_len: Vec<u32> = (0..nodes.len() as u32).collect();
    by_len.sort_by_key(|&at| nodes[at as usize].len_bytes);
    for parent in by_len {
        let mut at = nodes[parent as usize].first_child;
        while at != 0 {
            let Node { byte, sibling, .. } = nodes[at as usize];
            let suffix = if parent == 0 { 0 } else { next(nodes, nodes[parent as usize].suffix, byte) };
            let shorter = nodes[suffix as usize].found;
            let node = &mut nodes[at as usize];
            node.suffix = suffix;
            node.found = node.found.or(shorter);
            at = sibling;
        }
    }
}

/// The child of node `at` for this byte; 0 if there is none.
fn child(nodes: &[Node], at: u32, byte: u8) -> u32 {
    let mut child = nodes[at as usize].first_child;
    while child != 0 && nodes[child as usize].byte != byte {
        child = nodes[child as usize].sibling;
    }
    child
}

/// The longest node with which the text of `state` ends after `byte`.
fn next(nodes: &[Node], mut state: u32, byte: u8) -> u32 {
    loop {
        match child(nodes, state, byte) {
            0 if state == 0 => return 0,
            0 => state = nodes[state as usize].suffix,
            child => return child,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that is given out, and the string found.
    fn searched(strings: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut stop = StopStrings::new(strings).unwrap();
        let mut given: String = pieces.iter().map(|piece| stop.push(piece).to_owned()).collect();
        let found = stop.found();
        given.push_str(stop.finish());
        (given, found)
    }

    #[test]
    fn finds_the_string_that_is_complete_first() {
        let check = |strings: &[&str], pieces: &[&str], given: &str, found: Option<usize>| {
            assert_eq!(searched(strings, pieces), (given.to_owned(), found), "{strings:?} in {pieces:?}");
        };
        check(&[], &["a", "", "b"], "ab", None);
        check(&["b"], &["abc"], "a", Some(0));
        check(&["abc"], &["xa", "b", "c", "d"], "x", Some(0));
        check(&["abc"], &["xa", "b"], "xab", None);
        // A beginning inside a beginning.
        check(&["aab"], &["a", "a", "a", "b"], "a", Some(0));
        check(&["abab!"], &["ababab!"], "ab", Some(0));
        // One within another, before and after that one is complete.
        check(&["abcd", "bc"], &["abcd"], "a", Some(1));
        check(&["abcd", "bcd"], &["a", "bcd"], "", Some(0));
        check(&["bcd", "abcd"], &["abcd"], "", Some(1));
        check(&["abce", "bcd"], &["ab", "cd"], "a", Some(1));
        check(&["ab", "abc"], &["abc"], "", Some(0));
        check(&["x", "x"], &["yx"], "y", Some(0));
        // Characters of several bytes, and such that share their first bytes.
        check(&["日本"], &["今日", "は日", "本"], "今日は", Some(0));
        check(&["é!"], &["è!", "é", "é!"], "è!é", Some(0));
        check(&["\u{10ffff}"], &["a\u{10fffe}\u{10ffff}"], "a\u{10fffe}", Some(0));
    }

    #[test]
    fn holds_back_no_more_than_may_be_a_beginning() {
        let mut stop = StopStrings::new(&["###", "#!", "ab"]).unwrap();
        for (piece, given) in [("x#", "x"), ("#", ""), ("a", "##"), ("", ""), ("c#", "ac"), ("y", "#y"), ("a#", "a")] {
            assert_eq!(stop.push(piece), given, "{piece:?}");
        }
        assert_eq!(stop.push("##z"), "");
        assert_eq!(stop.found(), Some(0));
        assert_eq!(stop.push("more"), "");
        assert_eq!(stop.finish(), "");
        assert_eq!(stop.found(), Some(0));
        stop.reset();
        assert_eq!(stop.found(), None);
        for (piece, given) in [("q#", "q"), ("#", "")] {
            assert_eq!(stop.push(piece), given, "{piece:?}");
        }
        assert_eq!(stop.finish(), "##");
        assert_eq!(stop.finish(), "");
        // What was held back has been given out: it begins nothing any more.
        assert_eq!(stop.push("#q#"), "#q");
        stop.reset();
        assert_eq!(stop.push("!#"), "!");
        assert_eq!(stop.push("!"), "");
        assert_eq!(stop.found(), Some(1));
    }

    #[test]
    fn bounds() {
        let long = |len: usize| "é".repeat(len / 2);
        assert!(StopStrings::new(&[long(StopStrings::MAX_LEN_BYTES)]).is_ok());
        assert!(StopStrings::new(&vec!["a"; StopStrings::MAX_STRINGS]).is_ok());
        let message = |strings: &[String]| StopStrings::new(strings).unwrap_err().to_string();
        let too_long = message(&["a".into(), long(StopStrings::MAX_LEN_BYTES + 2)]);
        assert_eq!(too_long, "stop string 1 (the first is 0) has 1026 bytes, expected 1 to 1024");
        assert_eq!(message(&["".into()]), "stop string 0 (the first is 0) has 0 bytes, expected 1 to 1024");
        assert_eq!(message(&vec!["a".into(); 65]), "65 stop strings were given, at most 64 are searched for");
    }

    #[test]
    fn nothing_grows_with_the_text() {
        let mut stop = StopStrings::new(&["aaaaaaab", "\n\n"]).unwrap();
        let room = stop.text.capacity();
        for i in 0..10_000 {
            stop.push(if i % 3 == 0 { "a\na" } else { "aaaaaaaaa" });
        }
        assert_eq!((stop.text.capacity(), stop.found()), (room, None));
    }

    /// A search of the whole text: what is before the string that ends first, and which that is.
    fn plain_search<'t>(strings: &[String], text: &'t str) -> (&'t str, Option<usize>) {
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let complete = strings.iter().enumerate().filter(|(_, string)| text[..end].ends_with(string.as_str()));
            // Of equal ones the first.
            if let Some((index, string)) = complete.rev().max_by_key(|(_, string)| string.len()) {
                return (&text[..end - string.len()], Some(index));
            }
        }
        (text, None)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn as_a_search_of_the_whole_text(
            strings in prop::collection::vec("[ab\u{e9}\u{e8}]{1,6}", 0..6),
            pieces in prop::collection::vec("[abc\u{e9}\u{e8}\u{4e00}]{0,5}", 0..30),
        ) {
            let text = pieces.concat();
            let (expected, found) = plain_search(&strings, &text);
            let mut stop = StopStrings::new(&strings).unwrap();
            let (mut given, mut seen) = (String::new(), String::new());
            for piece in &pieces {
                seen.push_str(piece);
                given.push_str(stop.push(piece));
                // At once: what is held back is the longest end of the text that is a beginning.
                if stop.found().is_none() {
                    let is_beginning = |at: &usize| {
                        seen.is_char_boundary(*at) && strings.iter().any(|string| string.starts_with(&seen[*at..]))
                    };
                    let held_from = (0..seen.len()).find(is_beginning).unwrap_or(seen.len());
                    prop_assert_eq!(&given, &seen[..held_from]);
                }
            }
            prop_assert_eq!(stop.found(), found);
            given.push_str(stop.finish());
            prop_assert_eq!(given, expected);
        }
    }
}
