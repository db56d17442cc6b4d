//! The page of `--memory-report`: one file that needs no other. What is not drawn is written here; the timeline and the
//! bars are drawn by `page.js` from the data that is embedded as JSON, of which there is only so much.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use serde_json::{Value, json};
use tl_device::{
    Event, Layout, MemoryStats, PlanRow, ReserveKind, Role, Source, TensorBufferStats, Trace, bytes as display_bytes,
};

use super::{History, Life, pack};
use crate::reservations::plan_arena;

/// The most tensors that are embedded.
const MAX_BARS: usize = 40_000;

/// The most moments of the timeline that are embedded.
const MAX_MOMENTS: usize = 4_000;

/// Where not all tensors are embedded, the run is cut into this many stretches, and each has its share of them.
const STRETCHES: usize = 100;

/// The most rows of bars.
const MAX_ROWS: usize = 500;

/// The most rows of a table.
const MAX_TABLE_ROWS: usize = 300;

/// What the run was, and the device's figures at its end.
pub(crate) struct Run<'a> {
    pub(crate) title: &'a str,
    pub(crate) memory: MemoryStats,
    pub(crate) buffer: TensorBufferStats,
}

/// The whole page.
pub(crate) fn page(run: &Run<'_>, trace: &Trace, history: &History) -> String {
    let (data, note) = data(trace, history);
    let parts = [
        ("{{TITLE}}", escape(run.title)),
        ("{{STYLE}}", include_str!("page.css").to_owned()),
        ("{{NAME}}", escape(run.title)),
        ("{{SUMMARY}}", summary(run, trace, history)),
        ("{{NOTE}}", escape(&note)),
        ("{{RESERVATIONS}}", reservations(trace)),
        ("{{SIZES}}", sizes(history)),
        ("{{LAYOUTS}}", layouts(run, history)),
        ("{{STATISTICS}}", statistics(run)),
        // A `<` could end the element that the data is in.
        ("{{DATA}}", data.to_string().replace('<', "\\u003c")),
        ("{{SCRIPT}}", include_str!("page.js").to_owned()),
    ];
    // In one pass over the frame, so that what is put in is not looked at again.
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writing into a string cannot fail.
macro_rules! put {
    ($text:expr, $($arg:tt)*) => {{ let _ = write!($text, $($arg)*); }};
}

fn summary(run: &Run<'_>, trace: &Trace, history: &History) -> String {
    let driver = trace.events.iter().map(|event| event.driver_bytes).max().unwrap_or_default();
    let placed = |event: &Event| event.live_bytes + event.reserved_free_bytes + event.pooled_bytes;
    let waste = trace.events.iter().map(|event| event.driver_bytes.saturating_sub(placed(event))).max();
    let hits = history.lives.iter().filter(|life| is_hit(life)).count();
    let misses = history.lives.iter().filter(|life| is_miss(life)).count();
    let asked = hits + misses;
    let rate = if asked == 0 { "–".to_owned() } else { format!("{:.1}%", hits as f64 / asked as f64 * 100.0) };
    let mut text = String::new();
    for (name, value, note) in [
        ("most live", display_bytes(run.memory.peak_bytes), "tensors at one moment"),
        ("most from the system", display_bytes(driver), "mapped files beside it"),
        ("most waste", display_bytes(waste.unwrap_or_default()), "between tensors and their buffers"),
        ("hit rate", rate, "requests served by reservations"),
        ("allocations", run.memory.allocation_count.to_string(), "calls to the system"),
        ("requests", history.lives.len().to_string(), "tensors that got memory"),
        ("duration", format!("{:.2} s", history.end_ns as f64 / 1e9), "first to last event"),
    ] {
        put!(text, "<div><b>{}</b><span>{name}</span><small>{note}</small></div>", escape(&value));
    }
    text
}

fn is_hit(life: &Life) -> bool {
    matches!(life.source, Source::Reserve | Source::Arena)
}

/// Whether a request was one that a reservation would have served; parameters are made once.
fn is_miss(life: &Life) -> bool {
    matches!(life.source, Source::Pool | Source::Device) && life.role != Role::Learnable
}

/// What is drawn, and what of it is left out.
fn data(trace: &Trace, history: &History) -> (Value, String) {
    let moments = moments(trace);
    let (bars, rows, note) = bars(history);
    let data = json!({
        "end": [history.end_ns, trace.events.len()],
        "layouts": history.layouts.iter().map(Layout::to_string).collect::<Vec<_>>(),
        "ops": history.ops,
        "places": history.places,
        "rows": rows,
        "bars": bars,
        "moments": moments,
    });
    (data, note)
}

/// Time, event number, and bytes live, reserved and free, pooled, from the system. Of many events the one of each stretch at
/// which most was live, so that no peak is lost.
fn moments(trace: &Trace) -> Vec<Value> {
    let stretch = trace.events.len().div_ceil(MAX_MOMENTS).max(1);
    let stretches = trace.events.chunks(stretch).enumerate();
    let most = stretches.filter_map(|(i, events)| {
        let (at, event) = events.iter().enumerate().max_by_key(|(_, event)| event.live_bytes)?;
        let held = (event.live_bytes, event.reserved_free_bytes, event.pooled_bytes, event.driver_bytes);
        Some(json!([event.time_ns, i * stretch + at, held.0, held.1, held.2, held.3]))
    });
    most.collect()
}

/// A bar's height grows with the logarithm of its bytes: the class is the number of the highest bit.
fn class(life: &Life) -> usize {
    life.bytes.max(1).ilog2() as usize
}

/// The tensors that are drawn: all, or in each stretch of the run those with the most bytes × lifetime.
fn chosen(history: &History) -> Vec<&Life> {
    let mut chosen: Vec<&Life> = history.lives.iter().filter(|life| life.source != Source::File).collect();
    if chosen.len() <= MAX_BARS {
        return chosen;
    }
    let area = |life: &Life| u128::from(life.bytes) * (life.end_event - life.start_event) as u128;
    let stretch = chosen.len().div_ceil(STRETCHES);
    let stretches = chosen.chunks_mut(stretch).map(|lives| {
        lives.sort_by_key(|life| std::cmp::Reverse(area(life)));
        &lives[..lives.len().min(MAX_BARS / STRETCHES)]
    });
    let mut chosen = stretches.collect::<Vec<_>>().concat();
    chosen.sort_by_key(|life| life.start_event);
    chosen
}

/// The bars, the class of each row from the first to the last, and what is not among them.
fn bars(history: &History) -> (Vec<Value>, Vec<usize>, String) {
    let chosen = chosen(history);
    let files = history.lives.iter().filter(|life| life.source == Source::File).count();
    let total = history.lives.len() - files;
    let in_class = pack(chosen.iter().map(|life| (life.start_event as u64, life.end_event as u64, class(life))));
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
        (row < MAX_ROWS).then(|| bar(life, row))
    });
    let bars: Vec<Value> = bars.collect();
    let note = match (bars.len(), files) {
        (shown, 0) if shown == total => format!("All {total} buffers are drawn."),
        (shown, files) if shown == total => {
            format!("All {total} buffers are drawn; {files} weights in mapped files are not.")
        }
        (shown, files) => format!(
            "{shown} of {total} buffers are drawn: in each stretch of the run those with the most bytes × lifetime, in at most \
             {MAX_ROWS} rows. The tables count all of them. {files} weights in mapped files are not drawn."
        ),
    };
    (bars, rows, note)
}

fn bar(life: &Life, row: usize) -> Value {
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
    let place = life.place.map_or(-1, |place| place as i64);
    json!([
        row,
        life.start_ns,
        life.end_ns,
        life.start_event,
        life.end_event,
        life.bytes,
        life.layout,
        life.op,
        place,
        role,
        source,
        u8::from(life.is_open)
    ])
}

fn reservations(trace: &Trace) -> String {
    let plan = trace.plan();
    let mut text = String::from("<pre>");
    let statements: Vec<String> = plan.rows.iter().take(MAX_TABLE_ROWS).map(PlanRow::statement).collect();
    let width = statements.iter().map(String::len).max().unwrap_or_default();
    for (row, statement) in plan.rows.iter().zip(&statements) {
        put!(text, "{:<width$}  <i>// {}</i>\n", escape(statement), display_bytes(row.bytes()));
    }
    if plan.rows.len() > MAX_TABLE_ROWS {
        put!(text, "<i>// and {} more: see `tl plan`</i>\n", plan.rows.len() - MAX_TABLE_ROWS);
    }
    put!(text, "<i>// {} buffers, {}</i></pre>", plan.count(), display_bytes(plan.bytes()));
    match plan_arena(trace) {
        Ok(arena) => put!(
            text,
            "<p>All activations in one block (<code>--arena</code>): {} planned, {} live at once at most, {:.3} ×.</p>",
            display_bytes(arena.size_bytes as u64),
            display_bytes(arena.lower_bound_bytes as u64),
            arena.ratio()
        ),
        Err(problem) => put!(text, "<p>Activations in one block: {}.</p>", escape(&problem)),
    }
    text
}

/// What happened to one layout.
#[derive(Default)]
struct LayoutRow {
    bytes: u64,
    kind: &'static str,
    reserved: usize,
    takes: usize,
    hits: usize,
    fallbacks: usize,
    live: usize,
    most_live: usize,
}

fn layouts(run: &Run<'_>, history: &History) -> String {
    let mut rows: Vec<(String, LayoutRow)> = layout_rows(history);
    for seen in run.buffer.by_layout.iter().filter(|seen| seen.reserved_count > 0) {
        let name = seen.layout.to_string();
        let kind = match seen.kind {
            ReserveKind::Exact => "exact",
            ReserveKind::UpTo => "up to",
            ReserveKind::Learnable => "learnable",
        };
        match rows.iter_mut().find(|(known, row)| *known == name && row.reserved == 0 && kind != "up to") {
            Some((_, row)) => (row.reserved, row.kind) = (seen.reserved_count, kind),
            None => rows.push((
                name,
                LayoutRow {
                    bytes: seen.layout.len_bytes().map_or(0, |bytes| bytes as u64),
                    kind,
                    reserved: seen.reserved_count,
                    most_live: seen.most_in_use,
                    takes: seen.taken_count as usize,
                    hits: seen.taken_count as usize,
                    ..LayoutRow::default()
                },
            )),
        }
    }
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.bytes.saturating_mul(row.reserved.max(row.most_live) as u64)));
    let mut text = String::from(
        "<table><thead><tr><th>layout</th><th>bytes each</th><th>reserved</th><th>most in use</th><th>in use at most, bytes</th>\
         <th>takes</th><th>hits</th><th>fallbacks</th></tr></thead><tbody>",
    );
    for (name, row) in rows.iter().take(MAX_TABLE_ROWS) {
        let missed = if row.fallbacks > 0 { " class=missed" } else { "" };
        let most = row.bytes.saturating_mul(row.most_live as u64);
        put!(text, "<tr><td>{}</td><td>{}</td><td>{}", escape(name), display_bytes(row.bytes), row.reserved);
        if !row.kind.is_empty() {
            put!(text, " <small>{}</small>", row.kind);
        }
        put!(text, "</td><td>{}</td><td>{}</td><td>{}</td>", row.most_live, display_bytes(most), row.takes);
        put!(text, "<td>{}</td><td{missed}>{}</td></tr>", row.hits, row.fallbacks);
    }
    text.push_str("</tbody></table>");
    if rows.len() > MAX_TABLE_ROWS {
        put!(text, "<p>The {MAX_TABLE_ROWS} layouts that take the most are shown, of {}.</p>", rows.len());
    }
    text
}

/// The layouts of the trace; mapped files are none of the device's buffers.
fn layout_rows(history: &History) -> Vec<(String, LayoutRow)> {
    let mut rows: Vec<LayoutRow> = history.layouts.iter().map(|_| LayoutRow::default()).collect();
    let mut ends: Vec<(usize, bool, &Life)> = Vec::new();
    for life in history.lives.iter().filter(|life| life.source != Source::File) {
        ends.push((life.start_event, true, life));
        ends.push((life.end_event, false, life));
    }
    ends.sort_by_key(|&(event, is_start, _)| (event, is_start));
    for (_, is_start, life) in ends {
        let row = &mut rows[life.layout];
        if !is_start {
            row.live = row.live.saturating_sub(1);
            continue;
        }
        row.bytes = life.bytes;
        row.live += 1;
        row.most_live = row.most_live.max(row.live);
        row.takes += 1;
        row.hits += usize::from(is_hit(life));
        row.fallbacks += usize::from(is_miss(life));
    }
    let named = rows.into_iter().zip(&history.layouts).map(|(row, layout)| (layout.to_string(), row));
    named.filter(|(_, row)| row.takes > 0).collect()
}

/// A histogram of the sizes that were asked for, by powers of two.
fn sizes(history: &History) -> String {
    let mut counts: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
    for life in history.lives.iter().filter(|life| life.source != Source::File) {
        let (count, bytes) = counts.entry(class(life)).or_default();
        *count += 1;
        *bytes = bytes.saturating_add(life.bytes);
    }
    let most = counts.values().map(|(count, _)| *count).max().unwrap_or_default();
    let (Some((&from, _)), Some((&to, _))) = (counts.first_key_value(), counts.last_key_value()) else {
        return "<p>Nothing was asked for.</p>".to_owned();
    };
    let mut text = String::from("<table class=sizes><tbody>");
    for class in from..=to {
        let (count, bytes) = counts.get(&class).copied().unwrap_or_default();
        let width = count as f64 / most.max(1) as f64 * 100.0;
        let bar = if count > 0 { format!("<div class=bar style=\"width:{width:.2}%\"></div>") } else { String::new() };
        put!(text, "<tr><td>from {}</td><td>{bar}</td>", display_bytes(1 << class));
        put!(text, "<td>{count} requests</td><td>{} in all</td></tr>", display_bytes(bytes));
    }
    text.push_str("</tbody></table>");
    text
}

fn statistics(run: &Run<'_>) -> String {
    let (memory, buffer) = (&run.memory, &run.buffer);
    let mut text = String::from("<table class=facts><tbody>");
    for (name, bytes) in [
        ("from the system", memory.driver_bytes),
        ("live", memory.live_bytes),
        ("live at most", memory.peak_bytes),
        ("of the live: parameters", memory.learnable_bytes),
        ("of the live: KV caches", memory.cache_bytes),
        ("of the live: activations", memory.activation_bytes()),
        ("reserved and free", memory.reserved_free_bytes),
        ("pooled", memory.pooled_bytes),
        ("pooled at most (cap)", memory.pool_cap_bytes),
        ("waste", memory.waste_bytes),
        ("weights in files", memory.mapped_bytes),
        ("workspace of the kernels", memory.workspace_bytes),
        ("heap of the program", memory.heap_bytes),
        ("reserved buffers", buffer.reserved_bytes),
        ("arena", buffer.arena_bytes),
        ("arena used at most", buffer.arena_most_bytes),
    ] {
        put!(text, "<tr><td>{name}</td><td>{}</td><td>{bytes} bytes</td></tr>", display_bytes(bytes));
    }
    for (name, count) in [
        ("allocations", memory.allocation_count),
        ("frees", memory.free_count),
        ("pool reuses", memory.pool_reuse_count),
        ("evictions", memory.eviction_count),
        ("buffers reserved", buffer.reserved_count as u64),
        ("taken from reservations", buffer.taken_count),
        ("of them reused", buffer.reused_count),
        ("fallbacks", buffer.fallback_count),
    ] {
        put!(text, "<tr><td>{name}</td><td>{count}</td><td></td></tr>");
    }
    text.push_str("</tbody></table>");
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{sources, traced};
    use super::*;

    fn embedded(page: &str) -> Value {
        let (_, data) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn the_page_has_every_part_and_needs_nothing_else() {
        let (trace, memory, buffer) = traced();
        let history = History::new(&trace, &sources());
        let page = page(&Run { title: "a<b>.tl", memory, buffer }, &trace, &history);
        assert!(page.contains("a&lt;b&gt;.tl") && !page.contains("a<b>"));
        for outside in ["http://", "https://", "src=", "<link", "@import", "url(", "{{"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for part in
            ["buffer_reserve([8, 64], 2)", "float16[8, 64]</td>", "from 1.0 KiB", "waste", "live at once at most"]
        {
            assert!(page.contains(part), "{part}");
        }
        let data = embedded(&page);
        assert_eq!(data["bars"].as_array().unwrap().len(), history.lives.len());
        assert_eq!(data["ops"][0], "load</script>");
        assert_eq!(data["moments"].as_array().unwrap().len(), trace.events.len());
    }

    #[test]
    fn many_events_are_cut_down_and_the_page_says_so() {
        let (one, memory, buffer) = traced();
        let mut trace = Trace::default();
        for round in 0..6000 {
            trace.events.extend(one.events.iter().cloned().map(|mut event| {
                event.time_ns += round * 1_000_000;
                match &mut event.action {
                    tl_device::Action::Take { id, .. } | tl_device::Action::Return { id } => *id += round * 100,
                    _ => {}
                }
                event
            }));
        }
        let history = History::new(&trace, &sources());
        let page = page(&Run { title: "long", memory, buffer }, &trace, &history);
        let data = embedded(&page);
        let (bars, moments) = (data["bars"].as_array().unwrap().len(), data["moments"].as_array().unwrap());
        assert!(bars <= MAX_BARS && moments.len() <= MAX_MOMENTS && page.len() < 8 << 20, "{bars} {}", page.len());
        assert!(page.contains(&format!("{bars} of 48000 buffers are drawn")), "{bars}");
        let most = moments.iter().filter_map(|moment| moment[2].as_u64()).max();
        assert_eq!(most, one.events.iter().map(|event| event.live_bytes).max());
    }

    #[test]
    fn a_run_without_tensors() {
        let run = Run { title: "", memory: MemoryStats::default(), buffer: TensorBufferStats::default() };
        let page = page(&run, &Trace::default(), &History::default());
        assert!(page.contains("Nothing was asked for") && embedded(&page)["bars"].as_array().unwrap().is_empty());
    }
}
