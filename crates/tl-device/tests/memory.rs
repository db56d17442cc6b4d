//! The memory suite on the CPU, and on simulated devices.

use tl_device::{Device, DeviceOptions};

#[path = "memory/suite.rs"]
mod suite;

/// Whether the devices of this run are GPUs.
const ON_GPU: bool = false;

fn open(options: &DeviceOptions) -> Device {
    Device::cpu_with(options)
}
