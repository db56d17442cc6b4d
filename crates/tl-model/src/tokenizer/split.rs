//! Splitting of a text into pieces that are joined separately, step by step, and the named expressions of GGUF files.
//!
//! Knows nothing of tokens. Every step splits the pieces of the previous step, and sees no character beyond a piece's
//! end.

use std::ops::Range;

use super::matcher::{MatchState, Pattern};
use super::pattern::compile;

/// Treatment of the matches of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behavior {
    /// A match is a piece, and so is the text between two matches.
    Isolated,
    /// A match is left out.
    Removed,
    /// A match is joined to the text before it.
    MergedWithPrevious,
    /// A match is joined to the text after it.
    MergedWithNext,
    /// Adjacent matches are one piece.
    Contiguous,
}

/// A step.
#[derive(Debug)]
pub(super) struct Split {
    matches: Matches,
    behavior: Behavior,
    /// Whether the text between the matches counts as matched instead.
    invert: bool,
}

#[derive(Debug)]
enum Matches {
    Pattern(Pattern),
    Literal(Box<str>),
}

impl Split {
    /// A step that matches an expression.
    ///
    /// # Errors
    /// A description of the problem in the expression.
    pub(super) fn pattern(expression: &str, behavior: Behavior, invert: bool) -> Result<Split, String> {
        let pattern = compile(expression).map_err(|problem| format!("the expression `{expression}`: {problem}"))?;
        Ok(Split { matches: Matches::Pattern(pattern), behavior, invert })
    }

    /// A step that matches a literal text.
    pub(super) fn literal(text: &str, behavior: Behavior, invert: bool) -> Split {
        Split { matches: Matches::Literal(text.into()), behavior, invert }
    }

    /// The literal text of a step, if it has one.
    pub(super) fn as_literal(&self) -> Option<(&str, Behavior, bool)> {
        match &self.matches {
            Matches::Literal(literal) => Some((literal, self.behavior, self.invert)),
            Matches::Pattern(_) => None,
        }
    }

    /// Whether this step splits every text like a step of this expression whose matches are pieces.
    fn cuts_like(&self, expression: &str) -> bool {
        let Matches::Pattern(pattern) = &self.matches else { return false };
        // If the matches cover every text, removing the rest removes nothing.
        let is_alike = match (self.behavior, self.invert) {
            (Behavior::Isolated, _) => true,
            (Behavior::Removed, true) => WITHOUT_GAPS.contains(&expression),
            _ => false,
        };
        let others = OTHER_SPELLINGS.iter().filter(|(_, of)| *of == expression).map(|(other, _)| *other);
        is_alike && [expression].into_iter().chain(others).any(|other| compile(other).is_ok_and(|it| it == *pattern))
    }

    fn find(&self, text: &str, from: usize, state: &mut MatchState) -> Option<Range<usize>> {
        match &self.matches {
            Matches::Pattern(pattern) => pattern.find(text, from, state),
            Matches::Literal(literal) if literal.is_empty() => None,
            Matches::Literal(literal) => {
                let start = from + text.get(from..)?.find(&**literal)?;
                Some(start..start + literal.len())
            }
        }
    }

    /// Splits a piece that begins at byte `base` of the text.
    fn cut(&self, piece: &str, base: usize, out: &mut Vec<Range<usize>>, state: &mut MatchState) {
        let (mut done, mut from, mut last) = (0, 0, None);
        let mut add = |range: Range<usize>, matched: bool| {
            if range.is_empty() {
                return;
            }
            let matched = matched != self.invert;
            self.push(base + range.start..base + range.end, matched, &mut last, out);
        };
        while let Some(found) = self.find(piece, from, state) {
            add(done..found.start, false);
            add(found.clone(), true);
            done = found.end;
            from = found.end;
            if found.is_empty() {
                // An empty match splits; the search continues after the next character.
                match piece.get(from..).and_then(|rest| rest.chars().next()) {
                    Some(c) => from += c.len_utf8(),
                    None => break,
                }
            }
        }
        add(done..piece.len(), false);
    }

    /// Adds a piece, or joins it to the previous one. `last`: whether that one was a match, if it may still grow.
    fn push(&self, range: Range<usize>, matched: bool, last: &mut Option<bool>, out: &mut Vec<Range<usize>>) {
        let joins = match self.behavior {
            Behavior::Removed if matched => return,
            Behavior::Isolated | Behavior::Removed => false,
            Behavior::Contiguous => *last == Some(matched),
            Behavior::MergedWithPrevious => matched && *last == Some(false),
            Behavior::MergedWithNext => !matched && *last == Some(true),
        };
        *last = Some(matched);
        match out.last_mut() {
            // Only within this piece: `last` is set only after one was added.
            Some(before) if joins => before.end = range.end,
            _ => out.push(range),
        }
    }
}

/// The steps, one after the other.
#[derive(Debug, Default)]
pub(super) struct Splits(pub(super) Vec<Split>);

/// Scratch memory, reused from text to text.
#[derive(Debug, Default)]
pub(super) struct SplitState {
    pieces: Vec<Range<usize>>,
    cut: Vec<Range<usize>>,
    matching: MatchState,
}

impl Splits {
    /// The pieces of a text, from left to right.
    pub(super) fn apply<'a>(&self, text: &str, state: &'a mut SplitState) -> &'a [Range<usize>] {
        state.matching.allow(text.len());
        state.pieces.clear();
        if !text.is_empty() {
            state.pieces.push(0..text.len());
        }
        for split in &self.0 {
            state.cut.clear();
            for piece in &state.pieces {
                let text = text.get(piece.clone()).unwrap_or_default();
                split.cut(text, piece.start, &mut state.cut, &mut state.matching);
            }
            std::mem::swap(&mut state.pieces, &mut state.cut);
        }
        &state.pieces
    }
}

/// The splitting of a byte-level vocabulary, named by GGUF's `tokenizer.ggml.pre`.
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    /// Each splits the pieces of the previous one.
    expressions: &'static [&'static str],
    /// Whether a piece that is a token becomes that token directly, regardless of the merges.
    pub(super) ignore_merges: bool,
    /// Whether a text begins with a mark if the file does not say.
    pub(super) add_bos: bool,
}

const DIGIT: &str = r"\p{N}";
const DIGITS_1_3: &str = r"\p{N}{1,3}";
const CJK: &str = r"[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+";
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r##"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
);
const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const SEED: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const MINICPM5: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
const FALCON_PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const DIGITS_3: &str = "[0-9][0-9][0-9]";
const CASED_LETTERS: &str = concat!(
    r"\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-",
    r"\u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-",
    r"\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-",
    r"\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}",
    r"\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-",
    r"\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-",
    r"\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}",
    r"\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}",
    r"\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}",
    r"\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-",
    r"\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}",
    r"\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-",
    r"\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+",
);
const WIDE_PUNCTUATION: &str = r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+";
const WIDE_LETTERS: &str = r"[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";

/// [`LLAMA3`] as the models of GPT-4's time write it: `\s*` takes line ends too, so that both end after the last of
/// them, and the possessive quantifiers have nothing to give back.
const CL100K: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*",
    r"|\s*[\r\n]|\s+(?!\S)|\s+",
);
/// Expressions of models without a row, and the equivalent expressions of rows.
const OTHER_SPELLINGS: [(&str, &str); 1] = [(CL100K, LLAMA3)];
/// Expressions whose alternatives match at every place of every text.
const WITHOUT_GAPS: [&str; 9] = [GPT2, LLAMA3, QWEN2, QWEN35, O200K, TEKKEN, SEED, BAILING, MINICPM5];

/// One row for each way of splitting; sources are the models' own `tokenizer.json` files, under llama.cpp's names.
#[rustfmt::skip]
static PRE_TOKENIZERS: &[PreTokenizer] = &[
    row(&["default", ""], &[PUNCTUATION, GPT2, r"\p{N}+", DIGITS_3], false, false),
    row(&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"], &[LLAMA3], true, true),
    row(&["glm4", "glm5"], &[LLAMA3], true, false),
    row(&["smaug-bpe", "dbrx", "chatglm-bpe"], &[LLAMA3], false, false),
    row(&["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2", "kormo"], &[QWEN2], false, false),
    row(&["qwen35"], &[QWEN35], false, false),
    row(&["gpt-2", "phi-2", "mpt", "olmo", "exaone4", "jais", "gigachat", "mellum", "trillion", "granite-docling", "a.x-4.0"], &[GPT2], false, false),
    row(&["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"], &[DIGIT, GPT2], false, false),
    row(&["deepseek-v3", "hunyuan-dense", "joyai-llm"], &[DIGITS_1_3, CJK, DEEPSEEK3], false, false),
    row(&["deepseek-llm"], &["[\r\n]", CASED_LETTERS, WIDE_PUNCTUATION, r"\s+$", WIDE_LETTERS, r"\p{N}+"], false, false),
    row(&["deepseek-coder"], &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", WIDE_LETTERS, DIGIT], false, false),
    row(&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[O200K], false, false),
    row(&["tekken"], &[TEKKEN], true, true),
    row(&["falcon"], &[FALCON_PUNCTUATION, GPT2, DIGITS_3], false, false),
    row(&["seed-coder"], &[SEED], false, false),
    row(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING], false, false),
    row(&["minicpm5"], &[DIGITS_1_3, MINICPM5], true, false),
];

const fn row(
    names: &'static [&'static str],
    expressions: &'static [&'static str],
    ignore_merges: bool,
    add_bos: bool,
) -> PreTokenizer {
    PreTokenizer { names, expressions, ignore_merges, add_bos }
}

impl PreTokenizer {
    pub(super) fn named(name: &str) -> Option<&'static PreTokenizer> {
        PRE_TOKENIZERS.iter().find(|row| row.names.contains(&name))
    }

    /// The first of the names in files.
    pub(super) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The rows that split every text as these steps do.
    pub(super) fn alike(splits: &Splits) -> impl Iterator<Item = &'static PreTokenizer> {
        PRE_TOKENIZERS.iter().filter(|row| {
            let steps = splits.0.iter().zip(row.expressions);
            splits.0.len() == row.expressions.len() && steps.into_iter().all(|(step, row)| step.cuts_like(row))
        })
    }

    /// Every known name, for a message.
    pub(super) fn names() -> String {
        let names = PRE_TOKENIZERS.iter().flat_map(|row| row.names).filter(|name| !name.is_empty());
        names.copied().collect::<Vec<_>>().join(", ")
    }

    pub(super) fn splits(&self) -> Result<Splits, String> {
        let split = |expression: &&str| Split::pattern(expression, Behavior::Isolated, false);
        self.expressions.iter().map(split).collect::<Result<Vec<_>, _>>().map(Splits)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The expressions of every row that leaves no piece to a token that its letters do not join to.
    pub(in crate::tokenizer) fn expressions() -> impl Iterator<Item = &'static [&'static str]> {
        PRE_TOKENIZERS.iter().map(|row| row.expressions)
    }

    fn pieces<'a>(splits: &Splits, text: &'a str) -> Vec<&'a str> {
        splits.apply(text, &mut SplitState::default()).iter().map(|range| &text[range.clone()]).collect()
    }

    /// The pieces of a text by a named way, written with `|` between them.
    fn check(name: &str, expected: &str) {
        let splits = PreTokenizer::named(name).unwrap().splits().unwrap();
        let text = expected.replace('|', "");
        assert_eq!(pieces(&splits, &text).join("|"), expected, "{name}");
    }

    #[test]
    fn every_row_compiles_and_loses_nothing() {
        let text = "Hello WORLD'S x²  12345\r\n\n\t 漢字かな αβγ e\u{301}🦀!? <b>\u{a0}\u{3000}don't 'LL ſ1 \u{1}";
        for row in PRE_TOKENIZERS {
            let splits = row.splits().unwrap();
            assert_eq!(pieces(&splits, text).concat(), text, "{:?}", row.names);
            assert!(pieces(&splits, "").is_empty());
        }
    }

    #[test]
    fn cuts_as_the_models_do() {
        check("gpt-2", "Hello| WORLD|'|S| don|'t| 12345|   | x");
        check("gpt-2", "a|\n|b|\n\n|\n|c|  | !?");
        check("smollm", "a| |1|2|3|  | b|\t|c");
        check("llama-bpe", "I|'LL| say|:| |123|456|7|\n\n|  | x|\u{a0}y|!\n|(z|)");
        check("qwen2", "1|2|3| |4| a|.b|!!\n\n| \n|x");
        check("qwen2", "e|\u{301}t|\u{301}e");
        check("qwen35", "e\u{301}t\u{301}e|!| |1");
        check("gpt-4o", "Hello|World'S| HTMLParser's| |123|4");
        check("tekken", "Camel|Case|'s| |1|2| a|/\n|b");
        check("deepseek-v3", "x|123|45|漢字かな|abc| !?|a|#include|\n");
        check("default", "a|!|b| |123|45");
    }

    #[test]
    fn rows_are_known_by_their_steps() {
        let step = |(expression, behavior, invert): (&str, Behavior, bool)| {
            Split::pattern(expression, behavior, invert).unwrap()
        };
        let check = |steps: &[(&str, Behavior, bool)], expected: &[&str]| {
            let splits = Splits(steps.iter().copied().map(step).collect());
            let found: Vec<&str> = PreTokenizer::alike(&splits).map(PreTokenizer::name).collect();
            assert_eq!(found, expected, "{steps:?}");
        };
        let (isolated, removed) = (Behavior::Isolated, Behavior::Removed);
        check(&[(GPT2, isolated, false)], &["gpt-2"]);
        check(&[(GPT2, isolated, true)], &["gpt-2"]);
        check(&[(GPT2, removed, true)], &["gpt-2"]);
        check(&[(GPT2, removed, false)], &[]);
        check(&[(GPT2, Behavior::MergedWithNext, false)], &[]);
        check(&[(r"\p{N}", isolated, false), (GPT2, isolated, false)], &["smollm"]);
        check(&[(r"\p{N}", Behavior::Contiguous, false), (GPT2, isolated, false)], &[]);
        check(&[(r"\p{N}", removed, true), (GPT2, isolated, false)], &[]);
        check(&[(LLAMA3, isolated, false)], &["llama-bpe", "glm4", "smaug-bpe"]);
        check(&[(CL100K, removed, true)], &["llama-bpe", "glm4", "smaug-bpe"]);
        check(&[(&QWEN2.replace("\\p{N}|", "[\\p{Nd}\\p{Nl}\\p{No}]|"), isolated, false)], &["qwen2"]);
        check(&[(&format!("{QWEN2}|x"), isolated, false)], &[]);
        check(&[], &[]);
        let literal = Splits(vec![Split::literal("x", isolated, false)]);
        assert_eq!(PreTokenizer::alike(&literal).count(), 0);
    }

    /// A text of characters of every kind in an order that puts all beside all.
    fn mixed_text() -> String {
        let kinds: Vec<char> =
            "aZ'sſé\u{301}1²Ⅷ漢かガ가ا\u{200d}🦀$+`_-.!\r\n\t \u{a0}\u{3000}\u{1}\u{ad}\u{e000}\u{10ffff}ǅʰ/ LVER"
                .chars()
                .collect();
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            kinds[(state >> 16) as usize % kinds.len()]
        };
        (0..60_000).map(|_| next()).collect()
    }

    #[test]
    fn other_spellings_match_alike() {
        let text = mixed_text();
        for (other, of) in OTHER_SPELLINGS {
            let cut = |expression| {
                let splits = Splits(vec![Split::pattern(expression, Behavior::Isolated, false).unwrap()]);
                splits.apply(&text, &mut SplitState::default()).to_vec()
            };
            assert!(cut(other) == cut(of), "{other}");
        }
    }

    #[test]
    fn expressions_without_gaps_match_everything() {
        let every: String = ('\0'..=char::MAX).flat_map(|c| [c, 'a', c, ' ', c]).collect();
        for text in [mixed_text(), every] {
            for expression in WITHOUT_GAPS {
                let splits = Splits(vec![Split::pattern(expression, Behavior::Removed, true).unwrap()]);
                let matched: usize =
                    splits.apply(&text, &mut SplitState::default()).iter().map(|piece| piece.len()).sum();
                assert_eq!(matched, text.len(), "{expression}");
            }
        }
    }

    #[test]
    fn matches_belong_where_the_step_says() {
        let check = |behavior, invert, expected: &str| {
            let split = Split::pattern("[-]", behavior, invert).unwrap();
            assert_eq!(pieces(&Splits(vec![split]), "a--b-c-").join("|"), expected, "{behavior:?} {invert}");
        };
        check(Behavior::Isolated, false, "a|-|-|b|-|c|-");
        check(Behavior::Removed, false, "a|b|c");
        check(Behavior::Removed, true, "-|-|-|-");
        check(Behavior::MergedWithPrevious, false, "a-|-|b-|c-");
        check(Behavior::MergedWithNext, false, "a|-|-b|-c|-");
        check(Behavior::Contiguous, false, "a|--|b|-|c|-");
        let split = Split::literal("--", Behavior::MergedWithPrevious, false);
        assert_eq!(pieces(&Splits(vec![split]), "a--b-c-").join("|"), "a--|b-c-");
    }
}
