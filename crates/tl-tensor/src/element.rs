//! The Rust types that tensors can have as elements.

use half::f16;
use tl_device::DType;

/// A Rust type that tensors can have as elements: `f16`, `f32`, `i32`, `bool`.
pub trait Element: Copy + Send + Sync + sealed::Stored + 'static {
    /// The data type in memory.
    const DTYPE: DType;
}

mod sealed {
    /// How an element lies in memory.
    pub trait Stored: Sized {
        type Bytes: bytemuck::Pod + Send + Sync;
        fn to_stored(self) -> Self::Bytes;
        /// Elements as they lie in memory.
        fn stored(elements: &[Self]) -> &[u8];
        fn from_stored(stored: Self::Bytes) -> Self;
    }
}

macro_rules! element {
    ($type:ty, $dtype:expr) => {
        impl Element for $type {
            const DTYPE: DType = $dtype;
        }
        impl sealed::Stored for $type {
            type Bytes = $type;
            fn to_stored(self) -> $type {
                self
            }
            fn stored(elements: &[$type]) -> &[u8] {
                bytemuck::cast_slice(elements)
            }
            fn from_stored(stored: $type) -> $type {
                stored
            }
        }
    };
}
element!(f16, DType::F16);
element!(f32, DType::F32);
element!(i32, DType::I32);
impl Element for bool {
    const DTYPE: DType = DType::Bool;
}
impl sealed::Stored for bool {
    type Bytes = u8;
    fn to_stored(self) -> u8 {
        u8::from(self)
    }
    fn stored(elements: &[bool]) -> &[u8] {
        bytemuck::cast_slice(elements)
    }
    fn from_stored(stored: u8) -> bool {
        stored != 0
    }
}
