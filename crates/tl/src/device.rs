//! The device of a run: chosen by arguments and environment, made once, and passed down.

use tl_device::{Device, DeviceOptions, GpuChoice, Isa};
use tl_lang::Architecture;

use crate::arguments::DeviceArguments;
use crate::device_choice::DeviceChoice;
use crate::output::{Stop, print_error};
use crate::process::{self, Base};

/// Environment variable: the device, if no argument names one.
const DEVICE: &str = "TL_DEVICE";
/// Environment variable: the instructions that the CPU computes with.
const CPU: &str = "TL_CPU";
/// Environment variable: the cap of the pool of idle buffers.
const POOL_CAP: &str = "TL_BUFFER_MAX_MB";

/// Opens the device that the arguments name.
pub(crate) fn open(arguments: &DeviceArguments) -> Result<Device, Stop> {
    open_for(arguments, Architecture::CHECK_STACK_BYTES)
}

/// As [`open`], for a command that runs on a second stack of this size.
pub(crate) fn open_for(arguments: &DeviceArguments, program_stack_bytes: usize) -> Result<Device, Stop> {
    open_with(arguments, program_stack_bytes, options(arguments.compute.threads)?)
}

/// As [`open`], with recordings of up to this many bytes.
pub(crate) fn open_to_record(arguments: &DeviceArguments, recording_max_bytes: usize) -> Result<Device, Stop> {
    let mut options = options(arguments.compute.threads)?;
    options.memory.recording_max_bytes = recording_max_bytes;
    open_with(arguments, Architecture::CHECK_STACK_BYTES, options)
}

fn open_with(
    arguments: &DeviceArguments,
    program_stack_bytes: usize,
    mut options: DeviceOptions,
) -> Result<Device, Stop> {
    options.memory.limit_bytes = arguments.memory_limit;
    options.memory.soft_limit_bytes = arguments.soft_memory_limit;
    if let Some(value) = std::env::var_os(POOL_CAP) {
        let cap = value.to_str().and_then(|value| value.parse::<usize>().ok()).and_then(|mib| mib.checked_mul(1 << 20));
        let problem = || Stop::Failed(format!("{POOL_CAP} is {value:?}, expected a whole number of mebibytes"));
        options.memory.pool_max_bytes = cap.ok_or_else(problem)?;
    }
    if arguments.enforce {
        process::keep_heap_tight();
    }
    let device = choose(arguments.compute.device.clone(), options)?;
    if !device.is_gpu() {
        process::limit_heap(arguments.memory_limit);
    }
    match arguments.memory_limit.filter(|_| arguments.enforce) {
        Some(_) if device.is_gpu() => {
            Err(Stop::Failed("--enforce is for the CPU: a GPU's driver takes what it likes".to_owned()))
        }
        Some(limit) => {
            process::enforce(limit, Base::now(device.threads().count(), program_stack_bytes))?;
            Ok(device)
        }
        None => Ok(device),
    }
}

/// Device options of every command: the number of threads given, and the environment's instruction set.
pub(crate) fn options(threads: Option<u16>) -> Result<DeviceOptions, Stop> {
    let mut options = DeviceOptions::default();
    if let Some(threads) = threads {
        options.threads = threads.into();
    }
    if let Some(value) = std::env::var_os(CPU) {
        let isa = value.to_str().and_then(Isa::named);
        let problem = || {
            let names: Vec<&str> = Isa::all().chain(Isa::on_request()).map(Isa::name).collect();
            Stop::Failed(format!("{CPU} is {value:?}, and this CPU has {}", names.join(", ")))
        };
        options.isa = Some(isa.ok_or_else(problem)?);
    }
    Ok(options)
}

/// Opens the device that the argument names, or else the environment.
pub(crate) fn choose(asked: Option<DeviceChoice>, options: DeviceOptions) -> Result<Device, Stop> {
    let choice = match (asked, std::env::var_os(DEVICE)) {
        (Some(choice), _) => choice,
        (None, None) => DeviceChoice::Cpu,
        (None, Some(value)) => {
            let text = value.to_string_lossy();
            DeviceChoice::parse(&text).map_err(|problem| Stop::Failed(format!("{DEVICE} is {text:?}, {problem}")))?
        }
    };
    match choice {
        DeviceChoice::Cpu => Ok(Device::cpu_with(&options)),
        DeviceChoice::Gpu(choice) => gpu(choice, options).map_err(Stop::failed),
        DeviceChoice::Auto => {
            let cpu = options.clone();
            gpu(GpuChoice::BestHardware, options).or_else(|error| {
                print_error(&format!("device: the CPU ({error})"));
                Ok(Device::cpu_with(&cpu))
            })
        }
    }
}

#[cfg(feature = "gpu")]
fn gpu(choice: GpuChoice, mut options: DeviceOptions) -> Result<Device, tl_device::Error> {
    options.gpu.choice = choice;
    options.gpu.pipeline_cache = cache_folder();
    let device = Device::gpu_with(&options)?;
    if let Some(info) = device.gpu_info() {
        print_error(&format!("device: {}", describe(info)));
    }
    device.on_host_fallback(|op| {
        print_error(&format!("note: {op} has no program for these arguments on the GPU; the CPU does it, slowly"));
    });
    Ok(device)
}

#[cfg(not(feature = "gpu"))]
fn gpu(choice: GpuChoice, _options: DeviceOptions) -> Result<Device, tl_device::Error> {
    Err(tl_device::Error::NoGpu { choice, found: Vec::new() })
}

/// A GPU in a few words.
#[cfg(feature = "gpu")]
fn describe(info: &tl_device::GpuInfo) -> String {
    let kind = if info.kind == tl_device::GpuKind::Software { ", a program on the CPU" } else { "" };
    format!("GPU {}, {} ({}{kind})", info.index, info.name, info.backend)
}

/// The folder that caches compiled programs between runs.
#[cfg(feature = "gpu")]
fn cache_folder() -> Option<std::path::PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(target_os = "windows") {
        from("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        from("HOME").map(|home| home.join("Library/Caches"))
    } else {
        from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("tensorlogic"))
}
