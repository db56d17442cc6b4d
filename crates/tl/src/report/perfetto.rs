//! The trace event format, which ui.perfetto.dev and chrome://tracing read: JSON with the tensors' lives as complete
//! events (`ph: X`) on tracks where none overlap, the device's bytes as counters (`C`), reservations, frees and the
//! ends of steps as instants (`i`), and the tracks' names as metadata (`M`). Times are microseconds. The numbers of
//! tensors and moments are capped, and `otherData` says so.

use std::io::{self, Write};

use serde_json::{Value, json};
use tl_device::{Action, Event, Role, Trace};

use super::history::{History, Life, Run, ended, moments, pack, role_name};

/// All events are of one process.
const PROCESS: u32 = 1;

/// The thread that reservations and frees are shown on; the tracks follow it.
const EVENTS_THREAD: usize = 1;

/// Maximum tensors, and maximum moments and ends of steps, in the file.
const MAX_TENSORS: usize = 10_000;
const MAX_MOMENTS: usize = 6_000;
const MAX_STEPS: usize = 2_000;

/// Roles in the order of their tracks.
const ROLES: [Role; 3] = [Role::Learnable, Role::Cache, Role::Activation];

/// Writes the trace.
pub(crate) fn write(file: &mut dyn Write, run: &Run<'_>, trace: &Trace, history: &History) -> io::Result<()> {
    let lives: Vec<&Life> = history.heaviest(MAX_TENSORS);
    let rows = pack(lives.iter().map(|life| (life.start_ns, life.end_ns, class(life))));
    let mut counts = [0; ROLES.len()];
    for (life, &row) in lives.iter().zip(&rows) {
        let count = &mut counts[class(life)];
        *count = (row + 1).max(*count);
    }
    let first = |class: usize| EVENTS_THREAD + 1 + counts[..class].iter().sum::<usize>();
    let whole = || "every tensor and every event is here".to_owned();
    let said = [ended(trace), Some(history.left_out(lives.len()).unwrap_or_else(whole))];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join(" ");
    writeln!(file, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{},\"traceEvents\":[", json!({ "contents": said }))?;
    metadata(file, "process_name", 0, json!({ "name": run.title }))?;
    metadata(file, "process_labels", 0, json!({ "labels": said }))?;
    thread(file, EVENTS_THREAD, "steps, reservations and frees")?;
    for (class, &role) in ROLES.iter().enumerate() {
        for row in 0..counts[class] {
            thread(file, first(class) + row, &format!("{} {}", role_name(role), row + 1))?;
        }
    }
    for (life, row) in lives.iter().zip(rows) {
        line(file, &life_event(life, history, first(class(life)) + row))?;
    }
    let mut driver = None;
    for event in &moments(trace, MAX_MOMENTS) {
        counters(file, event)?;
        // Only on change: it changes far less often than the others.
        if driver.replace(event.driver_bytes) != Some(event.driver_bytes) {
            let args = json!({ "from the system": event.driver_bytes });
            line(file, &counter("driver bytes", event, args))?;
        }
    }
    let every = history.steps.len().div_ceil(MAX_STEPS).max(1);
    for step in history.steps.iter().skip(every - 1).step_by(every) {
        let name = format!("{} {}", run.step, step.number);
        let args = json!({ "event": step.event });
        line(file, &instant(&name, step.time_ns, args))?;
    }
    // The list's last element has no comma behind it.
    let end = instant("end", history.totals.end_ns, json!({ "events": history.totals.event_count }));
    writeln!(file, "{end}\n]}}")
}

fn line(file: &mut dyn Write, event: &Value) -> io::Result<()> {
    writeln!(file, "{event},")
}

fn metadata(file: &mut dyn Write, name: &str, thread: usize, args: Value) -> io::Result<()> {
    line(file, &json!({ "name": name, "ph": "M", "pid": PROCESS, "tid": thread, "ts": 0, "args": args }))
}

/// A thread's name and its place among the others.
fn thread(file: &mut dyn Write, thread: usize, name: &str) -> io::Result<()> {
    metadata(file, "thread_name", thread, json!({ "name": name }))?;
    metadata(file, "thread_sort_index", thread, json!({ "sort_index": thread }))
}

fn class(life: &Life) -> usize {
    ROLES.iter().position(|&role| role == life.role).unwrap_or_default()
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn life_event(life: &Life, history: &History, thread: usize) -> Value {
    json!({
        "name": history.ops[life.op],
        "cat": role_name(life.role),
        "ph": "X",
        "pid": PROCESS,
        "tid": thread,
        "ts": micros(life.start_ns),
        "dur": micros(life.end_ns - life.start_ns),
        "args": {
            "layout": history.layouts[life.layout].to_string(),
            "bytes": life.bytes,
            "source": life.source.to_string(),
            "place": life.place.map(|place| history.places[place].as_str()),
            "is_live_at_the_end": life.is_open,
        },
    })
}

fn counter(name: &str, event: &Event, args: Value) -> Value {
    json!({ "name": name, "ph": "C", "pid": PROCESS, "tid": 0, "ts": micros(event.time_ns), "args": args })
}

fn instant(name: &str, time_ns: u64, args: Value) -> Value {
    let time = micros(time_ns);
    json!({ "name": name, "ph": "i", "s": "t", "pid": PROCESS, "tid": EVENTS_THREAD, "ts": time, "args": args })
}

/// The device's counters after an event, and the event itself unless it is a tensor's.
fn counters(file: &mut dyn Write, event: &Event) -> io::Result<()> {
    let held = json!({ "live": event.live_bytes, "reserved": event.reserved_free_bytes, "pooled": event.pooled_bytes });
    line(file, &counter("bytes", event, held))?;
    let (name, args) = match &event.action {
        Action::Reserve { layout, count, .. } => {
            (format!("reserve {count} × {layout}"), json!({ "layout": layout.to_string(), "count": count }))
        }
        Action::Free { count, bytes } => (format!("free {count}"), json!({ "count": count, "bytes": bytes })),
        _ => return Ok(()),
    };
    line(file, &instant(&name, event.time_ns, args))
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{long, run, sources, traced};
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn events_are_what_the_format_asks_for() {
        let ((trace, memory, buffer), sources) = (traced(), sources());
        let history = History::new(&trace, &sources);
        let mut file = Vec::new();
        write(&mut file, &run("a \"run\"", memory, buffer, &sources), &trace, &history).unwrap();
        let object: Value = serde_json::from_slice(&file).unwrap();
        let events = object["traceEvents"].as_array().unwrap();
        let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).collect::<Vec<_>>();
        assert!(events.iter().all(|event| event["pid"].is_u64() && event["tid"].is_u64() && event["ts"].is_number()));
        assert_eq!(of("X").len(), history.lives.len());
        let counters = |name: &str| of("C").iter().filter(|event| event["name"] == name).count();
        let n_held = trace.events().filter(|event| !matches!(event.action, Action::Step { .. })).count();
        assert_eq!(counters("bytes"), n_held);
        assert!((1..n_held).contains(&counters("driver bytes")));
        assert_eq!(of("i").iter().filter(|event| event["name"].as_str().unwrap().starts_with("output ")).count(), 3);
        assert_eq!(object["otherData"]["contents"], "every tensor and every event is here");
        let named: HashSet<u64> = of("M").iter().filter_map(|event| event["tid"].as_u64()).collect();
        // On a track, one event ends before the next begins.
        let mut ends: HashMap<u64, f64> = HashMap::new();
        for event in of("X") {
            let (tid, start) = (event["tid"].as_u64().unwrap(), event["ts"].as_f64().unwrap());
            assert!(named.contains(&tid) && ends.get(&tid).is_none_or(|&end| end <= start + 1e-6), "{event}");
            ends.insert(tid, start + event["dur"].as_f64().unwrap());
        }
        assert_eq!(of("X")[1]["args"]["place"], "cache.tl:5");
        let live: Vec<_> = of("C").iter().filter_map(|event| event["args"]["live"].as_u64()).collect();
        assert_eq!(live.iter().max(), Some(&trace.totals().peak_live_bytes));
    }

    #[test]
    fn a_long_run_is_cut_down_and_the_file_says_so() {
        let sources = sources();
        for max_bytes in [64 << 20, 1 << 20] {
            let (trace, memory, buffer) = long(40_000, max_bytes);
            let mut file = Vec::new();
            write(&mut file, &run("long", memory, buffer, &sources), &trace, &History::new(&trace, &sources)).unwrap();
            assert!(file.len() < 5_000_000, "{}", file.len());
            let object: Value = serde_json::from_slice(&file).unwrap();
            let said = object["otherData"]["contents"].as_str().unwrap();
            assert!(said.contains(" of 320001 tensors are drawn"), "{said}");
            let events = object["traceEvents"].as_array().unwrap();
            let most = events.iter().filter_map(|event| event["args"]["live"].as_u64()).max();
            assert_eq!(most, Some(trace.totals().peak_live_bytes));
        }
    }

    #[test]
    fn a_run_without_tensors() {
        let mut file = Vec::new();
        let sources = sources();
        let run = run("nothing", Default::default(), Default::default(), &sources);
        write(&mut file, &run, &Trace::default(), &History::default()).unwrap();
        assert!(serde_json::from_slice::<Value>(&file).unwrap()["traceEvents"].is_array());
    }
}
