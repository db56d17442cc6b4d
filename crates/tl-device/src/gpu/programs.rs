//! Caches of pipelines, and of the bind groups that tie buffers to them.
//!
//! Bind groups recur because reserved buffers do. A bind group is kept until one of its buffers is freed.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use smallvec::SmallVec;

use super::driver::{Driver, count, wait_for};
use crate::error::{Error, GpuProblem};
use crate::shader_target::{MAX_IMMEDIATE_BYTES, ShaderTarget};

/// Maximum number of cached bind groups. A model's step uses a few hundred; without reservations the pool's buffers
/// form ever new combinations.
const MAX_BIND_GROUPS: usize = 1 << 16;

/// Numbers of read and of written bindings.
pub(super) type Signature = (u8, u8);

/// Identifies a binding: the buffer's id, its first byte, its length.
type BindingKey = (u64, u64, u64);

/// A binding with its buffer.
pub(super) type Binding<'a> = (BindingKey, &'a wgpu::Buffer);

#[derive(PartialEq, Eq, Hash, Clone)]
struct GroupKey {
    signature: Signature,
    bindings: SmallVec<[BindingKey; 8]>,
}

struct Layouts {
    bindings: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

pub(super) struct Programs {
    layouts: HashMap<Signature, Layouts>,
    pipelines: HashMap<(&'static str, u64), wgpu::ComputePipeline>,
    groups: HashMap<GroupKey, wgpu::BindGroup>,
    /// The bind groups of each buffer.
    groups_of: HashMap<u64, SmallVec<[GroupKey; 2]>>,
    next_id: u64,
    cache: Option<DiskCache>,
}

/// Compiled programs, kept in a file for the next start.
struct DiskCache {
    path: PathBuf,
    cache: wgpu::PipelineCache,
    /// Pipelines created since the file was written.
    is_changed: bool,
}

impl Programs {
    pub(super) fn new(device: &wgpu::Device, adapter: &wgpu::AdapterInfo, folder: Option<&Path>) -> Programs {
        let key = wgpu::util::pipeline_cache_key(adapter);
        let can = device.features().contains(wgpu::Features::PIPELINE_CACHE);
        let path = folder.zip(key).filter(|_| can).map(|(folder, key)| folder.join(key));
        let cache = path.map(|path| DiskCache::open(device, path));
        Programs {
            layouts: HashMap::new(),
            pipelines: HashMap::new(),
            groups: HashMap::new(),
            groups_of: HashMap::new(),
            next_id: 1,
            cache,
        }
    }

    pub(super) fn next_buffer_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Drops the bind groups of a freed buffer.
    pub(super) fn forget(&mut self, buffer: u64) {
        let Some(keys) = self.groups_of.remove(&buffer) else { return };
        for key in keys {
            self.groups.remove(&key);
            for binding in &key.bindings {
                if let Some(others) = self.groups_of.get_mut(&binding.0) {
                    others.retain(|other| *other != key);
                }
            }
        }
    }

    fn layouts(&mut self, device: &wgpu::Device, signature: Signature) -> &Layouts {
        self.layouts.entry(signature).or_insert_with(|| {
            let (reads, writes) = signature;
            let entry = |binding: u8| wgpu::BindGroupLayoutEntry {
                binding: u32::from(binding),
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: binding < reads },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            };
            let entries: Vec<_> = (0..reads + writes).map(entry).collect();
            let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            let bindings = device.create_bind_group_layout(&descriptor);
            let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&bindings)],
                immediate_size: MAX_IMMEDIATE_BYTES as u32,
            });
            Layouts { bindings, pipeline }
        })
    }

    /// The pipeline of a program, compiled at its first launch.
    pub(super) fn pipeline(
        &mut self,
        driver: &Driver,
        key: (&'static str, u64),
        signature: Signature,
        source: &dyn Fn(&ShaderTarget) -> String,
    ) -> Result<wgpu::ComputePipeline, Error> {
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let source = source(&driver.target);
        let validation = driver.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = driver.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(key.0), source: wgpu::ShaderSource::Wgsl(source.into()) };
        let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
        // SAFETY: accesses stay checked; the loops of the programs all count up to a bound that they are given.
        let module = unsafe { driver.device.create_shader_module_trusted(descriptor, checks) };
        self.layouts(&driver.device, signature);
        let pipeline = driver.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(key.0),
            layout: self.layouts.get(&signature).map(|layouts| &layouts.pipeline),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Programs write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: self.cache.as_ref().map(|kept| &kept.cache),
        });
        let problem = [wait_for(internal.pop()), wait_for(validation.pop())];
        if let Some(error) = problem.into_iter().flatten().next() {
            let problem = GpuProblem::Program { name: key.0, message: error.to_string() };
            return Err(driver.error(problem));
        }
        count(&driver.counts.pipelines, 1);
        if let Some(cache) = &mut self.cache {
            cache.is_changed = true;
        }
        self.pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// The bind group of these buffers, created for a new combination.
    pub(super) fn bind_group(
        &mut self,
        driver: &Driver,
        signature: Signature,
        bound: &[Binding<'_>],
    ) -> wgpu::BindGroup {
        let key = GroupKey { signature, bindings: bound.iter().map(|(key, _)| *key).collect() };
        if let Some(group) = self.groups.get(&key) {
            return group.clone();
        }
        if self.groups.len() >= MAX_BIND_GROUPS {
            self.groups.clear();
            self.groups_of.clear();
        }
        let mut entries: SmallVec<[wgpu::BindGroupEntry; 8]> = SmallVec::new();
        for (index, &((_, offset, len), buffer)) in bound.iter().enumerate() {
            let size = std::num::NonZeroU64::new(len);
            let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
            entries.push(wgpu::BindGroupEntry { binding: index as u32, resource });
        }
        let layouts = self.layouts(&driver.device, key.signature);
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layouts.bindings, entries: &entries };
        let group = driver.device.create_bind_group(&descriptor);
        count(&driver.counts.bind_groups, 1);
        for binding in &key.bindings {
            let groups = self.groups_of.entry(binding.0).or_default();
            if !groups.contains(&key) {
                groups.push(key.clone());
            }
        }
        self.groups.insert(key, group.clone());
        group
    }

    /// Writes compiled programs to the cache file, if there is one and anything changed.
    pub(super) fn save(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.save();
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.save();
    }
}

impl DiskCache {
    fn open(device: &wgpu::Device, path: PathBuf) -> DiskCache {
        let data = std::fs::read(&path).ok();
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
        // SAFETY: the file is written by `save` alone, whole or not at all, and wgpu checks that the data is of this
        // adapter and driver; other data is left unused (`fallback`).
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        DiskCache { path, cache, is_changed: false }
    }

    /// A failed write costs only time at the next start, so it is not reported.
    fn save(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let Some(data) = self.cache.get_data() else { return };
        let beside = self.path.with_extension(format!("{}.part", std::process::id()));
        let written = self.path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
            && std::fs::write(&beside, &data).is_ok()
            && std::fs::rename(&beside, &self.path).is_ok();
        if !written {
            let _ = std::fs::remove_file(&beside);
        }
    }
}
