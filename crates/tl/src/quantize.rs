//! `tl quantize`: a model's weights in another format.

use std::path::Path;
use std::time::Instant;

use tl_device::{Device, bytes as display_bytes};
use tl_tools::{Quantization, QuantizeProgress, QuantizeReport};

use crate::arguments::QuantizeArguments;
use crate::models;
use crate::output::{self, Stop, print_error};
use crate::progress::Line;

/// Names that a note lists before it counts the rest.
const NAMED: usize = 3;

/// Writes the file and says how large it became, and what did not go as one would think.
pub(crate) fn run(arguments: &QuantizeArguments) -> Result<(), Stop> {
    let QuantizeArguments { input, output: target, format, threads } = arguments;
    // A file of a model stands for all of them: any part of a split one, the weights of a folder.
    let path = if input.is_file() { input.clone() } else { models::resolve(input)? };
    let work = Quantization::open(path, format).map_err(Stop::failed)?;
    work.files().iter().try_for_each(|file| refuse_own_input(file, target))?;
    let device = Device::cpu_with(&crate::device::options(*threads)?);
    let start = Instant::now();
    let line = Line::new();
    let mut progress = |at: QuantizeProgress<'_>| {
        let percent = 100.0 * at.read_bytes as f64 / at.total_bytes.max(1) as f64;
        line.show(&format!("{percent:3.0}%  {:.60}", at.tensor));
    };
    let written = work.write(target, &device, &mut progress);
    drop(line);
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

/// Refuses to write to a file that is read.
pub(crate) fn refuse_own_input(input: &Path, target: &Path) -> Result<(), Stop> {
    match (input.canonicalize(), target.canonicalize()) {
        (Ok(input), Ok(other)) if input == other => {
            let path = target.display();
            Err(Stop::Failed(format!("{path} is the file that is read; write to another")))
        }
        _ => Ok(()),
    }
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
