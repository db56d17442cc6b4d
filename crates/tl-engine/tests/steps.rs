//! The list of a step's takes and returns that the memory's benches replay is what the model really does.

use std::collections::HashMap;
use std::path::PathBuf;

use tl_device::{Action, Device, Role};
use tl_engine::Model;

#[path = "../../tl-device/benches/steps/mod.rs"]
#[allow(dead_code)]
mod steps;

fn demo(device: &Device) -> Model {
    Model::load(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/demo-q8_0.gguf"), device).unwrap()
}

/// `+layout` for a take and `-layout` for a return.
fn recorded(device: &Device, work: impl FnOnce()) -> Vec<String> {
    device.start_trace();
    work();
    let mut layouts = HashMap::new();
    let mut lines = Vec::new();
    for event in device.stop_trace().events() {
        match event.action {
            Action::Take { id, layout, role: Role::Activation, .. } => {
                lines.push(format!("+{layout}"));
                layouts.insert(id, layout);
            }
            Action::Return { id } => lines.extend(layouts.remove(&id).map(|layout| format!("-{layout}"))),
            _ => {}
        }
    }
    lines
}

fn written_down(steps: &steps::Steps) -> Vec<String> {
    let mut held = Vec::new();
    let line = |action: &steps::Action| match *action {
        steps::Action::Take { layout } => {
            held.push(layout);
            format!("+{}", steps.layouts[layout])
        }
        steps::Action::Return { tensor } => format!("-{}", steps.layouts[held[tensor]]),
    };
    steps.actions.iter().map(line).collect()
}

#[test]
fn the_list_is_what_the_model_does() {
    let device = Device::cpu();
    let model = demo(&device);
    let config = model.config();
    let llama = steps::Llama {
        n_layers: config.n_layers,
        dim: config.dim,
        n_heads: config.n_heads,
        n_kv_heads: config.n_kv_heads,
        head_dim: config.head_dim,
        ffn_dim: config.ffn_dim,
        vocab_size: config.vocab_size,
    };
    let mut cache = model.new_cache(256).unwrap();
    for n in [1, 7, 200] {
        let ids = vec![1; n];
        cache.clear();
        let events = recorded(&device, || drop(model.forward(&ids, &mut cache).unwrap()));
        let list = written_down(&llama.step(n));
        let first = events.iter().zip(&list).position(|(a, b)| a != b);
        assert_eq!(events.len(), list.len(), "{n} tokens, first difference at {first:?}");
        // Tensors that an operation lets go together may go in any order.
        let sorted = |lines: &[String]| -> Vec<Vec<String>> {
            let mut runs: Vec<Vec<String>> = lines.chunk_by(|a, b| a[..1] == b[..1]).map(<[String]>::to_vec).collect();
            runs.iter_mut().for_each(|run| run.sort());
            runs
        };
        assert_eq!(sorted(&events), sorted(&list), "{n} tokens");
    }
}
