//! How a text is respelled before it is cut and joined.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// What SentencePiece writes for a space.
pub(super) const SPACE: char = '▁';

/// One respelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Normalizer {
    /// Puts a text before every text.
    Prepend(Box<str>),
    /// Puts another text for every occurrence of one.
    Replace { from: Box<str>, to: Box<str> },
    /// Unicode's composed form.
    Nfc,
}

impl Normalizer {
    /// Spaces as SentencePiece writes them.
    pub(super) fn spaces() -> Normalizer {
        Normalizer::Replace { from: " ".into(), to: SPACE.to_string().into() }
    }

    fn apply<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        match self {
            Normalizer::Prepend(before) => Cow::Owned(format!("{before}{text}")),
            Normalizer::Replace { from, .. } if from.is_empty() || !text.contains(&**from) => text,
            Normalizer::Replace { from, to } => Cow::Owned(text.replace(&**from, to)),
            Normalizer::Nfc if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes => text,
            Normalizer::Nfc => Cow::Owned(text.nfc().collect()),
        }
    }
}

/// Applies all of them to a text, in their order. An empty text stays empty.
pub(super) fn normalize<'a>(normalizers: &[Normalizer], text: &'a str) -> Cow<'a, str> {
    if text.is_empty() {
        return Cow::Borrowed(text);
    }
    normalizers.iter().fold(Cow::Borrowed(text), |text, normalizer| normalizer.apply(text))
}
