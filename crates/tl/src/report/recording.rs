//! What is recorded of a run, and written when it is over.

use std::path::Path;

use tl_device::Device;
use tl_syntax::SourceMap;

use super::history::{History, Run};
use super::{html, perfetto};
use crate::arguments::DeviceArguments;
use crate::files;
use crate::output::Stop;

/// The files that are to be written when a run is over.
pub(crate) struct Recording<'a> {
    page: Option<&'a Path>,
    trace: Option<&'a Path>,
    /// What a step of the run is for people: a token, an output.
    step: &'static str,
}

impl<'a> Recording<'a> {
    /// Begins to record what happens on this device, where the arguments want that written. `step` is what
    /// `Device::end_step` ends.
    ///
    /// # Errors
    /// Where a file could not be written: this is better known before a long run than after it.
    pub(crate) fn start(
        arguments: &'a DeviceArguments,
        device: &Device,
        step: &'static str,
    ) -> Result<Recording<'a>, Stop> {
        let (page, trace) = (arguments.memory_report.as_deref(), arguments.memory_trace.as_deref());
        [page, trace].into_iter().flatten().try_for_each(files::check_output)?;
        if page.or(trace).is_some() {
            device.start_trace();
        }
        Ok(Recording { page, trace, step })
    }

    /// Writes the files; `sources` are those that the places of the trace are in.
    ///
    /// # Errors
    /// Where a file cannot be written; nothing half-written is left.
    pub(crate) fn finish(&self, device: &Device, title: &str, sources: &SourceMap) -> Result<(), Stop> {
        if self.page.or(self.trace).is_none() {
            return Ok(());
        }
        // What the recording itself takes is part of what the device holds.
        let memory = device.stats();
        let trace = device.stop_trace();
        let history = History::new(&trace, sources);
        let run = Run { title, step: self.step, memory, buffer: device.tensor_buffer_stats(), sources };
        if let Some(path) = self.page {
            let page = html::page(&run, &trace, &history);
            files::write(path, |file| file.write_all(page.as_bytes()))?;
        }
        match self.trace {
            Some(path) => files::write(path, |file| perfetto::write(file, &run, &trace, &history)),
            None => Ok(()),
        }
    }
}
