//! What the memory of a device promises, through its public interface alone.
//!
//! To add a promise, add a test; every one makes its own device, so that the counts in it are its own. The order is that
//! of the sources: reserve, pool, device; then buffers that outlive something, then random sequences of all of it.

use std::sync::mpsc;

use tl_device::{
    BlockFormat, DType, Device, DeviceOptions, Error, HoldsMemory, Layout, LayoutError, Lease, Mapping, MemoryOptions,
    Role, Storage, TensorBuffer, TensorBufferStats,
};

#[path = "limited.rs"]
mod limited;
#[path = "random.rs"]
mod random;
#[path = "stepping.rs"]
mod stepping;

fn device_with(set: impl FnOnce(&mut MemoryOptions)) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    set(&mut options.memory);
    crate::open(&options)
}

fn device() -> Device {
    device_with(|_| ())
}

/// A device whose operations take from a tensor buffer, and that buffer.
fn reserved(layout: &Layout, count: usize) -> (Device, TensorBuffer) {
    let device = device();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve(layout, count).unwrap();
    device.set_tensor_buffer(buffer.clone());
    (device, buffer)
}

fn f16(dims: &[usize]) -> Layout {
    Layout::new(DType::F16, dims)
}

fn f32(dims: &[usize]) -> Layout {
    Layout::new(DType::F32, dims)
}

fn take(device: &Device, layout: &Layout) -> Lease {
    let lease = device.take(layout, Role::Activation).unwrap();
    assert_eq!(lease.len_bytes(), layout.len_bytes().unwrap(), "{layout}");
    if !device.is_gpu() {
        assert_eq!(lease.bytes().len(), lease.len_bytes(), "{layout}");
        assert!(lease.bytes().as_ptr().addr().is_multiple_of(64), "{layout} is not aligned");
    }
    check_sums(device);
    lease
}

fn learnable(device: &Device, layout: &Layout) -> Lease {
    device.take(layout, Role::Learnable).unwrap()
}

fn address(lease: &Lease) -> usize {
    lease.buffer_id()
}

fn fill(lease: &mut Lease, byte: u8) {
    lease.fill(u32::from_ne_bytes([byte; 4])).unwrap();
}

/// Whether all bytes are this one, wherever they lie.
fn is_all(storage: &Storage, byte: u8) -> bool {
    let (mut len, mut is_all) = (0, true);
    let mut look = |bytes: &[u8]| {
        len += bytes.len();
        is_all &= bytes.iter().all(|&own| own == byte);
    };
    storage.read(0, storage.len_bytes(), &mut look).unwrap();
    is_all && len == storage.len_bytes()
}

fn is_all_of(lease: &Lease, byte: u8) -> bool {
    let mut is_all = true;
    lease.read(0, lease.len_bytes(), &mut |bytes| is_all &= bytes.iter().all(|&own| own == byte)).unwrap();
    is_all
}

/// Every byte that the system gave has its place.
fn check_sums(device: &Device) {
    let stats = device.stats();
    let sum = stats.live_bytes + stats.reserved_free_bytes + stats.pooled_bytes + stats.waste_bytes;
    assert_eq!(sum, stats.driver_bytes, "{stats:?}");
    assert!(stats.pooled_bytes <= stats.pool_cap_bytes && stats.live_bytes <= stats.peak_bytes, "{stats:?}");
}

/// `(reserved, in use, taken, reused, fallbacks)`.
fn counts(stats: &TensorBufferStats) -> (usize, usize, u64, u64, u64) {
    (stats.reserved_count, stats.in_use_count, stats.taken_count, stats.reused_count, stats.fallback_count)
}

/// A value that holds memory, as a tensor does.
struct Value(Storage);

impl HoldsMemory for Value {
    fn storage(&self) -> &Storage {
        &self.0
    }
}

// The reserve.

#[test]
fn counts_of_a_reserve() {
    let layout = f16(&[512, 128]);
    let (device, buffer) = reserved(&layout, 2);
    let allocations = device.stats().allocation_count;
    assert_eq!((allocations, device.stats().reserved_free_bytes), (2, 2 * 512 * 128 * 2));
    let check = |expected| assert_eq!(counts(&buffer.stats()), expected);
    check((2, 0, 0, 0, 0));
    let first = take(&device, &layout);
    let second = take(&device, &layout);
    check((2, 2, 2, 0, 0));
    assert_eq!(device.stats().allocation_count, allocations, "served without an allocation");
    let third = take(&device, &layout);
    check((2, 2, 2, 0, 1));
    assert_eq!(device.stats().allocation_count, allocations + 1, "a fallback allocates");
    drop((first, second, third));
    check((2, 0, 2, 0, 1));
    let again = take(&device, &layout);
    check((2, 1, 3, 1, 1));
    assert_eq!(buffer.stats().hit_rate(), 0.75);
    assert_eq!(device.tensor_buffer_stats(), buffer.stats());
    drop(again);
    // The layout's own row has the same counts.
    let stats = buffer.stats();
    let [row] = &stats.by_layout[..] else { panic!("{stats:?}") };
    assert_eq!((row.taken_count, row.reused_count, row.fallback_count, row.most_in_use), (3, 1, 1, 2));
    check_sums(&device);
}

#[test]
fn an_unused_reserve_has_no_hit_rate() {
    assert_eq!(TensorBuffer::new(&device()).stats().hit_rate(), 0.0);
}

#[test]
fn a_step_from_the_same_state_takes_the_same_buffers() {
    let layout = f16(&[8, 512]);
    let (device, _buffer) = reserved(&layout, 100);
    let step = || {
        let mut held: Vec<Lease> = Vec::new();
        let mut places = Vec::new();
        for i in 0..70 {
            held.push(take(&device, &layout));
            places.push(address(held.last().unwrap()));
            if i % 3 == 1 {
                held.remove(i % held.len());
            }
        }
        // Given back in an order that differs from that of taking.
        let second_half = held.split_off(held.len() / 2);
        drop((second_half, held));
        places
    };
    let first = step();
    assert_eq!(step(), first);
    assert_eq!(step(), first);
}

#[test]
fn the_lowest_free_buffer_goes_out_first() {
    let layout = f16(&[64]);
    let (device, _buffer) = reserved(&layout, 200);
    let mut held: Vec<Option<Lease>> = (0..200).map(|_| Some(take(&device, &layout))).collect();
    let places: Vec<usize> = held.iter().flatten().map(address).collect();
    // Whatever the order in which they come back.
    for index in [150, 3, 70, 199, 0, 64] {
        held[index] = None;
    }
    for index in [0, 3, 64, 70, 150, 199] {
        held[index] = Some(take(&device, &layout));
        assert_eq!(held[index].as_ref().map(address), Some(places[index]));
    }
}

#[test]
fn the_type_is_part_of_the_key() {
    // 64 bytes each: size alone does not make them the same.
    let layouts = [f16(&[32]), f32(&[16]), Layout::new(DType::I32, [16]), Layout::new(DType::Bool, [64]), f16(&[4, 8])];
    for reserved_layout in &layouts {
        let (device, buffer) = reserved(reserved_layout, 1);
        for other in layouts.iter().filter(|other| *other != reserved_layout) {
            drop(take(&device, other));
        }
        assert_eq!(buffer.stats().taken_count, 0, "{reserved_layout}");
        drop(take(&device, reserved_layout));
        assert_eq!(counts(&buffer.stats()), (1, 0, 1, 0, 4), "{reserved_layout}");
    }
}

#[test]
fn bounds_serve_what_is_no_larger() {
    let device = device();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_up_to(vec![8, 256], 1).unwrap();
    buffer.reserve_up_to(vec![2, 128], 1).unwrap();
    buffer.reserve(vec![1, 64], 1).unwrap();
    let takes = |dims: &[usize]| buffer.take(f16(dims)).unwrap();
    let driver = device.stats().driver_bytes;
    // Exact first, then the smallest bound that covers, then the next one, then none.
    let exact = takes(&[1, 64]).unwrap();
    let small = takes(&[1, 64]).unwrap();
    let large = takes(&[1, 64]).unwrap();
    assert!(takes(&[1, 64]).is_none());
    assert_eq!(large.len_bytes(), 128, "a bound yields the size that was asked for");
    check_sums(&device);
    assert_eq!(device.stats().waste_bytes, driver - 3 * 128);
    let places = [address(&small), address(&large)];
    drop((exact, small, large));
    assert_eq!(address(&takes(&[2, 128]).unwrap()), places[0]);
    assert_eq!(address(&takes(&[3, 1]).unwrap()), places[1]);
    assert_eq!(address(&takes(&[0, 7]).unwrap()), places[0]);
    for refused in [&[9, 1][..], &[1, 257], &[256], &[1, 1, 1]] {
        assert!(takes(refused).is_none(), "{refused:?}");
    }
    assert!(buffer.take(f32(&[1, 1])).unwrap().is_none());
    assert_eq!(buffer.stats().fallback_count, 6);
}

#[test]
fn reservations_add_up() {
    let layout = f16(&[3, 5]);
    let (device, buffer) = reserved(&layout, 1);
    buffer.reserve(vec![3, 5], 2).unwrap();
    buffer.reserve(vec![3, 5], 0).unwrap();
    let held: Vec<Lease> = (0..3).map(|_| buffer.take(&layout).unwrap().unwrap()).collect();
    assert!(buffer.take(&layout).unwrap().is_none());
    assert_eq!((buffer.stats().reserved_count, buffer.stats().by_layout.len()), (3, 1));
    assert_eq!(device.stats().allocation_count, 3);
    drop(held);
}

#[test]
fn missed_layouts_are_counted_within_a_bound() {
    let (device, buffer) = reserved(&f16(&[1]), 1);
    for n in 2..2002 {
        drop(take(&device, &f16(&[n])));
    }
    let stats = buffer.stats();
    assert_eq!(stats.fallback_count, 2000);
    assert!(stats.by_layout.len() < 500, "{} rows for sizes that never come again", stats.by_layout.len());
}

// Parameters.

#[test]
fn parameters_and_activations_do_not_mix() {
    let layout = f16(&[64, 64]);
    let device = device();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_learnable(&layout, 1).unwrap();
    device.set_tensor_buffer(buffer.clone());
    // An activation never gets the learnable buffer…
    let activation = take(&device, &layout);
    assert_eq!(counts(&buffer.stats()), (1, 0, 0, 0, 1));
    // …nor a parameter what the pool or the exact reserve has.
    buffer.reserve(&layout, 1).unwrap();
    drop(activation);
    assert_eq!(device.buffer_pool().stats().total_pooled, 1);
    let first = learnable(&device, &layout);
    let second = learnable(&device, &layout);
    assert_eq!(buffer.stats().in_use_count, 1);
    assert_eq!(buffer.stats().fallback_count, 1, "a parameter is no fallback");
    assert_eq!(device.buffer_pool().stats().total_pooled, 1);
    assert_eq!(device.stats().learnable_bytes, 2 * 64 * 64 * 2);
    let storage = first.share();
    assert!(storage.is_learnable() && !take(&device, &layout).share().is_learnable());
    // Dropped, both go to the system, and neither to the pool.
    let before = device.stats();
    drop((storage, second));
    let after = device.stats();
    assert_eq!(before.driver_bytes - after.driver_bytes, 2 * 64 * 64 * 2);
    assert_eq!((after.learnable_bytes, after.free_count), (0, before.free_count + 2));
    assert_eq!(after.pooled_bytes, before.pooled_bytes);
    assert_eq!(buffer.stats().reserved_count, 1, "the learnable buffer is gone, the exact one stays");
    check_sums(&device);
}

#[test]
fn a_recycled_parameter_is_back_in_its_reserve() {
    let layout = f32(&[10, 10]);
    let device = device();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_learnable(&layout, 1).unwrap();
    let lease = buffer.take_learnable(&layout).unwrap().unwrap();
    let place = address(&lease);
    assert!(buffer.take_learnable(&layout).unwrap().is_none());
    buffer.recycle(Value(lease.share())).unwrap();
    assert_eq!((buffer.stats().reserved_count, buffer.stats().in_use_count), (1, 0));
    let again = buffer.take_learnable(&layout).unwrap().unwrap();
    assert_eq!(address(&again), place);
    // Recycling holds for one time: dropped now, it is freed.
    drop(again);
    assert_eq!(buffer.stats().reserved_count, 0);
    assert_eq!(device.stats().driver_bytes, 0);
    // The place of the freed one can be reserved again.
    buffer.reserve_learnable(&layout, 2).unwrap();
    let both = [buffer.take_learnable(&layout).unwrap().unwrap(), buffer.take_learnable(&layout).unwrap().unwrap()];
    assert_ne!(address(&both[0]), address(&both[1]));
}

#[test]
fn shared_memory_is_not_recycled() {
    let layout = f32(&[4]);
    let (device, buffer) = reserved(&layout, 1);
    let storage = take(&device, &layout).share();
    let view = storage.clone();
    let refused = buffer.recycle(Value(storage)).unwrap_err();
    assert_eq!(refused.to_string(), "cannot recycle: another tensor or view still holds this memory");
    assert!(refused.0.0.is_same(&view), "the value comes back");
    assert_eq!(buffer.stats().in_use_count, 1);
    drop(view);
    buffer.recycle(refused.0).unwrap();
    assert_eq!(buffer.stats().in_use_count, 0);
    // What did not come from a reserve goes where it came from.
    let (mut lease, other) = (take(&device, &layout), take(&device, &layout));
    fill(&mut lease, 1);
    buffer.recycle(Value(other.share())).unwrap();
    assert_eq!(device.buffer_pool().stats().total_pooled, 1);
}

// Clearing.

#[test]
fn cleared_buffers_in_use_are_freed_when_dropped() {
    let layout = f16(&[100]);
    let (device, buffer) = reserved(&layout, 3);
    let mut held = take(&device, &layout);
    fill(&mut held, 7);
    buffer.clear();
    assert_eq!((buffer.stats().reserved_count, buffer.stats().in_use_count), (0, 0));
    assert_eq!((device.stats().free_count, device.stats().reserved_free_bytes), (2, 0));
    // A later reservation of the same layout has nothing to do with the one that is still out.
    buffer.reserve(&layout, 1).unwrap();
    let new = take(&device, &layout);
    assert_eq!(counts(&buffer.stats()), (1, 1, 2, 0, 0));
    assert!(is_all_of(&held, 7));
    drop(held);
    assert_eq!(counts(&buffer.stats()), (1, 1, 2, 0, 0));
    assert_eq!(device.stats().free_count, 3);
    drop(new);
    assert_eq!(device.stats().driver_bytes, device.stats().reserved_free_bytes);
    buffer.clear();
    assert_eq!(device.stats().driver_bytes, 0);
}

#[test]
fn clearing_one_shape() {
    let device = device();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve(f16(&[4, 4]), 1).unwrap();
    buffer.reserve(f32(&[4, 4]), 1).unwrap();
    buffer.reserve_up_to(f16(&[4, 4]), 1).unwrap();
    buffer.reserve(f16(&[4, 5]), 1).unwrap();
    buffer.reserve_learnable(f16(&[4, 4]), 2).unwrap();
    let held = buffer.take_learnable(f16(&[4, 4])).unwrap().unwrap();
    let check = |expected| assert_eq!(buffer.stats().reserved_count, expected);
    buffer.clear_shape([4, 4]);
    check(3);
    buffer.clear_shape([5, 4]);
    check(3);
    buffer.clear_learnable_shape([4, 4]);
    check(1);
    buffer.reserve_learnable(f16(&[4, 4]), 1).unwrap();
    drop(held);
    check(2);
    assert!(buffer.take(f16(&[4, 5])).unwrap().is_some());
    assert!(buffer.take(f16(&[4, 4])).unwrap().is_none());
    check_sums(&device);
}

// The pool.

#[test]
fn the_pool_serves_again_what_came_back() {
    let device = device();
    let first = take(&device, &f16(&[1000]));
    let place = address(&first);
    drop(first);
    // Another layout of the same size class, which rounds up within a quarter.
    let second = take(&device, &f32(&[501]));
    assert_eq!(address(&second), place);
    let (stats, pool) = (device.stats(), device.buffer_pool().stats());
    assert_eq!((stats.allocation_count, stats.pool_reuse_count, pool.reuse_count), (1, 1, 1));
    assert_eq!(stats.waste_bytes, stats.driver_bytes - 2004);
    assert!(stats.waste_bytes < 2004 / 4 + 64);
    // One of another class is not touched.
    let third = take(&device, &f16(&[10]));
    assert_eq!((device.stats().allocation_count, device.buffer_pool().stats().size_classes), (2, 1));
    drop((second, third));
    assert_eq!(device.buffer_pool().stats().total_pooled, 2);
    device.trim();
    assert_eq!((device.stats().driver_bytes, device.buffer_pool().stats().total_memory), (0, 0));
}

#[test]
fn size_classes_waste_less_than_a_quarter() {
    let device = device();
    for len in (0..3000).chain([4095, 4096, 4097, 100_000, 1 << 20, (1 << 20) + 1]) {
        let layout = Layout::new(DType::Bool, [len]);
        let _lease = take(&device, &layout);
        let stats = device.stats();
        let aligned = (len as u64).next_multiple_of(64).max(64);
        let held = stats.live_bytes + stats.waste_bytes;
        assert!(held >= aligned && (held - aligned) * 4 < aligned, "{len} bytes lie in {held}");
    }
}

#[test]
fn limits_of_the_pool_are_kept_on_return() {
    // 10 buffers of 1 KiB, of which 4 KiB may stay idle.
    let device = device_with(|memory| memory.pool_max_bytes = 4096);
    let held: Vec<Lease> = (0..10).map(|_| take(&device, &f16(&[512]))).collect();
    let last_four: Vec<usize> = held[6..].iter().map(address).collect();
    held.into_iter().for_each(drop);
    let stats = device.stats();
    assert_eq!((stats.pooled_bytes, stats.eviction_count, stats.free_count), (4096, 6, 6));
    // The ones that came back last are those that stay.
    let again: Vec<Lease> = (0..4).map(|_| take(&device, &f16(&[512]))).collect();
    assert!(again.iter().all(|lease| last_four.contains(&address(lease))));
    // What is larger than the cap does not come in, and pushes nothing out.
    again.into_iter().for_each(drop);
    drop(take(&device, &f16(&[5000])));
    assert_eq!(device.stats().pooled_bytes, 4096);

    let device = device_with(|memory| memory.max_buffers_per_size = 3);
    drop((0..5).map(|_| take(&device, &f16(&[8]))).collect::<Vec<_>>());
    drop((0..2).map(|_| take(&device, &f16(&[800]))).collect::<Vec<_>>());
    assert_eq!(device.buffer_pool().stats().total_pooled, 5);
    assert_eq!(device.buffer_pool().stats().eviction_count, 2);
}

#[test]
fn without_a_pool_everything_goes_back() {
    for unpooled in [MemoryOptions::unpooled(), {
        let mut memory = MemoryOptions::default();
        memory.max_buffers_per_size = 0;
        memory
    }] {
        let device = device_with(|memory| *memory = unpooled);
        for _ in 0..3 {
            drop(take(&device, &f16(&[100])));
            assert_eq!(device.stats().driver_bytes, 0);
        }
        assert_eq!((device.stats().allocation_count, device.stats().free_count), (3, 3));
    }
}

#[test]
fn the_peak_starts_again_where_it_is_told() {
    let device = device();
    let small = take(&device, &f16(&[8]));
    drop(take(&device, &f16(&[80])));
    assert_eq!(device.stats().peak_bytes, 176);
    device.reset_peak();
    assert_eq!(device.stats().peak_bytes, 16);
    drop(small);
    assert_eq!((device.stats().peak_bytes, device.stats().live_bytes), (16, 0));
}

// Lifetimes.

#[test]
fn a_tensor_buffer_dropped_while_its_buffers_are_out() {
    let layout = f16(&[256]);
    let (device, buffer) = reserved(&layout, 2);
    let mut held = take(&device, &layout);
    fill(&mut held, 9);
    drop(buffer);
    assert_eq!(device.stats().free_count, 0, "the device still has it");
    assert!(device.replace_tensor_buffer(None).unwrap().is_some());
    assert_eq!(device.stats().free_count, 1);
    assert_eq!(device.tensor_buffer_stats(), TensorBufferStats::default());
    assert!(is_all_of(&held, 9));
    drop(held);
    assert_eq!((device.stats().free_count, device.stats().driver_bytes), (2, 0));
}

#[test]
fn a_device_dropped_while_its_memory_is_out() {
    let layout = f16(&[256]);
    let (device, buffer) = reserved(&layout, 1);
    let mut held = [take(&device, &layout), take(&device, &layout)];
    fill(&mut held[0], 1);
    fill(&mut held[1], 2);
    drop(device);
    let [first, second] = held;
    // The memory keeps its device alive, which serves on.
    assert_eq!(buffer.stats().in_use_count, 1);
    let third = take(&second.device().clone(), &layout);
    assert!(is_all_of(&first, 1) && is_all_of(&second, 2));
    drop(first);
    assert_eq!(buffer.stats().in_use_count, 0);
    drop((second, third));
    assert_eq!(buffer.reserve(&layout, 1), Err(Error::DeviceGone));
    assert_eq!(buffer.take(&layout).err(), Some(Error::DeviceGone));
    assert_eq!(buffer.stats(), TensorBufferStats::default());
    buffer.clear();
}

#[test]
fn buffers_stay_with_their_device() {
    let (one, other) = (device(), device());
    assert!(one.is_same(&one.clone()) && !one.is_same(&other));
    let buffer = TensorBuffer::new(&one);
    assert_eq!(other.replace_tensor_buffer(Some(buffer.clone())).err(), Some(Error::OtherDevice));
    assert!(other.tensor_buffer().is_none());
    let former = one.replace_tensor_buffer(Some(buffer)).unwrap();
    assert!(former.is_none() && one.tensor_buffer().is_some());
    let layout = f16(&[8]);
    drop(take(&other, &layout));
    assert_eq!(one.stats().allocation_count, 0);
    assert!(take(&other, &layout).device().is_same(&other));
}

#[test]
fn a_buffer_for_a_while() {
    let layout = f16(&[77]);
    let (device, outer) = reserved(&layout, 1);
    let inner = TensorBuffer::new(&device);
    inner.reserve(&layout, 1).unwrap();
    let former = device.replace_tensor_buffer(Some(inner.clone())).unwrap();
    let lease = take(&device, &layout);
    device.replace_tensor_buffer(former).unwrap();
    assert_eq!((inner.stats().taken_count, outer.stats().taken_count), (1, 0));
    // It returns to where it came from, not to the one that is set.
    drop(lease);
    assert_eq!((inner.stats().in_use_count, outer.stats().in_use_count), (0, 0));
    assert_eq!(device.buffer_pool().stats().total_pooled, 0);
    check_sums(&device);
}

// Odd requests.

#[test]
fn empty_layouts_are_memory_too() {
    let layout = f32(&[0, 3]);
    let (device, buffer) = reserved(&layout, 1);
    let (first, second) = (take(&device, &layout), take(&device, &layout));
    assert!(first.len_bytes() == 0 && second.len_bytes() == 0);
    assert_ne!(address(&first), address(&second));
    assert_eq!(counts(&buffer.stats()), (1, 1, 1, 0, 1));
    assert_eq!(device.stats().live_bytes, 0);
    drop((first, second));
    assert_eq!(learnable(&device, &layout).len_bytes(), 0);
    check_sums(&device);
}

#[test]
fn impossible_layouts_are_refused() {
    static BLOCKS: BlockFormat = BlockFormat { name: "blocks", id: 1000, block_elems: 32, block_bytes: 18 };
    let device = device();
    let buffer = TensorBuffer::new(&device);
    let check = |layout: Layout, count: usize, expected: &str| {
        assert_eq!(buffer.reserve(&layout, count).unwrap_err().to_string(), expected);
        assert_eq!(counts(&buffer.stats()), (0, 0, 0, 0, 0));
    };
    let too_large = |layout: &str| format!("{layout} is too large: its size in bytes does not fit the address space");
    let huge = usize::MAX / 4;
    check(f32(&[usize::MAX, 2]), 1, &too_large(&format!("float32[{}, 2]", usize::MAX)));
    check(f32(&[huge]), 1, &too_large(&format!("float32[{huge}]")));
    check(f32(&[1 << 40]), usize::MAX, &too_large("float32[1099511627776]"));
    check(
        Layout::new(DType::Block(&BLOCKS), [2, 33]),
        1,
        "blocks[2, 33]: the last dimension must be a multiple of 32, the block size of this format",
    );
    for layout in [f32(&[huge]), f16(&[usize::MAX, 2, 0])] {
        for role in [Role::Activation, Role::Learnable] {
            assert_eq!(device.take(&layout, role).err(), Some(LayoutError::TooLarge { layout: layout.clone() }.into()));
        }
        assert_eq!(buffer.take(&layout).err(), Some(LayoutError::TooLarge { layout }.into()));
    }
    assert_eq!(device.stats(), self::device().stats());
}

#[test]
fn more_than_there_is_leaves_nothing_behind() {
    let device = device();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve(vec![8], 1).unwrap();
    drop(take(&device, &f16(&[8])));
    let before = device.stats();
    // 256 TiB, more than processors of today can address; and many buffers, each of which could be had.
    let requests = [(1 << 46, 1), (1 << 24, 1 << 22)];
    for (n, count) in requests {
        let error = buffer.reserve(f32(&[n]), count).unwrap_err();
        let Error::OutOfMemory { requested_bytes, stats, .. } = &error else { panic!("{error}") };
        assert_eq!(*requested_bytes, 4 * n * count);
        assert_eq!(stats.live_bytes, 0);
        let text = error.to_string();
        assert!(text.starts_with("out of memory: a reservation of "), "{text}");
        assert!(text.contains("256.0 TiB"), "{text}");
    }
    for role in [Role::Activation, Role::Learnable] {
        assert!(matches!(device.take(&f32(&[1 << 46]), role), Err(Error::OutOfMemory { .. })));
    }
    let after = device.stats();
    assert_eq!((after.pooled_bytes, before.pooled_bytes), (0, 64), "the pool was emptied to make room");
    assert_eq!(after.reserved_free_bytes, before.reserved_free_bytes);
    assert_eq!((after.driver_bytes, after.allocation_count), (64, 2));
    assert_eq!(buffer.stats().reserved_count, 1);
    check_sums(&device);
}

/// What threads take at the same time stays within the limit, however long the system takes to give it.
#[test]
fn the_limit_holds_for_threads() {
    const LIMIT: usize = 64 << 20;
    let layout = f32(&[10 << 20]);
    let device = device_with(|memory| memory.limit_bytes = Some(LIMIT));
    let begin = std::sync::Barrier::new(8);
    for is_reserved in [false, true] {
        let served = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let buffer = TensorBuffer::new(&device);
                        begin.wait();
                        let lease = match is_reserved {
                            true => buffer.reserve(&layout, 1).map(|()| None),
                            false => device.take(&layout, Role::Learnable).map(Some),
                        };
                        let held = device.stats().driver_bytes;
                        assert!(held <= LIMIT as u64, "{held} bytes under a limit of {LIMIT}");
                        begin.wait();
                        usize::from(lease.is_ok())
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
        });
        assert_eq!(served, 1, "of 8 requests for 40 MiB");
        assert_eq!(device.stats().driver_bytes, 0);
    }
}

/// The kernels' workspace is taken once, whoever asks at the same time: a limit of its size is enough.
#[test]
fn one_workspace_for_all_threads() {
    let own = device();
    own.take_workspace().unwrap();
    let bytes = own.stats().workspace_bytes;
    let device = device_with(|memory| memory.limit_bytes = Some(bytes as usize));
    let begin = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                begin.wait();
                device.take_workspace().unwrap();
                assert_eq!(device.stats().total_bytes(), bytes);
            });
        }
    });
    assert_eq!(bytes > 0, !device.is_gpu());
}

/// A request that fits is served where the pool's rounding up would not, and a failed one gives back what it had booked.
#[test]
fn a_request_that_fits_exactly() {
    let device = device_with(|memory| memory.limit_bytes = Some(64 * 65));
    drop(take(&device, &f16(&[32 * 64])));
    // 65 units of 64 bytes are in the class of 80.
    let all = take(&device, &f16(&[32 * 65]));
    assert_eq!((device.stats().driver_bytes, device.stats().waste_bytes), (64 * 65, 0));
    let error = device.take(&f16(&[1]), Role::Activation).err();
    assert!(matches!(error, Some(Error::Limit { requested_bytes: 64, .. })), "{error:?}");
    drop(all);
    assert_eq!(device.stats().driver_bytes, 0, "it is in no class, and is given back");
    assert!(device.take(&f16(&[32 * 66]), Role::Activation).is_err());
    drop(take(&device, &f16(&[32 * 65])));
}

/// A hook that asks for memory itself is not called for that.
#[test]
fn a_hook_may_take_memory() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let calls = std::sync::Arc::new(AtomicUsize::new(0));
    let device = device_with(|memory| memory.limit_bytes = Some(4096));
    let held = take(&device, &f16(&[1024])).share();
    let (counted, own) = (calls.clone(), held.clone());
    device.on_out_of_memory(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        assert!(own.device().take(&f16(&[4096]), Role::Activation).is_err());
    });
    for n in 1..=2 {
        assert!(device.take(&f16(&[4096]), Role::Activation).is_err());
        assert_eq!(calls.load(Ordering::Relaxed), n);
    }
    device.on_out_of_memory(|_| ());
    drop(held);
}

// Contents.

#[test]
fn contents_stay_while_they_are_held() {
    let (device, _buffer) = reserved(&f16(&[300]), 4);
    let layouts = [f16(&[300]), f32(&[150]), f16(&[7])];
    let mut held: Vec<(Storage, u8)> = Vec::new();
    for round in 0..500u32 {
        let pattern = round as u8;
        let mut lease = take(&device, &layouts[round as usize % 3]);
        fill(&mut lease, pattern);
        let storage = lease.share();
        held.push((storage.clone(), pattern));
        if held.len() > 9 {
            let (storage, pattern) = held.swap_remove((round * 7 % 9) as usize);
            assert!(is_all(&storage, pattern), "round {round}");
        }
    }
    assert!(held.iter().all(|(storage, pattern)| is_all(storage, *pattern)));
}

#[test]
fn nan_fill_shows_what_nobody_wrote() {
    let layout = f32(&[33]);
    let device = device_with(|memory| memory.nan_fill = true);
    let buffer = TensorBuffer::new(&device);
    buffer.reserve(&layout, 1).unwrap();
    device.set_tensor_buffer(buffer);
    let is_nan = |lease: &Lease| {
        let mut is_nan = true;
        let look = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes).is_nan();
        lease.read(0, lease.len_bytes(), &mut |bytes| is_nan &= bytes.as_chunks().0.iter().all(look)).unwrap();
        is_nan
    };
    for _ in 0..2 {
        // From the reserve, from the system and later the pool, from the learnable reserve.
        let mut leases = [take(&device, &layout), take(&device, &layout), learnable(&device, &layout)];
        assert!(leases.iter().all(is_nan));
        leases.iter_mut().for_each(|lease| fill(lease, 0));
    }
    let fresh = self::device().take(&layout, Role::Activation).unwrap();
    assert!(!is_nan(&fresh), "off unless asked for");
}

#[test]
fn mapped_files_are_counted_apart() {
    if crate::ON_GPU {
        // `tests/gpu.rs` says what a GPU answers.
        return;
    }
    let path = std::env::temp_dir().join(format!("tl-device-mapping-{}", std::process::id()));
    std::fs::write(&path, (0..=255).collect::<Vec<u8>>()).unwrap();
    let device = device();
    let mapping = Mapping::open(&path).unwrap();
    assert_eq!(mapping.bytes().len(), 256);
    let mut lease = device.adopt(&mapping, 3, 5).unwrap();
    drop(mapping);
    assert_eq!(lease.bytes(), [3, 4, 5, 6, 7]);
    assert!(lease.bytes_mut().is_empty(), "a mapping is read-only");
    let storage = lease.share();
    assert!(storage.is_learnable() && storage.device().is_same(&device));
    let stats = device.stats();
    assert_eq!((stats.mapped_bytes, stats.driver_bytes, stats.live_bytes, stats.learnable_bytes), (5, 0, 0, 0));
    let buffer = TensorBuffer::new(&device);
    buffer.recycle(Value(storage)).unwrap();
    assert_eq!(device.stats().mapped_bytes, 0);

    let mapping = Mapping::open(&path).unwrap();
    for (offset, len, is_inside) in
        [(0, 256, true), (256, 0, true), (0, 257, false), (257, 0, false), (255, 2, false), (usize::MAX, 2, false)]
    {
        assert_eq!(device.adopt(&mapping, offset, len).is_ok(), is_inside, "{offset} {len}");
    }
    std::fs::write(&path, []).unwrap();
    assert!(Mapping::open(&path).is_ok_and(|empty| empty.bytes().is_empty()));
    std::fs::remove_file(&path).unwrap();
    assert!(Mapping::open(&path).is_err());
    assert!(Mapping::open(std::env::temp_dir()).is_err());
}

// Threads.

#[test]
fn memory_comes_back_from_other_threads() {
    let layout = f16(&[64]);
    let (device, buffer) = reserved(&layout, 1);
    let lease = take(&device, &layout);
    let parameter = learnable(&device, &layout).share();
    let view = parameter.clone();
    std::thread::spawn(move || drop((lease, parameter))).join().unwrap();
    assert_eq!((buffer.stats().in_use_count, device.stats().learnable_bytes), (0, 128));
    std::thread::spawn(move || drop((view, device))).join().unwrap();
    assert_eq!(buffer.reserve(&layout, 1), Err(Error::DeviceGone), "the thread dropped the last handle");
}

/// Four threads take, share, clone, send to each other and drop; each piece of memory says in every byte whose it is.
#[test]
fn four_threads() {
    const ROUNDS: u32 = 20_000;
    let device = device_with(|memory| memory.pool_max_bytes = 8192);
    let layouts = [f16(&[100]), f32(&[50]), f16(&[3, 500]), f16(&[1])];
    let buffer = TensorBuffer::new(&device);
    buffer.reserve(&layouts[0], 7).unwrap();
    buffer.reserve_up_to(&layouts[2], 3).unwrap();
    device.set_tensor_buffer(buffer.clone());
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel::<(Storage, u8)>()).unzip();
    let is_intact = |(storage, pattern): &(Storage, u8)| is_all(storage, *pattern);
    std::thread::scope(|scope| {
        for (thread, receiver) in receivers.into_iter().enumerate() {
            let (device, layouts, senders) = (&device, &layouts, senders.clone());
            scope.spawn(move || {
                let mut kept = std::collections::VecDeque::new();
                for round in 0..ROUNDS {
                    let n = round as usize + thread;
                    let pattern = (n * 5 + thread) as u8;
                    let mut lease = device.take(&layouts[n % 4], Role::Activation).unwrap();
                    fill(&mut lease, pattern);
                    let storage = lease.share();
                    let view = storage.clone();
                    // The others may have stopped already; then the memory comes back with the error.
                    drop(senders[(thread + 1 + n % 3) % 4].send((view, pattern)));
                    kept.push_back((storage, pattern));
                    kept.extend(receiver.try_iter().take(2));
                    while kept.len() > 6 {
                        let piece = kept.pop_front().unwrap();
                        assert!(is_intact(&piece), "thread {thread}, round {round}");
                    }
                }
            });
        }
        drop(senders);
    });
    let stats = device.stats();
    assert_eq!((stats.live_bytes, stats.waste_bytes, buffer.stats().in_use_count), (0, 0, 0));
    assert_eq!(buffer.stats().taken_count + buffer.stats().fallback_count, u64::from(4 * ROUNDS));
    check_sums(&device);
    buffer.clear();
    device.trim();
    assert_eq!(device.stats().driver_bytes, 0);
    assert_eq!(device.stats().allocation_count, device.stats().free_count);
}
