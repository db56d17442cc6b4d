//! `tl synth`: a model of a named shape with random weights.

use std::time::Instant;

use tl_device::{Device, DeviceOptions, bytes as display_bytes};
use tl_model::SyntheticModel;

use crate::arguments::SynthArguments;
use crate::output::{self, Stop};

/// Writes the file and says how large it is.
pub(crate) fn run(arguments: &SynthArguments) -> Result<(), Stop> {
    let mut options = DeviceOptions::default();
    if let Some(threads) = arguments.threads {
        options.threads = threads.into();
    }
    let model = SyntheticModel::new(&arguments.shape, &arguments.format, arguments.seed).map_err(Stop::failed)?;
    let start = Instant::now();
    let len_bytes = model.write(&arguments.out, &Device::cpu_with(&options)).map_err(Stop::failed)?;
    output::print(&format!(
        "{}: {} ({len_bytes} bytes) in {:.1} s\n",
        arguments.out.display(),
        display_bytes(len_bytes),
        start.elapsed().as_secs_f64()
    ))
}
