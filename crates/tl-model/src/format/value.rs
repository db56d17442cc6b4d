//! Metadata values of a GGUF file: their types, and arrays that stay in the file's bytes.

use super::reader::Reader;
use crate::error::{ModelError, Result};

/// The deepest nesting of arrays; known files nest at most two.
const MAX_ARRAY_DEPTH: usize = 4;

/// A metadata value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the types
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
}

/// An array in the metadata: checked once, and decoded on each iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    pub(super) element: ValueType,
    pub(super) len: usize,
    pub(super) bytes: &'a [u8],
}

/// The type of a metadata value, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the types
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl<'a> Value<'a> {
    /// The value of this type at `offset` of a file that was checked when it was parsed.
    pub(crate) fn read(bytes: &'a [u8], value_type: ValueType, offset: usize) -> Option<Value<'a>> {
        Reader { bytes, pos: offset.min(bytes.len()) }.value(value_type, 0).ok()
    }

    /// A key's value, converted by `convert`.
    pub(crate) fn typed<T>(
        value: Option<Value<'a>>,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = value else {
            return Ok(None);
        };
        match convert(&value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(ModelError::KeyType { key: key.to_owned(), found: value.describe(), expected }),
        }
    }

    /// A count: any integer type, not negative.
    pub fn as_integer(&self) -> Option<u64> {
        match *self {
            Value::U8(x) => Some(x.into()),
            Value::U16(x) => Some(x.into()),
            Value::U32(x) => Some(x.into()),
            Value::U64(x) => Some(x),
            Value::I8(x) => x.try_into().ok(),
            Value::I16(x) => x.try_into().ok(),
            Value::I32(x) => x.try_into().ok(),
            Value::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// A floating-point number.
    pub fn as_float(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => None,
        }
    }

    /// A flag.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(x) = *self { Some(x) } else { None }
    }

    /// A text.
    pub fn as_str(&self) -> Option<&'a str> {
        if let Value::String(x) = *self { Some(x) } else { None }
    }

    /// An array whose elements have this type.
    pub fn as_array(&self, element: ValueType) -> Option<Array<'a>> {
        match *self {
            Value::Array(array) if array.element == element => Some(array),
            _ => None,
        }
    }

    /// The type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F32(_) => ValueType::F32,
            Value::F64(_) => ValueType::F64,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
        }
    }

    /// The type, in words, for a message: `a string`, `an array of 7 u32`.
    pub fn describe(&self) -> String {
        match self {
            Value::U8(x) => format!("the u8 {x}"),
            Value::I8(x) => format!("the i8 {x}"),
            Value::U16(x) => format!("the u16 {x}"),
            Value::I16(x) => format!("the i16 {x}"),
            Value::U32(x) => format!("the u32 {x}"),
            Value::I32(x) => format!("the i32 {x}"),
            Value::U64(x) => format!("the u64 {x}"),
            Value::I64(x) => format!("the i64 {x}"),
            Value::F32(x) => format!("the f32 {x}"),
            Value::F64(x) => format!("the f64 {x}"),
            Value::Bool(x) => format!("the bool {x}"),
            Value::String(_) => "a string".to_owned(),
            Value::Array(array) => format!("an array of {} {}", array.len, array.element.name()),
        }
    }
}

impl<'a> Array<'a> {
    /// The type of the elements.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements, decoded one by one. The array was checked when the file was parsed, so that none is missing.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = Reader { bytes: self.bytes, pos: 0 };
        let element = self.element;
        (0..self.len).map_while(move |_| reader.value(element, 0).ok())
    }

    /// The elements of an array of strings, whose UTF-8 was checked when the file was parsed; none for another array.
    pub(crate) fn strings(&self) -> Strings<'a> {
        let left = if self.element == ValueType::String { self.len } else { 0 };
        Strings { reader: Reader { bytes: self.bytes, pos: 0 }, left }
    }
}

/// The bytes of an array's strings, one by one; they are UTF-8.
#[derive(Clone, Debug)]
pub(crate) struct Strings<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        self.reader.string_bytes("a metadata string").ok()
    }
}

impl ValueType {
    pub(super) fn from_id(id: u32) -> Option<ValueType> {
        Some(match id {
            0 => ValueType::U8,
            1 => ValueType::I8,
            2 => ValueType::U16,
            3 => ValueType::I16,
            4 => ValueType::U32,
            5 => ValueType::I32,
            6 => ValueType::F32,
            7 => ValueType::Bool,
            8 => ValueType::String,
            9 => ValueType::Array,
            10 => ValueType::U64,
            11 => ValueType::I64,
            12 => ValueType::F64,
            _ => return None,
        })
    }

    /// The number in the file.
    pub(super) fn id(self) -> u32 {
        match self {
            ValueType::U8 => 0,
            ValueType::I8 => 1,
            ValueType::U16 => 2,
            ValueType::I16 => 3,
            ValueType::U32 => 4,
            ValueType::I32 => 5,
            ValueType::F32 => 6,
            ValueType::Bool => 7,
            ValueType::String => 8,
            ValueType::Array => 9,
            ValueType::U64 => 10,
            ValueType::I64 => 11,
            ValueType::F64 => 12,
        }
    }

    /// The type's name, as messages and listings show it.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    /// The fewest bytes that one value of this type takes in a file.
    pub(super) fn min_bytes(self) -> u64 {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::String => 8,
            ValueType::Array => 4 + 8,
        }
    }

    /// Whether every value has exactly [`ValueType::min_bytes`] and every bit pattern is a value.
    pub(super) fn is_plain(self) -> bool {
        !matches!(self, ValueType::Bool | ValueType::String | ValueType::Array)
    }
}

impl<'a> Reader<'a> {
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
