//! Parser, formatter, checker and evaluator on generated texts: programs in which parts are deleted, doubled, moved, and
//! inserted from other programs.
//!
//! `just fuzz` does it for a while. A text on which something panics is kept in `tests/corpus`, and every run of the tests
//! tries those again. What ends the process (a stack that overflows) leaves its text in the target folder, in the file that
//! is printed at the beginning.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tl_device::{Device, DeviceOptions};
use tl_lang::{CapturedHost, Host, Interpreter, SourceText, analyze};
use tl_syntax::{FileId, classify, format, is_open, parse};

/// Rounds and calls after which a program is ended.
const MAX_STEPS: u64 = 2_000;

/// Maximum bytes of tensors and heap of a program that runs.
const MAX_BYTES: usize = 4 << 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The texts of a folder's programs.
fn texts(folder: &str) -> Vec<String> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(root().join(folder)).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "tl"));
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).expect("the program can be read")).collect()
}

/// An outside without models, which bounds what a program takes.
#[derive(Default)]
struct Bounded {
    host: CapturedHost,
}

impl Host for Bounded {
    fn print(&mut self, text: &str) {
        if self.host.output.len() < MAX_BYTES {
            self.host.print(text);
        }
    }

    fn read_source(&mut self, path: &str, importer: &str) -> Result<SourceText, String> {
        self.host.read_source(path, importer)
    }

    fn open_path(&mut self, _: &str) -> Result<PathBuf, String> {
        Err("there are no models here".to_owned())
    }

    fn time_ms(&mut self) -> f64 {
        self.host.time_ms()
    }

    fn max_steps(&mut self) -> Option<u64> {
        Some(MAX_STEPS)
    }
}

/// Does with a text all that can be done with one.
fn check(text: &str) {
    let parsed = parse(FileId(0), text);
    is_open(text);
    for (span, _) in classify(FileId(0), text) {
        assert!(text.get(span.start as usize..span.end as usize).is_some(), "a token is cut: {span:?}");
    }
    if let Ok(formatted) = format(FileId(0), text) {
        assert!(parsed.diagnostics.iter().all(|diagnostic| !diagnostic.is_error()));
        assert_eq!(format(FileId(0), &formatted).as_deref(), Ok(&*formatted), "formatted twice");
        let squeezed = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != '\u{feff}').collect::<String>();
        assert_eq!(squeezed(&formatted), squeezed(text), "formatted");
    }
    let analysis = analyze("a.tl", text, &mut Bounded::default());
    for mention in &analysis.mentions {
        for span in [Some(mention.span), mention.definition].into_iter().flatten() {
            let file = analysis.sources.file(span.file).expect("the place is in a file");
            assert!(file.text().get(span.start as usize..span.end as usize).is_some(), "a name is cut: {mention:?}");
        }
    }
    let is_right = analysis.diagnostics.iter().all(|diagnostic| !diagnostic.is_error());
    let device = Device::cpu();
    let checked = Interpreter::with_host(&device, &mut Bounded::default()).check(text);
    assert_eq!(checked.is_ok(), is_right, "an editor and `tl check` are told the same");
    if is_right {
        let mut options = DeviceOptions::default();
        options.memory.limit_bytes = Some(MAX_BYTES);
        options.threads = 1;
        let _ = Interpreter::with_host(&Device::cpu_with(&options), &mut Bounded::default()).run(text);
    }
}

#[test]
fn kept_texts() {
    for text in texts("tests/corpus") {
        check(&text);
    }
}

/// Numbers that look random: a linear congruential generator.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// Cuts a text into its tokens, comments, and what lies between.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut end = 0;
    for (span, _) in classify(FileId(0), text) {
        let (start, stop) = (span.start as usize, span.end as usize);
        pieces.extend([text.get(end..start), text.get(start..stop)].into_iter().flatten());
        end = stop;
    }
    pieces.extend(text.get(end..));
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Signs and words that make trouble anywhere.
const WORDS: &[&str] = &[
    "0",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "1e308",
    "1.5",
    "\"s\"",
    "f\"{x}\"",
    "f\"{",
    "[]",
    "{}",
    "{\"a\": 1}",
    "()",
    "..",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\n",
    "\n\n",
    ";",
    ",",
    ".",
    "?",
    "-",
    "not ",
    " in ",
    " and ",
    " as ",
    "**",
    "@",
    "=",
    ":=",
    "+=",
    "->",
    "::",
    ":",
    "//",
    "/*",
    "*/",
    "\\",
    "\"",
    "π",
    "\u{feff}",
    "let ",
    "fn f() { f() }",
    "if ",
    " else ",
    "for i in 0..3 ",
    "while true ",
    "loop ",
    "return ",
    "break",
    "continue",
    "struct S { x: int }",
    "impl S ",
    "S { x: 1 }",
    "self",
    "test \"t\" ",
    "main ",
    "with ",
    "tensor t: float16[2]",
    " learnable",
    "ones([2])",
    "zeros([0, 3])",
    "randn([2, 3])",
    "x",
    "n",
    "shape",
    "none",
    "true",
    "float16",
    "import \"a.tl\"",
    ".sum()",
    "[0]",
    "[..]",
    "[1..]",
    "TensorBuffer::new()",
    "buffer_trace ",
    "exit(3)",
];

/// A text with some changes.
fn changed(base: &str, other: &str, numbers: &mut Numbers) -> String {
    let mut parts = pieces(base);
    let others = pieces(other);
    for _ in 0..=numbers.below(5) {
        if parts.is_empty() {
            break;
        }
        let at = numbers.below(parts.len());
        match numbers.below(7) {
            0 => drop(parts.remove(at)),
            1 => parts.insert(at, parts[at]),
            2 => {
                let with = numbers.below(parts.len());
                parts.swap(at, with);
            }
            3 => parts[at] = WORDS[numbers.below(WORDS.len())],
            4 => parts.insert(at, WORDS[numbers.below(WORDS.len())]),
            5 => drop(parts.drain(at..(at + numbers.below(12)).min(parts.len()))),
            _ if others.is_empty() => {}
            _ => {
                let from = numbers.below(others.len());
                let to = (from + 1 + numbers.below(20)).min(others.len());
                parts.splice(at..at, others[from..to].iter().copied());
            }
        }
    }
    parts.concat()
}

/// For as many seconds as the environment's FUZZ_SECONDS says, else a minute.
#[test]
#[ignore = "runs for a minute: `just fuzz`"]
fn fuzz() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_nanos() as u64;
    let mut numbers = Numbers(seed);
    let bases = [texts("tests/lang"), texts("examples"), texts("tests/corpus")].concat();
    let current = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz-current.tl");
    println!("the text that is tried is in {}", current.display());
    let start = Instant::now();
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(seconds) {
        let (base, other) = (numbers.below(bases.len()), numbers.below(bases.len()));
        let text = changed(&bases[base], &bases[other], &mut numbers);
        std::fs::write(&current, &text).expect("the target folder can be written");
        let begin = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| check(&text))).is_err() {
            let kept = root().join(format!("tests/corpus/found-{seed:x}-{count}.tl"));
            std::fs::write(&kept, &text).expect("the corpus can be written");
            panic!("after {count} texts: {}", kept.display());
        }
        slowest = slowest.max(begin.elapsed());
        count += 1;
    }
    println!("{count} texts, the slowest in {slowest:?}");
}
