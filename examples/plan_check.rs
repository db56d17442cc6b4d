//! Compares what `tl plan` says before a model is loaded with what is then taken: by the device's own counters, and by the
//! operating system's, seen from outside the process. The context is filled. Prints a table in markdown; an end that is not
//! as it should be is an error. Linux only.
//!
//!     plan_check path/to/tl MODEL.gguf CONTEXT [CONTEXT …]
//!
//! `scripts/plan-check.sh` builds what this needs and runs it.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use tensorlogic::{Activations, Device, Model, ReserveFor, TensorBuffer, bytes};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the process may take beside what was said: a twentieth of it, and its own code, stacks and tables.
const ALLOWED_SHARE: f64 = 0.05;
const ALLOWED_BYTES: u64 = 16 << 20;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--fill", path, context] => fill(path, context.parse()?),
        [tl, path, ref contexts @ ..] if !contexts.is_empty() => {
            contexts.iter().try_for_each(|context| compare(tl, path, context))
        }
        _ => Err("usage: plan_check TL MODEL.gguf CONTEXT [CONTEXT …]".into()),
    }
}

/// Loads, reserves, fills the context with random tokens, prints the device's counters, and waits until it is told to end.
fn fill(path: &str, context: usize) -> Result<()> {
    let device = Device::cpu();
    let model = Model::load(path, &device)?.with_activations(Activations::Float16);
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&model, context)?;
    device.set_tensor_buffer(buffer);
    let mut cache = model.new_cache(context)?;
    let mut random = tensorlogic::Random::new(1);
    let tokens: Vec<u32> =
        (0..context).map(|_| (random.next_u64() % model.config().vocab_size as u64) as u32).collect();
    let (prompt, last) = tokens.split_at(context - 1);
    if !prompt.is_empty() {
        drop(model.forward(prompt, &mut cache)?);
    }
    drop(model.forward(last, &mut cache)?);
    assert_eq!(cache.len(), context);
    let stats = device.stats();
    println!("{} {} {}", stats.mapped_bytes, stats.cache_bytes, stats.driver_bytes);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn compare(tl: &str, path: &str, context: &str) -> Result<()> {
    let output = Command::new(tl).args(["plan", path, "--json", "--context", context]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let plan = String::from_utf8(output.stdout)?;
    let said = [number(&plan, "weight_bytes")?, number(&plan, "cache_bytes")?, number(&plan, "activation_bytes")?];
    let total: u64 = said.iter().sum();

    let mut child = Command::new(std::env::current_exe()?)
        .args(["--fill", path, context])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    drop(child.stdin.take());
    child.wait()?;
    let counters: Vec<u64> = line.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [mapped, cache, driver] = counters[..] else { return Err("the process that fills the context failed".into()) };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let peak = peak.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024;

    let is_equal = (mapped, cache, driver) == (said[0], said[1], said[1] + said[2]);
    let difference = peak as i64 - total as i64;
    let allowed = (total as f64 * ALLOWED_SHARE) as u64 + ALLOWED_BYTES;
    let is_within = difference.unsigned_abs() <= allowed;
    let name = std::path::Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy());
    println!(
        "| {name} | {context} | {} | {} | {} | {total} | {} | {} | {:+.1} MiB | {:.1} MiB |",
        bytes(said[0]),
        bytes(said[1]),
        bytes(said[2]),
        mapped + driver,
        bytes(peak),
        difference as f64 / 1048576.0,
        allowed as f64 / 1048576.0,
    );
    if is_equal && is_within {
        Ok(())
    } else {
        Err(format!("{name} at {context}: what was said is not what was taken").into())
    }
}

/// The number behind a key of a flat JSON object.
fn number(json: &str, key: &str) -> Result<u64> {
    let key = format!("\"{key}\":");
    let rest = json.split_once(&key).ok_or_else(|| format!("no {key} in {json}"))?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Ok(rest[..end].parse()?)
}
