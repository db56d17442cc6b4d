//! The GPU that tests run on: `#[path = "../../../tests/gpu.rs"] mod gpu;`.

use tl_device::{Device, DeviceOptions};

/// A GPU. Without one, `None`, and a line that says what was skipped; where `TL_REQUIRE_GPU` is set, a failure.
pub(crate) fn gpu(options: &DeviceOptions) -> Option<Device> {
    match Device::gpu_with(options) {
        Ok(device) => Some(device),
        Err(error) if std::env::var_os("TL_REQUIRE_GPU").is_some() => panic!("TL_REQUIRE_GPU is set: {error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}
