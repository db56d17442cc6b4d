//! `tl quantize`: a model's weights in another format.

use std::time::Instant;

use tl_device::{Device, bytes as display_bytes};
use tl_tools::{Quantization, QuantizeProgress, QuantizeReport};

use crate::arguments::QuantizeArguments;
use crate::files;
use crate::models;
use crate::output::{self, Stop, print_error};
use crate::progress::Bar;

/// Maximum names listed in a note before the rest is counted.
const NAMED: usize = 3;

/// Writes the file and prints its size, and notes on unexpected results.
pub(crate) fn run(arguments: &QuantizeArguments) -> Result<(), Stop> {
    let QuantizeArguments { input, output: target, format, threads } = arguments;
    // A file stands for the whole model: any part of a split one, the weights of a folder.
    let path = if input.is_file() { input.clone() } else { models::resolve(input)? };
    let work = Quantization::open(path, format).map_err(Stop::failed)?;
    work.files().iter().for_each(|file| files::note_input(file));
    files::check_output(target)?;
    let device = Device::cpu_with(&crate::device::options(*threads)?);
    let start = Instant::now();
    let bar = Bar::of_bytes(0);
    let mut progress = |at: QuantizeProgress<'_>| bar.set_of(at.read_bytes, at.total_bytes, at.tensor);
    let written = work.write(target, &device, &mut progress);
    drop(bar);
    let report = written.map_err(Stop::failed)?;
    print_notes(&report);
    output::print(&format!(
        "{}: {} ({} bytes), before {}, in {:.1} s\n",
        target.display(),
        display_bytes(report.written_bytes),
        report.written_bytes,
        display_bytes(report.read_bytes),
        start.elapsed().as_secs_f64()
    ))
}

fn print_notes(report: &QuantizeReport) {
    report.notes.iter().for_each(|note| print_error(&format!("note: {note}")));
    let narrow = &report.without_whole_blocks;
    if !narrow.is_empty() {
        let named = narrow.iter().take(NAMED).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>();
        let more = narrow.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        print_error(&format!(
            "note: rows that are no whole number of the format's blocks: float16 instead for {}{more}",
            named.join(", ")
        ));
    }
    if report.already_quantized > 0 {
        print_error(&format!(
            "note: {} tensors were quantized before, and what that lost stays lost; a float file as the source is better",
            report.already_quantized
        ));
    }
}
