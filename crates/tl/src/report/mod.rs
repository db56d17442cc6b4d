//! Memory reports of a run: a page for people (`--memory-report`) and a trace for viewers (`--memory-trace`).
//!
//! Both are made from the device's trace when the run is over. Recording takes bounded memory, and the files have
//! bounded size: pictures of a long run are coarser, and say so. Counts and tables are exact.

mod history;
mod html;
mod perfetto;
mod recording;
mod tables;

pub(crate) use recording::Recording;
