//! The server's state in Prometheus's text format, and as JSON for its page.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::record::Counts;
use crate::stats::EngineStats;

/// Prometheus's text format, version 0.0.4.
pub(super) fn text(stats: &EngineStats, counts: &Counts) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: &dyn Display| {
        // Writing into a string cannot fail.
        let _ = write!(out, "# HELP tl_{name} {help}\n# TYPE tl_{name} {kind}\ntl_{name} {value}\n");
    };
    let memory = &stats.memory;
    metric("requests_waiting", "gauge", "Requests in the queue.", &stats.waiting);
    metric("requests_running", "gauge", "Sequences that run.", &stats.running);
    metric("queue_capacity", "gauge", "Requests that may wait.", &stats.queue);
    metric("requests_submitted_total", "counter", "Sequences that were taken.", &stats.submitted_count);
    metric("requests_finished_total", "counter", "Sequences that ended by themselves.", &stats.finished_count);
    metric("requests_cancelled_total", "counter", "Sequences that were cancelled.", &stats.cancelled_count);
    metric("requests_failed_total", "counter", "Sequences that ended with an error.", &stats.failed_count);
    metric("requests_refused_total", "counter", "Requests refused by a full queue.", &stats.refused_count);
    metric("prompt_tokens_total", "counter", "Tokens of prompts that were read.", &stats.prompt_tokens);
    metric("cached_tokens_total", "counter", "Tokens of prompts found in the KV cache.", &stats.cached_tokens);
    metric("generated_tokens_total", "counter", "Tokens that were generated.", &stats.generated_tokens);
    metric("prefill_seconds_total", "counter", "Time for prompts.", &stats.prefill_time.as_secs_f64());
    metric("decode_seconds_total", "counter", "Time for generated tokens.", &stats.decode_time.as_secs_f64());
    metric("waiting_seconds_total", "counter", "Time that requests waited.", &stats.waiting_time.as_secs_f64());
    metric("kv_tokens", "gauge", "Tokens in the KV cache.", &stats.kv_tokens);
    metric("kv_capacity_tokens", "gauge", "Tokens that the KV cache has room for.", &stats.kv_capacity);
    metric("kv_bytes", "gauge", "Bytes of the KV cache.", &memory.cache_bytes);
    metric("memory_total_bytes", "gauge", "Bytes that the program holds.", &memory.total_bytes());
    metric("memory_device_bytes", "gauge", "Bytes of tensors, reserved ones included.", &memory.driver_bytes);
    metric("memory_mapped_bytes", "gauge", "Bytes of mapped weights.", &memory.mapped_bytes);
    metric("memory_heap_bytes", "gauge", "Bytes of the heap.", &memory.heap_bytes);
    metric("memory_allocations_total", "counter", "Allocations of the device.", &memory.allocation_count);
    metric("connections", "gauge", "Open connections.", &counts.connections.load(Ordering::Relaxed));
    let turned_away = counts.turned_away.load(Ordering::Relaxed);
    metric("connections_refused_total", "counter", "Connections beyond the maximum.", &turned_away);
    metric("stopping", "gauge", "1 while the server takes no more requests.", &u8::from(stats.is_stopping));
    let _ = write!(
        out,
        "# HELP tl_http_responses_total Responses by class of status.\n# TYPE tl_http_responses_total counter\n"
    );
    for (class, count) in (2..).zip(&counts.responses) {
        let _ = writeln!(out, "tl_http_responses_total{{class=\"{class}xx\"}} {}", count.load(Ordering::Relaxed));
    }
    out
}

/// The state as JSON.
pub(super) fn json(stats: &EngineStats, counts: &Counts) -> Value {
    let memory = &stats.memory;
    json!({
        "context": stats.context,
        "sequences": stats.sequences,
        "queue": stats.queue,
        "waiting": stats.waiting,
        "running": stats.running,
        "is_stopping": stats.is_stopping,
        "connections": counts.connections.load(Ordering::Relaxed),
        "prompt_tokens": stats.prompt_tokens,
        "cached_tokens": stats.cached_tokens,
        "generated_tokens": stats.generated_tokens,
        "prefill_tokens_per_second": stats.prefill_rate(),
        "decode_tokens_per_second": stats.decode_rate(),
        "kv": {"tokens": stats.kv_tokens, "capacity": stats.kv_capacity, "bytes": memory.cache_bytes},
        "memory": {
            "total_bytes": memory.total_bytes(),
            "weight_bytes": memory.mapped_bytes,
            "kv_bytes": memory.cache_bytes,
            "other_device_bytes": memory.driver_bytes.saturating_sub(memory.cache_bytes),
            "workspace_bytes": memory.workspace_bytes,
            "heap_bytes": memory.heap_bytes,
            "live_bytes": memory.live_bytes,
            "allocations": memory.allocation_count,
        },
    })
}
