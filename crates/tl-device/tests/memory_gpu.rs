//! The memory suite on a GPU; where there is none, on the CPU once more, unless `TL_REQUIRE_GPU` is set.

#![cfg(feature = "gpu")]

use tl_device::{Device, DeviceOptions};

#[path = "memory/suite.rs"]
mod suite;

/// Whether the devices of this run are GPUs.
const ON_GPU: bool = true;

fn open(options: &DeviceOptions) -> Device {
    match Device::gpu_with(options) {
        Ok(device) => device,
        Err(error) if std::env::var_os("TL_REQUIRE_GPU").is_some() => panic!("TL_REQUIRE_GPU is set: {error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            Device::cpu_with(options)
        }
    }
}
