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
    Shared(Arc<String>),
}

impl Text {
    /// The bytes that joining `more` at the end takes: none if this string is alone and has room.
    pub(crate) fn bytes_to_join(&self, more: &str) -> usize {
        let len = self.len() + more.len();
        match self {
            Text::Inline(..) if len <= INLINE => 0,
            Text::Shared(text) if Arc::strong_count(text) == 1 && text.capacity() >= len => 0,
            // A string that grows has room for twice its length afterwards.
            _ => 2 * len,
        }
    }

    /// Joins another string at the end, in place if no other value shares this one.
    pub(crate) fn push(&mut self, more: &str) {
        let len = self.len();
        match self {
            Text::Shared(text) if Arc::strong_count(text) == 1 => Arc::make_mut(text).push_str(more),
            Text::Inline(bytes, used) if len + more.len() <= INLINE => {
                if let Some(place) = bytes.get_mut(len..len + more.len()) {
                    place.copy_from_slice(more.as_bytes());
                    *used += more.len() as u8;
                }
            }
            _ => {
                let mut text = String::with_capacity(len + more.len());
                text.push_str(self);
                text.push_str(more);
                *self = Text::Shared(Arc::new(text));
            }
        }
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
            None => Text::Shared(Arc::new(text.to_owned())),
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        if text.len() > INLINE { Text::Shared(Arc::new(text)) } else { Text::from(text.as_str()) }
    }
}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Text {
        Text::from(&**text)
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
