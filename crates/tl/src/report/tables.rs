//! Texts and tables of the `--memory-report` page. Counts cover the whole run; the tensors live at the peak are those
//! that the recording has kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use tl_device::{Event, ReserveKind, TensorBufferStats, Trace, TraceTotals, TracedLayout, bytes as display_bytes};

use super::history::{History, Life, Run, escape, place};
use crate::arena::plan_arena;

/// Maximum rows of a table.
const MAX_ROWS: usize = 300;

/// Maximum rows about the peak.
const MAX_PEAK_ROWS: usize = 12;

/// Writing into a string cannot fail.
macro_rules! put {
    ($text:expr, $($arg:tt)*) => {{ let _ = write!($text, $($arg)*); }};
}

/// Layouts of the device's buffers, without mapped files.
fn buffers(trace: &Trace) -> impl Iterator<Item = TracedLayout<'_>> {
    trace.layouts().filter(|layout| layout.most_live > 0)
}

pub(super) fn summary(run: &Run<'_>, trace: &Trace, history: &History) -> String {
    let TraceTotals { take_count, end_ns, peak_driver_bytes, peak_waste_bytes, .. } = history.totals;
    let hits: u64 = buffers(trace).map(|layout| layout.hit_count).sum();
    let asked: u64 = hits + buffers(trace).map(|layout| layout.miss_count).sum::<u64>();
    let rate = if asked == 0 { "–".to_owned() } else { format!("{:.1}%", hits as f64 / asked as f64 * 100.0) };
    let mut text = String::new();
    for (name, value, note) in [
        ("most live", display_bytes(run.memory.peak_bytes), "tensors at one moment"),
        ("most from the system", display_bytes(peak_driver_bytes), "mapped files beside it"),
        ("most waste", display_bytes(peak_waste_bytes), "between tensors and their buffers"),
        ("hit rate", rate, "requests served by reservations"),
        ("allocations", run.memory.allocation_count.to_string(), "calls to the system"),
        ("requests", take_count.to_string(), "tensors that got memory"),
        ("duration", format!("{:.2} s", end_ns as f64 / 1e9), "first to last event"),
    ] {
        put!(text, "<div><b>{}</b><span>{name}</span><small>{note}</small></div>", escape(&value));
    }
    if let Some(last) = history.steps.last() {
        let each = end_ns as f64 / last.number as f64 / 1e6;
        put!(text, "<div><b>{}</b><span>{}s</span><small>{each:.2} ms each</small></div>", last.number, run.step);
    }
    text
}

pub(super) fn reservations(trace: &Trace) -> String {
    let plan = match trace.plan() {
        Ok(plan) => plan,
        Err(error) => return format!("<p>None can be told: {}.</p>", escape(&error.to_string())),
    };
    let mut text = String::from("<pre>");
    let statements: Vec<String> = plan.rows.iter().take(MAX_ROWS).map(tl_lang::reserve_statement).collect();
    let width = statements.iter().map(String::len).max().unwrap_or_default();
    for (row, statement) in plan.rows.iter().zip(&statements) {
        put!(text, "{:<width$}  <i>// {}</i>\n", escape(statement), display_bytes(row.bytes()));
    }
    if plan.rows.len() > MAX_ROWS {
        put!(text, "<i>// and {} more: see `tl plan`</i>\n", plan.rows.len() - MAX_ROWS);
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

/// The tensors live at the peak: the largest groups of one operation, place and layout.
pub(super) fn peak(history: &History, peak: Option<&Event>) -> String {
    let Some(peak) = peak else { return "<p>Nothing was asked for.</p>".to_owned() };
    let is_live = |life: &&Life| (life.start_event..life.end_event).contains(&peak.number);
    let mut groups: HashMap<(usize, usize, Option<usize>), (u64, u64)> = HashMap::new();
    for life in history.buffers().filter(is_live) {
        let (count, bytes) = groups.entry((life.op, life.layout, life.place)).or_default();
        (*count, *bytes) = (*count + 1, *bytes + life.bytes);
    }
    let known: u64 = groups.values().map(|(_, bytes)| bytes).sum();
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|&(group, (_, bytes))| (std::cmp::Reverse(bytes), group));
    let mut text = format!(
        "<p class=note>{} live, {:.2} s into the run.</p>",
        display_bytes(peak.live_bytes),
        peak.time_ns as f64 / 1e9
    );
    text += "<div class=wide><table class=wrapped><thead><tr><th>tensor</th><th>bytes</th><th>share</th></tr></thead>";
    text += "<tbody>";
    let most = peak.live_bytes.max(1) as f64;
    let share = |bytes: u64| format!("{:.1}%", bytes as f64 / most * 100.0);
    for &((op, layout, place), (count, bytes)) in groups.iter().take(MAX_PEAK_ROWS) {
        let times = if count > 1 { format!("{count} × ") } else { String::new() };
        put!(
            text,
            "<tr><td>{times}{} <b>{}</b>",
            escape(&history.layouts[layout].to_string()),
            escape(history.ops[op])
        );
        if let Some(place) = place {
            put!(text, " <small>{}</small>", escape(&history.places[place]));
        }
        put!(text, "</td><td>{}</td><td>{}</td></tr>", display_bytes(bytes), share(bytes));
    }
    let rest = peak.live_bytes.saturating_sub(groups.iter().take(MAX_PEAK_ROWS).map(|(_, (_, bytes))| bytes).sum());
    if rest > 0 {
        let note = if known < peak.live_bytes { ", taken before the recording or not kept by it" } else { "" };
        put!(text, "<tr><td>others{note}</td><td>{}</td><td>{}</td></tr>", display_bytes(rest), share(rest));
    }
    text + "</tbody></table></div>"
}

/// Requests by operation, or by line of the program.
pub(super) fn sites(run: &Run<'_>, trace: &Trace, by_line: bool) -> String {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for site in trace.sites() {
        let name = if by_line { place(site.location, run.sources) } else { Some(site.op.to_owned()) };
        let bytes = site.layout.len_bytes().map_or(0, |bytes| bytes as u64);
        if let Some(name) = name {
            let (takes, sum) = sums.entry(name).or_default();
            (*takes, *sum) = (*takes + site.take_count, sum.saturating_add(bytes.saturating_mul(site.take_count)));
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    let first = if by_line { "line" } else { "operation" };
    let mut text = format!(
        "<table class=found><thead><tr><th>{first}</th><th>takes</th><th>bytes in all</th></tr></thead><tbody>"
    );
    for (name, (takes, bytes)) in sums.iter().take(MAX_ROWS) {
        put!(text, "<tr><td>{}</td><td>{takes}</td><td>{}</td></tr>", escape(name), display_bytes(*bytes));
    }
    text + "</tbody></table>" + &cut("that take the most", sums.len())
}

/// A note that a table is cut.
fn cut(which: &str, total: usize) -> String {
    if total > MAX_ROWS { format!("<p>The {MAX_ROWS} {which} are shown, of {total}.</p>") } else { String::new() }
}

/// A row of the table of layouts.
#[derive(Default)]
struct LayoutRow {
    bytes: u64,
    kind: &'static str,
    reserved: usize,
    takes: u64,
    hits: u64,
    fallbacks: u64,
    most_live: u64,
}

pub(super) fn layouts(buffer: &TensorBufferStats, trace: &Trace) -> String {
    let bytes = |layout: &tl_device::Layout| layout.len_bytes().map_or(0, |bytes| bytes as u64);
    let mut rows: Vec<(String, LayoutRow)> = Vec::new();
    rows.extend(buffers(trace).map(|seen| {
        let (takes, hits, fallbacks) = (seen.take_count, seen.hit_count, seen.miss_count);
        let (bytes, most_live) = (bytes(seen.layout), seen.most_live);
        (seen.layout.to_string(), LayoutRow { bytes, takes, hits, fallbacks, most_live, ..LayoutRow::default() })
    }));
    let known: HashMap<String, usize> = rows.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
    for seen in buffer.by_layout.iter().filter(|seen| seen.reserved_count > 0) {
        let name = seen.layout.to_string();
        let kind = match seen.kind {
            ReserveKind::Exact => "exact",
            ReserveKind::UpTo => "up to",
            ReserveKind::Learnable => "learnable",
        };
        let row = known.get(&name).and_then(|&at| rows.get_mut(at));
        match row.filter(|(_, row)| row.reserved == 0 && seen.kind != ReserveKind::UpTo) {
            Some((_, row)) => (row.reserved, row.kind) = (seen.reserved_count, kind),
            None => rows.push((
                name,
                LayoutRow {
                    bytes: bytes(&seen.layout),
                    kind,
                    reserved: seen.reserved_count,
                    most_live: seen.most_in_use as u64,
                    takes: seen.taken_count,
                    hits: seen.taken_count,
                    fallbacks: 0,
                },
            )),
        }
    }
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.bytes.saturating_mul(row.most_live.max(row.reserved as u64))));
    let mut text = String::from(
        "<table class=found><thead><tr><th>layout</th><th>bytes each</th><th>reserved</th><th>most in use</th>\
         <th>in use at most, bytes</th><th>takes</th><th>hits</th><th>fallbacks</th></tr></thead><tbody>",
    );
    for (name, row) in rows.iter().take(MAX_ROWS) {
        let missed = if row.fallbacks > 0 { " class=missed" } else { "" };
        let most = row.bytes.saturating_mul(row.most_live);
        put!(text, "<tr><td>{}</td><td>{}</td><td>{}", escape(name), display_bytes(row.bytes), row.reserved);
        if !row.kind.is_empty() {
            put!(text, " <small>{}</small>", row.kind);
        }
        put!(text, "</td><td>{}</td><td>{}</td><td>{}</td>", row.most_live, display_bytes(most), row.takes);
        put!(text, "<td>{}</td><td{missed}>{}</td></tr>", row.hits, row.fallbacks);
    }
    text + "</tbody></table>" + &cut("layouts that take the most", rows.len())
}

/// A histogram of the requested sizes, by powers of two.
pub(super) fn sizes(trace: &Trace) -> String {
    let mut counts: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for layout in buffers(trace) {
        let each = layout.layout.len_bytes().map_or(0, |bytes| bytes as u64);
        let (count, bytes) = counts.entry(each.max(1).ilog2()).or_default();
        *count += layout.take_count;
        *bytes = bytes.saturating_add(each.saturating_mul(layout.take_count));
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

pub(super) fn statistics(run: &Run<'_>) -> String {
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
        ("this recording", memory.recording_bytes),
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
