//! The page of `--memory-report`: one self-contained file. `tables.rs` writes texts and tables; `page.js` draws the
//! timeline and the bars from embedded JSON of bounded size.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tl_device::{Event, Layout, Role, Source, Trace};

use super::history::{History, Life, Run, ended, escape, moments, pack};
use super::tables;

/// Maximum tensors embedded.
const MAX_BARS: usize = 30_000;

/// Maximum moments of the timeline embedded.
const MAX_MOMENTS: usize = 6_000;

/// Maximum ends of steps embedded.
const MAX_STEPS: usize = 3_000;

/// Maximum rows of bars.
const MAX_ROWS: usize = 500;

/// The whole page.
pub(crate) fn page(run: &Run<'_>, trace: &Trace, history: &History) -> String {
    let moments = moments(trace, MAX_MOMENTS);
    let peak = moments.iter().max_by_key(|event| event.live_bytes);
    let (data, note) = data(run, history, &moments);
    let note = [ended(trace), Some(note)].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let parts = [
        ("{{TITLE}}", escape(run.title)),
        ("{{STYLE}}", include_str!("page.css").to_owned()),
        ("{{NAME}}", escape(run.title)),
        ("{{SUMMARY}}", tables::summary(run, trace, history)),
        ("{{NOTE}}", escape(&note)),
        ("{{PEAK}}", tables::peak(history, peak)),
        ("{{SIZES}}", tables::sizes(trace)),
        ("{{RESERVATIONS}}", tables::reservations(trace)),
        ("{{OPERATIONS}}", tables::sites(run, trace, false)),
        ("{{LINES}}", tables::sites(run, trace, true)),
        ("{{LAYOUTS}}", tables::layouts(&run.buffer, trace)),
        ("{{STATISTICS}}", tables::statistics(run)),
        // A `<` could end the element that holds the data.
        ("{{DATA}}", data.to_string().replace('<', "\\u003c")),
        ("{{SCRIPT}}", include_str!("page.js").to_owned()),
    ];
    // In one pass over the frame, so that inserted text is not searched again.
    let mut page = String::new();
    let mut rest = include_str!("page.html");
    for (name, text) in parts {
        let (before, after) = rest.split_once(name).unwrap_or((rest, ""));
        page.push_str(before);
        page.push_str(&text);
        rest = after;
    }
    page.push_str(rest);
    page
}

/// The data of the drawings, and a note on what they leave out.
fn data(run: &Run<'_>, history: &History, moments: &[Event]) -> (Value, String) {
    let mut names = Names::new(history);
    let (bars, rows, note) = bars(history, &mut names);
    let moments = moments.iter().map(|event| {
        let held = (event.live_bytes, event.reserved_free_bytes, event.pooled_bytes, event.driver_bytes);
        json!([event.time_ns, event.number, held.0, held.1, held.2, held.3])
    });
    let every = history.steps.len().div_ceil(MAX_STEPS).max(1);
    let steps =
        history.steps.iter().skip(every - 1).step_by(every).map(|step| json!([step.time_ns, step.event, step.number]));
    let data = json!({
        "end": [history.totals.end_ns, history.totals.event_count],
        "layouts": names.layouts,
        "ops": history.ops,
        "places": names.places,
        "rows": rows,
        "bars": bars,
        "moments": moments.collect::<Vec<_>>(),
        "step": run.step,
        "steps": steps.collect::<Vec<_>>(),
    });
    (data, note)
}

/// The layouts and places of the bars drawn, which may be few of all.
struct Names<'a> {
    history: &'a History,
    layouts: Vec<String>,
    places: Vec<&'a str>,
    layout_at: HashMap<usize, usize>,
    place_at: HashMap<usize, usize>,
}

impl<'a> Names<'a> {
    fn new(history: &'a History) -> Names<'a> {
        let (layout_at, place_at) = (HashMap::new(), HashMap::new());
        Names { history, layouts: Vec::new(), places: Vec::new(), layout_at, place_at }
    }

    fn layout(&mut self, at: usize) -> usize {
        *self.layout_at.entry(at).or_insert_with(|| {
            self.layouts.push(self.history.layouts.get(at).map(Layout::to_string).unwrap_or_default());
            self.layouts.len() - 1
        })
    }

    fn place(&mut self, at: usize) -> usize {
        *self.place_at.entry(at).or_insert_with(|| {
            self.places.push(self.history.places.get(at).map(String::as_str).unwrap_or_default());
            self.places.len() - 1
        })
    }
}

/// A bar's height grows with the logarithm of its bytes: the class is the number of the highest bit.
fn class(life: &Life) -> usize {
    life.bytes.max(1).ilog2() as usize
}

/// The bars, the class of each row from the first to the last, and a note on what is left out.
fn bars(history: &History, names: &mut Names<'_>) -> (Vec<Value>, Vec<usize>, String) {
    let chosen = history.heaviest(MAX_BARS);
    let in_class = pack(chosen.iter().map(|life| (life.start_event, life.end_event, class(life))));
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for (life, &row) in chosen.iter().zip(&in_class) {
        let count = counts.entry(class(life)).or_default();
        *count = (row + 1).max(*count);
    }
    // The largest on top.
    let mut first: HashMap<usize, usize> = HashMap::new();
    let mut rows = Vec::new();
    for (&class, &count) in counts.iter().rev() {
        first.insert(class, rows.len());
        rows.extend(std::iter::repeat_n(class, count));
    }
    rows.truncate(MAX_ROWS);
    let bars = chosen.iter().zip(in_class).filter_map(|(life, row)| {
        let row = first.get(&class(life))? + row;
        (row < MAX_ROWS).then(|| bar(life, row, names))
    });
    let bars: Vec<Value> = bars.collect();
    let files = history.lives.len() - history.buffers().count();
    let mut note = match history.left_out(bars.len()) {
        None => format!("All {} buffers are drawn.", bars.len()),
        Some(left_out) => format!("{left_out}. The tables count all of them."),
    };
    if files > 0 {
        note += &format!(" {files} weights in mapped files are not drawn.");
    }
    (bars, rows, note)
}

fn bar(life: &Life, row: usize, names: &mut Names<'_>) -> Value {
    let role = match life.role {
        Role::Activation => 0,
        Role::Cache => 1,
        Role::Learnable => 2,
    };
    let source = match life.source {
        Source::Reserve => 0,
        Source::Arena => 1,
        Source::Pool => 2,
        Source::Device | Source::File => 3,
    };
    let place = life.place.map_or(-1, |place| names.place(place) as i64);
    json!([
        row,
        life.start_ns,
        life.end_ns,
        life.start_event,
        life.end_event,
        life.bytes,
        names.layout(life.layout),
        life.op,
        place,
        role,
        source,
        u8::from(life.is_open)
    ])
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{long, run, sources, traced};
    use super::*;
    use tl_device::{MemoryStats, TensorBufferStats};

    fn embedded(page: &str) -> Value {
        let (_, data) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn the_page_has_every_part_and_needs_nothing_else() {
        let ((trace, memory, buffer), sources) = (traced(), sources());
        let history = History::new(&trace, &sources);
        let page = page(&run("a<b>.tl", memory, buffer, &sources), &trace, &history);
        assert!(page.contains("a&lt;b&gt;.tl") && !page.contains("a<b>"));
        for outside in ["http://", "https://", "src=", "<link", "@import", "url(", "{{"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for part in [
            "buffer_reserve([8, 64], 2)",
            "float16[8, 64]</td>",
            "from 1.0 KiB",
            "waste",
            "live at once at most",
            "<b>3</b><span>outputs</span>",
            "<tr><td>matmul</td><td>3</td><td>3.0 KiB</td></tr>",
            "<tr><td>main.tl:2</td><td>6</td><td>6.0 KiB</td></tr>",
            "float16[16, 64] <b>kv_cache</b> <small>cache.tl:5</small></td><td>2.0 KiB</td>",
            "All 8 buffers are drawn.",
        ] {
            assert!(page.contains(part), "{part}");
        }
        let data = embedded(&page);
        assert_eq!(data["bars"].as_array().unwrap().len(), history.lives.len());
        assert_eq!((&data["ops"][0], &data["step"]), (&"load</script>".into(), &"output".into()));
        assert_eq!(data["moments"].as_array().unwrap().len() as u64, trace.totals().event_count - 3);
        assert_eq!(data["steps"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn many_events_are_cut_down_and_the_page_says_so() {
        let sources = sources();
        for max_bytes in [64 << 20, 1 << 20] {
            let (trace, memory, buffer) = long(40_000, max_bytes);
            let history = History::new(&trace, &sources);
            let page = page(&run("long", memory, buffer, &sources), &trace, &history);
            let data = embedded(&page);
            let (bars, moments) = (data["bars"].as_array().unwrap().len(), data["moments"].as_array().unwrap());
            assert!(
                bars <= MAX_BARS && moments.len() <= MAX_MOMENTS && page.len() < 5_000_000,
                "{bars} {}",
                page.len()
            );
            assert!(data["steps"].as_array().unwrap().len() <= MAX_STEPS);
            assert!(page.contains(&format!("{bars} of 320001 tensors are drawn")), "{bars}");
            assert!(page.contains("<b>40000</b><span>outputs</span>") && page.contains("<td>main.tl:1</td>"));
            let most = moments.iter().filter_map(|moment| moment[2].as_u64()).max();
            assert_eq!(most, Some(trace.totals().peak_live_bytes));
        }
    }

    #[test]
    fn a_recording_that_ended_says_so() {
        let ((trace, memory, buffer), sources) = (long(1000, 4096), sources());
        let history = History::new(&trace, &sources);
        let page = page(&run("ended", memory, buffer, &sources), &trace, &history);
        assert!(page.contains("The recording ended ") && page.contains("None can be told: the recording ended"));
    }

    #[test]
    fn a_run_without_tensors() {
        let sources = sources();
        let run = run("", MemoryStats::default(), TensorBufferStats::default(), &sources);
        let page = page(&run, &Trace::default(), &History::default());
        assert!(page.contains("Nothing was asked for") && embedded(&page)["bars"].as_array().unwrap().is_empty());
    }
}
