//! A hundred thousand tokens, beginning again whenever the context is full: what is live, what the device holds and what
//! is resident stay the same. `cargo test` decodes a few thousand of them, `just soak` all.

use std::path::PathBuf;

use tl_device::{Device, DeviceOptions, TensorBuffer};
use tl_engine::{Model, ReserveFor, SamplingOptions};
use tl_model::Sampler;

/// Tokens after which everything that is made on demand has been made.
const WARM_UP: usize = 512;
/// Resident pages that come and go with what has nothing to do with the device: the test's own output, for one.
const RESIDENT_SLACK: u64 = 512 << 10;

/// Bytes of this process that are resident and not pages of files; `None` where the system does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

fn soak(n_tokens: usize, is_reserved: bool) {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    let device = Device::cpu_with(&options);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/demo-q8_0.gguf");
    let model = Model::load(path, &device).unwrap();
    let context = model.config().context_length;
    if is_reserved {
        let buffer = TensorBuffer::new(&device);
        buffer.reserve_for(&model, context).unwrap();
        device.set_tensor_buffer(buffer);
    }
    let mut cache = model.new_cache(context).unwrap();
    let options = SamplingOptions::default().with_temperature(1.0).with_seed(1);
    let mut sampler = Sampler::new(options, model.config().vocab_size).unwrap();
    let mut token = 1;
    let mut start = None;
    for n in 0..n_tokens {
        if n == WARM_UP {
            start = Some((device.stats(), resident_bytes()));
            println!("context {context}: {:?}, resident {:?}", device.stats(), resident_bytes());
        }
        if cache.len() == context {
            cache.clear();
            token = 1;
        }
        let logits = model.forward(&[token], &mut cache).unwrap();
        token = sampler.sample_tensor(&logits).unwrap();
        drop(logits);
        if let Some((stats, _)) = &start {
            let now = device.stats();
            assert_eq!((now.live_bytes, now.driver_bytes), (stats.live_bytes, stats.driver_bytes), "token {n}");
            assert_eq!((now.peak_bytes, now.allocation_count), (stats.peak_bytes, stats.allocation_count), "token {n}");
        }
    }
    let (_, resident) = start.expect("more tokens than the warm-up");
    let now = resident_bytes();
    println!("after {n_tokens} tokens: {:?}, resident {now:?}", device.stats());
    if let (Some(before), Some(now)) = (resident, now) {
        assert!(now <= before + RESIDENT_SLACK, "resident bytes grew from {before} to {now}");
    }
    if is_reserved {
        assert_eq!(device.tensor_buffer_stats().hit_rate(), 1.0);
    }
}

#[test]
fn a_few_thousand_tokens() {
    soak(3_000, true);
    soak(2_000, false);
}

#[test]
#[ignore = "minutes long: just soak"]
fn a_hundred_thousand_tokens() {
    soak(100_000, true);
}
