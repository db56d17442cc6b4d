//! Finds GPUs, queries their features, opens one.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::device::Gpu;
use super::driver::{Counts, DeviceLost, Driver, wait_for};
use super::programs::Programs;
use super::stream::Stream;
use crate::error::{Error, GpuProblem};
use crate::gpu_options::{GpuChoice, GpuInfo, GpuKind, GpuOptions};
use crate::shader_target::{MAX_IMMEDIATE_BYTES, ShaderTarget};

/// Supported backends. OpenGL is not among them: it lacks required features.
const BACKENDS: wgpu::Backends = wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);

/// Features required of every device.
const REQUIRED: wgpu::Features = wgpu::Features::IMMEDIATES;

fn instance(validation: bool) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = BACKENDS;
    descriptor.flags = if validation { wgpu::InstanceFlags::debugging() } else { wgpu::InstanceFlags::empty() };
    // Above this share of the driver's memory budget a buffer is refused, before the device is lost.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(95);
    wgpu::Instance::new(descriptor)
}

/// Adapters with their descriptions, the best first.
fn adapters(instance: &wgpu::Instance) -> Vec<(wgpu::Adapter, GpuInfo)> {
    let found = wait_for(instance.enumerate_adapters(BACKENDS));
    let mut all: Vec<_> = found.into_iter().map(|adapter| (info(&adapter), adapter)).collect();
    all.sort_by_key(|(info, _)| info.kind);
    let number = |(index, (info, adapter)): (usize, (GpuInfo, _))| (adapter, GpuInfo { index, ..info });
    all.into_iter().enumerate().map(number).collect()
}

/// All GPUs of the machine.
pub(crate) fn list() -> Vec<GpuInfo> {
    adapters(&instance(false)).into_iter().map(|(_, info)| info).collect()
}

fn info(adapter: &wgpu::Adapter) -> GpuInfo {
    let (about, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let kind = match about.device_type {
        wgpu::DeviceType::DiscreteGpu => GpuKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => GpuKind::Integrated,
        wgpu::DeviceType::VirtualGpu => GpuKind::Virtual,
        wgpu::DeviceType::Cpu => GpuKind::Software,
        wgpu::DeviceType::Other => GpuKind::Other,
    };
    let backend = match about.backend {
        wgpu::Backend::Vulkan => "vulkan",
        wgpu::Backend::Metal => "metal",
        wgpu::Backend::Dx12 => "dx12",
        _ => "other",
    };
    let missing = if !features.contains(REQUIRED) {
        Some("small parameters beside a program (immediates)")
    } else if (limits.max_immediate_size as usize) < MAX_IMMEDIATE_BYTES {
        Some("128 bytes of small parameters beside a program (immediates)")
    } else if limits.max_compute_invocations_per_workgroup < 256 || limits.max_storage_buffers_per_shader_stage < 8 {
        Some("workgroups of 256 invocations and 8 buffers for a program")
    } else {
        None
    };
    let has_subgroups = features.contains(wgpu::Features::SUBGROUP);
    GpuInfo {
        index: 0,
        name: about.name.clone(),
        backend,
        driver: format!("{} {}", about.driver, about.driver_info).trim().to_owned(),
        kind,
        memory_bytes: memory_bytes(adapter, about.backend),
        has_f16: features.contains(wgpu::Features::SHADER_F16),
        subgroup: has_subgroups.then_some((about.subgroup_min_size, about.subgroup_max_size)),
        matrix_shapes: matrix_shapes(adapter),
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_workgroup_size: limits.max_compute_invocations_per_workgroup,
        missing,
    }
}

fn matrix_shapes(adapter: &wgpu::Adapter) -> Vec<String> {
    let shape = |shape: wgpu::CooperativeMatrixProperties| {
        let (m, n, k) = (shape.m_size, shape.n_size, shape.k_size);
        format!("{m}×{n}×{k} {:?} → {:?}", shape.ab_type, shape.cr_type).to_lowercase()
    };
    adapter.cooperative_matrix_properties().into_iter().map(shape).collect()
}

/// Whether there is an instruction for `float16` matrix products of this size with `float32` sums.
fn has_matrix(adapter: &wgpu::Adapter, size: u32) -> bool {
    use wgpu::CooperativeScalarType::{F16, F32};
    adapter.cooperative_matrix_properties().iter().any(|shape| {
        (shape.m_size, shape.n_size, shape.k_size) == (size, size, size) && shape.ab_type == F16 && shape.cr_type == F32
    })
}

/// The size of the largest device-local heap. Vulkan only; wgpu has no such query for all backends.
fn memory_bytes(adapter: &wgpu::Adapter, backend: wgpu::Backend) -> Option<u64> {
    if backend != wgpu::Backend::Vulkan {
        return None;
    }
    #[cfg(any(target_os = "linux", target_os = "windows", target_os = "android"))]
    {
        // SAFETY: nothing is changed or destroyed: the handles are only queried for properties while the adapter lives.
        let properties = unsafe {
            let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
            let instance = vulkan.shared_instance().raw_instance();
            instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
        };
        const DEVICE_LOCAL: u32 = 1;
        let heaps = properties.memory_heaps.iter().take(properties.memory_heap_count as usize);
        heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
    }
    #[cfg(not(any(target_os = "linux", target_os = "windows", target_os = "android")))]
    {
        let _ = adapter;
        None
    }
}

/// The chosen adapter.
fn choose(all: Vec<(wgpu::Adapter, GpuInfo)>, choice: &GpuChoice) -> Result<(wgpu::Adapter, GpuInfo), Error> {
    let names: Vec<String> = all.iter().map(|(_, info)| info.name.clone()).collect();
    let is_chosen = |info: &GpuInfo| match choice {
        GpuChoice::Best => info.missing.is_none(),
        GpuChoice::BestHardware => info.missing.is_none() && info.kind != GpuKind::Software,
        GpuChoice::Index(index) => info.index == *index,
        GpuChoice::Name(name) => info.name.to_lowercase().contains(&name.to_lowercase()),
    };
    let found = all.into_iter().find(|(_, info)| is_chosen(info));
    let (adapter, info) = found.ok_or_else(|| Error::NoGpu { choice: choice.clone(), found: names })?;
    match info.missing {
        Some(missing) => {
            let problem = GpuProblem::Lacks { missing };
            Err(Error::Gpu { adapter: info.name, problem })
        }
        None => Ok((adapter, info)),
    }
}

/// Opens the GPU that the options choose.
pub(crate) fn open(options: &GpuOptions) -> Result<Arc<Gpu>, Error> {
    let instance = instance(options.validation);
    let (adapter, info) = choose(adapters(&instance), &options.choice)?;
    let limits = adapter.limits();
    let wanted = |feature: wgpu::Features, is_wanted: bool| {
        if is_wanted { adapter.features() & feature } else { wgpu::Features::empty() }
    };
    let matrix = wanted(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, options.use_matrix && options.use_f16);
    let features = REQUIRED
        | wanted(wgpu::Features::SHADER_F16, options.use_f16)
        | wanted(wgpu::Features::SUBGROUP, options.use_subgroups)
        | wanted(wgpu::Features::PIPELINE_CACHE, options.pipeline_cache.is_some())
        | matrix;
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("tensorlogic"),
        required_features: features,
        required_limits: limits.clone(),
        experimental_features: if matrix.is_empty() {
            wgpu::ExperimentalFeatures::disabled()
        } else {
            // SAFETY: matrix instructions are used only by programs of this project, within the bounds of their
            // buffers.
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        },
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        trace: wgpu::Trace::Off,
    };
    let refused = |error: wgpu::RequestDeviceError| {
        let problem = GpuProblem::Refused { message: error.to_string() };
        Error::Gpu { adapter: info.name.clone(), problem }
    };
    let (device, queue) = wait_for(adapter.request_device(&descriptor)).map_err(refused)?;
    let lost = Arc::new(DeviceLost::default());
    listen(&device, &lost);
    let has = |feature| features.contains(feature);
    let target = ShaderTarget {
        has_f16: has(wgpu::Features::SHADER_F16),
        subgroup: info.subgroup.filter(|_| has(wgpu::Features::SUBGROUP)),
        has_matrix_16: !matrix.is_empty() && has_matrix(&adapter, 16),
        has_matrix_8: !matrix.is_empty() && has_matrix(&adapter, 8),
        max_workgroup_size: limits.max_compute_invocations_per_workgroup,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_binding_bytes: info.max_binding_bytes.min(options.max_binding_bytes.unwrap_or(u64::MAX)),
        binding_alignment: limits.min_storage_buffer_offset_alignment.max(4),
    };
    let programs = Programs::new(&device, &adapter.get_info(), options.pipeline_cache.as_deref());
    let stream = Stream::new(&device);
    let driver = Driver { device, queue, info, target, timeout: options.timeout, counts: Counts::default(), lost };
    Ok(Arc::new(Gpu::new(driver, programs, stream)?))
}

/// Keeps errors that the device reports on its own, for which wgpu would end the process.
fn listen(device: &wgpu::Device, lost: &Arc<DeviceLost>) {
    let kept = lost.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        kept.set(match error {
            wgpu::Error::OutOfMemory { .. } => GpuProblem::OutOfMemory,
            error => GpuProblem::Refused { message: error.to_string() },
        });
    }));
    let kept = lost.clone();
    device.set_device_lost_callback(move |reason, message| {
        // The device is also "lost" when it is closed on purpose.
        if reason != wgpu::DeviceLostReason::Destroyed {
            kept.set(GpuProblem::Lost { message });
        }
    });
}
