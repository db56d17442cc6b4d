//! `tl synth`: a model of a named shape with random weights.

use std::time::Instant;

use tl_device::{Device, bytes as display_bytes};
use tl_tools::SyntheticModel;

use crate::arguments::SynthArguments;
use crate::files;
use crate::output::{self, Stop};
use crate::progress::Bar;

/// Writes the file and prints its size.
pub(crate) fn run(arguments: &SynthArguments) -> Result<(), Stop> {
    let device = Device::cpu_with(&crate::device::options(arguments.threads)?);
    let model = SyntheticModel::new(&arguments.shape, &arguments.format, arguments.seed).map_err(Stop::failed)?;
    let start = Instant::now();
    files::check_output(&arguments.out)?;
    let bar = Bar::of_bytes(0);
    let mut progress = |written, total| bar.set_of(written, total, "");
    let len_bytes = model.write_with(&arguments.out, &device, &mut progress).map_err(Stop::failed)?;
    drop(bar);
    output::print(&format!(
        "{}: {} ({len_bytes} bytes) in {:.1} s\n",
        arguments.out.display(),
        display_bytes(len_bytes),
        start.elapsed().as_secs_f64()
    ))
}
