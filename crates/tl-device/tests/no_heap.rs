//! Taking, sharing, cloning and returning make no heap allocation, and what the device says that it allocated is what the
//! allocator saw. An allocator that counts is the only witness here, so this is a test program of its own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout as HeapLayout, System};
use std::cell::Cell;

use tl_device::{DType, Device, DeviceOptions, Layout, Role, Storage, TensorBuffer};

/// What this thread asked of the allocator. Buffers of the device are known by their alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    allocations: u64,
    buffers: u64,
    buffer_bytes: u64,
    buffers_freed: u64,
}

thread_local! {
    static SEEN: Cell<Seen> = const { Cell::new(Seen { allocations: 0, buffers: 0, buffer_bytes: 0, buffers_freed: 0 }) };
}

const BUFFER_ALIGN: usize = 64;

fn see(note: impl Fn(&mut Seen)) {
    // A thread that ends may allocate after its variables are gone; that is none of the tests' threads.
    let _ = SEEN.try_with(|seen| {
        let mut now = seen.get();
        note(&mut now);
        seen.set(now);
    });
}

struct Counting;

// SAFETY: every call goes on to the system's allocator unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: HeapLayout) -> *mut u8 {
        see(|seen| count(seen, layout));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: HeapLayout) -> *mut u8 {
        see(|seen| count(seen, layout));
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: HeapLayout, len: usize) -> *mut u8 {
        see(|seen| seen.allocations += 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(start, layout, len) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: HeapLayout) {
        see(|seen| seen.buffers_freed += u64::from(layout.align() == BUFFER_ALIGN));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

fn count(seen: &mut Seen, layout: HeapLayout) {
    seen.allocations += 1;
    if layout.align() == BUFFER_ALIGN {
        seen.buffers += 1;
        seen.buffer_bytes += layout.size() as u64;
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn device() -> Device {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.memory.pool_max_bytes = 1 << 20;
    Device::cpu_with(&options)
}

fn layouts() -> [Layout; 5] {
    [
        Layout::from(vec![8, 512]),
        Layout::new(DType::F32, [1, 2, 3, 4, 5, 6]),
        Layout::new(DType::Bool, [0]),
        Layout::new(DType::I32, []),
        Layout::new(DType::F16, [300, 300]),
    ]
}

/// Takes every layout twice, shares, clones and drops it, in another order than it was taken.
fn step(device: &Device, layouts: &[Layout; 5], held: &mut Vec<Storage>) {
    for layout in layouts.iter().chain(layouts) {
        let mut lease = device.take(layout, Role::Activation).unwrap();
        lease.bytes_mut().fill(1);
        let storage = lease.share();
        held.push(storage.clone());
        held.push(storage);
    }
    held.rotate_left(7);
    held.clear();
}

#[test]
fn after_warm_up_nothing_touches_the_heap() {
    let layouts = layouts();
    for is_reserved in [false, true] {
        let device = device();
        if is_reserved {
            let buffer = TensorBuffer::new(&device);
            layouts.iter().for_each(|layout| buffer.reserve(layout, 2).unwrap());
            buffer.reserve_up_to(&layouts[0], 1).unwrap();
            device.set_tensor_buffer(buffer);
        }
        let mut held = Vec::with_capacity(64);
        (0..3).for_each(|_| step(&device, &layouts, &mut held));
        let (before, allocations) = (SEEN.get(), device.stats().allocation_count);
        (0..100).for_each(|_| step(&device, &layouts, &mut held));
        assert_eq!(SEEN.get(), before, "reserved: {is_reserved}");
        assert_eq!(device.stats().allocation_count, allocations);
        let (reserve, pool) = (device.tensor_buffer_stats(), device.buffer_pool().stats());
        assert_eq!((reserve.taken_count, pool.reuse_count > 1000), (1030 * u64::from(is_reserved), !is_reserved));
    }
}

/// A step of `n` rows, whose tensors live across each other's requests.
fn step_of_rows(device: &Device, n: usize, held: &mut Vec<Storage>) {
    for width in [64, 256, 96, 256, 8] {
        held.push(device.take(&Layout::new(DType::F16, [n, width]), Role::Activation).unwrap().share());
        if held.len() > 2 {
            drop(held.remove(0));
        }
    }
    held.clear();
}

/// Not even the first of its length does: all that a planned step needs is there when the arena is.
#[test]
fn no_step_of_a_planned_arena_touches_the_heap() {
    let device = device();
    let mut held = Vec::with_capacity(64);
    device.start_trace();
    step_of_rows(&device, 40, &mut held);
    let plan = device.stop_trace().arena().unwrap();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_arena(&plan).unwrap();
    device.set_tensor_buffer(buffer.clone());
    device.seal();
    let before = SEEN.get();
    (1..=40).for_each(|n| step_of_rows(&device, n, &mut held));
    assert_eq!(SEEN.get(), before);
    assert_eq!((buffer.stats().arena_taken_count, buffer.stats().fallback_count), (5 * 40, 0));
}

#[test]
fn the_device_counts_what_the_allocator_sees() {
    let device = device();
    let start = SEEN.get();
    let check = |what: &str| {
        let (seen, stats) = (SEEN.get(), device.stats());
        assert_eq!(stats.allocation_count, seen.buffers - start.buffers, "{what}");
        assert_eq!(stats.free_count, seen.buffers_freed - start.buffers_freed, "{what}");
        if stats.free_count == 0 {
            assert_eq!(stats.driver_bytes, seen.buffer_bytes - start.buffer_bytes, "{what}");
        }
    };
    let mut held: Vec<Storage> = Vec::new();
    for n in 0..50 {
        held.push(device.take(&Layout::from(vec![n, 3]), Role::Activation).unwrap().share());
        held.push(device.take(&Layout::from(vec![n, 3]), Role::Learnable).unwrap().share());
    }
    check("fresh");
    let buffer = TensorBuffer::new(&device);
    buffer.reserve(vec![512, 128], 10).unwrap();
    buffer.reserve_up_to(vec![64, 64], 3).unwrap();
    buffer.reserve_learnable(vec![1], 3).unwrap();
    check("reserved");
    assert!(buffer.reserve(vec![1 << 50], 3).is_err());
    check("refused");
    held.clear();
    check("returned");
    buffer.clear();
    check("cleared");
    device.trim();
    check("trimmed");
    let freed = SEEN.get();
    assert_eq!(freed.buffers - start.buffers, freed.buffers_freed - start.buffers_freed);
}
