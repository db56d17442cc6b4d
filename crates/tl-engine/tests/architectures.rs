//! Every architecture that comes with the program against the logits that `transformers` computed in float32, on every path:
//! from a folder and from a GGUF file, in steps of any length, in both types of activations, with every set of instructions.
//!
//! `tests/data/README.md` says what the models are. `TL_SHOW_DISTANCES=1` prints what is found.

use std::collections::BTreeSet;

use tl_device::{DType, Device, DeviceOptions, Isa};
use tl_engine::{Activations, Architecture, KvCache, Model};

mod tiny;
use tiny::{ALL, Tiny, distance, logits};

/// Sums of float32 in another order: 2.8e-6 was found, of the reference's own rounding too.
const FLOAT32: f64 = 2e-5;
/// Every intermediate rounded to float16, by one part in 2048 at most: 1.9e-3 was found, behind the seven layers of gemma3.
const FLOAT16: f64 = 0.005;
/// Keys and values in blocks of 8 bits, each off by up to 1/254 of its block's largest: 0.0097 was found. No router's choice is so
/// close that another expert would be chosen for that.
const CACHE_OF_8_BITS: f64 = 0.02;

fn device(isa: Option<Isa>, threads: usize) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = threads;
    options.isa = isa;
    Device::cpu_with(&options)
}

/// The best instructions on several threads, and each set by itself.
fn devices() -> Vec<Device> {
    let mut devices = vec![device(None, 3)];
    devices.extend(["avx2", "portable"].iter().filter_map(|name| Some(device(Some(Isa::named(name)?), 1))));
    devices
}

fn check(what: &str, found: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64) {
    let distance = distance(found, expected);
    if std::env::var_os("TL_SHOW_DISTANCES").is_some() {
        println!("{distance:.2e} of {tolerance:.0e} {what}");
    }
    assert!(distance <= tolerance, "{what}: off by {distance:.3e} of the logits' norm, {tolerance:.0e} is accepted");
}

#[test]
fn every_architecture_has_a_model() {
    let tested: BTreeSet<&str> = ALL.iter().map(|tiny| tiny.architecture).collect();
    assert_eq!(tested, Architecture::names().collect());
    for tiny in ALL {
        let model = tiny.load(&Device::cpu(), Activations::Float32);
        assert_eq!(model.config().architecture, tiny.architecture, "{}", tiny.name);
    }
}

#[test]
fn logits_in_float32() {
    for device in devices() {
        for tiny in ALL {
            check_logits(tiny, &device, Activations::Float32, FLOAT32);
        }
    }
}

#[test]
fn logits_in_float16() {
    for device in devices() {
        for tiny in ALL {
            check_logits(tiny, &device, Activations::Float16, FLOAT16);
        }
    }
}

fn check_logits(tiny: &Tiny, device: &Device, activations: Activations, tolerance: f64) {
    let reference = tiny.reference();
    for source in tiny.sources() {
        let model = Model::load(&source, device).unwrap().with_activations(activations);
        for step in [reference.ids.len(), 5, 1] {
            let isa = device.threads().isa().name();
            let what = format!("{} {activations:?}, {isa}, steps of {step}", source.display());
            check(&what, &logits(&model, &reference.ids, step).unwrap(), &reference.logits, tolerance);
        }
    }
}

/// Caches of layers with a window have let rows go by the end: in one prefill of two parts, in short steps, and token by token.
#[test]
fn logits_behind_more_tokens_than_a_windowed_cache_holds() {
    let device = device(None, 2);
    let mut n_tested = 0;
    for tiny in ALL {
        let (Some((window, _)), Some(long)) = (tiny.window, tiny.reference().long) else {
            assert!(tiny.window.is_none(), "{}", tiny.name);
            continue;
        };
        assert!(long.ids.len() > window + KvCache::MAX_STEP);
        n_tested += 1;
        for (activations, tolerance) in [(Activations::Float32, FLOAT32), (Activations::Float16, FLOAT16)] {
            for step in [long.ids.len(), 37, 1] {
                let model = tiny.load(&device, activations);
                let rows = logits(&model, &long.ids, step).unwrap();
                let last = &rows[rows.len() - long.last_logits.len()..];
                check(&format!("{} {activations:?}, steps of {step}", tiny.name), last, &long.last_logits, tolerance);
            }
        }
    }
    assert!(n_tested >= 4);
}

#[test]
fn logits_with_a_cache_of_8_bits() {
    let mut n_tested = 0;
    for device in devices() {
        for tiny in ALL {
            let reference = tiny.reference();
            let model = tiny.load(&device, Activations::Float32).with_cache_dtype(DType::Q8_0);
            // Of gemma4 the heads of layers with a window are narrower.
            let whole =
                model.config().head_dim.is_multiple_of(DType::Q8_0.block_elems()) && tiny.architecture != "gemma4";
            if !whole {
                let error = model.new_cache(8).unwrap_err().to_string();
                assert!(error.contains("are no whole number of them"), "{}: {error}", tiny.name);
                continue;
            }
            n_tested += 1;
            for step in [reference.ids.len(), 1] {
                let rows = logits(&model, &reference.ids, step).unwrap();
                let what = format!("{} Q8_0 cache, steps of {step}", tiny.name);
                check(&what, &rows, &reference.logits, CACHE_OF_8_BITS);
                // The cache makes the difference.
                assert!(distance(&rows, &reference.logits) > 10.0 * FLOAT32, "{what}");
            }
        }
    }
    assert!(n_tested >= 14);
}
