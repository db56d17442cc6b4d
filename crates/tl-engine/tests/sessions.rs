//! Two sessions of one model on two threads of one device: each in memory of its own that was booked before, sealed, with the tokens
//! that it has alone.

use std::path::Path;
use std::sync::Barrier;
use std::thread;

use tl_device::{Device, DeviceOptions, Error};
use tl_engine::{Model, SamplingOptions, Session, Step};

const CONTEXT: usize = 96;

fn load(limit_bytes: Option<usize>) -> Model {
    let mut options = DeviceOptions::default();
    options.threads = 2;
    options.memory.limit_bytes = limit_bytes;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo-q8_0.gguf");
    Model::load(path, &Device::cpu_with(&options)).unwrap()
}

/// The text that follows.
fn tokens(model: &Model, prompt: &str, seed: u64) -> Vec<u32> {
    let sampling = SamplingOptions::default().with_temperature(0.8).with_seed(seed);
    let mut session = Session::new(model, CONTEXT, sampling).unwrap();
    session.set_text(&model.tokenizer().unwrap().encode(prompt)).unwrap();
    let mut chosen = Vec::new();
    while !session.is_full() {
        if let Step::Token(token) = session.step().unwrap() {
            chosen.push(token);
        }
    }
    chosen
}

#[test]
fn side_by_side() {
    let alone: Vec<Vec<u32>> =
        (0..2).map(|i| tokens(&load(None), ["A trait object", "fn main"][i], i as u64)).collect();
    for threads in [None, Some(1), Some(2)] {
        let model = load(None);
        let device = model.device().clone();
        let plan = model.session_plan(CONTEXT).unwrap();
        let sessions: Vec<_> = (0..2).map(|_| device.admit_with(plan.clone(), threads).unwrap()).collect();
        let held = device.stats();
        let begin = Barrier::new(2);
        thread::scope(|scope| {
            for (i, admission) in sessions.iter().enumerate() {
                let (model, alone, begin) = (&model, &alone, &begin);
                scope.spawn(move || {
                    let _entered = admission.enter();
                    begin.wait();
                    for _ in 0..3 {
                        assert_eq!(tokens(model, ["A trait object", "fn main"][i], i as u64), alone[i]);
                    }
                });
            }
        });
        let after = device.stats();
        assert_eq!((after.driver_bytes, after.allocation_count), (held.driver_bytes, held.allocation_count));
        for admission in &sessions {
            assert_eq!((admission.stats().fallback_count, admission.stats().in_use_count), (0, 0));
        }
    }
}

#[test]
fn as_many_as_fit() {
    let model = load(None);
    let (plan, weights) = (model.session_plan(CONTEXT).unwrap(), model.device().stats().mapped_bytes);
    model.device().take_workspace().unwrap();
    let workspace = model.device().stats().workspace_bytes;
    let model = load(Some((weights + workspace + 3 * plan.bytes()) as usize));
    let device = model.device();
    let mut sessions: Vec<_> = (0..3).map(|_| device.admit(plan.clone()).unwrap()).collect();
    assert!(matches!(device.admit(plan.clone()), Err(Error::Limit { .. })));
    drop(sessions.pop());
    sessions.push(device.admit(plan).unwrap());
    assert_eq!(sessions.len(), 3);
}
