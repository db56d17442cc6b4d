//! Where a command computes: the name of a device on the command line and in the environment, and the threads.

use clap::Args;
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

/// Where a command computes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ComputeArguments {
    /// Where to compute: cpu, gpu (the best), gpu:N or gpu:NAME (see `tl devices`), auto (the best GPU in hardware, else the
    /// CPU) [default: what TL_DEVICE says, else cpu]
    #[arg(long, value_name = "DEVICE", value_parser = DeviceChoice::parse)]
    pub(crate) device: Option<DeviceChoice>,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
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
