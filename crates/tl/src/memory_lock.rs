//! `tl plan --lock` and `--check`: the memory of a program or a model as a small file for version control, and the
//! changes since.
//!
//! The file has a line for each figure and each layout, in a fixed order, and below a program's layout the lines of
//! source that take it: their texts, which stay the same when lines move. It names no folder and no time, and does not
//! depend on machine or threads.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use tl_device::{Device, PlanRow, ReservationPlan, ReserveKind, Trace, bytes as display_bytes};
use tl_engine::MemoryPlan;
use tl_syntax::{FileId, SourceMap, Span};

use crate::device_choice::DeviceChoice;
use crate::files;
use crate::output::{self, Stop};

/// Start of the first line; the version follows.
const HEAD: &str = "tl memory lock ";

const VERSION: &str = "1";

/// The longest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// Maximum characters kept of a line of source.
const MAX_LINE_CHARS: usize = 100;

/// Maximum lines of a layout named in a message.
const MAX_NAMED_LINES: usize = 8;

/// The memory of a program or a model: figures and reservations.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct MemoryLock {
    /// Name of the file that the lock describes.
    name: String,
    /// Settings that must be equal in comparable locks: a context, arguments.
    settings: BTreeMap<String, String>,
    figures: BTreeMap<String, u64>,
    rows: BTreeMap<Key, Row>,
}

/// A reservation without its count, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    dtype: String,
    dims: Vec<usize>,
    /// `exact`, `up_to` or `learnable`.
    kind: String,
}

#[derive(Debug, Default, PartialEq)]
struct Row {
    count: u64,
    /// Lines of source that take it: the text in the lock, and the place in messages.
    lines: BTreeMap<String, String>,
}

impl Key {
    fn of(row: &PlanRow) -> Key {
        let kind = match row.kind {
            ReserveKind::Exact => "exact",
            ReserveKind::UpTo => "up_to",
            ReserveKind::Learnable => "learnable",
        };
        Key { dtype: row.layout.dtype().to_string(), dims: row.layout.shape().to_vec(), kind: kind.to_owned() }
    }

    /// Whether a buffer of this key is at least as large as one of `other`, and of the same type and kind.
    fn covers(&self, other: &Key) -> bool {
        (&self.dtype, &self.kind, self.dims.len()) == (&other.dtype, &other.kind, other.dims.len())
            && self.dims.iter().zip(&other.dims).all(|(own, other)| own >= other)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.kind == "exact" { String::new() } else { format!("{} ", self.kind) };
        write!(f, "{kind}{}{:?}", self.dtype, self.dims)
    }
}

/// Refuses devices that a lock cannot describe.
///
/// # Errors
/// If the device is not the CPU.
pub(crate) fn check_device(device: Option<&DeviceChoice>) -> Result<(), Stop> {
    match device {
        None | Some(DeviceChoice::Cpu) => Ok(()),
        Some(_) => Err(Stop::Failed("a memory lock is of the CPU; leave --device out".to_owned())),
    }
}

impl MemoryLock {
    /// The lock of a program that this device ran and recorded.
    pub(crate) fn of_program(
        path: &Path,
        args: &[String],
        device: &Device,
        trace: &Trace,
        plan: &ReservationPlan,
        sources: &SourceMap,
    ) -> MemoryLock {
        let (stats, totals) = (device.stats(), trace.totals());
        let figures = [
            ("peak_live_bytes", totals.peak_live_bytes),
            ("device_bytes", totals.peak_driver_bytes),
            ("workspace_bytes", stats.workspace_bytes),
            ("allocations", stats.allocation_count),
            ("fallbacks", device.tensor_buffer_stats().fallback_count),
        ];
        let mut lock = MemoryLock::new(path, &figures);
        if !args.is_empty() {
            lock.settings.insert("arguments".to_owned(), format!("{args:?}"));
        }
        for row in &plan.rows {
            let lines = trace.sites().filter(|site| row.serves(site.layout));
            let lines = lines.filter_map(|site| line(site.location, sources, path)).collect();
            lock.rows.insert(Key::of(row), Row { count: row.count as u64, lines });
        }
        lock
    }

    /// The lock of a model's plan.
    pub(crate) fn of_model(path: &Path, plan: &MemoryPlan) -> MemoryLock {
        let figures = [
            ("weight_bytes", plan.weight_bytes),
            ("cache_bytes", plan.cache_bytes),
            ("activation_bytes", plan.activation_bytes),
            ("workspace_bytes", plan.workspace_bytes),
            // Without the heap, which differs between systems.
            ("total_bytes", plan.total_bytes() - plan.heap_bytes),
        ];
        let mut lock = MemoryLock::new(path, &figures);
        lock.settings.insert("context".to_owned(), plan.context.to_string());
        lock.settings.insert("activations".to_owned(), plan.activations.dtype().to_string());
        lock.settings.insert("cache".to_owned(), plan.cache_dtype.to_string());
        for row in &plan.rows {
            let key = Key::of(&PlanRow { layout: row.layout.clone(), kind: row.kind, count: row.reserved_count });
            lock.rows.entry(key).or_default().count += row.reserved_count as u64;
        }
        lock
    }

    fn new(path: &Path, figures: &[(&str, u64)]) -> MemoryLock {
        let figures = figures.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        MemoryLock { name: printable(&name), figures, ..MemoryLock::default() }
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Stop> {
        let text = self.to_string();
        files::write(path, |file| file.write_all(text.as_bytes()))
    }

    /// Compares with a file and prints the changes.
    ///
    /// # Errors
    /// If the file is no lock, describes something else, or anything grew.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Stop> {
        let locked =
            MemoryLock::read(path).map_err(|problem| Stop::Failed(format!("{}: {problem}", path.display())))?;
        if let Some(problem) = self.differs_from(&locked) {
            return Err(Stop::Failed(format!("{}: {problem}", path.display())));
        }
        let (grown, shrunk) = self.changes(&locked);
        let mut text = if grown.is_empty() {
            format!("{}: memory has not grown beyond {}\n", self.name, path.display())
        } else {
            format!("the memory of {} has grown beyond {}\n{}", self.name, path.display(), grown.concat())
        };
        if !shrunk.is_empty() {
            text += &format!("what shrank (`tl plan --lock` writes it down)\n{}", shrunk.concat());
        }
        match grown.is_empty() {
            true => output::print(&text),
            false => Err(Stop::Failed(text.trim_end().to_owned())),
        }
    }

    /// The reason why the two cannot be compared.
    fn differs_from(&self, locked: &MemoryLock) -> Option<String> {
        if self.name != locked.name {
            return Some(format!("this is the lock of {}, not of {}", locked.name, self.name));
        }
        if self.settings != locked.settings {
            let all = |settings: &BTreeMap<String, String>| -> String {
                let list: Vec<String> = settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
                if list.is_empty() { "no arguments".to_owned() } else { list.join(", ") }
            };
            return Some(format!(
                "this is a lock for {}, and what runs has {}",
                all(&locked.settings),
                all(&self.settings)
            ));
        }
        let missing = self.figures.keys().find(|name| !locked.figures.contains_key(*name));
        missing.map(|name| format!("{name} is missing: the lock is of a model and this is a program, or the reverse"))
    }

    /// Lines about growth, and lines about shrinkage.
    fn changes(&self, locked: &MemoryLock) -> (Vec<String>, Vec<String>) {
        let (mut grown, mut shrunk) = (Vec::new(), Vec::new());
        for (name, &now) in &self.figures {
            let before = locked.figures.get(name).copied().unwrap_or(now);
            let list = if now > before { &mut grown } else { &mut shrunk };
            if now != before {
                list.push(figure_line(name, before, now));
            }
        }
        let is_gone = |key: &&Key| !self.rows.contains_key(*key);
        let mut gone: Vec<&Key> = locked.rows.keys().filter(is_gone).collect();
        for (key, row) in &self.rows {
            let before = locked.rows.get(key);
            let count = before.map_or(0, |row| row.count);
            // A layout that takes the place of a larger one is no growth.
            let is_smaller =
                |old: &&Key| old.covers(key) && locked.rows.get(*old).is_some_and(|old| old.count >= row.count);
            match gone.iter().position(|old| before.is_none() && is_smaller(old)) {
                Some(at) => {
                    let old = gone.remove(at);
                    shrunk.push(format!("  {old} is now {key}\n"));
                }
                None if row.count > count => grown.push(row_line(key, row, before)),
                None if row.count < count => shrunk.push(format!("  {key}: {count} -> {}\n", row.count)),
                None => {}
            }
        }
        shrunk.extend(gone.into_iter().map(|key| format!("  {key}: {} -> 0\n", locked.rows[key].count)));
        (grown, shrunk)
    }

    fn read(path: &Path) -> Result<MemoryLock, String> {
        let metadata = path.metadata().map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("this is no file; give the path of one that `tl plan --lock` has written".to_owned());
        }
        if metadata.len() > MAX_BYTES {
            return Err(format!("the file has {} bytes, which is too long for a memory lock", metadata.len()));
        }
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes).map_err(|_| "this is no memory lock: it is not text".to_owned())?;
        MemoryLock::parse(&text)
    }

    fn parse(text: &str) -> Result<MemoryLock, String> {
        // Version control may have changed the line ends.
        let mut lines = text.lines().enumerate();
        match lines.next().and_then(|(_, line)| line.strip_prefix(HEAD)) {
            None => return Err(format!("this is no memory lock: its first line is not `{HEAD}{VERSION}`")),
            Some(VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "this is a memory lock of version {version:?}, and this tl reads version {VERSION}"
                ));
            }
        }
        let mut lock = MemoryLock::default();
        let (mut last, mut n_rows) = (None, None);
        for (index, line) in lines {
            let wrong = |problem: &str| format!("line {}, {line:?}: {problem}", index + 1);
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(source) = line.strip_prefix("  ") {
                let row = last.as_ref().and_then(|key| lock.rows.get_mut(key));
                let row = row.ok_or_else(|| wrong("a line of source with no layout above it"))?;
                row.lines.insert(source.to_owned(), String::new());
                continue;
            }
            let (name, value) = line.split_once(' ').ok_or_else(|| wrong("it has no value"))?;
            match name {
                "of" => lock.name = value.to_owned(),
                "for" => {
                    let (name, value) = value.split_once(' ').ok_or_else(|| wrong("it has no value"))?;
                    lock.settings.insert(name.to_owned(), value.to_owned());
                }
                "exact" | "up_to" | "learnable" => {
                    let (key, count) = parse_row(name, value).map_err(wrong)?;
                    let is_known = lock.rows.insert(key.clone(), Row { count, ..Row::default() }).is_some();
                    if is_known {
                        return Err(wrong("the layout is there twice"));
                    }
                    last = Some(key);
                }
                _ => {
                    let value: u64 = value.parse().map_err(|_| wrong("the figure is no whole number"))?;
                    let old = if name == "layouts" {
                        n_rows.replace(value)
                    } else {
                        lock.figures.insert(name.to_owned(), value)
                    };
                    if old.is_some() {
                        return Err(wrong("the figure is there twice"));
                    }
                }
            }
        }
        if !text.ends_with('\n') || n_rows != Some(lock.rows.len() as u64) {
            return Err("the end of this memory lock is missing; `tl plan --lock` writes it again".to_owned());
        }
        Ok(lock)
    }
}

impl std::fmt::Display for MemoryLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{HEAD}{VERSION}")?;
        writeln!(f, "# `tl plan --lock` writes this file, and `tl plan --check` says what has grown since.\n")?;
        writeln!(f, "of {}", self.name)?;
        for (name, value) in &self.settings {
            writeln!(f, "for {name} {value}")?;
        }
        writeln!(f)?;
        for (name, value) in &self.figures {
            writeln!(f, "{name} {value}")?;
        }
        writeln!(f, "layouts {}\n", self.rows.len())?;
        for (key, row) in &self.rows {
            writeln!(f, "{} {}{:?} {}", key.kind, key.dtype, key.dims, row.count)?;
            for line in row.lines.keys() {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

fn parse_row(kind: &str, value: &str) -> Result<(Key, u64), &'static str> {
    let (layout, count) = value.rsplit_once(' ').ok_or("there is no count")?;
    let count = count.parse().map_err(|_| "the count is not a number")?;
    let (dtype, dims) = layout.split_once('[').ok_or("the layout has no dimensions")?;
    let dims = dims.strip_suffix(']').ok_or("the dimensions do not end with `]`")?;
    let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty()).map(str::parse);
    let dims = dims.collect::<Result<Vec<usize>, _>>().map_err(|_| "a dimension is not a number")?;
    Ok((Key { dtype: dtype.to_owned(), dims, kind: kind.to_owned() }, count))
}

fn figure_line(name: &str, before: u64, now: u64) -> String {
    let of = |value: u64| if name.ends_with("_bytes") { display_bytes(value) } else { value.to_string() };
    let exact = if name.ends_with("_bytes") { format!(" ({before} -> {now} bytes)") } else { String::new() };
    format!("  {name}: {} -> {}{exact}\n", of(before), of(now))
}

/// A layout with a higher count, and the lines that take it, new lines first.
fn row_line(key: &Key, row: &Row, before: Option<&Row>) -> String {
    let mut text = format!("  {key}: {} -> {}\n", before.map_or(0, |row| row.count), row.count);
    let is_new = |line: &str| before.is_some_and(|before| !before.lines.contains_key(line));
    let mut lines: Vec<_> = row.lines.iter().map(|(line, place)| (!is_new(line), place, line)).collect();
    lines.sort();
    for (is_old, place, line) in lines.iter().take(MAX_NAMED_LINES) {
        let source = line.split_once(": ").map_or(line.as_str(), |(_, source)| source);
        let mark = if *is_old { "" } else { "  (new here)" };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "    {place}: {source}{mark}");
    }
    if lines.len() > MAX_NAMED_LINES {
        let _ = writeln!(text, "    and {} more lines", lines.len() - MAX_NAMED_LINES);
    }
    text
}

/// A line of source as a lock stores it, `generate.tl: let x = …`, and its place for people.
fn line(location: u64, sources: &SourceMap, main: &Path) -> Option<(String, String)> {
    let start = location as u32;
    let span = Span { file: FileId((location >> 32) as u32), start, end: start };
    let file = sources.file(span.file).filter(|_| location != 0)?;
    let number = file.line_column(start).line;
    let source = file.line_text(number).split_whitespace().collect::<Vec<_>>().join(" ");
    let source: String = source.chars().take(MAX_LINE_CHARS).collect();
    Some((printable(&format!("{}: {source}", name_beside(file.name(), main))), format!("{}:{number}", file.name())))
}

/// The name of a program's file, relative to the folder of its main file; elsewhere the file name alone.
fn name_beside(name: &str, main: &Path) -> String {
    let folder = main.canonicalize().ok().and_then(|main| Some(main.parent()?.to_owned())).unwrap_or_default();
    let path = Path::new(name).canonicalize().unwrap_or_else(|_| name.into());
    let short = path.strip_prefix(&folder).ok().or(path.file_name().map(Path::new)).unwrap_or(&path);
    short.to_string_lossy().replace('\\', "/")
}

/// The text without characters that would end its line or change the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "tl memory lock 1\n# remark\n\nof a.tl\nfor arguments [\"x\"]\n\nallocations 7\n\
                        peak_live_bytes 100\nlayouts 3\n\nexact float16[8, 64] 2\n  a.tl: let x = y\n  b.tl: z\n\
                        up_to float16[1, 300] 2\nlearnable q4_0[] 1\n";

    #[test]
    fn files_are_read_as_they_are_written() {
        let lock = MemoryLock::parse(LOCK).unwrap();
        assert_eq!(MemoryLock::parse(&lock.to_string()).unwrap(), lock);
        assert_eq!(MemoryLock::parse(&LOCK.replace('\n', "\r\n")).unwrap(), lock);
        assert_eq!((lock.name.as_str(), lock.figures["allocations"], lock.rows.len()), ("a.tl", 7, 3));
        assert_eq!(lock.changes(&lock), (vec![], vec![]));
    }

    #[test]
    fn what_is_no_lock() {
        let check = |text: &str, expected: &str| {
            let problem = MemoryLock::parse(text).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains('\n'), "{text:?}: {problem}");
        };
        check("", "this is no memory lock: its first line is not `tl memory lock 1`");
        check("exact float16[8] 1\n", "this is no memory lock");
        check("tl memory lock 2\n", "version \"2\", and this tl reads version 1");
        check("tl memory lock 1\n", "the end of this memory lock is missing");
        check("tl memory lock 1\n  a.tl: x\n", "line 2, \"  a.tl: x\": a line of source with no layout above it");
        check("tl memory lock 1\nallocations\n", "it has no value");
        check("tl memory lock 1\nallocations x\n", "no whole number");
        check("tl memory lock 1\nallocations 1\nallocations 1\n", "line 3");
        check("tl memory lock 1\nexact float16[8 1\n", "the dimensions do not end");
        check("tl memory lock 1\nexact float16[8] 1\nexact float16[8] 1\n", "the layout is there twice");
        // Whatever is cut off is missed, but for lines of source.
        let ends = LOCK.char_indices().map(|(at, _)| at).filter(|&at| !LOCK[at..].trim().is_empty());
        for end in ends {
            assert!(MemoryLock::parse(&LOCK[..end]).is_err(), "{:?}", &LOCK[..end]);
        }
    }

    #[test]
    fn what_grew_and_what_shrank() {
        let locked = MemoryLock::parse(LOCK).unwrap();
        let check = |from: &str, to: &str, grown: &str, shrunk: &str| {
            assert!(LOCK.contains(from));
            let (more, less) = MemoryLock::parse(&LOCK.replace(from, to)).unwrap().changes(&locked);
            assert_eq!((more.concat().as_str(), less.concat().as_str()), (grown, shrunk), "{to}");
        };
        check("bytes 100", "bytes 2048", "  peak_live_bytes: 100 B -> 2.0 KiB (100 -> 2048 bytes)\n", "");
        check("allocations 7", "allocations 6", "", "  allocations: 7 -> 6\n");
        check("64] 2", "64] 1", "", "  float16[8, 64]: 2 -> 1\n");
        check("64] 2", "65] 2", "  float16[8, 65]: 0 -> 2\n    : let x = y\n    : z\n", "  float16[8, 64]: 2 -> 0\n");
        check("300] 2", "200] 2", "", "  up_to float16[1, 300] is now up_to float16[1, 200]\n");
        check("300] 2", "200] 3", "  up_to float16[1, 200]: 0 -> 3\n", "  up_to float16[1, 300]: 2 -> 0\n");
        check(
            "[8, 64] 2\n  a.tl: let x = y",
            "[8, 64] 3\n  a.tl: new",
            "  float16[8, 64]: 2 -> 3\n    : new  (new here)\n    : z\n",
            "",
        );
    }

    #[test]
    fn locks_of_other_things_are_not_compared() {
        let locked = MemoryLock::parse(LOCK).unwrap();
        let check = |from: &str, to: &str, expected: &str| {
            let problem = MemoryLock::parse(&LOCK.replace(from, to)).unwrap().differs_from(&locked);
            assert_eq!(problem.as_deref(), Some(expected));
        };
        check("of a.tl", "of b.tl", "this is the lock of a.tl, not of b.tl");
        check("for arguments [\"x\"]\n", "", "this is a lock for arguments [\"x\"], and what runs has no arguments");
        check(
            "allocations 7",
            "weight_bytes 7",
            "weight_bytes is missing: the lock is of a model and this is a program, or the reverse",
        );
    }
}
