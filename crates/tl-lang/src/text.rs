//! Strings as values: short ones, such as a token's text, lie inline without allocation; longer ones are shared.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that fit inline.
const INLINE: usize = 30;

/// A string that is cheap to make and to clone.
#[derive(Clone)]
pub(crate) enum Text {
    Inline([u8; INLINE], u8),
    Shared(Arc<str>),
}

impl Text {
    /// The concatenation of two strings, copied once.
    pub(crate) fn joined(a: &str, b: &str) -> Text {
        let len = a.len() + b.len();
        if len <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[..a.len()].copy_from_slice(a.as_bytes());
            bytes[a.len()..len].copy_from_slice(b.as_bytes());
            return Text::Inline(bytes, len as u8);
        }
        let mut text = String::with_capacity(len);
        text.push_str(a);
        text.push_str(b);
        Text::from(text)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            // The bytes came from a string.
            Text::Inline(bytes, len) => {
                bytes.get(..usize::from(*len)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
            }
            Text::Shared(text) => text,
        }
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                Text::Inline(bytes, text.len() as u8)
            }
            None => Text::Shared(text.into()),
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::from(text.as_str())
    }
}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Text {
        Text::Shared(text.clone())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_and_shared() {
        for text in ["", "a", "größer als vorher, aber kurz", &"x".repeat(30), &"x".repeat(31), &"π".repeat(200)] {
            let value = Text::from(text);
            assert_eq!(&*value, text);
            assert_eq!(matches!(value, Text::Inline(..)), text.len() <= INLINE);
            assert_eq!(value.clone(), Text::from(text.to_string()));
        }
    }
}
