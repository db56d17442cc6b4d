//! Programs checked with a model: the sizes of its weights and its configuration are known before anything runs.

use std::path::Path;

use tl_device::{Device, Simulation};
use tl_lang::{Architecture, Interpreter};
use tl_model::Weights;

fn tiny(name: &str) -> Weights {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny").join(name).join("model.gguf");
    Weights::load(path, &Device::simulated(Simulation::of(&Device::cpu()))).expect("the model can be loaded")
}

/// The errors in a program for a model.
fn errors(model: &Weights, source: &str) -> String {
    let device = Device::cpu();
    let mut interpreter = Interpreter::new(&device);
    interpreter.check_with_model(model);
    interpreter.check(source).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn architectures_fit_their_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).expect("there are models") {
        let entry = entry.expect("the folder can be read");
        if entry.path().join("model.gguf").exists() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let model = tiny(&name);
            let source = Architecture::source(&model.config().architecture).expect("its script ships");
            assert_eq!(errors(&model, source), "", "{name}");
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} models");
}

#[test]
fn programs_that_do_not_fit() {
    let model = tiny("llama");
    let source = Architecture::source("llama").expect("it ships");
    for (old, new, expected) in [
        ("linear(y, w.attn_k.weight, w.attn_k.bias?)", "linear(y, w.ffn_gate.weight)", "the number of elements"),
        ("w.attn_norm.weight", "w.atn_norm.weight", "has no part `atn_norm` (did you mean `attn_norm`?)"),
        ("[n, c.n_heads, c.head_dim]", "[n, c.n_heads, c.head_dim + 1]", "the number of elements must stay the same"),
        (
            "linear(seen.reshape([n, c.n_heads * c.head_dim]), w.attn_output.weight, w.attn_output.bias?)",
            "linear(seen.reshape([n, c.n_heads * c.head_dim]), w.ffn_down.weight)",
            "linear: the inner sizes differ",
        ),
    ] {
        let wrong = source.replacen(old, new, 1);
        assert_ne!(wrong, source, "{old}");
        let found = errors(&model, &wrong);
        assert!(found.contains(expected), "{new}: {found:?}");
    }
    let rows = "main {\n    let m = load_model(\"any.gguf\")\n    let x = embedding(m.token_embd.weight, [1, 2])\n";
    let dim = model.config().field("dim");
    for (line, expected) in [
        ("    print(linear(x, m.blk[0].attn_q.weight))\n}", ""),
        ("    print(linear(x, m.blk[0].ffn_down.weight))\n}", "linear: the inner sizes differ"),
        ("    print(m.blk[99].attn_q.weight)\n}", "index 99 is out of range"),
        ("    if let b = m.blk[0].no_such.weight? { print(ones([2]) @ ones([3])) }\n}", ""),
        ("    print(linear(x, get_tensor(m, \"blk.0.ffn_down.weight\")))\n}", "linear: the inner sizes differ"),
    ] {
        let found = errors(&model, &format!("{rows}{line}"));
        assert!(
            if expected.is_empty() { found.is_empty() } else { found.contains(expected) },
            "{line} ({dim:?}): {found:?}"
        );
    }
}
