//! Tensors that programs save and load.

mod common;

use common::{Folder, run, text};

/// Runs a program in which `FILE` stands for a file of the folder.
fn check(folder: &Folder, program: &str, expected_code: i32, expected: &str) {
    let path = folder.file("program.tl");
    std::fs::write(&path, program.replace("FILE", &folder.file("tensors.safetensors"))).unwrap();
    let output = run("run", &[&path]);
    let both = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(expected_code), "{program}: {both}");
    assert!(both.contains(expected), "{program}: {both}, not {expected}");
}

#[test]
fn round_trips() {
    let folder = Folder::new("saved-tensors");
    let save = "let w = [[1.5, 2], [3, 4]] as float32
        save({\"w\": transpose(w), \"ids\": [7, -1] as int32, \"mask\": w > 2, \"half\": ones([0, 2]), \"n\": sum(w)}, \"FILE\")
        print(\"saved\")";
    check(&folder, save, 0, "saved");
    let load = "let p = load(\"FILE\")
        assert_eq(p[\"w\"], [[1.5, 3], [2, 4]] as float32)
        assert_eq(p[\"ids\"], [7, -1] as int32)
        assert_eq(p[\"mask\"], [[false, false], [true, true]] as bool)
        print(len(p), shape(p[\"half\"]), p[\"n\"])";
    check(&folder, load, 0, "5 [0, 2] 10.5");
    check(&folder, "let p = load(\"FILE\")\nsave(p, \"FILE\")\nprint(len(load(\"FILE\")))", 0, "5");
    check(&folder, "print(load(\"FILE\")[\"W\"])", 1, "the map has no key \"W\"");
    check(&folder, "load(\"FILE.none\")", 1, "No such file");
    check(&folder, "save({\"a\": 1}, \"FILE\")", 1, "`save`: \"a\" must be a tensor, and is int");
    check(&folder, "save({1: ones([1])}, \"FILE\")", 1, "the names of tensors must be strings");
    check(&folder, "save({\"a\": ones([1])}, \"FILE/x\")", 1, "cannot be written");
    check(&folder, "save({\"__metadata__\": ones([1])}, \"FILE\")", 1, "cannot be saved");
    // What failed changed nothing.
    check(&folder, load, 0, "5 [0, 2] 10.5");
    std::fs::write(folder.file("tensors.safetensors"), "no tensors").unwrap();
    check(&folder, "load(\"FILE\")", 1, "the length of the safetensors header");
}
