//! Runs a compiled expression over a text, backtracking with its own stack and within a bounded number of steps.
//!
//! Knows nothing of the expression's syntax. A match is a range of bytes; there are no captures.

use std::ops::Range;

use regex_syntax::hir::ClassUnicode;

/// A step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// One character of a class.
    Char(u8),
    /// As many characters of a class as possible; fewer if the rest of the program fails.
    Run {
        class: u8,
        min: u32,
        max: u32,
        possessive: bool,
    },
    /// Continues at `first`, and if that fails at `second`.
    Split {
        first: usize,
        second: usize,
    },
    Jump(usize),
    /// Whether the program after this op matches here; continues at `end` from here.
    Look {
        negative: bool,
        end: usize,
    },
    /// Matches the program after this op without backtracking into it; continues at `end` after its match.
    Atomic {
        end: usize,
    },
    /// At the beginning of a line, or at its end.
    Line {
        end: bool,
    },
    Match,
}

/// One of the top-level alternatives of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Alternative {
    pub(super) start: usize,
    /// The classes that the first character may be in, as bits; all bits for any character.
    pub(super) first: u64,
}

/// A compiled expression. Equal values match alike.
#[derive(Debug, PartialEq)]
pub(super) struct Pattern {
    pub(super) classes: Classes,
    pub(super) ops: Vec<Op>,
    pub(super) alternatives: Vec<Alternative>,
}

/// Characters below this have their classes in a table.
const DIRECT: usize = 0x800;

/// The classes of every character: a bit for each class of an expression.
#[derive(Debug, PartialEq)]
pub(super) struct Classes {
    direct: Box<[u64]>,
    /// Starts of the ranges of characters with the same classes, the first at 0; their classes are in `masks`.
    starts: Vec<u32>,
    masks: Vec<u64>,
}

impl Classes {
    pub(super) fn new(classes: &[ClassUnicode]) -> Classes {
        // Every change: these bits flip at this character.
        let mut changes: Vec<(u32, u64)> = vec![(0, 0)];
        for (i, class) in classes.iter().enumerate() {
            for range in class.ranges() {
                changes.push((range.start() as u32, 1 << i));
                changes.push((range.end() as u32 + 1, 1 << i));
            }
        }
        changes.sort_unstable();
        let (mut starts, mut masks, mut mask) = (Vec::<u32>::new(), Vec::<u64>::new(), 0);
        for (at, bits) in changes {
            mask ^= bits;
            match masks.last_mut() {
                Some(last) if starts.last() == Some(&at) => *last = mask,
                _ => {
                    starts.push(at);
                    masks.push(mask);
                }
            }
        }
        let mut table = Classes { direct: Box::new([]), starts, masks };
        table.direct = (0..DIRECT as u32).map(|c| table.search(c)).collect();
        table
    }

    fn search(&self, c: u32) -> u64 {
        let at = self.starts.partition_point(|&start| start <= c);
        self.masks.get(at.wrapping_sub(1)).copied().unwrap_or(0)
    }

    #[inline]
    fn of(&self, c: char) -> u64 {
        match self.direct.get(c as usize) {
            Some(&mask) => mask,
            None => self.search(c as u32),
        }
    }
}

/// A backtracking point.
#[derive(Clone, Copy, Debug)]
struct Choice {
    op: usize,
    at: usize,
    /// For a run, its earliest end; else [`usize::MAX`].
    least: usize,
}

/// Scratch memory, reused from text to text.
#[derive(Debug, Default)]
pub(super) struct MatchState {
    stack: Vec<Choice>,
    /// Steps left. At 0, nothing matches any more.
    steps: u64,
}

impl MatchState {
    /// Sets the step limit for a text of this length: far more than any expression in use takes, but finite, so that an
    /// expression made to run forever ends.
    pub(super) fn allow(&mut self, text_len: usize) {
        self.steps = 1_000_000 + 2000 * text_len as u64;
    }
}

impl Pattern {
    /// The next match at or after byte `from`.
    pub(super) fn find(&self, text: &str, from: usize, state: &mut MatchState) -> Option<Range<usize>> {
        let mut start = from;
        loop {
            let c = text.get(start..)?.chars().next();
            let mask = c.map_or(0, |c| self.classes.of(c));
            for alternative in &self.alternatives {
                // An empty match at the end of the text splits nothing.
                if (alternative.first & mask != 0 || alternative.first == u64::MAX)
                    && let Some(end) = self.run(alternative.start, text, start, state)
                {
                    return Some(start..end);
                }
            }
            start += c?.len_utf8();
        }
    }

    /// The end of the program's match from `op` on that begins at `at`.
    fn run(&self, mut op: usize, text: &str, mut at: usize, state: &mut MatchState) -> Option<usize> {
        let bottom = state.stack.len();
        loop {
            if state.steps == 0 {
                state.stack.truncate(bottom);
                return None;
            }
            state.steps -= 1;
            let goes_on = match self.ops[op] {
                Op::Match => {
                    state.stack.truncate(bottom);
                    return Some(at);
                }
                Op::Char(class) => match self.step(text, at, class) {
                    Some(next) => {
                        at = next;
                        op += 1;
                        true
                    }
                    None => false,
                },
                Op::Run { class, min, max, possessive } => {
                    let (mut count, mut least) = (0, at);
                    while count < max
                        && let Some(next) = self.step(text, at, class)
                    {
                        at = next;
                        count += 1;
                        if count == min {
                            least = at;
                        }
                    }
                    state.steps = state.steps.saturating_sub(u64::from(count) / 8);
                    op += 1;
                    if count >= min && at > least && !possessive {
                        state.stack.push(Choice { op, at, least });
                    }
                    count >= min
                }
                Op::Split { first, second } => {
                    state.stack.push(Choice { op: second, at, least: usize::MAX });
                    op = first;
                    true
                }
                Op::Jump(to) => {
                    op = to;
                    true
                }
                Op::Line { end } => {
                    let beside = if end { text.as_bytes().get(at) } else { text.as_bytes().get(at.wrapping_sub(1)) };
                    op += 1;
                    beside.is_none_or(|&byte| byte == b'\n')
                }
                Op::Look { negative, end } => {
                    let found = self.run(op + 1, text, at, state).is_some();
                    op = end;
                    found != negative
                }
                Op::Atomic { end } => {
                    let found = self.run(op + 1, text, at, state);
                    op = end;
                    at = found.unwrap_or(at);
                    found.is_some()
                }
            };
            if !goes_on {
                if state.stack.len() == bottom {
                    return None;
                }
                (op, at) = take_choice(text, &mut state.stack)?;
            }
        }
    }

    /// The position after the character at `at`, if it is in the class.
    #[inline]
    fn step(&self, text: &str, at: usize, class: u8) -> Option<usize> {
        let bytes = text.as_bytes();
        let first = *bytes.get(at)?;
        let (mask, len) = if first < 0x80 {
            (self.classes.direct[usize::from(first)], 1)
        } else {
            let c = text.get(at..)?.chars().next()?;
            (self.classes.of(c), c.len_utf8())
        };
        (mask >> class & 1 == 1).then_some(at + len)
    }
}

/// The next backtracking point: another way, or a run shortened by one character.
fn take_choice(text: &str, stack: &mut Vec<Choice>) -> Option<(usize, usize)> {
    let choice = stack.last_mut()?;
    let (op, at) = (choice.op, choice.at);
    if choice.least == usize::MAX {
        stack.pop();
        return Some((op, at));
    }
    let mut shorter = at - 1;
    while !text.is_char_boundary(shorter) {
        shorter -= 1;
    }
    choice.at = shorter;
    if shorter <= choice.least {
        stack.pop();
    }
    Some((op, shorter))
}

#[cfg(test)]
mod tests {
    use super::super::pattern::compile;
    use super::*;

    /// The matches of an expression in a text, joined by `|`.
    fn matches(expression: &str, text: &str) -> String {
        let (pattern, mut state) = (compile(expression).unwrap(), MatchState::default());
        state.allow(text.len());
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(range) = pattern.find(text, from, &mut state) {
            found.push(&text[range.clone()]);
            from = if range.is_empty() { range.end + 1 } else { range.end };
        }
        found.join("|")
    }

    #[test]
    fn matches_what_it_says() {
        let check = |expression: &str, text: &str, expected: &str| {
            assert_eq!(matches(expression, text), expected, "{expression:?} in {text:?}");
        };
        check("a|ab", "ab aab", "a|a|a");
        check("ab|a", "ab aab", "ab|a|ab");
        check("a*b", "aab b", "aab|b");
        check("a+?", "aaa", "a|a|a");
        check("a{2}", "aaaaa", "aa|aa");
        check("a{2,3}", "aaaaa", "aaa|aa");
        check("a{2,}b", "ab aab aaab", "aab|aaab");
        check("a{,2}b", "aaab", "aab");
        check("x{a", "x{a", "x{a");
        check("(?:ab)+", "ababa", "abab");
        check("(?:ab){2}", "ababab", "abab");
        check("(?:ab|c)*d", "abcd", "abcd");
        check("(?:ab)+?c", "ababc", "ababc");
        check("a++b|c", "aab c", "aab|c");
        check("a++a|c", "aaa c", "c");
        check("(?:a|ab)++c", "abac", "ac");
        check("(?>a|ab)c", "abc ac", "ac");
        check("(?i:'s)|x", "'S 's '\u{17f} X x", "'S|'s|'\u{17f}|x");
        check(r"\s+(?!\S)", "a   b  ", "  |  ");
        check("a(?=b)", "aab", "a");
        check(r"\p{Lu}\p{Ll}+", "Ab aB ÄÖ Éa", "Ab|Éa");
        check(r"\p{Han}+", "a漢字か", "漢字");
        check(r"[^\r\n\p{L}]", "a\n1é-", "1|-");
        check(r"[]a]+", "a]b", "a]");
        check(r"[\[\]]+", "[a]", "[|]");
        check(r"\x41\x{42}\u0043", "ABC", "ABC");
        check("^a|b$", "ab\nab", "a|b|a|b");
        check(".", "é\n🦀", "é|🦀");
        check("", "ab", "||");
        check("(?=(?:[0-9]{3})+(?![0-9]))", "12345", "");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let check = |expression: &str, expected: &str| match compile(expression) {
            Ok(_) => panic!("{expression:?} was accepted"),
            Err(problem) => assert!(problem.contains(expected), "{expression:?}: {problem}"),
        };
        check("a(", "`(` at byte 1 is not closed");
        check("a)", "`)` at byte 1 closes nothing");
        check("[a", "`[` at byte 0 is not closed");
        check("*a", "`*` at byte 0 repeats nothing");
        check("(?<=a)b", "the group `(?<=a…` at byte 0");
        check("(?<n>a)", "the group");
        check(r"(a)\1", r"`\1` at byte 3");
        check(r"\b", r"`\b`");
        check(r"\p{Nothing}", r"the class `\p{Nothing}`");
        check(r"\p{L", "is not closed");
        check("\\", "ends with");
        check("(a*)*", "repeats what may be empty");
        check("(?:a?){30}", "repeats what may be empty");
        check("a{9999}", "is not between 0 and 1024");
        check("a{3,2}", "is not between 0 and 1024");
        check("(?:(?:ab){1000}c){3}", "longer than 4096 steps");
        check(&"(".repeat(100), "nested deeper than 32");
        check(&"a".repeat(20_000), "20000 bytes");
        check(&(0..65u8).map(|c| char::from(c + 0x80)).collect::<String>(), "more than 64 different classes");
        check("a**********************************", "");
    }

    #[test]
    fn backtracking_ends() {
        let text = "a".repeat(5_000);
        for expression in ["(?:a|aa)+b", "(?:a|a)+b", "(?:a+a+)+b", "a*a*a*a*a*b"] {
            assert_eq!(matches(expression, &text), "", "{expression}");
        }
    }
}
