//! A trace by tensors, for the pages and pictures of a run.

use std::collections::HashMap;
use std::hash::Hash;

use tl_device::{Action, Event, Layout, MemoryStats, Role, Source, TensorBufferStats, Trace, TraceTotals};
use tl_syntax::{FileId, SourceMap, Span};

/// Stretches that a run is cut into if not all tensors are drawn; each has its share of them.
const STRETCHES: usize = 1000;

/// A run, and the device's figures at its end.
pub(crate) struct Run<'a> {
    pub(crate) title: &'a str,
    /// Name of a step.
    pub(crate) step: &'static str,
    pub(crate) memory: MemoryStats,
    pub(crate) buffer: TensorBufferStats,
    /// The source texts that the trace's places refer to.
    pub(crate) sources: &'a SourceMap,
}

/// A note that the recording ended early.
pub(crate) fn ended(trace: &Trace) -> Option<String> {
    trace.is_ended().then(|| {
        format!(
            "The recording ended {:.2} s into the run, after {} events: there was no room for more, by its own limit or that \
             of the memory.",
            trace.totals().end_ns as f64 / 1e9,
            trace.totals().event_count
        )
    })
}

/// A place in a program, from a `Device::set_location` value: the file in the upper half, the first byte in the
/// lower; 0: none.
pub(crate) fn place(location: u64, sources: &SourceMap) -> Option<String> {
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
    pub(crate) start_event: u64,
    pub(crate) end_event: u64,
    /// Whether it lived when the trace ended.
    pub(crate) is_open: bool,
}

/// The end of a step.
#[derive(Debug, PartialEq)]
pub(crate) struct StepEnd {
    pub(crate) time_ns: u64,
    pub(crate) event: u64,
    pub(crate) number: u64,
}

/// A trace by tensors: the lifetime of each.
#[derive(Default)]
pub(crate) struct History {
    /// Incomplete for a long run: [`Trace::is_thinned`].
    pub(crate) lives: Vec<Life>,
    pub(crate) layouts: Vec<Layout>,
    pub(crate) ops: Vec<&'static str>,
    pub(crate) places: Vec<String>,
    pub(crate) steps: Vec<StepEnd>,
    pub(crate) totals: TraceTotals,
}

impl History {
    pub(crate) fn new(trace: &Trace, sources: &SourceMap) -> History {
        let mut history = History { totals: trace.totals(), ..History::default() };
        let TraceTotals { end_ns, event_count, .. } = history.totals;
        let (mut layouts, mut ops, mut places) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut open: HashMap<u64, usize> = HashMap::new();
        for event in trace.events() {
            let (time_ns, number) = (event.time_ns, event.number);
            match event.action {
                Action::Take { id, layout, role, op, location, source } => {
                    open.insert(id, history.lives.len());
                    let place = intern(&mut places, &mut history.places, location, || place(location, sources));
                    let life = Life {
                        layout: intern(&mut layouts, &mut history.layouts, layout.clone(), || Some(layout.clone()))
                            .unwrap_or_default(),
                        op: intern(&mut ops, &mut history.ops, op, || Some(op)).unwrap_or_default(),
                        place,
                        role,
                        source,
                        bytes: layout.len_bytes().map_or(0, |bytes| bytes as u64),
                        start_ns: time_ns,
                        end_ns,
                        start_event: number,
                        end_event: event_count,
                        is_open: true,
                    };
                    history.lives.push(life);
                }
                Action::Return { id } => {
                    if let Some(life) = open.remove(&id).and_then(|at| history.lives.get_mut(at)) {
                        (life.end_ns, life.end_event, life.is_open) = (time_ns, number, false);
                    }
                }
                Action::Step { number: step } => history.steps.push(StepEnd { time_ns, event: number, number: step }),
                _ => {}
            }
        }
        history
    }

    /// Tensors in the device's own memory: those in mapped files would be hundreds of meaningless bars.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = &Life> {
        self.lives.iter().filter(|life| life.source != Source::File)
    }

    /// The tensors to draw, at most `most`, in the order of their takes: all, or in each stretch of the run those with
    /// the most bytes × lifetime.
    pub(crate) fn heaviest(&self, most: usize) -> Vec<&Life> {
        let mut lives: Vec<&Life> = self.buffers().collect();
        if lives.len() <= most {
            return lives;
        }
        let area = |life: &Life| u128::from(life.bytes) * u128::from(life.end_event - life.start_event);
        let stretch = lives.len().div_ceil(STRETCHES);
        let stretches = lives.chunks_mut(stretch).map(|lives| {
            lives.sort_by_key(|life| std::cmp::Reverse(area(life)));
            &lives[..lives.len().min(most / STRETCHES)]
        });
        let mut heaviest = stretches.collect::<Vec<_>>().concat();
        heaviest.sort_by_key(|life| life.start_event);
        heaviest
    }

    /// A note on what a picture of the run leaves out; `None` if it is complete.
    pub(crate) fn left_out(&self, drawn: usize) -> Option<String> {
        let total = self.totals.take_count - (self.lives.len() - self.buffers().count()) as u64;
        (drawn as u64 != total).then(|| {
            format!(
                "{drawn} of {total} tensors are drawn: in each stretch of the run those with the most bytes × lifetime; between \
                 two moments of the timeline the most and the least that was live is kept"
            )
        })
    }
}

/// Moments of a trace to draw, at most `most`: all, or in each stretch of the run those with the most and the least
/// live bytes, so that no peak is lost.
pub(crate) fn moments(trace: &Trace, most: usize) -> Vec<Event> {
    let events: Vec<Event> = trace.events().filter(|event| !matches!(event.action, Action::Step { .. })).collect();
    if events.len() <= most {
        return events;
    }
    // Stretches of the run, not of the kept events, which may be fewer at the beginning.
    let (n_stretches, total) = (most as u128 / 2, u128::from(trace.totals().event_count.max(1)));
    let stretch = |event: &Event| u128::from(event.number) * n_stretches / total;
    let stretches = events.chunk_by(|a, b| stretch(a) == stretch(b));
    let extremes = stretches.flat_map(|events| {
        let live = |event: &&Event| event.live_bytes;
        let pair = events.iter().min_by_key(live).into_iter().chain(events.iter().max_by_key(live));
        let mut pair: Vec<&Event> = pair.collect();
        pair.sort_by_key(|event| event.number);
        pair.dedup_by_key(|event| event.number);
        pair
    });
    extremes.cloned().collect()
}

/// The index in `list` of the value of `key`, which is added on first use; `None` if `key` has no value.
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

/// Rows for stretches of time without overlap: for each stretch (start, end, class), in the order of the starts, its
/// row among the rows of its class.
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

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tl_device::{Device, DeviceOptions, Purpose, Simulation, TensorBuffer};

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
            device.end_step();
        }
        let result = (device.stop_trace(), device.stats(), device.tensor_buffer_stats());
        drop((weight, cache));
        result
    }

    /// A long trace: so many steps of eight tensors, one of which stays for the next step.
    pub(crate) fn long(n_steps: usize, max_bytes: usize) -> (Trace, MemoryStats, TensorBufferStats) {
        let mut options = DeviceOptions::default();
        options.simulation = Some(Simulation::default());
        options.memory.recording_max_bytes = max_bytes;
        let device = Device::cpu_with(&options);
        device.start_trace();
        let take = |n: usize| {
            device.set_location(1 + n as u64 % 10);
            let purpose = Purpose { role: Role::Activation, op: ["add", "matmul"][n % 2] };
            device.take(&Layout::from(vec![8, n]), purpose).unwrap()
        };
        let mut state = take(50);
        for step in 0..n_steps {
            (0..7).for_each(|n| drop(take(n + 64 + usize::from(n == 3 && step % 1000 == 999) * 1000)));
            state = take(50);
            device.end_step();
        }
        drop(state);
        (device.stop_trace(), device.stats(), device.tensor_buffer_stats())
    }

    pub(crate) fn run<'a>(
        title: &'a str,
        memory: MemoryStats,
        buffer: TensorBufferStats,
        sources: &'a SourceMap,
    ) -> Run<'a> {
        Run { title, step: "output", memory, buffer, sources }
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
        let steps: Vec<u64> = history.steps.iter().map(|step| step.number).collect();
        assert_eq!(steps, [1, 2, 3]);
        assert!(
            history.lives[3].end_event < history.steps[0].event
                && history.steps[0].event < history.lives[4].start_event
        );
    }

    #[test]
    fn of_a_long_run_the_heaviest_and_the_extremes() {
        let (trace, ..) = long(20_000, 64 << 20);
        let history = History::new(&trace, &sources());
        let heaviest = history.heaviest(1000);
        assert!(heaviest.len() <= 1000);
        let large = heaviest.iter().filter(|life| life.bytes > 2 * 8 * 1000).count();
        assert_eq!(large, 20, "none of the large ones is left out");
        let moments = moments(&trace, 1000);
        let live = || moments.iter().map(|event| event.live_bytes);
        let all = || trace.events().map(|event| event.live_bytes);
        assert!(moments.len() <= 1000);
        assert_eq!((live().max(), live().min()), (all().max(), all().min()));
        assert!(history.left_out(heaviest.len()).unwrap().starts_with(&format!("{} of 160001 ", heaviest.len())));
        assert_eq!(history.left_out(160_001), None);
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
}
