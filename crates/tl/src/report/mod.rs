//! What happened to memory during a run, written down for people (`--memory-report`, a page) and for viewers of traces
//! (`--memory-trace`).
//!
//! Both are made from the device's trace when the run is over. Recording takes some 150 bytes of host memory for each
//! request and each return.

mod html;
mod perfetto;

use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tl_device::{Action, Device, Layout, Role, Source, Trace};
use tl_syntax::{FileId, SourceMap, Span};

use crate::arguments::DeviceArguments;
use crate::output::Stop;

/// The files that are to be written when a run is over.
pub(crate) struct Recording<'a> {
    page: Option<&'a Path>,
    trace: Option<&'a Path>,
}

impl<'a> Recording<'a> {
    /// Begins to record what happens on this device, where the arguments want that written.
    ///
    /// # Errors
    /// Where a file could not be written: this is better known before a long run than after it.
    pub(crate) fn start(arguments: &'a DeviceArguments, device: &Device) -> Result<Recording<'a>, Stop> {
        let (page, trace) = (arguments.memory_report.as_deref(), arguments.memory_trace.as_deref());
        for path in [page, trace].into_iter().flatten() {
            let beside = beside(path);
            let created = if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { fs::write(&beside, []) };
            let removed = created.and_then(|()| fs::remove_file(&beside));
            removed.map_err(|error| cannot_write(path, &error))?;
        }
        if page.or(trace).is_some() {
            device.start_trace();
        }
        Ok(Recording { page, trace })
    }

    /// Writes the files; `sources` are those that the places of the trace are in.
    ///
    /// # Errors
    /// Where a file cannot be written; nothing half-written is left.
    pub(crate) fn finish(&self, device: &Device, title: &str, sources: &SourceMap) -> Result<(), Stop> {
        if self.page.or(self.trace).is_none() {
            return Ok(());
        }
        let trace = device.stop_trace();
        let history = History::new(&trace, sources);
        if let Some(path) = self.page {
            let run = html::Run { title, memory: device.stats(), buffer: device.tensor_buffer_stats() };
            let page = html::page(&run, &trace, &history);
            write(path, |file| file.write_all(page.as_bytes()))?;
        }
        match self.trace {
            Some(path) => write(path, |file| perfetto::write(file, title, &trace, &history)),
            None => Ok(()),
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Stop {
    Stop::Failed(format!("{} cannot be written: {error}", path.display()))
}

/// The name under which a file is written until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

/// Writes a file beside its place and renames it, so that whoever reads it reads all of it.
///
/// # Errors
/// Where it cannot be written; nothing is left of it then.
pub(crate) fn write(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Stop> {
    let beside = beside(path);
    let whole = || -> io::Result<()> {
        let mut file = BufWriter::new(fs::File::create(&beside)?);
        contents(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&beside, path)
    };
    whole().map_err(|error| {
        // It may not even have come into being.
        let _ = fs::remove_file(&beside);
        cannot_write(path, &error)
    })
}

/// A place in a program as [`Device::set_location`] has it: the file in the upper half, the first byte in the lower; 0: none.
fn place(location: u64, sources: &SourceMap) -> Option<String> {
    let start = location as u32;
    let span = Span { file: FileId((location >> 32) as u32), start, end: start };
    let file = sources.file(span.file).filter(|_| location != 0)?;
    Some(format!("{}:{}", file.name(), file.line_column(start).line))
}

/// The time that one tensor held memory.
pub(crate) struct Life {
    /// An index into [`History::layouts`].
    pub(crate) layout: usize,
    /// An index into [`History::ops`].
    pub(crate) op: usize,
    /// An index into [`History::places`].
    pub(crate) place: Option<usize>,
    pub(crate) role: Role,
    pub(crate) source: Source,
    pub(crate) bytes: u64,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    /// The numbers of the events that began and ended it.
    pub(crate) start_event: usize,
    pub(crate) end_event: usize,
    /// Whether it lived when the trace ended.
    pub(crate) is_open: bool,
}

/// A trace by tensors: what was held from when to when.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) lives: Vec<Life>,
    pub(crate) layouts: Vec<Layout>,
    pub(crate) ops: Vec<&'static str>,
    pub(crate) places: Vec<String>,
    pub(crate) end_ns: u64,
}

impl History {
    pub(crate) fn new(trace: &Trace, sources: &SourceMap) -> History {
        let mut history =
            History { end_ns: trace.events.last().map_or(0, |event| event.time_ns), ..History::default() };
        let (mut layouts, mut ops, mut places) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut open: HashMap<u64, usize> = HashMap::new();
        for (number, event) in trace.events.iter().enumerate() {
            match &event.action {
                Action::Take { id, layout, role, op, location, source } => {
                    open.insert(*id, history.lives.len());
                    let place = intern(&mut places, &mut history.places, *location, || place(*location, sources));
                    let life = Life {
                        layout: intern(&mut layouts, &mut history.layouts, layout.clone(), || Some(layout.clone()))
                            .unwrap_or_default(),
                        op: intern(&mut ops, &mut history.ops, *op, || Some(*op)).unwrap_or_default(),
                        place,
                        role: *role,
                        source: *source,
                        bytes: layout.len_bytes().map_or(0, |bytes| bytes as u64),
                        start_ns: event.time_ns,
                        end_ns: history.end_ns,
                        start_event: number,
                        end_event: trace.events.len(),
                        is_open: true,
                    };
                    history.lives.push(life);
                }
                Action::Return { id } => {
                    if let Some(life) = open.remove(id).and_then(|at| history.lives.get_mut(at)) {
                        (life.end_ns, life.end_event, life.is_open) = (event.time_ns, number, false);
                    }
                }
                Action::Reserve { .. } | Action::Free { .. } => {}
            }
        }
        history
    }
}

/// The index of what `key` stands for in `list`, which it joins the first time; `None` where it stands for nothing.
fn intern<K: Eq + Hash, T>(
    known: &mut HashMap<K, Option<usize>>,
    list: &mut Vec<T>,
    key: K,
    value: impl FnOnce() -> Option<T>,
) -> Option<usize> {
    *known.entry(key).or_insert_with(|| {
        list.push(value()?);
        Some(list.len() - 1)
    })
}

/// Rows for stretches of time, so that those in one row do not overlap: for each stretch, given as start, end and class
/// in the order of the starts, its row among the rows of its class.
pub(crate) fn pack(stretches: impl Iterator<Item = (u64, u64, usize)>) -> Vec<usize> {
    let mut ends: HashMap<usize, Vec<u64>> = HashMap::new();
    let row = |(start, end, class)| {
        let rows: &mut Vec<u64> = ends.entry(class).or_default();
        match rows.iter().position(|&row_end| row_end <= start) {
            Some(row) => {
                rows[row] = end;
                row
            }
            None => {
                rows.push(end);
                rows.len() - 1
            }
        }
    };
    stretches.map(row).collect()
}

/// The name of a role for people.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Activation => "activation",
        Role::Cache => "KV cache",
        Role::Learnable => "parameter",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tl_device::{MemoryStats, Purpose, TensorBuffer, TensorBufferStats};

    /// A trace with reserved, pooled and allocated buffers, two of which outlive it.
    pub(crate) fn traced() -> (Trace, MemoryStats, TensorBufferStats) {
        let device = Device::cpu();
        device.start_trace();
        let buffer = TensorBuffer::new(&device);
        buffer.reserve(vec![8, 64], 1).unwrap();
        device.set_tensor_buffer(buffer);
        let take = |dims: Vec<usize>, role, op, location| {
            device.set_location(location);
            device.take(&Layout::from(dims), Purpose { role, op }).unwrap()
        };
        let weight = take(vec![100], Role::Learnable, "load</script>", 0);
        let cache = take(vec![16, 64], Role::Cache, "kv_cache", (1 << 32) | 4);
        for _ in 0..3 {
            let a = take(vec![8, 64], Role::Activation, "matmul", 9);
            let b = take(vec![8, 64], Role::Activation, "add", 9);
            drop((a, b));
        }
        let result = (device.stop_trace(), device.stats(), device.tensor_buffer_stats());
        drop((weight, cache));
        result
    }

    pub(crate) fn sources() -> SourceMap {
        let mut sources = SourceMap::new();
        sources.add("main.tl", "let x =\nones([8])\n");
        sources.add("cache.tl", "\n\n\n\nkv_cache()");
        sources
    }

    #[test]
    fn tensors_live_from_their_take_to_their_return() {
        let (trace, ..) = traced();
        let history = History::new(&trace, &sources());
        assert_eq!(history.lives.len(), 8);
        assert_eq!(history.layouts.len(), 3);
        assert_eq!(history.ops, ["load</script>", "kv_cache", "matmul", "add"]);
        assert_eq!(history.places, ["cache.tl:5", "main.tl:2"]);
        let found: Vec<_> = history.lives.iter().map(|life| (life.source, life.is_open)).collect();
        use Source::{Device, Pool, Reserve};
        let step = [(Reserve, false), (Pool, false)];
        let first = [(Device, true), (Device, true), (Reserve, false), (Device, false)];
        assert_eq!(found, [&first[..], &step, &step].concat());
        assert!(history.lives.iter().all(|life| life.start_event < life.end_event && life.start_ns <= life.end_ns));
    }

    #[test]
    fn stretches_of_a_row_do_not_overlap() {
        let check = |stretches: &[(u64, u64, usize)], expected: &[usize]| {
            assert_eq!(pack(stretches.iter().copied()), expected, "{stretches:?}");
        };
        check(&[], &[]);
        check(&[(0, 10, 0), (1, 5, 0), (5, 6, 0), (6, 20, 1), (7, 8, 0), (10, 11, 0)], &[0, 1, 1, 0, 1, 0]);
        check(&[(3, 3, 0), (3, 3, 0)], &[0, 0]);
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let path = std::env::temp_dir().join(format!("tl-report-{}.txt", std::process::id()));
        write(&path, |file| file.write_all(b"first")).unwrap();
        assert!(write(&path, |_| Err(io::ErrorKind::StorageFull.into())).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert!(!beside(&path).exists());
        fs::remove_file(&path).unwrap();
        assert!(write(Path::new("/none/there.txt"), |_| Ok(())).is_err());
    }
}
