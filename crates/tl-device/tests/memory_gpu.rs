//! The memory suite on a GPU; where there is none, on the CPU once more, unless `TL_REQUIRE_GPU` is set.

#![cfg(feature = "gpu")]

use tl_device::{Device, DeviceOptions};

#[path = "../../../tests/gpu.rs"]
mod gpu;
#[path = "memory/suite.rs"]
mod suite;
use gpu::gpu;

/// Whether the devices of this run are GPUs.
const ON_GPU: bool = true;

fn open(options: &DeviceOptions) -> Device {
    gpu(options).unwrap_or_else(|| Device::cpu_with(options))
}
