//! Memory of a model, found before any of it is taken: the model is loaded on a simulated device, everything is
//! reserved there, and the counters of that device are the result.
//!
//! Reads the file's metadata and its list of tensors, none of the weights.

use std::fmt;
use std::path::Path;

use tl_device::{DType, Device, LayoutStats, Simulation, TensorBuffer, bytes};
use tl_lang::BatchSizes;
use tl_model::{Activations, KvCache, Result, SamplingOptions};

use crate::model::{LoadOptions, Model};
use crate::reserve::ReserveFor;
use crate::session::Session;

/// The memory of a model for a context, by the counters of a device: the bytes held once the model is loaded and
/// everything is reserved, exactly.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemoryPlan {
    /// Maximum number of tokens.
    pub context: usize,
    /// The type of the activations.
    pub activations: Activations,
    /// The type of the KV cache.
    pub cache_dtype: DType,
    /// Bytes of the weights: mapped from the file, on a GPU copied to it.
    pub weight_bytes: u64,
    /// Bytes of the KV cache.
    pub cache_bytes: u64,
    /// Bytes for activations, rounding of all buffers included.
    pub activation_bytes: u64,
    /// Bytes of the arena that holds the activations on the CPU, a part of `activation_bytes`; 0 on a GPU.
    pub arena_bytes: u64,
    /// Bytes of the kernels' workspace.
    pub workspace_bytes: u64,
    /// Bytes of the process's heap, for metadata, tokenizer and the like; 0 if not measured.
    pub heap_bytes: u64,
    /// The buffers of the KV cache and of activations beside the arena, one row for each layout.
    pub rows: Vec<LayoutStats>,
}

impl MemoryPlan {
    /// All bytes: device memory and heap.
    pub fn total_bytes(&self) -> u64 {
        self.weight_bytes + self.cache_bytes + self.activation_bytes + self.workspace_bytes + self.heap_bytes
    }
}

impl fmt::Display for MemoryPlan {
    /// One line: the parts and the total.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a context of {} tokens takes {} ({} bytes): weights {}, KV cache {}, activations {}, workspace {}",
            self.context,
            bytes(self.total_bytes()),
            self.total_bytes(),
            bytes(self.weight_bytes),
            bytes(self.cache_bytes),
            bytes(self.activation_bytes),
            bytes(self.workspace_bytes)
        )?;
        match self.heap_bytes {
            0 => Ok(()),
            heap_bytes => write!(f, ", heap {}", bytes(heap_bytes)),
        }
    }
}

/// The workload of a plan and its reservation.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Minimum number of tokens.
    pub shortest: usize,
    /// Reserves the memory of a run of at most the given number of tokens.
    pub reserve: fn(&TensorBuffer, &Model, usize) -> Result<()>,
    /// Allocates and frees the heap memory that such a run has beside its reservation.
    pub rehearse: fn(&Model, usize) -> Result<()>,
}

impl Workload {
    /// Prompt and generated text, by their total number of tokens: see [`ReserveFor`].
    pub const GENERATION: Workload = Workload {
        shortest: 1,
        reserve: |buffer, model, context| buffer.reserve_for(model, context),
        rehearse: |model, context| Session::new(model, context, SamplingOptions::default()).map(drop),
    };
}

/// Memory plans of a model, which is loaded on a simulated device.
///
/// ```
/// use tl_engine::{Activations, Planner};
/// let planner = Planner::open("../../models/demo-q4_0.gguf", Activations::Float16)?;
/// let plan = planner.plan(128)?;
/// assert_eq!(plan.cache_bytes, 2 * 22 * 128 * 32 * 2);
/// assert_eq!(planner.longest_context(plan.total_bytes())?, Some(128));
/// # Ok::<(), tl_engine::ModelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Planner {
    model: Model,
    workload: Workload,
}

impl Planner {
    /// Reads the file's metadata and list of tensors, and checks them as [`Model::load`] does.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn open(path: impl AsRef<Path>, activations: Activations) -> Result<Planner> {
        Planner::open_for(path, activations, &Device::simulated(Simulation::default()))
    }

    /// [`Planner::open`] for memory on `device`: weights are read from the file by the CPU and copied to a GPU.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn open_for(path: impl AsRef<Path>, activations: Activations, device: &Device) -> Result<Planner> {
        Ok(Planner::open_with(path, device, LoadOptions::default())?.with_activations(activations))
    }

    /// [`Planner::open_for`] with load options.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn open_with(path: impl AsRef<Path>, device: &Device, options: LoadOptions) -> Result<Planner> {
        let model = Model::load_with(path, &Device::simulated(Simulation::of(device)), options)?;
        Ok(Planner { model, workload: Workload::GENERATION })
    }

    /// The same planner for activations of this type.
    pub fn with_activations(&self, activations: Activations) -> Planner {
        Planner { model: self.model.with_activations(activations), ..*self }
    }

    /// A planner of a loaded model, on any device: nothing is taken there.
    pub fn of(model: &Model) -> Planner {
        Planner { model: model.counting(), workload: Workload::GENERATION }
    }

    /// The same planner for KV caches of this type: see [`Model::with_cache_dtype`].
    pub fn with_cache_dtype(&self, dtype: impl Into<Option<DType>>) -> Planner {
        Planner { model: self.model.with_cache_dtype(dtype), ..*self }
    }

    /// The same planner for another workload.
    pub fn for_workload(&self, workload: Workload) -> Planner {
        Planner { model: self.model.clone(), workload }
    }

    /// The workload of the plans.
    pub fn workload(&self) -> Workload {
        self.workload
    }

    /// The model on the simulated device: its configuration and its tokenizer are those of the file.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Bytes of the weights: in mapped files, or in device memory.
    pub fn weight_bytes(&self) -> u64 {
        let stats = self.model.device().stats();
        stats.mapped_bytes + stats.driver_bytes
    }

    /// The memory plan of a context.
    ///
    /// # Errors
    /// A context beyond the model's trained length, sizes beyond the address space.
    pub fn plan(&self, context: usize) -> Result<MemoryPlan> {
        let reserve = |buffer: &TensorBuffer| (self.workload.reserve)(buffer, &self.model, context);
        self.measure(context, reserve, || self.model.new_cache(context))
    }

    /// The memory plan of several sequences at once: see [`ScriptedModel::batch_plan`](tl_lang::ScriptedModel::batch_plan).
    ///
    /// # Errors
    /// As for [`Planner::plan`]; a model that runs one sequence at a time.
    pub fn plan_batch(&self, sizes: BatchSizes) -> Result<MemoryPlan> {
        let scripted = self.model.scripted();
        let reserve = |buffer: &TensorBuffer| scripted.reserve_batch(buffer, sizes);
        self.measure(sizes.context, reserve, || scripted.new_pages(sizes.n_pages, sizes.context))
    }

    fn measure(
        &self,
        context: usize,
        reserve: impl FnOnce(&TensorBuffer) -> Result<()>,
        new_cache: impl FnOnce() -> Result<KvCache>,
    ) -> Result<MemoryPlan> {
        let device = self.model.device();
        let buffer = TensorBuffer::new(device);
        device.trim();
        // Weights that are not mapped, as on a GPU.
        let loaded_bytes = device.stats().driver_bytes;
        reserve(&buffer)?;
        device.set_tensor_buffer(buffer.clone());
        let cache = new_cache();
        let stats = device.stats();
        let _ = device.replace_tensor_buffer(None);
        cache?;
        let buffers = buffer.stats();
        Ok(MemoryPlan {
            context,
            activations: self.model.activations(),
            cache_dtype: self.model.cache_dtype(),
            weight_bytes: stats.mapped_bytes + loaded_bytes,
            cache_bytes: stats.cache_bytes,
            activation_bytes: stats.driver_bytes - stats.cache_bytes - loaded_bytes,
            arena_bytes: buffers.arena_bytes,
            workspace_bytes: stats.workspace_bytes,
            heap_bytes: 0,
            rows: buffers.by_layout,
        })
    }

    /// The longest context whose plan stays within `limit_bytes`, at most the model's own; `None` if not even one token
    /// fits.
    ///
    /// # Errors
    /// Sizes beyond the address space.
    pub fn longest_context(&self, limit_bytes: u64) -> Result<Option<usize>> {
        let fits = |context| -> Result<bool> { Ok(self.plan(context)?.total_bytes() <= limit_bytes) };
        let most = self.model.config().context_length;
        if fits(most)? {
            return Ok(Some(most));
        }
        // The plan's size never falls with the context, so that bisection finds the longest.
        let shortest = self.workload.shortest;
        let (mut longest, mut too_long) = (shortest - 1, most);
        while too_long - longest > 1 {
            let middle = longest + (too_long - longest) / 2;
            if fits(middle)? {
                longest = middle;
            } else {
                too_long = middle;
            }
        }
        Ok(Some(longest).filter(|&context| context >= shortest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_device::{DeviceOptions, MemoryStats};
    use tl_model::{GenerateOptions, Generator};

    use tl_testing::project_file;

    /// The counters of a real device on which the model was loaded and generated until the context was full.
    fn measured(path: &Path, context: usize, planner: &Planner, limit: Option<u64>) -> Result<MemoryStats> {
        let mut options = DeviceOptions::default();
        options.memory.limit_bytes = limit.map(|limit| limit as usize);
        let device = Device::cpu_with(&options);
        let model = Model::load(path, &device)?.with_activations(planner.model().activations());
        let model = model.with_cache_dtype(planner.model().cache_dtype());
        let buffer = TensorBuffer::new(&device);
        buffer.reserve_for(&model, context)?;
        device.set_tensor_buffer(buffer);
        let prompt: Vec<u32> = (0..context as u32).map(|i| 3 + i % 1000).collect();
        let options = GenerateOptions::default().with_max_tokens(1).with_context(context);
        let mut generator = Generator::new(model.clone(), &prompt, &options)?;
        let held = device.stats();
        generator.next().transpose()?;
        assert_eq!(device.stats().driver_bytes, held.driver_bytes);
        Ok(held)
    }

    #[test]
    fn what_was_said_is_what_is_taken() {
        for (name, activations, cache) in [
            ("demo-q4_0", Activations::Float16, None),
            ("demo-q8_0", Activations::Float32, None),
            ("demo-q8_0", Activations::Float16, Some(DType::Q8_0)),
            ("demo-f16", Activations::Float16, Some(DType::F32)),
        ] {
            let path = project_file(&format!("models/{name}.gguf"));
            let planner = Planner::open(&path, activations).unwrap().with_cache_dtype(cache);
            for context in [1, 2, 63, 256] {
                let what = format!("{name}, {context}");
                let plan = planner.plan(context).unwrap();
                let stats = measured(&path, context, &planner, Some(plan.total_bytes())).unwrap();
                assert_eq!(plan.weight_bytes, stats.mapped_bytes, "{what}");
                assert_eq!(plan.cache_bytes, stats.cache_bytes, "{what}");
                assert_eq!(plan.cache_bytes + plan.activation_bytes, stats.driver_bytes, "{what}");
                assert_eq!(plan.total_bytes(), stats.total_bytes(), "{what}");
                // A byte less is refused.
                let error = measured(&path, context, &planner, Some(plan.total_bytes() - 1)).unwrap_err();
                assert!(error.to_string().contains("over the memory limit"), "{what}: {error}");
                assert_eq!(planner.longest_context(plan.total_bytes()).unwrap(), Some(context), "{what}");
            }
            // Planning leaves nothing behind that the next plan would count, nor does a model that is loaded.
            let of_model = Planner::of(planner.model());
            for context in [63, 256, 63] {
                assert_eq!(planner.plan(context).unwrap(), of_model.plan(context).unwrap(), "{name}, {context}");
            }
        }
    }

    #[test]
    fn the_longest_context() {
        let planner = Planner::open(project_file("models/demo-q4_0.gguf"), Activations::Float16).unwrap();
        let check = |limit: u64, expected: Option<usize>| {
            assert_eq!(planner.longest_context(limit).unwrap(), expected, "{limit}");
        };
        let total = |context| planner.plan(context).unwrap().total_bytes();
        check(0, None);
        check(total(1) - 1, None);
        check(total(1), Some(1));
        check(total(100), Some(100));
        check(total(101) - 1, Some(100));
        check(total(256), Some(256));
        check(u64::MAX, Some(256));
        for context in [0, 257, usize::MAX] {
            let error = planner.plan(context).unwrap_err().to_string();
            assert!(error.contains("this model works for 1 to 256"), "{error}");
        }
    }

    #[test]
    fn says_what_it_takes() {
        let plan =
            Planner::open(project_file("models/demo-q4_0.gguf"), Activations::Float16).unwrap().plan(256).unwrap();
        let text = plan.to_string();
        assert!(text.starts_with("a context of 256 tokens takes ") && text.contains("KV cache 704.0 KiB"), "{text}");
        assert_eq!(
            plan.rows.iter().map(|row| row.reserved_bytes).sum::<u64>() + plan.arena_bytes,
            plan.cache_bytes + plan.activation_bytes
        );
        assert!(Planner::open(project_file("Cargo.toml"), Activations::Float16).is_err());
    }
}
