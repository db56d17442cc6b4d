//! Recording of a run, written to files when it is over.

use std::path::Path;

use tl_device::Device;
use tl_syntax::SourceMap;

use super::history::{History, Run};
use super::{html, perfetto};
use crate::arguments::DeviceArguments;
use crate::files;
use crate::output::Stop;

/// The files to write when a run is over.
pub(crate) struct Recording<'a> {
    page: Option<&'a Path>,
    trace: Option<&'a Path>,
    /// Name of a step for people: a token, an output.
    step: &'static str,
}

impl<'a> Recording<'a> {
    /// Starts to record this device, if the arguments name a file. `step` names what `Device::end_step` ends.
    ///
    /// # Errors
    /// If a file cannot be written: better known before a long run than after it.
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

    /// Writes the files; `sources` holds the texts that the trace's places refer to.
    ///
    /// # Errors
    /// If a file cannot be written; no half-written file is left.
    pub(crate) fn finish(&self, device: &Device, title: &str, sources: &SourceMap) -> Result<(), Stop> {
        if self.page.or(self.trace).is_none() {
            return Ok(());
        }
        // The device's figures include the memory of the recording itself.
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
