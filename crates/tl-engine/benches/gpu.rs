//! A model on a GPU, beside the GPU's own limits measured in the same run.
//!
//!     cargo bench --bench gpu                            # TinyLlama's shape, F16 and Q4_0, random weights
//!     cargo bench --bench gpu -- models/demo-f16.gguf    # these files
//!     cargo bench --bench gpu -- --gpu NAME …            # another GPU than the best
//!
//! Three tables in markdown: the device's limits (bytes read by a program, operations per second), prefill of 512
//! tokens and decoding of 128 against them, and the cost of memory when a buffer is made for every tensor, with the
//! BufferPool and with TensorBuffer. `scripts/gpu-torch.py` measures the same limits with PyTorch on the same GPU.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tl_device::{
    Binding, DType, Device, DeviceOptions, GpuChoice, Launch, Layout, MemoryOptions, Role, ShaderTarget, TensorBuffer,
    bytes,
};
use tl_engine::{KvCache, Model, ReserveFor};
use tl_tools::SyntheticModel;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PREFILL: usize = 512;
const DECODED: usize = 128;

fn main() -> Result<()> {
    let (choice, mut models) = arguments();
    let mut options = DeviceOptions::default();
    options.gpu.choice = choice;
    let device = match Device::gpu_with(&options) {
        Ok(device) => device,
        Err(error) => {
            println!("skipped: {error}");
            return Ok(());
        }
    };
    let info = device.gpu_info().ok_or("the device is a GPU")?;
    println!("{} ({}, {}), {}\n", info.name, info.backend, info.driver, info.kind.name());
    let limits = Limits::measure(&device)?;
    drop(device);
    let made = if models.is_empty() { synthesize()? } else { Vec::new() };
    models.extend(made.iter().cloned());
    println!("\n| file | prefill {PREFILL} | of the arithmetic | decode {DECODED} | weights read | of the bandwidth |");
    println!("|---|---|---|---|---|---|");
    for path in &models {
        speed(path, &options, &limits)?;
    }
    for path in &models {
        memory(path, &options)?;
    }
    made.iter().try_for_each(std::fs::remove_file)?;
    Ok(())
}

fn arguments() -> (GpuChoice, Vec<PathBuf>) {
    let (mut choice, mut models) = (GpuChoice::Best, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Passed by Cargo.
            "--bench" => {}
            "--gpu" => choice = arguments.next().map_or(GpuChoice::Best, GpuChoice::Name),
            path => models.push(PathBuf::from(path)),
        }
    }
    (choice, models)
}

fn synthesize() -> Result<Vec<PathBuf>> {
    let write = |format: &str| -> Result<PathBuf> {
        let path = std::env::temp_dir().join(format!("tinyllama-1.1b-{format}.gguf"));
        SyntheticModel::new("tinyllama-1.1b", format, 0)?.write(&path, &Device::cpu())?;
        Ok(path)
    };
    ["f16", "q4_0"].into_iter().map(write).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The device's measured limits.
struct Limits {
    bytes_per_second: f64,
    operations_per_second: f64,
}

/// Sums a buffer, each invocation 16 bytes at a time.
const READ: &str = "
    struct Params { n_vectors: u32, n_invocations: u32 }
    var<immediate> p: Params;
    @group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
    @group(0) @binding(1) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(256)
    fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
        let first = (group.x + group.y * groups.x) * 256u + lane;
        var sum = vec4<u32>(0u);
        for (var i = first; i < p.n_vectors; i += p.n_invocations) { sum ^= x[i]; }
        if (sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x12345678u { out[0] = 1u; }
    }
";

/// Products and sums in registers, eight chains in each invocation.
const MULTIPLY: &str = "
    struct Params { n: u32 }
    var<immediate> p: Params;
    @group(0) @binding(0) var<storage, read_write> out: array<f32>;
    @compute @workgroup_size(256)
    fn main(@builtin(local_invocation_index) lane: u32) {
        let f = vec4<f32>(0.999, 0.998, 0.997, 0.996);
        var a = vec4<f32>(f32(lane)); var b = a + 1.0; var c = a + 2.0; var d = a + 3.0;
        for (var i = 0u; i < p.n; i++) {
            a = fma(a, f, f); b = fma(b, f, f); c = fma(c, f, f); d = fma(d, f, f);
            a = fma(a, f, f); b = fma(b, f, f); c = fma(c, f, f); d = fma(d, f, f);
        }
        let s = a + b + c + d;
        if s.x + s.y + s.z + s.w == 0.5 { out[0] = s.x; }
    }
";

impl Limits {
    fn measure(device: &Device) -> Result<Limits> {
        // Larger than any cache, within what one binding may show; a software device is slow.
        let target = device.shader_target().ok_or("the device is a GPU")?;
        let is_software = device.gpu_info().is_some_and(|info| info.kind == tl_device::GpuKind::Software);
        let len = if is_software { 64 << 20 } else { 1usize << 30 }.min(target.max_binding_bytes as usize);
        let mut x = device.take(&Layout::new(DType::Bool, [len]), Role::Activation)?;
        x.fill(0)?;
        let x = x.share();
        let mut out = device.take(&Layout::new(DType::F32, [16]), Role::Activation)?;
        let groups = 4096u32;
        let numbers = [(len / 16) as u32, groups * 256];
        let read = |out: &mut tl_device::Lease| run(device, "read", READ, &[Binding::read(&x)], out, &numbers, groups);
        let time = timed(device, &mut out, 5, read)?;
        let bytes_per_second = len as f64 / time.as_secs_f64();
        let rounds = if is_software { 200 } else { 20_000 };
        let multiply = |out: &mut tl_device::Lease| run(device, "multiply", MULTIPLY, &[], out, &[rounds], groups);
        let time = timed(device, &mut out, 5, multiply)?;
        let operations = f64::from(groups) * 256.0 * f64::from(rounds) * 8.0 * 4.0 * 2.0;
        let operations_per_second = operations / time.as_secs_f64();
        println!("| limit | measured |\n|---|---|");
        println!("| reading {} | {:.1} GB/s |", bytes(len as u64), bytes_per_second / 1e9);
        println!("| float32 multiply-add | {:.2} TFLOP/s |", operations_per_second / 1e12);
        Ok(Limits { bytes_per_second, operations_per_second })
    }
}

fn run(
    device: &Device,
    name: &'static str,
    text: &str,
    reads: &[Binding],
    out: &mut tl_device::Lease,
    immediates: &[u32],
    groups: u32,
) -> Result<()> {
    let source = |_: &ShaderTarget| text.to_owned();
    let writes = [Binding::write(out)];
    let (source, variant): (&dyn Fn(&ShaderTarget) -> String, _) = (&source, 0);
    device.launch(&Launch {
        name,
        variant,
        source,
        reads,
        writes: &writes,
        reports_faults: false,
        immediates,
        groups,
    })?;
    Ok(())
}

/// The median time of a launch; the first round, which compiles, does not count.
fn timed(
    device: &Device,
    out: &mut tl_device::Lease,
    rounds: usize,
    launch: impl Fn(&mut tl_device::Lease) -> Result<()>,
) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..=rounds {
        device.synchronize()?;
        let start = Instant::now();
        launch(out)?;
        device.synchronize()?;
        times.push(start.elapsed());
    }
    times.remove(0);
    Ok(median(times))
}

/// Bytes of the weights read for a token, and its multiply-adds.
fn work(model: &Model) -> (f64, f64) {
    let (mut read, mut multiplied) = (0.0, 0.0);
    let tensors = model.weights().tensors();
    let has_output = tensors.clone().any(|(name, _)| name == "output.weight");
    for (name, tensor) in tensors {
        // The embedding's table is only looked up, unless it also serves as the output matrix.
        if name == "token_embd.weight" && has_output {
            continue;
        }
        read += tensor.layout().len_bytes().unwrap_or(0) as f64;
        if tensor.rank() == 2 {
            multiplied += tensor.n_elems() as f64;
        }
    }
    (read, multiplied)
}

fn prompt(model: &Model, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % model.config().vocab_size) as u32).collect()
}

fn speed(path: &Path, options: &DeviceOptions, limits: &Limits) -> Result<()> {
    let device = Device::gpu_with(options)?;
    let model = Model::load(path, &device)?;
    let most = model.config().context_length;
    let n_prefill = PREFILL.min(most / 2);
    let n_decoded = DECODED.min(most / 2 - 4);
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&model, n_prefill + n_decoded)?;
    device.set_tensor_buffer(buffer);
    let mut cache = model.new_cache(n_prefill + n_decoded)?;
    let prompt = prompt(&model, n_prefill);
    let step = |tokens: &[u32], cache: &mut KvCache| -> Result<()> {
        let mut token = [0.0];
        model.forward(tokens, cache)?.argmax(None, false)?.read_f32(&mut token)?;
        Ok(())
    };
    let mut times = Vec::new();
    for _ in 0..4 {
        cache.clear();
        let start = Instant::now();
        step(&prompt, &mut cache)?;
        times.push(start.elapsed());
    }
    times.remove(0);
    let prefill = median(times).as_secs_f64();
    cache.clear();
    step(&prompt[..1], &mut cache)?;
    let start = Instant::now();
    for i in 0..n_decoded {
        step(&[prompt[i % n_prefill]], &mut cache)?;
    }
    let decode = start.elapsed().as_secs_f64() / n_decoded as f64;
    let (read, multiplied) = work(&model);
    let arithmetic = 2.0 * multiplied * n_prefill as f64 / prefill;
    let bandwidth = read / decode;
    println!(
        "| {} | {:.1} tokens/s | {:.2} TFLOP/s, {:.0} % | {:.1} tokens/s | {:.1} GB/s | {:.0} % |",
        path.file_name().unwrap_or_default().to_string_lossy(),
        n_prefill as f64 / prefill,
        arithmetic / 1e12,
        arithmetic / limits.operations_per_second * 100.0,
        1.0 / decode,
        bandwidth / 1e9,
        bandwidth / limits.bytes_per_second * 100.0
    );
    Ok(())
}

/// Decoding with a buffer made for every tensor, with the pool, with reserved buffers.
fn memory(path: &Path, options: &DeviceOptions) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    println!("\n### {name}: memory while decoding\n");
    println!(
        "| memory | buffers made per token | bind groups made per token | per token | peak live | held by the device |"
    );
    println!("|---|---|---|---|---|---|");
    for way in ["a buffer for every tensor", "BufferPool", "TensorBuffer"] {
        let mut options = options.clone();
        if way == "a buffer for every tensor" {
            options.memory = MemoryOptions::unpooled();
        }
        let device = Device::gpu_with(&options)?;
        let model = Model::load(path, &device)?;
        let context = (DECODED + 8).min(model.config().context_length);
        let n_decoded = context - 8;
        if way == "TensorBuffer" {
            let buffer = TensorBuffer::new(&device);
            buffer.reserve_for(&model, context)?;
            device.set_tensor_buffer(buffer);
        }
        let mut cache = model.new_cache(context)?;
        let mut token = [0.0];
        let step = |cache: &mut KvCache, token: &mut [f32]| -> Result<()> {
            model.forward(&[1], cache)?.argmax(None, false)?.read_f32(token)?;
            Ok(())
        };
        for _ in 0..4 {
            step(&mut cache, &mut token)?;
        }
        let before = device.gpu_stats().unwrap_or_default();
        let start = Instant::now();
        for _ in 0..n_decoded {
            step(&mut cache, &mut token)?;
        }
        let time = start.elapsed().as_secs_f64() / n_decoded as f64;
        let (after, stats) = (device.gpu_stats().unwrap_or_default(), device.stats());
        let per_token = |n: u64| n as f64 / n_decoded as f64;
        println!(
            "| {way} | {:.1} | {:.1} | {:.2} ms | {} | {} |",
            per_token(after.buffers_created - before.buffers_created),
            per_token(after.bind_groups_created - before.bind_groups_created),
            time * 1e3,
            bytes(stats.peak_bytes),
            bytes(stats.driver_bytes)
        );
    }
    Ok(())
}
