//! Files that lie: whatever a GGUF file says, reading it gives an error or a valid parse, in little memory.

#![allow(unsafe_code)] // a global allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tl_model::{Gguf, Tokenizer};

/// Remembers the largest single allocation.
struct Largest;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        LARGEST.fetch_max(new_size, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

fn random_q8_0() -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/random-q8_0.gguf");
    std::fs::read(path).unwrap()
}

/// Where the header of [`random_q8_0`] ends and its tensors' data begins.
const HEADER_BYTES: usize = 8416;

/// Reads all there is to read; what comes out must not contradict itself.
fn read(bytes: &[u8]) -> bool {
    let Ok(gguf) = Gguf::parse(bytes) else {
        return false;
    };
    for tensor in gguf.tensors() {
        assert!(bytes.get(tensor.data.clone()).is_some(), "{} lies outside the file", tensor.name);
    }
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
        let ids = tokenizer.encode("fn main() { é }");
        assert!(tokenizer.decode(&ids).is_ok());
    }
    true
}

#[test]
fn every_prefix_is_an_error() {
    let bytes = random_q8_0();
    let lengths = (0..HEADER_BYTES).chain((HEADER_BYTES..bytes.len()).step_by(4099)).chain([bytes.len() - 1]);
    for len in lengths {
        assert!(!read(&bytes[..len]), "the first {len} bytes were accepted");
    }
    assert!(read(&bytes));
}

#[test]
fn every_field_may_lie() {
    let mut bytes = random_q8_0();
    LARGEST.store(0, Ordering::Relaxed);
    // A field can begin at any byte: overwrite at all of them, which meets every length, count, type and offset.
    let huge = [u64::MAX, u64::MAX - 31, 1 << 63, 1 << 61, 1 << 40, 1 << 32, u64::from(u32::MAX), 1 << 31];
    for at in 0..HEADER_BYTES - 8 {
        let kept: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
        for value in [0, 1, 9, 12].into_iter().chain(huge) {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            read(&bytes);
            bytes[at..at + 8].copy_from_slice(&kept);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
            read(&bytes);
            bytes[at..at + 8].copy_from_slice(&kept);
        }
    }
    assert!(read(&bytes));
    assert!(LARGEST.load(Ordering::Relaxed) < 1 << 20, "{} bytes at once", LARGEST.load(Ordering::Relaxed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes(flips in prop::collection::vec((0..HEADER_BYTES, any::<u8>()), 1..8)) {
        let mut bytes = random_q8_0();
        for (at, flip) in flips {
            bytes[at] ^= flip;
        }
        read(&bytes);
    }

    #[test]
    fn random_bytes_behind_the_magic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tail);
        read(&bytes);
    }
}
