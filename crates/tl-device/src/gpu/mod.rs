//! Graphics processors through wgpu: Vulkan, Metal, Direct3D 12.
//!
//! `adapter.rs` lists and opens them, `device.rs` is an open one, `buffer.rs` its memory, `programs.rs` caches
//! pipelines and bind groups, `stream.rs` records commands, submits them and moves data between host and device.
//! Together they know buffers, programs and order; callers define what a program computes, `memory/` who may use which
//! memory.
//!
//! There is one stream of commands for each device, in the order in which they were recorded, uploads included. A
//! buffer returned while queued work still reads it can therefore be handed out at once: the next write to it comes
//! after that work.

mod adapter;
mod buffer;
mod device;
mod driver;
#[expect(
    clippy::disallowed_methods,
    reason = "compiled programs are kept in the cache file that the device was opened with"
)]
mod programs;
mod raw_buffer;
mod stream;

pub(crate) use adapter::{list, open};
pub(crate) use buffer::Buffer;
pub(crate) use device::{AllocError, BoundBuffers, Dispatch, Gpu};

#[cfg(test)]
mod tests {
    use crate::{DType, Device, DeviceOptions, Layout, Role};

    #[test]
    fn a_lost_device_is_an_error_with_its_name() {
        let Ok(device) = Device::gpu_with(&DeviceOptions::default()) else {
            assert!(std::env::var_os("TL_REQUIRE_GPU").is_none(), "TL_REQUIRE_GPU is set, and there is no GPU");
            return;
        };
        let mut memory = device.take(&Layout::new(DType::I32, [16]), Role::Activation).unwrap();
        memory.fill(1).unwrap();
        device.synchronize().unwrap();
        let gpu = device.memory().gpu().unwrap().clone();
        gpu.destroy();
        let mut messages = Vec::new();
        messages.extend(memory.fill(2).err());
        messages.extend(memory.read(0, 64, &mut |_| {}).err());
        messages.extend(device.synchronize().err());
        assert!(!messages.is_empty(), "nothing was noticed");
        assert!(messages.iter().all(|error| error.to_string().contains(&gpu.info().name)), "{messages:?}");
    }
}
