//! `tl devices`: the devices that programs can run on, and their features.

use std::fmt::Write;

use serde_json::{Value, json};
use tl_device::{Device, GpuInfo, bytes as display_bytes};
use tl_tensor::ops;

use crate::arguments::DevicesArguments;
use crate::output::{self, Stop};
use crate::table::table;

/// Prints the list.
pub(crate) fn run(arguments: &DevicesArguments) -> Result<(), Stop> {
    if arguments.ops {
        return output::print(&if arguments.json { ops_json() } else { ops_text() });
    }
    let cpu = Device::cpu_with(&crate::device::options(None)?);
    #[cfg(feature = "gpu")]
    let gpus = Device::gpus();
    #[cfg(not(feature = "gpu"))]
    let gpus: Vec<GpuInfo> = Vec::new();
    output::print(&if arguments.json { json(&cpu, &gpus) } else { text(&cpu, &gpus) })
}

fn text(cpu: &Device, gpus: &[GpuInfo]) -> String {
    let threads = cpu.threads();
    let mut text = format!("cpu      {} threads, {}\n", threads.count(), threads.isa().name());
    for gpu in gpus {
        let _ = writeln!(text, "gpu:{:<4} {} ({})", gpu.index, gpu.name, gpu.backend);
        let mut line = |name: &str, value: &str| {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "         {name:<12} {value}");
        };
        let subgroups = |sizes: Option<(u32, u32)>| match sizes {
            Some((smallest, largest)) if smallest == largest => format!("of {smallest}"),
            Some((smallest, largest)) => format!("of {smallest} to {largest}"),
            None => "no".to_owned(),
        };
        let memory = gpu.memory_bytes.map_or_else(|| "not told".to_owned(), display_bytes);
        let matrices = if gpu.matrix_shapes.is_empty() { "no".to_owned() } else { gpu.matrix_shapes.join(", ") };
        line("driver", &gpu.driver);
        line("kind", gpu.kind.name());
        line("memory", &memory);
        line("float16", if gpu.has_f16 { "native" } else { "unpacked from words" });
        line("subgroups", &subgroups(gpu.subgroup));
        line("matrix units", &matrices);
        line(
            "limits",
            &format!(
                "buffer {}, binding {}, workgroup {} invocations and {}",
                display_bytes(gpu.max_buffer_bytes),
                display_bytes(gpu.max_binding_bytes),
                gpu.max_workgroup_size,
                display_bytes(gpu.workgroup_bytes.into())
            ),
        );
        if let Some(missing) = gpu.missing {
            line("unusable", &format!("it lacks {missing}"));
        }
    }
    if gpus.is_empty() {
        text.push_str("no GPU: a driver for Vulkan, Metal or Direct3D 12 is needed\n");
    }
    text
}

fn json(cpu: &Device, gpus: &[GpuInfo]) -> String {
    let gpu = |gpu: &GpuInfo| {
        json!({
            "index": gpu.index,
            "name": gpu.name,
            "backend": gpu.backend,
            "driver": gpu.driver,
            "kind": gpu.kind.name(),
            "memory_bytes": gpu.memory_bytes,
            "float16": gpu.has_f16,
            "subgroup_sizes": gpu.subgroup.map(|(smallest, largest)| [smallest, largest]),
            "matrix_shapes": gpu.matrix_shapes,
            "max_buffer_bytes": gpu.max_buffer_bytes,
            "max_binding_bytes": gpu.max_binding_bytes,
            "max_workgroup_size": gpu.max_workgroup_size,
            "workgroup_bytes": gpu.workgroup_bytes,
            "missing": gpu.missing,
        })
    };
    let gpus: Vec<Value> = gpus.iter().map(gpu).collect();
    let cpu = json!({ "threads": cpu.threads().count(), "instructions": cpu.threads().isa().name() });
    format!("{}\n", json!({ "cpu": cpu, "gpus": gpus }))
}

/// How an operation runs on a GPU.
fn on_gpu(op: &ops::Op) -> &'static str {
    match (&op.kernel, op.gpu) {
        (ops::OpKernel::View(_), _) => "view",
        (_, Some(_)) => "program",
        (_, None) => "CPU",
    }
}

fn ops_text() -> String {
    let mut text =
        "on a GPU, an operation is a program of its own, a view that needs none, or done by the CPU\n".to_owned();
    text += &table(ops::all().map(|op| vec![op.name.to_owned(), on_gpu(op).to_owned()]), &[]);
    text
}

fn ops_json() -> String {
    let op = |op: &ops::Op| json!({ "name": op.name, "on_gpu": on_gpu(op) });
    format!("{}\n", json!(ops::all().map(op).collect::<Vec<_>>()))
}
