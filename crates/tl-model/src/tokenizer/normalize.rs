//! Normalization of a text before it is split and joined.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// SentencePiece's spelling of a space.
pub(super) const SPACE: char = '▁';

/// One normalization step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Normalizer {
    /// Prepends a text.
    Prepend(Box<str>),
    /// Replaces every occurrence of one text by another.
    Replace { from: Box<str>, to: Box<str> },
    /// Unicode's composed form.
    Nfc,
}

impl Normalizer {
    /// Replaces spaces by SentencePiece's spelling.
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

/// Applies all steps to a text, in order. An empty text stays empty.
pub(super) fn normalize<'a>(normalizers: &[Normalizer], text: &'a str) -> Cow<'a, str> {
    if text.is_empty() {
        return Cow::Borrowed(text);
    }
    normalizers.iter().fold(Cow::Borrowed(text), |text, normalizer| normalizer.apply(text))
}
