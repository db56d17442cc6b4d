//! Every program of the guide, and every example, prints what stands in it behind `//>`.

use std::path::Path;

use tl_device::Device;
use tl_lang::{CapturedHost, Interpreter};

/// The programs of a text with their lines: what stands between "```tl" and "```".
fn programs(text: &str) -> Vec<(usize, String)> {
    let mut programs: Vec<(usize, String)> = Vec::new();
    let mut is_inside = false;
    for (index, line) in text.lines().enumerate() {
        match (is_inside, line) {
            (false, "```tl") => {
                is_inside = true;
                programs.push((index + 2, String::new()));
            }
            (true, "```") => is_inside = false,
            (true, line) => {
                let (_, program) = programs.last_mut().expect("a program has begun");
                program.push_str(line);
                program.push('\n');
            }
            _ => {}
        }
    }
    programs
}

fn expected(program: &str) -> String {
    let lines = program.lines().filter_map(|line| line.trim_start().strip_prefix("//>"));
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

/// What differs between a program's output and what it says; empty if nothing does.
fn run(name: &str, program: &str) -> String {
    let device = Device::cpu();
    let host = CapturedHost::default();
    let (output, problem) = match Interpreter::with_captured(&device, host).run(program) {
        Ok(outcome) => (outcome.output, String::new()),
        Err(error) => (error.output.clone(), error.to_string()),
    };
    let expected = expected(program);
    if output == expected && problem.is_empty() {
        return String::new();
    }
    format!("\n--- {name}\nprinted:\n{output}expected:\n{expected}{problem}\n")
}

/// Programs name models from the project's root.
fn enter_root() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::set_current_dir(root).expect("the project's root exists");
}

#[test]
fn programs_of_the_guide() {
    enter_root();
    let guide = std::fs::read_to_string("docs/guide.md").expect("the guide can be read");
    let programs = programs(&guide);
    assert!(programs.len() >= 10, "{} programs", programs.len());
    let wrong: String = programs.iter().map(|(line, program)| run(&format!("docs/guide.md:{line}"), program)).collect();
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn examples() {
    enter_root();
    let mut wrong = String::new();
    let mut count = 0;
    for entry in std::fs::read_dir("examples").expect("the examples exist").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "tl") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("the example can be read");
        // The others print what differs from run to run; `.ci/examples` runs them.
        if text.contains("//>") {
            count += 1;
            wrong.push_str(&run(&path.display().to_string(), &text));
        }
    }
    assert!(count >= 10, "{count} examples");
    assert!(wrong.is_empty(), "{wrong}");
}
