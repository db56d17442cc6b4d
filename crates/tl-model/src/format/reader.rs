//! A position in a file's bytes, and the only place that moves it: every read is checked against the end, and every
//! count against the size of the rest of the file.

use crate::error::{ModelError, Result};

/// The next byte to read; never beyond the end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) pos: usize,
}

impl<'a> Reader<'a> {
    /// A reader of these bytes from a position on.
    pub fn at(bytes: &'a [u8], pos: usize) -> Reader<'a> {
        Reader { bytes, pos: pos.min(bytes.len()) }
    }

    /// The position of the next byte.
    pub fn position(&self) -> usize {
        self.pos
    }

    pub(super) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.pos) as u64
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`ModelError::Truncated`] where there are fewer.
    pub fn take(&mut self, len: u64, what: &'static str) -> Result<&'a [u8]> {
        let end = usize::try_from(len).ok().and_then(|len| self.pos.checked_add(len));
        match end.and_then(|end| self.bytes.get(self.pos..end)) {
            Some(taken) => {
                self.pos += taken.len();
                Ok(taken)
            }
            None => {
                Err(ModelError::Truncated { what, offset: self.pos as u64, needed: len, remaining: self.remaining() })
            }
        }
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let taken = self.take(N as u64, what)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(taken);
        Ok(bytes)
    }

    /// The next four bytes as a little-endian number.
    ///
    /// # Errors
    /// As for [`Reader::take`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// Reads a count of items of at least `min_bytes` each, all of which must fit into the rest.
    pub(super) fn count(&mut self, what: &'static str, min_bytes: u64) -> Result<usize> {
        let offset = self.pos as u64;
        let value = self.u64(what)?;
        let limit = self.remaining() / min_bytes;
        if value > limit {
            return Err(ModelError::Length { what, offset, value, limit });
        }
        Ok(value as usize)
    }

    /// The bytes of a string, which may not be UTF-8.
    pub(super) fn string_bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let len = self.count(what, 1)?;
        self.take(len as u64, what)
    }

    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a str> {
        let bytes = self.string_bytes(what)?;
        let offset = (self.pos - bytes.len()) as u64;
        std::str::from_utf8(bytes).map_err(|_| ModelError::NotUtf8 { what, offset })
    }
}
