//! The name of a device on the command line and in the environment.

use tl_device::GpuChoice;

/// A device that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The CPU.
    Cpu,
    /// A GPU.
    Gpu(GpuChoice),
    /// The best GPU in hardware, or the CPU where there is none.
    Auto,
}

impl DeviceChoice {
    /// The choice that a text names.
    pub(crate) fn parse(text: &str) -> Result<DeviceChoice, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(DeviceChoice::Cpu),
            None if text == "gpu" => Ok(DeviceChoice::Gpu(GpuChoice::Best)),
            None if text == "auto" => Ok(DeviceChoice::Auto),
            Some(("gpu", which)) if !which.is_empty() => {
                let choice = which.parse().map_or_else(|_| GpuChoice::Name(which.to_owned()), GpuChoice::Index);
                Ok(DeviceChoice::Gpu(choice))
            }
            _ => Err("expected cpu, gpu, gpu:NUMBER, gpu:NAME or auto".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_name() {
        let check = |text: &str, expected: DeviceChoice| assert_eq!(DeviceChoice::parse(text), Ok(expected), "{text}");
        check("cpu", DeviceChoice::Cpu);
        check("gpu", DeviceChoice::Gpu(GpuChoice::Best));
        check("auto", DeviceChoice::Auto);
        check("gpu:1", DeviceChoice::Gpu(GpuChoice::Index(1)));
        check("gpu:rtx 4090", DeviceChoice::Gpu(GpuChoice::Name("rtx 4090".to_owned())));
    }
}
