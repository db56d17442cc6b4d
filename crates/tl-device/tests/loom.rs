//! Returning and taking again across threads, in every interleaving: `just loom`.
//!
//! The types are the real ones, built with the checker's atomics. The device is a simulated one, without bytes; in their
//! place stands a cell of the checker for each buffer, which reports an access that is not ordered behind the last use
//! of the buffer by another thread.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use tl_device::{Device, DeviceOptions, Layout, Role, Simulation, Storage, TensorBuffer};

/// A buffer's contents, as far as the checker goes.
#[derive(Default)]
struct Cell(UnsafeCell<u32>);

// SAFETY: the checker reports every access that is not ordered.
#[allow(unsafe_code)]
unsafe impl Sync for Cell {}

impl Cell {
    fn write(&self, value: u32) {
        // SAFETY: the checker reports an access at the same time.
        #[allow(unsafe_code)]
        self.0.with_mut(|cell| unsafe { *cell = value });
    }

    fn read(&self) -> u32 {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        self.0.with(|cell| unsafe { *cell })
    }
}

fn layout() -> Layout {
    Layout::from(vec![8])
}

/// A device with one buffer of the layout, reserved or idle in the pool. It is sealed: there is never another.
fn device(is_reserved: bool) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.simulation = Some(Simulation::default());
    let device = Device::cpu_with(&options);
    if is_reserved {
        let buffer = TensorBuffer::new(&device);
        buffer.reserve(layout(), 1).unwrap();
        device.set_tensor_buffer(buffer);
    } else {
        drop(device.take(&layout(), Role::Activation).unwrap());
    }
    device.seal();
    device
}

/// Two views of a tensor end on two threads, while the first thread asks for the memory again: it gets the same buffer
/// only after both have read it.
fn check_views(is_reserved: bool) {
    loom::model(move || {
        let (device, cell) = (device(is_reserved), Arc::new(Cell::default()));
        let storage: Storage = device.take(&layout(), Role::Activation).unwrap().share();
        cell.write(7);
        let (view, seen) = (storage.clone(), cell.clone());
        let reader = thread::spawn(move || {
            assert_eq!(seen.read(), 7);
            drop(view);
        });
        assert_eq!(cell.read(), 7);
        drop(storage);
        if let Ok(again) = device.take(&layout(), Role::Activation) {
            cell.write(8);
            drop(again);
        }
        reader.join().unwrap();
        let stats = device.stats();
        assert_eq!((stats.live_bytes, stats.waste_bytes), (0, 0));
    });
}

#[test]
fn a_reserved_buffer_is_taken_again_after_its_last_view() {
    check_views(true);
}

#[test]
fn a_pooled_buffer_is_taken_again_after_its_last_view() {
    check_views(false);
}

#[test]
fn two_threads_never_hold_the_same_buffer() {
    loom::model(|| {
        let (device, cell) = (device(true), Arc::new(Cell::default()));
        let work = |device: Device, cell: Arc<Cell>, value: u32| {
            if let Ok(lease) = device.take(&layout(), Role::Activation) {
                cell.write(value);
                assert_eq!(cell.read(), value);
                drop(lease);
            }
        };
        let (other_device, other_cell) = (device.clone(), cell.clone());
        let other = thread::spawn(move || work(other_device, other_cell, 1));
        work(device.clone(), cell, 2);
        other.join().unwrap();
        let stats = device.tensor_buffer_stats();
        assert_eq!((stats.in_use_count, stats.taken_count + stats.fallback_count), (0, 2));
    });
}

/// The last tensor keeps its device alive; it ends once, on whichever thread the tensor does.
#[test]
fn a_device_ends_with_its_last_tensor() {
    loom::model(|| {
        let device = device(true);
        let storage = device.take(&layout(), Role::Activation).unwrap().share();
        let view = storage.clone();
        let other = thread::spawn(move || drop(view));
        drop(device);
        drop(storage);
        other.join().unwrap();
    });
}

/// Of two threads that each ask for all that the limit allows, at most one holds it at any time. Threads are interrupted twice at
/// most: every request takes the lock several times, and more would not end.
#[test]
fn a_limit_is_never_passed() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let mut options = DeviceOptions::default();
        options.threads = 1;
        options.memory.limit_bytes = Some(64);
        options.memory.pool_max_bytes = 0;
        options.simulation = Some(Simulation::default());
        let device = Device::cpu_with(&options);
        let work = |device: &Device| {
            let lease = device.take(&layout(), Role::Learnable);
            assert!(device.stats().driver_bytes <= 64);
            drop(lease);
        };
        let other_device = device.clone();
        let other = thread::spawn(move || work(&other_device));
        work(&device);
        other.join().unwrap();
        // Whatever was booked was given back.
        assert_eq!(device.stats().driver_bytes, 0);
        assert!(device.take(&layout(), Role::Learnable).is_ok());
    });
}
