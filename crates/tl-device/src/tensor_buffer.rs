//! `TensorBuffer`: memory reserved by exact layout before it is used.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::device::Device;
use crate::memory::{CurrentBuffer, Memory};
use crate::storage::{Lease, Storage};
use crate::{ArenaPlan, Error, Layout, ReservationPlan, ReserveKind, Role, Shape, TensorBufferStats};

/// Buffers reserved by layout. Once it is set on its device, every operation takes from it automatically, and the
/// buffers come back when their tensors are dropped.
///
/// Cloning gives another handle on the same buffer; dropping the last handle frees the buffers that are not in use, and
/// the others when they come back. The buffer refers to its device weakly.
///
/// ```
/// use tl_device::{Device, Layout, Role, TensorBuffer};
/// let device = Device::cpu();
/// let buffer = TensorBuffer::new(&device);
/// buffer.reserve(vec![512, 128], 10)?;
/// device.set_tensor_buffer(buffer);
/// let memory = device.take(&Layout::from(vec![512, 128]), Role::Activation)?;
/// assert_eq!(device.tensor_buffer().unwrap().stats().taken_count, 1);
/// # drop(memory);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Clone)]
pub struct TensorBuffer {
    handle: Arc<Handle>,
}

struct Handle {
    memory: Weak<Memory>,
    id: u64,
    /// Whether the reservations were planned for the whole program.
    is_planned: AtomicBool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.upgrade() {
            memory.remove_reserve(self.id);
        }
    }
}

impl fmt::Debug for TensorBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorBuffer").field("stats", &self.stats()).finish()
    }
}

/// A value that could not be recycled because another handle still holds its memory.
///
/// ```
/// use tl_device::{Device, Layout, Role, StillShared, TensorBuffer};
/// let device = Device::cpu();
/// let buffer = TensorBuffer::new(&device);
/// let storage = device.take(&Layout::from(vec![8]), Role::Activation)?.share();
/// let view = storage.clone();
/// let StillShared(storage) = buffer.recycle(storage).unwrap_err();
/// drop(view);
/// assert!(buffer.recycle(storage).is_ok());
/// # Ok::<(), tl_device::Error>(())
/// ```
pub struct StillShared<T>(pub T);

impl<T> fmt::Debug for StillShared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StillShared(..)")
    }
}
impl<T> fmt::Display for StillShared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot recycle: another tensor or view still holds this memory")
    }
}
impl<T> std::error::Error for StillShared<T> {}

/// An owner of a handle on memory that [`TensorBuffer::recycle`] can end: storage, a tensor.
///
/// Not for references, which own nothing.
///
/// ```
/// use tl_device::{Device, HoldsMemory, Layout, Role, Storage, TensorBuffer};
/// struct Weight(Storage);
/// impl HoldsMemory for Weight {
///     fn storage(&self) -> &Storage {
///         &self.0
///     }
/// }
/// let device = Device::cpu();
/// let weight = Weight(device.take(&Layout::from(vec![8]), Role::Activation)?.share());
/// assert!(TensorBuffer::new(&device).recycle(weight).is_ok());
/// # Ok::<(), tl_device::Error>(())
/// ```
pub trait HoldsMemory {
    /// The handle.
    ///
    /// ```
    /// use tl_device::{Device, HoldsMemory, Layout, Role};
    /// let device = Device::cpu();
    /// let memory = device.take(&Layout::from(vec![8]), Role::Activation)?.share();
    /// assert_eq!(memory.storage().bytes().len(), 16); // storage holds itself
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    fn storage(&self) -> &Storage;
}

impl HoldsMemory for Storage {
    fn storage(&self) -> &Storage {
        self
    }
}

impl TensorBuffer {
    /// An empty buffer for this device.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// assert_eq!(buffer.stats().reserved_bytes, 0);
    /// ```
    pub fn new(device: &Device) -> TensorBuffer {
        let id = device.memory().lock().add_reserve();
        let is_planned = AtomicBool::new(false);
        TensorBuffer { handle: Arc::new(Handle { memory: Arc::downgrade(device.memory()), id, is_planned }) }
    }

    pub(crate) fn id(&self) -> u64 {
        self.handle.id
    }

    /// The buffer as stored in the books: its reserve's id, and a handle that keeps it.
    pub(crate) fn current(&self) -> CurrentBuffer {
        CurrentBuffer { reserve: self.id(), handle: self.handle.clone() }
    }

    /// The buffer of an entry in the books.
    pub(crate) fn of(current: &CurrentBuffer) -> Option<TensorBuffer> {
        let handle = current.handle.clone().downcast().ok()?;
        Some(TensorBuffer { handle })
    }

    /// Whether its device is a GPU, or a simulation of one.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// assert!(!TensorBuffer::new(&Device::cpu()).is_on_gpu());
    /// ```
    pub fn is_on_gpu(&self) -> bool {
        self.memory().is_ok_and(|memory| memory.is_gpu())
    }

    pub(crate) fn belongs_to(&self, memory: &Arc<Memory>) -> bool {
        std::ptr::eq(self.handle.memory.as_ptr(), Arc::as_ptr(memory))
    }

    fn memory(&self) -> Result<Arc<Memory>, Error> {
        self.handle.memory.upgrade().ok_or(Error::DeviceGone)
    }

    /// Allocates `count` more buffers of exactly this layout (`float16` if only dimensions are given) and touches their
    /// pages.
    ///
    /// ```
    /// use tl_device::{DType, Device, Layout, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![512, 128], 10)?;
    /// buffer.reserve(Layout::new(DType::F32, [512]), 2)?;
    /// assert_eq!(buffer.stats().reserved_bytes, 10 * 512 * 128 * 2 + 2 * 512 * 4);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] and [`Error::Layout`]; nothing is reserved then.
    pub fn reserve(&self, layout: impl Into<Layout>, count: usize) -> Result<(), Error> {
        self.reserve_as(&layout.into(), count, ReserveKind::Exact)
    }

    /// Allocates `count` buffers that serve every layout of this type and rank that is no larger in any dimension: for
    /// sizes that grow with the sequence. Exact reservations of a layout take precedence.
    ///
    /// ```
    /// # use tl_device::{Device, Layout, TensorBuffer};
    /// # let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve_up_to(vec![32, 2048], 1)?;
    /// for n in [1, 2, 2048] {
    ///     assert!(buffer.take(vec![32, n])?.is_some());
    /// }
    /// assert!(buffer.take(vec![32, 2049])?.is_none());
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`TensorBuffer::reserve`].
    pub fn reserve_up_to(&self, layout: impl Into<Layout>, count: usize) -> Result<(), Error> {
        self.reserve_as(&layout.into(), count, ReserveKind::UpTo)
    }

    /// Allocates `count` buffers for parameters of this layout. They never serve activations.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve_learnable(vec![512, 128], 1)?;
    /// assert!(buffer.take(vec![512, 128])?.is_none());
    /// assert!(buffer.take_learnable(vec![512, 128])?.is_some());
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`TensorBuffer::reserve`].
    pub fn reserve_learnable(&self, layout: impl Into<Layout>, count: usize) -> Result<(), Error> {
        self.reserve_as(&layout.into(), count, ReserveKind::Learnable)
    }

    /// Makes one block serve activations: the block of [`Trace::arena`](crate::Trace::arena). Planned requests get
    /// their planned places, even in steps with smaller requests than traced; the block serves other activations if no
    /// other reservation does. It never serves a KV cache. A former arena is freed when its last piece is back.
    ///
    /// ```
    /// # use tl_device::{Device, Layout, Role, TensorBuffer};
    /// let device = Device::cpu();
    /// let step = || -> Result<(), tl_device::Error> {
    ///     let a = device.take(&Layout::from(vec![64, 64]), Role::Activation)?;
    ///     let b = device.take(&Layout::from(vec![64]), Role::Activation)?;
    ///     drop(a);
    ///     let c = device.take(&Layout::from(vec![64, 64]), Role::Activation)?;
    ///     drop((b, c));
    ///     Ok(())
    /// };
    /// device.start_trace();
    /// step()?;
    /// let plan = device.stop_trace().arena()?;
    /// assert_eq!(plan.size_bytes, plan.lower_bound_bytes);
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve_arena(&plan)?;
    /// device.set_tensor_buffer(buffer.clone());
    /// step()?;
    /// assert_eq!((buffer.stats().arena_taken_count, buffer.stats().fallback_count), (3, 0));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`TensorBuffer::reserve`].
    pub fn reserve_arena(&self, plan: &ArenaPlan) -> Result<(), Error> {
        self.memory()?.reserve_arena(self.id(), plan, None)
    }

    /// Declares the present reservations a plan of the whole program: later reservations by layout count on them and
    /// allocate nothing.
    ///
    /// ```
    /// use tl_device::{Device, ReservationPlan, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// "exact float16[8, 512] 4".parse::<ReservationPlan>()?.reserve(&buffer)?;
    /// buffer.keep_to_plan();
    /// buffer.reserve(vec![8, 512], 4)?; // a program's own reservation of the same
    /// assert_eq!(buffer.stats().reserved_count, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_to_plan(&self) {
        self.handle.is_planned.store(true, Ordering::Relaxed);
    }

    /// Whether [`TensorBuffer::keep_to_plan`] was called.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let buffer = TensorBuffer::new(&Device::cpu());
    /// assert!(!buffer.keeps_to_plan());
    /// ```
    pub fn keeps_to_plan(&self) -> bool {
        self.handle.is_planned.load(Ordering::Relaxed)
    }

    /// Seals the buffer's device: a request that would be a new allocation is an error, see [`Device::seal`].
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.seal()?;
    /// assert!(device.is_sealed());
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::DeviceGone`].
    pub fn seal(&self) -> Result<(), Error> {
        self.memory()?.seal();
        Ok(())
    }

    /// A free buffer for an activation, or `None` if all that fit are in use (which counts as a fallback).
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8, 512], 1)?;
    /// let memory = buffer.take(vec![8, 512])?;
    /// assert!(memory.is_some());
    /// assert!(buffer.take(vec![8, 512])?.is_none()); // the only one is out
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Layout`] for impossible layouts, [`Error::DeviceGone`].
    pub fn take(&self, layout: impl Into<Layout>) -> Result<Option<Lease>, Error> {
        self.take_as(layout.into(), Role::Activation)
    }

    /// A free buffer for a parameter, or `None` if all of this layout are in use.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve_learnable(vec![8], 1)?;
    /// let weight = buffer.take_learnable(vec![8])?;
    /// assert!(weight.is_some_and(|weight| weight.share().is_learnable()));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`TensorBuffer::take`].
    pub fn take_learnable(&self, layout: impl Into<Layout>) -> Result<Option<Lease>, Error> {
        self.take_as(layout.into(), Role::Learnable)
    }

    fn reserve_as(&self, layout: &Layout, count: usize, kind: ReserveKind) -> Result<(), Error> {
        if self.keeps_to_plan() {
            layout.len_bytes()?;
            return Ok(());
        }
        self.memory()?.reserve(self.id(), layout, count, kind, None)
    }

    fn take_as(&self, layout: Layout, role: Role) -> Result<Option<Lease>, Error> {
        let device = Device::from_memory(self.memory()?);
        let slot = device.memory().take_from(self.id(), &layout, role.into())?;
        Ok(slot.map(|(slot, len_bytes)| Lease::new(&device, slot, len_bytes)))
    }

    /// Ends a value and returns its memory to its source. A parameter's memory, which dropping would free, goes back to
    /// the learnable reserve.
    ///
    /// ```
    /// # use tl_device::{Device, Layout, Role, TensorBuffer};
    /// # let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve_learnable(vec![8], 1)?;
    /// device.set_tensor_buffer(buffer.clone());
    /// let weight = device.take(&Layout::from(vec![8]), Role::Learnable)?.share();
    /// buffer.recycle(weight)?;
    /// assert_eq!(buffer.stats().reserved_count, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The value is moved in, so using it afterwards does not compile:
    ///
    /// ```compile_fail,E0382
    /// # use tl_device::{Device, Layout, Role, TensorBuffer};
    /// # let device = Device::cpu();
    /// # let buffer = TensorBuffer::new(&device);
    /// # let weight = device.take(&Layout::from(vec![8]), Role::Learnable)?.share();
    /// buffer.recycle(weight)?;
    /// println!("{:?}", weight.bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StillShared`] with the value if another tensor or view holds the same memory.
    pub fn recycle<T: HoldsMemory>(&self, value: T) -> Result<(), StillShared<T>> {
        let storage = value.storage();
        if !storage.is_unique() {
            return Err(StillShared(value));
        }
        storage.slot().recycle();
        drop(value);
        Ok(())
    }

    /// Frees all reserved buffers and the arena. The ones in use are freed when their tensors are dropped.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8, 512], 4)?;
    /// buffer.clear();
    /// assert_eq!(device.stats().driver_bytes, 0);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn clear(&self) {
        self.clear_where(true, |_, _| true);
    }

    /// Frees the buffers reserved for activations of this shape, of every data type, bounds included.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8, 512], 4)?;
    /// buffer.reserve(vec![8], 1)?;
    /// buffer.clear_shape([8, 512]);
    /// assert_eq!(buffer.stats().reserved_count, 1);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn clear_shape(&self, shape: impl Into<Shape>) {
        let shape = shape.into();
        self.clear_where(false, |layout, kind| kind != ReserveKind::Learnable && *layout.shape() == shape);
    }

    /// Frees the buffers reserved for parameters of this shape, of every data type.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve_learnable(vec![8, 512], 4)?;
    /// buffer.reserve(vec![8, 512], 1)?;
    /// buffer.clear_learnable_shape([8, 512]);
    /// assert_eq!(buffer.stats().reserved_count, 1); // the one for activations
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn clear_learnable_shape(&self, shape: impl Into<Shape>) {
        let shape = shape.into();
        self.clear_where(false, |layout, kind| kind == ReserveKind::Learnable && *layout.shape() == shape);
    }

    fn clear_where(&self, with_arena: bool, which: impl Fn(&Layout, ReserveKind) -> bool) {
        if let Some(memory) = self.handle.memory.upgrade() {
            memory.clear(self.id(), with_arena, which);
        }
    }

    /// The buffer's statistics.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8, 512], 4)?;
    /// let _memory = buffer.take(vec![8, 512])?;
    /// assert_eq!((buffer.stats().reserved_count, buffer.stats().in_use_count), (4, 1));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn stats(&self) -> TensorBufferStats {
        self.handle.memory.upgrade().map(|memory| memory.lock().reserve_stats(self.id())).unwrap_or_default()
    }
}

impl ReservationPlan {
    /// Makes the plan's reservations in a buffer.
    ///
    /// ```
    /// use tl_device::{Device, ReservationPlan, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// "exact float16[8, 512] 4".parse::<ReservationPlan>()?.reserve(&buffer)?;
    /// assert_eq!(buffer.stats().reserved_count, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`TensorBuffer::reserve`]; the rows before the one that failed stay reserved.
    pub fn reserve(&self, buffer: &TensorBuffer) -> Result<(), Error> {
        for row in &self.rows {
            match row.kind {
                ReserveKind::Exact => buffer.reserve(&row.layout, row.count)?,
                ReserveKind::UpTo => buffer.reserve_up_to(&row.layout, row.count)?,
                ReserveKind::Learnable => buffer.reserve_learnable(&row.layout, row.count)?,
            }
        }
        Ok(())
    }
}
