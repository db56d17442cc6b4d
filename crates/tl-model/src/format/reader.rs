//! A position in a file's bytes, and the only place that moves it: every read is checked against the end, and every
//! count against what the rest of the file can hold.

use super::value::{Array, Value, ValueType};
use crate::error::{ModelError, Result};

/// How deep arrays may nest; nobody nests more than two.
const MAX_ARRAY_DEPTH: usize = 4;

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

    fn remaining(&self) -> u64 {
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

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
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

    /// Reads a count of things that take at least `min_bytes` each, all of which must fit into what is left.
    pub(super) fn count(&mut self, what: &'static str, min_bytes: u64) -> Result<usize> {
        let offset = self.pos as u64;
        let value = self.u64(what)?;
        let limit = self.remaining() / min_bytes;
        if value > limit {
            return Err(ModelError::Length { what, offset, value, limit });
        }
        Ok(value as usize)
    }

    /// The bytes of a string, which may be no UTF-8.
    pub(super) fn string_bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let len = self.count(what, 1)?;
        self.take(len as u64, what)
    }

    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a str> {
        let bytes = self.string_bytes(what)?;
        let offset = (self.pos - bytes.len()) as u64;
        std::str::from_utf8(bytes).map_err(|_| ModelError::NotUtf8 { what, offset })
    }

    pub(super) fn value_type(&mut self, what: &'static str) -> Result<ValueType> {
        let offset = self.pos as u64;
        let id = self.u32(what)?;
        ValueType::from_id(id).ok_or(ModelError::Field { what, offset, value: id.into(), expected: "0 to 12" })
    }

    pub(super) fn value(&mut self, value_type: ValueType, depth: usize) -> Result<Value<'a>> {
        const WHAT: &str = "a metadata value";
        Ok(match value_type {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.bytes(WHAT)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.bytes(WHAT)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.bytes(WHAT)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.bytes(WHAT)?)),
            ValueType::U32 => Value::U32(self.u32(WHAT)?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.bytes(WHAT)?)),
            ValueType::U64 => Value::U64(self.u64(WHAT)?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.bytes(WHAT)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.bytes(WHAT)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.bytes(WHAT)?)),
            ValueType::String => Value::String(self.string("a metadata string")?),
            ValueType::Array => Value::Array(self.array(depth)?),
            ValueType::Bool => {
                let offset = self.pos as u64;
                match self.bytes(WHAT)? {
                    [0] => Value::Bool(false),
                    [1] => Value::Bool(true),
                    [value] => {
                        let value = value.into();
                        return Err(ModelError::Field { what: "a metadata bool", offset, value, expected: "0 or 1" });
                    }
                }
            }
        })
    }

    fn array(&mut self, depth: usize) -> Result<Array<'a>> {
        let offset = self.pos as u64;
        if depth >= MAX_ARRAY_DEPTH {
            return Err(ModelError::Field {
                what: "the depth of nested metadata arrays",
                offset,
                value: depth as u64 + 1,
                expected: "at most 4",
            });
        }
        let element = self.value_type("a metadata array's element type")?;
        let len = self.count("the length of a metadata array", element.min_bytes())?;
        let start = self.pos;
        if element.is_plain() {
            self.take(len as u64 * element.min_bytes(), "a metadata array")?;
        } else if element == ValueType::String {
            for _ in 0..len {
                self.string("a metadata string")?;
            }
        } else {
            for _ in 0..len {
                self.value(element, depth + 1)?;
            }
        }
        Ok(Array { element, len, bytes: self.bytes.get(start..self.pos).unwrap_or_default() })
    }
}
