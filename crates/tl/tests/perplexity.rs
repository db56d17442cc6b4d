//! `tl perplexity` as its users run it.

mod common;

use std::process::Output;

use serde_json::Value;

use common::{Folder, root, run, text};

fn object(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("{key}: {object}"))
}

/// The demo model has read English and Rust: a page of the project is more likely to it than its letters shuffled.
#[test]
fn a_text_is_likelier_than_its_letters() {
    let folder = Folder::new("likelier");
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut letters: Vec<char> = page.chars().take(6000).collect();
    let shuffled = folder.file("shuffled.txt");
    letters.sort_by_key(|&c| (c as u32).wrapping_mul(2_654_435_761));
    std::fs::write(&shuffled, letters.iter().collect::<String>()).unwrap();
    let line = "perplexity models/demo-q8_0.gguf --windows 3 --context 128 --json";
    let found = object(&run(line, &["ARCHITECTURE.md"]));
    assert_eq!((number(&found, "windows"), number(&found, "tokens"), number(&found, "window")), (3.0, 189.0, 128.0));
    let (likely, unlikely) = (number(&found, "perplexity"), number(&object(&run(line, &[&shuffled])), "perplexity"));
    assert!(1.0 < likely && 2.0 * likely < unlikely, "{likely} {unlikely}");
    assert!(number(&found, "perplexity_error") > 0.0 && found.get("kl_mean").is_none(), "{found}");
}

#[test]
fn a_model_agrees_with_itself_and_less_with_fewer_bits() {
    let folder = Folder::new("agrees");
    let (saved, again) = (folder.file("saved"), folder.file("again"));
    let line = "perplexity models/demo-f16.gguf ARCHITECTURE.md --windows 2 --context 100 --threads 1 --save";
    let output = run(line, &[&saved]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let against = |model: &str, rest: &[&str]| {
        let line = format!("perplexity {model} --against {saved} --threads 1 --json");
        object(&run(&line, rest))
    };
    let same = against("models/demo-f16.gguf", &["--save", &again]);
    // What 16 bits leave of a range of 16 or less.
    assert!(number(&same, "kl_most").abs() < 1e-7 && number(&same, "same_top") > 0.98, "{same}");
    assert!((number(&same, "perplexity") / number(&same, "reference_perplexity") - 1.0).abs() < 1e-4, "{same}");
    assert_eq!(std::fs::read(&saved).unwrap(), std::fs::read(&again).unwrap());
    let eight = against("models/demo-q8_0.gguf", &[]);
    let four = against("models/demo-q4_0.gguf", &[]);
    assert!(1e-7 < number(&eight, "kl_mean") && 10.0 * number(&eight, "kl_mean") < number(&four, "kl_mean"), "{eight}");
    for found in [&eight, &four] {
        assert!(number(found, "kl_median") <= number(found, "kl_99"), "{found}");
        assert!(number(found, "kl_99") <= number(found, "kl_most"), "{found}");
    }
    // Keys and values in 8 bits cost about as much as weights in 8 bits.
    let cache = against("models/demo-f16.gguf", &["--cache", "q8_0"]);
    assert!(1e-7 < number(&cache, "kl_mean") && number(&cache, "kl_mean") < 2.0 * number(&eight, "kl_mean"), "{cache}");
    assert_eq!(number(&against("models/demo-q8_0.gguf", &["--windows", "1"]), "tokens"), 49.0);
    let line = format!("perplexity models/demo-q4_0.gguf --against {saved} --activations float32 --memory-stats");
    let output = run(&line, &[]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.starts_with("perplexity ") && stdout.contains(", of 98 tokens in 2 windows of 100\n"), "{stdout}");
    assert!(stdout.contains("\nthe reference's ") && stdout.contains("\ndivergence from it: mean "), "{stdout}");
    assert!(stdout.contains("\nthe same likeliest token: ") && stderr.contains("memory of the device"), "{stderr}");
    assert_eq!(folder.names(), ["again", "saved"]);
}

/// What a limit allows is said before anything is loaded, and a window allocates nothing.
#[test]
fn memory_is_reserved_before_the_first_window() {
    let line = "perplexity models/demo-q8_0.gguf ARCHITECTURE.md --context 128 --threads 1";
    let statistics = |windows: &str| -> Value {
        let output = run(&format!("{line} --memory-stats=json --windows {windows}"), &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_str(text(&output.stderr).lines().last().unwrap()).unwrap()
    };
    let (one, four) = (statistics("1"), statistics("4"));
    for key in ["allocations", "driver_bytes", "peak_bytes"] {
        assert!(number(&one, key) > 0.0 && number(&one, key) == number(&four, key), "{key}: {one} {four}");
    }
    assert_eq!(number(&four, "fallbacks"), 0.0, "{four}");
    let limited = |limit: u64| run(&format!("{line} --windows 1 --memory-limit {limit}"), &[]);
    let refused = |limit: u64| {
        let stderr = text(&limited(limit).stderr);
        assert!(stderr.contains("a context of 128 tokens takes ") && stderr.lines().count() == 1, "{limit}: {stderr}");
        let (_, figure) = stderr.split_once(" (").unwrap();
        figure.split_once(" bytes)").unwrap().0.parse::<u64>().unwrap()
    };
    let said = refused(4 << 20);
    assert_eq!((refused(said - 1), limited(said).status.code()), (said, Some(0)), "{}", text(&limited(said).stderr));
}

#[test]
fn mistakes_are_one_line() {
    let folder = Folder::new("mistakes");
    let short = folder.file("short.txt");
    std::fs::write(&short, "A few words.").unwrap();
    let (other, truncated) = (folder.file("other"), folder.file("truncated"));
    let tiny = folder.file("tiny.gguf");
    assert!(run("synth --shape tiny --format q8_0", &[&tiny]).status.success());
    let line = "perplexity --context 16 --windows 1 --save";
    assert!(run(line, &[&other, &tiny, "ARCHITECTURE.md"]).status.success());
    let bytes = std::fs::read(&other).unwrap();
    std::fs::write(&truncated, &bytes[..bytes.len() - 1]).unwrap();
    let check = |line: &str, rest: &[&str], code: i32, expected: &str| {
        let output = run(&format!("perplexity {line}"), rest);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{line}: {stderr}");
        assert!(output.stdout.is_empty() && (code == 2 || stderr.lines().count() == 1), "{line}: {stderr}");
    };
    let demo = "models/demo-q8_0.gguf";
    check("none.gguf ARCHITECTURE.md", &[], 1, "none.gguf: No such file");
    check(&format!("{demo} none.txt"), &[], 1, "none.txt: No such file");
    check(&format!("{demo} models/demo-q8_0.gguf"), &[], 1, "UTF-8");
    check(demo, &[&short], 1, "fewer than a window of 256; lower --context");
    check(&format!("{demo} --context 2"), &[&short], 1, "a window of 2 tokens: this model works for 3 to 256");
    check(&format!("{demo} ARCHITECTURE.md --context 257"), &[], 1, "works for 3 to 256");
    check(&format!("{demo} --against README.md"), &[], 1, "README.md: no file of log-probabilities");
    check(&format!("{demo} --against none"), &[], 1, "none: No such file");
    check(&format!("{demo} --against"), &[&truncated], 1, "ends inside the log-probabilities");
    check(&format!("{demo} --against"), &[&other], 1, "is about a vocabulary of 512 tokens, the model has");
    check(&format!("{demo} ARCHITECTURE.md --save {demo}"), &[], 1, "is the file that is read; write to another");
    check(&format!("{demo} --against {other} --save"), &[&other], 1, "is the file that is read");
    check(
        &format!("{demo} ARCHITECTURE.md --windows 1 --save none/x"),
        &[],
        1,
        "none/x cannot be written: No such file",
    );
    check(demo, &[], 2, "<TEXT>");
    check(&format!("{demo} ARCHITECTURE.md --against x"), &[], 2, "cannot be used with");
    check(&format!("{demo} --against x --context 9"), &[], 2, "cannot be used with");
    check(&format!("{demo} ARCHITECTURE.md --windows 0"), &[], 2, "0 is not in 1");
    assert_eq!(folder.names(), ["other", "short.txt", "tiny.gguf", "truncated"]);
}
