//! `tl synth`: a model of a named shape with random weights.

use std::time::Instant;

use tl_device::{Device, bytes as display_bytes};
use tl_tools::SyntheticModel;

use crate::arguments::SynthArguments;
use crate::output::{self, Stop};

/// Writes the file and says how large it is.
pub(crate) fn run(arguments: &SynthArguments) -> Result<(), Stop> {
    let device = Device::cpu_with(&crate::device::options(arguments.threads)?);
    let model = SyntheticModel::new(&arguments.shape, &arguments.format, arguments.seed).map_err(Stop::failed)?;
    let start = Instant::now();
    let len_bytes = model.write(&arguments.out, &device).map_err(Stop::failed)?;
    output::print(&format!(
        "{}: {} ({len_bytes} bytes) in {:.1} s\n",
        arguments.out.display(),
        display_bytes(len_bytes),
        start.elapsed().as_secs_f64()
    ))
}
