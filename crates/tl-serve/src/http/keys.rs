//! Keys of clients, compared in constant time.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};

/// Maximum bytes of a key.
const MAX_KEY_BYTES: usize = 256;

/// Maximum number of keys.
const MAX_KEYS: usize = 1024;

/// A key with its length, in a form whose comparison takes the same time for all.
type Padded = [u8; MAX_KEY_BYTES + 2];

/// The keys of a server's clients.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<Padded>);

/// A list of keys that cannot be used. The message has the line's number and not the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// There is none.
    #[error("there is no key: put one on each line")]
    None,
    /// There are too many.
    #[error("there are more than {MAX_KEYS} keys")]
    TooMany,
    /// One is too long, or has characters that no header may have.
    #[error("line {line}: expected 1 to {MAX_KEY_BYTES} visible ASCII characters")]
    Key {
        /// Its line.
        line: usize,
    },
}

impl ApiKeys {
    /// No keys: everybody may ask.
    pub fn none() -> ApiKeys {
        ApiKeys::default()
    }

    /// The keys in a text, one on each line. Empty lines, and those that begin with #, are skipped.
    ///
    /// ```
    /// assert!(tl_serve::ApiKeys::parse("# the first\nsk-one\nsk-two\n").is_ok());
    /// assert!(tl_serve::ApiKeys::parse("\n").is_err());
    /// ```
    ///
    /// # Errors
    /// No keys, too many, one that is too long or has characters other than visible ASCII.
    pub fn parse(text: &str) -> Result<ApiKeys, KeysError> {
        let mut keys = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            let padded = padded(key.as_bytes()).filter(|_| key.bytes().all(|byte| byte.is_ascii_graphic()));
            keys.push(padded.ok_or(KeysError::Key { line: number })?);
            if keys.len() > MAX_KEYS {
                return Err(KeysError::TooMany);
            }
        }
        if keys.is_empty() { Err(KeysError::None) } else { Ok(ApiKeys(keys)) }
    }

    /// Whether no key is needed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a header `Authorization: Bearer KEY` has one of the keys. All are compared, and every byte of each.
    pub(crate) fn allow(&self, authorization: Option<&[u8]>) -> bool {
        if self.is_empty() {
            return true;
        }
        let scheme = |header: &[u8]| header.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        let key = authorization.filter(|header| scheme(header)).and_then(|header| header.get(7..));
        let Some(given) = key.and_then(|key| padded(key.trim_ascii())) else { return false };
        self.0.iter().fold(Choice::from(0), |found, key| found | key.ct_eq(&given)).into()
    }
}

fn padded(key: &[u8]) -> Option<Padded> {
    let mut padded = [0; MAX_KEY_BYTES + 2];
    let (bytes, len) = padded.split_at_mut(MAX_KEY_BYTES);
    bytes.get_mut(..key.len())?.copy_from_slice(key);
    len.copy_from_slice(&u16::try_from(key.len()).ok()?.to_le_bytes());
    Some(padded)
}

impl fmt::Debug for ApiKeys {
    /// The number of keys, and none of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask() {
        let keys = ApiKeys::parse("sk-one\n\n# no key\n  sk-two \n").unwrap();
        let check = |header: Option<&str>, expected: bool| {
            assert_eq!(keys.allow(header.map(str::as_bytes)), expected, "{header:?}");
        };
        check(Some("Bearer sk-one"), true);
        check(Some("bearer  sk-two"), true);
        for wrong in
            ["Bearer sk-thr", "Bearer sk-on", "Bearer sk-one\0", "Bearer ", "Bearer", "sk-one", "Basic sk-one", ""]
        {
            check(Some(wrong), false);
        }
        check(Some(&format!("Bearer {}", "x".repeat(1000))), false);
        check(None, false);
        assert!(ApiKeys::none().allow(None));
        assert_eq!(format!("{keys:?}"), "ApiKeys(2)");
    }

    #[test]
    fn what_is_no_list_of_keys() {
        let check = |text: &str, expected: &str| {
            let error = ApiKeys::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("# nothing\n", "there is no key");
        check("a\nb c\n", "line 2");
        check(&"k".repeat(257), "line 1");
        check(&"k\n".repeat(1025), "more than 1024");
    }
}
