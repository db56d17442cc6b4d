//! What happened to memory during a run, written down for people (`--memory-report`, a page) and for viewers of traces
//! (`--memory-trace`).
//!
//! Both are made from the device's trace when the run is over. Recording takes bounded memory, and what is written has
//! bounded size: of a long run the pictures are coarser, and say so. Counts and tables are exact.

mod history;
mod html;
mod perfetto;
mod recording;
mod tables;

pub(crate) use recording::Recording;
