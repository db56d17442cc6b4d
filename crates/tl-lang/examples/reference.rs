//! Prints the reference of TL's builtins, from the tables that checker and evaluator read.
//!
//!     cargo run -q -p tl-language --example reference > docs/builtins.md

fn main() {
    println!("# TL's builtins\n");
    println!("Made from the tables that the checker and the evaluator read: `just reference`. Do not edit.\n");
    println!("`x.f(a)` is `f(x, a)`. Arguments may be named. Dimensions may be negative, counted from the end.");
    let entries = tl_lang::reference();
    let mut chapters: Vec<&str> = Vec::new();
    for entry in &entries {
        if !chapters.contains(&entry.chapter) {
            chapters.push(entry.chapter);
        }
    }
    for chapter in chapters {
        println!("\n## {chapter}");
        for entry in entries.iter().filter(|entry| entry.chapter == chapter) {
            println!("\n### `{}`\n\n{}", entry.signature, entry.doc);
        }
    }
}
