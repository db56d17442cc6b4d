//! `--memory-stats`: the device's memory statistics, for people or as one JSON object.

use serde_json::{Map, Value, json};
use tl_device::{Device, GpuStats, LayoutStats, MemoryStats, ReserveKind, TensorBufferStats, bytes as display_bytes};
use tl_engine::Timings;

use crate::arguments::StatisticsForm;
use crate::output::print_error;

/// Prints the statistics on standard error, with the report of a generation.
pub(crate) fn print(device: &Device, form: StatisticsForm, report: Option<&GenerationReport>) {
    let (memory, buffer) = (device.stats(), device.tensor_buffer_stats());
    match form {
        StatisticsForm::Text => {
            print_error(&text(&memory, &buffer));
            device.gpu_stats().iter().for_each(|gpu| print_error(&gpu_text(gpu)));
            report.iter().for_each(|report| print_error(&report.text()));
        }
        StatisticsForm::Json => {
            let mut object = json(&memory, &buffer);
            if let Some(object) = object.as_object_mut() {
                object.insert("device".to_owned(), json!(device.gpu_info().map_or(device.name(), |gpu| &gpu.name)));
                if let Some(gpu) = device.gpu_stats() {
                    object.insert("gpu".to_owned(), gpu_json(&gpu));
                }
                report.iter().for_each(|report| report.add_to(object));
            }
            print_error(&object.to_string());
        }
    }
}

/// The statistics for people.
pub(crate) fn text_of(device: &Device) -> String {
    format!("{}\n", text(&device.stats(), &device.tensor_buffer_stats()))
}

fn text(memory: &MemoryStats, buffer: &TensorBufferStats) -> String {
    let mut lines = vec![
        format!("memory of the device, {} from the system:", display_bytes(memory.driver_bytes)),
        format!(
            "  live {} (peak {}), reserved and free {}, pooled {} of at most {}, waste {}",
            display_bytes(memory.live_bytes),
            display_bytes(memory.peak_bytes),
            display_bytes(memory.reserved_free_bytes),
            display_bytes(memory.pooled_bytes),
            display_bytes(memory.pool_cap_bytes),
            display_bytes(memory.waste_bytes)
        ),
        format!(
            "  parameters {}, weights in files {}, workspace of the kernels {}, heap of the program {}, recordings {}",
            display_bytes(memory.learnable_bytes),
            display_bytes(memory.mapped_bytes),
            display_bytes(memory.workspace_bytes),
            display_bytes(memory.heap_bytes),
            display_bytes(memory.recording_bytes)
        ),
        format!(
            "  allocations {}, frees {}, pool reuses {}, evictions {}",
            memory.allocation_count, memory.free_count, memory.pool_reuse_count, memory.eviction_count
        ),
        format!(
            "reserved buffers {} ({}), taken {}, reused {}, fallbacks {}, hit rate {:.1}%",
            buffer.reserved_count,
            display_bytes(buffer.reserved_bytes),
            buffer.taken_count,
            buffer.reused_count,
            buffer.fallback_count,
            buffer.hit_rate() * 100.0
        ),
    ];
    if buffer.arena_bytes > 0 {
        lines.push(format!(
            "  arena {}, used at most {}, served {}",
            display_bytes(buffer.arena_bytes),
            display_bytes(buffer.arena_most_bytes),
            buffer.arena_taken_count
        ));
    }
    lines.extend(buffer.by_layout.iter().map(|row| {
        format!(
            "  {:<10} {:<24} reserved {:>4}, most at once {:>4}, taken {:>7}, fallbacks {:>4}",
            kind(row),
            row.layout.to_string(),
            row.reserved_count,
            row.most_in_use,
            row.taken_count,
            row.fallback_count
        )
    }));
    lines.join("\n")
}

fn gpu_text(gpu: &GpuStats) -> String {
    format!(
        "GPU: made {} buffers, {} bind groups, {} pipelines; {} programs run in {} submissions\n  \
         uploads {} ({}), readbacks {} ({}), staging {}, operations done by the CPU {}",
        gpu.buffers_created,
        gpu.bind_groups_created,
        gpu.pipelines_created,
        gpu.dispatches,
        gpu.submissions,
        gpu.uploads,
        display_bytes(gpu.upload_bytes),
        gpu.readbacks,
        display_bytes(gpu.readback_bytes),
        display_bytes(gpu.staging_bytes),
        gpu.host_fallbacks
    )
}

fn gpu_json(gpu: &GpuStats) -> Value {
    json!({
        "buffers_created": gpu.buffers_created,
        "bind_groups_created": gpu.bind_groups_created,
        "pipelines_created": gpu.pipelines_created,
        "dispatches": gpu.dispatches,
        "submissions": gpu.submissions,
        "uploads": gpu.uploads,
        "upload_bytes": gpu.upload_bytes,
        "readbacks": gpu.readbacks,
        "readback_bytes": gpu.readback_bytes,
        "staging_bytes": gpu.staging_bytes,
        "host_fallbacks": gpu.host_fallbacks,
        "driver_buffers": gpu.driver_buffers,
        "driver_bind_groups": gpu.driver_bind_groups,
        "driver_pipelines": gpu.driver_pipelines,
    })
}

fn json(memory: &MemoryStats, buffer: &TensorBufferStats) -> Value {
    let by_layout: Vec<Value> = buffer.by_layout.iter().map(row).collect();
    json!({
        "reserved": buffer.reserved_count,
        "taken": buffer.taken_count,
        "reused": buffer.reused_count,
        "fallbacks": buffer.fallback_count,
        "hit_rate": buffer.hit_rate(),
        "in_use": buffer.in_use_count,
        "reserved_bytes": buffer.reserved_bytes,
        "arena_bytes": buffer.arena_bytes,
        "arena_taken": buffer.arena_taken_count,
        "live_bytes": memory.live_bytes,
        "peak_bytes": memory.peak_bytes,
        "pooled_bytes": memory.pooled_bytes,
        "pool_cap_bytes": memory.pool_cap_bytes,
        "reserved_free_bytes": memory.reserved_free_bytes,
        "waste_bytes": memory.waste_bytes,
        "driver_bytes": memory.driver_bytes,
        "mapped_bytes": memory.mapped_bytes,
        "workspace_bytes": memory.workspace_bytes,
        "recording_bytes": memory.recording_bytes,
        "heap_bytes": memory.heap_bytes,
        "heap_peak_bytes": tl_device::heap::peak_bytes(),
        "read_bytes": memory.read_bytes,
        "learnable_bytes": memory.learnable_bytes,
        "allocations": memory.allocation_count,
        "frees": memory.free_count,
        "evictions": memory.eviction_count,
        "pool_reuses": memory.pool_reuse_count,
        "by_shape": by_layout,
    })
}

fn row(row: &LayoutStats) -> Value {
    json!({
        "dtype": row.layout.dtype().name(),
        "shape": row.layout.shape().dims(),
        "kind": kind(row),
        "reserved": row.reserved_count,
        "reserved_bytes": row.reserved_bytes,
        "in_use": row.in_use_count,
        "most_in_use": row.most_in_use,
        "taken": row.taken_count,
        "reused": row.reused_count,
        "fallbacks": row.fallback_count,
    })
}

/// The kind of the row's reservation, in the words of the calls that reserve.
fn kind(row: &LayoutStats) -> &'static str {
    match row.kind {
        _ if row.reserved_count == 0 => "missed",
        ReserveKind::Exact => "exact",
        ReserveKind::UpTo => "up to",
        ReserveKind::Learnable => "learnable",
    }
}

/// Figures of a generation that `--memory-stats` adds to those of memory.
pub(crate) struct GenerationReport {
    pub(crate) timings: Timings,
    /// Allocations while decoding, if the run came to its end.
    pub(crate) decoding: Option<u64>,
}

impl GenerationReport {
    /// The report for people.
    fn text(&self) -> String {
        let Timings { prompt_tokens, decoded_tokens, .. } = self.timings;
        let mut text = format!(
            "prompt of {prompt_tokens} tokens at {:.1} tokens/s, then {decoded_tokens} tokens at {:.1} tokens/s",
            self.timings.prefill_rate(),
            self.timings.decode_rate()
        );
        if let Some(allocations) = self.decoding {
            text += &format!("\nallocations while decoding: {allocations}");
        }
        text
    }

    /// Adds the report to an object.
    fn add_to(&self, object: &mut Map<String, Value>) {
        object.insert("prompt_tokens".to_owned(), json!(self.timings.prompt_tokens));
        object.insert("prefill_tokens_per_second".to_owned(), json!(self.timings.prefill_rate()));
        object.insert("decoded_tokens".to_owned(), json!(self.timings.decoded_tokens));
        object.insert("decode_tokens_per_second".to_owned(), json!(self.timings.decode_rate()));
        object.insert("allocations_while_decoding".to_owned(), json!(self.decoding));
    }
}
