//! Output of measurements: a table for people, lines of JSON for programs.

use std::collections::BTreeSet;

use serde_json::json;
use tl_device::bytes as display_bytes;
use tl_engine::Model;
use tl_kernels::Prefetch;

use crate::plan;
use tl_tools::bench::{Measured, Test};
use tl_tools::limits::Limits;

/// Output format of measurements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Table,
    Json,
}

/// Data common to all measurements.
pub(super) struct Heading<'a> {
    pub(super) title: &'a str,
    pub(super) model: &'a Model,
    /// `None` if not measured: on a GPU, and for JSON without `--limits`.
    pub(super) limits: Option<Limits>,
    pub(super) reps: u32,
}

/// What work is counted in.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Bytes,
    Operations,
}

/// Bytes or operations of a test, per token and per second.
struct Work {
    unit: Unit,
    /// Work per token, in words.
    each: String,
    /// Bytes or operations per token.
    per_token: f64,
    per_second: f64,
    limit: Option<(&'static str, f64)>,
}

impl Heading<'_> {
    /// Text before the first row.
    pub(super) fn text(&self, form: Form) -> String {
        if form == Form::Json {
            return String::new();
        }
        let config = self.model.config();
        let n_elems: usize = self.model.weights().tensors().map(|(_, tensor)| tensor.n_elems()).sum();
        let repetitions =
            if self.reps == 1 { "one repetition".to_owned() } else { format!("{} repetitions", self.reps) };
        let mut text = format!(
            "{}: {} weights in {}, {} layers, {}\n{}, {repetitions}\n",
            self.title,
            count(n_elems),
            self.formats(),
            config.n_layers,
            plan::types(self.model.activations().dtype(), self.model.cache_dtype()),
            self.computing(),
        );
        match self.limits {
            Some(limits) => text += &limits_text(limits),
            None => text += "a GPU's own limits are not measured\n",
        }
        text += &format!(
            "\n{:<12} {:>9}  {:>20}   {:<34} {:>13}   {}\n",
            "test", "tokens/s", "min to max", "each token", "each second", "of the limit"
        );
        text
    }

    /// Formats of the matrices.
    fn formats(&self) -> String {
        let matrices = self.model.weights().tensors().filter(|(_, tensor)| tensor.rank() == 2);
        let names: BTreeSet<String> = matrices.map(|(_, tensor)| tensor.dtype().to_string()).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// The GPU, or the CPU's threads and instructions, in words.
    fn computing(&self) -> String {
        let device = self.model.device();
        match device.gpu_info() {
            Some(info) => format!("GPU {}", info.name),
            None => {
                let threads = device.threads();
                let plural = if threads.count() == 1 { "" } else { "s" };
                format!("{} thread{plural} with the instructions of {}", threads.count(), threads.isa().name())
            }
        }
    }

    /// Text after the last row of decode tests, with the number of allocations.
    pub(super) fn end(&self, allocation_count: u64) -> String {
        let device = self.model.device();
        let reading = match device.threads().weight_prefetch() {
            Some(reading) if device.gpu_info().is_none() => {
                let how = match reading {
                    Prefetch::Sequential => "row after row",
                    Prefetch::NonTemporal => "row after row, past the second cache",
                    Prefetch::Interleaved => "in eight places at once",
                };
                format!("weights are read {how}, which is the fastest here\n")
            }
            _ => String::new(),
        };
        format!("\nallocations while decoding: {allocation_count}\n{reading}")
    }

    /// The row of a test.
    pub(super) fn row(&self, form: Form, measured: &Measured) -> String {
        match form {
            Form::Table => self.table_row(measured),
            Form::Json => self.json_row(measured),
        }
    }

    fn table_row(&self, measured: &Measured) -> String {
        let work = self.work(measured);
        let unit = match work.unit {
            Unit::Operations => "GFLOP/s",
            Unit::Bytes => "GB/s",
        };
        let percent = work.limit.map(|(name, rate)| format!("{:.0}% of {name}", 100.0 * work.per_second / rate));
        let row = format!(
            "{:<12} {:>9.2}  {:>8.2} to {:>8.2}   {:<34} {:>13}   {}",
            measured.test.name(),
            measured.median(),
            measured.slowest(),
            measured.fastest(),
            work.each,
            format!("{:.1} {unit}", work.per_second / 1e9),
            percent.unwrap_or_default()
        );
        format!("{}\n", row.trim_end())
    }

    fn json_row(&self, measured: &Measured) -> String {
        let work = self.work(measured);
        let device = self.model.device();
        let is_decode = matches!(measured.test, Test::Decode { .. });
        let tokens = measured.rates.len() * measured.test.n_tokens();
        let mut object = json!({
            "test": measured.test.name(),
            "tokens_per_second": measured.rates,
            "model": self.title,
            "device": device.gpu_info().map_or(device.name(), |gpu| &gpu.name),
            "threads": device.threads().count(),
            "instructions": device.threads().isa().name(),
            "activations": self.model.activations().dtype().to_string(),
            "cache": self.model.cache_dtype().to_string(),
            "median_tokens_per_second": measured.median(),
            "allocations_per_token": measured.allocation_count as f64 / tokens.max(1) as f64,
        });
        let keys = match work.unit {
            Unit::Bytes => ["bytes_per_token", "bytes_per_second", "limit_bytes_per_second"],
            Unit::Operations => ["operations_per_token", "operations_per_second", "limit_operations_per_second"],
        };
        if let Some(object) = object.as_object_mut() {
            let values = [Some(work.per_token), Some(work.per_second), work.limit.map(|(_, rate)| rate)];
            for (key, value) in keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))) {
                object.insert(key.to_owned(), json!(value));
            }
            if let Some(reading) = device.threads().weight_prefetch().filter(|_| is_decode) {
                let how = match reading {
                    Prefetch::Sequential => "in order",
                    Prefetch::NonTemporal => "past the second cache",
                    Prefetch::Interleaved => "side by side",
                };
                object.insert("weight_reading".to_owned(), json!(how));
            }
        }
        format!("{object}\n")
    }

    fn work(&self, measured: &Measured) -> Work {
        let limits = self.limits.unwrap_or_default();
        let reading = limits.bytes_per_second.map(|rate| ("reading", rate));
        let work = |unit, per_token: f64, each| {
            let limit = if unit == Unit::Bytes { reading } else { limits.products };
            Work { unit, each, per_token, per_second: per_token * measured.median(), limit }
        };
        // The step has run, so its work can be counted.
        let prefill = |count| self.model.prefill_work(count).unwrap_or_default();
        match measured.test {
            Test::Prefill(count) => {
                let operations = prefill(count).operations / count.max(1) as f64;
                work(Unit::Operations, operations, format!("{:.3} GFLOP", operations / 1e9))
            }
            Test::Rows(count) => {
                let of_step = prefill(count);
                let per_token = |of_step: f64| of_step / count.max(1) as f64;
                let bytes = (of_step.weight_bytes + of_step.cache_bytes) as f64;
                let step_bytes = display_bytes(bytes as u64);
                let each = format!("a step {step_bytes}, {:.3} GFLOP", of_step.operations / 1e9);
                // Of the two bounds, the one that takes longer.
                let seconds = |amount: f64, limit: Option<(&str, f64)>| limit.map(|(_, rate)| amount / rate);
                match seconds(bytes, reading) < seconds(of_step.operations, limits.products) {
                    true => work(Unit::Operations, per_token(of_step.operations), each),
                    false => work(Unit::Bytes, per_token(bytes), each),
                }
            }
            Test::Decode { count, depth } => {
                // The cache holds depth + 1 to depth + count tokens, the new one included.
                let held = |held: usize| self.model.decode_work(held).unwrap_or_default();
                let (first, last) = (held(depth.saturating_add(1)), held(depth + count));
                let cache = (first.cache_bytes as f64 + last.cache_bytes as f64) / 2.0;
                let weights = display_bytes(first.weight_bytes);
                let each = format!("weights {weights}, cache {}", display_bytes(cache as u64));
                work(Unit::Bytes, first.weight_bytes as f64 + cache, each)
            }
        }
    }
}

/// A number of weights in words: `1.10 billion`.
fn count(n: usize) -> String {
    let n = n as f64;
    if n < 1e9 { format!("{:.2} million", n / 1e6) } else { format!("{:.2} billion", n / 1e9) }
}

fn limits_text(limits: Limits) -> String {
    let reading = limits.bytes_per_second.map(|rate| {
        let buffer = display_bytes(limits.buffer_bytes as u64);
        format!("reads {:.1} GB/s from {buffer}", rate / 1e9)
    });
    let float32 = limits.float32.map(|rate| ("float32", rate));
    // Once where both are the same.
    let products = limits.products.filter(|(name, _)| *name != "float32");
    let computing = [float32, products].into_iter().flatten();
    let computing = computing.map(|(name, rate)| format!("computes {:.1} GFLOP/s in {name}", rate / 1e9));
    let known: Vec<String> = reading.into_iter().chain(computing).collect();
    match known.is_empty() {
        true => String::new(),
        false => format!("this machine, with the same threads, {}\n", known.join(" and ")),
    }
}
