//! Sessions side by side on one device, each with its own memory, booked before it begins.
//!
//! A thread runs for the device as a whole, or for the admission that it has entered: then the admission's buffer
//! serves its requests, the admission's threads compute, and a request that the buffer cannot serve is an error. The
//! entered admission is thread-local; the admission's state lies with the device's books, under their lock.

use std::fmt;
use std::marker::PhantomData;

use crate::device::Device;
use crate::memory::thread_context::{Entry, enter};
use crate::tensor_buffer::TensorBuffer;
use crate::trace::piece_bytes;
use crate::{ArenaPlan, Error, ReservationPlan, TensorBufferStats};

/// Maximum memory of a session: buffers by layout, and a block for the other activations.
///
/// ```
/// use tl_device::{ReservationPlan, SessionPlan};
/// let rows: ReservationPlan = "exact float16[8, 512] 4".parse()?;
/// assert_eq!(SessionPlan::from(rows).bytes(), 4 * 8192);
/// # Ok::<(), tl_device::PlanError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SessionPlan {
    /// Buffers by layout.
    pub reservations: ReservationPlan,
    /// One block for activations, on a CPU.
    pub arena: Option<ArenaPlan>,
}

impl SessionPlan {
    /// Total bytes.
    pub fn bytes(&self) -> u64 {
        self.reservations.bytes().saturating_add(self.arena.as_ref().map_or(0, arena_bytes))
    }

    /// Reserves the plan in a buffer.
    ///
    /// # Errors
    /// As for [`TensorBuffer::reserve`]; the parts before the failed one stay reserved.
    pub fn reserve(&self, buffer: &TensorBuffer) -> Result<(), Error> {
        self.reservations.reserve(buffer)?;
        self.arena.as_ref().map_or(Ok(()), |arena| buffer.reserve_arena(arena))
    }
}

fn arena_bytes(arena: &ArenaPlan) -> u64 {
    piece_bytes(arena.size_bytes).unwrap_or(usize::MAX) as u64
}

impl From<ReservationPlan> for SessionPlan {
    fn from(reservations: ReservationPlan) -> SessionPlan {
        SessionPlan { reservations, arena: None }
    }
}

impl From<ArenaPlan> for SessionPlan {
    /// The block, and the buffers beside it for memory that stays from step to step.
    fn from(arena: ArenaPlan) -> SessionPlan {
        SessionPlan { reservations: arena.beside.clone(), arena: Some(arena).filter(|arena| arena.size_bytes > 0) }
    }
}

/// A session's memory on a device: booked as a whole, and held until it is dropped.
///
/// A thread that has entered it is served by its buffer, and sealed: its requests never allocate. So sessions with
/// plans of their own run side by side, each on a thread of its own, and none takes memory booked for another.
///
/// ```
/// use tl_device::{Device, Error, Layout, ReservationPlan, Role};
/// let device = Device::cpu();
/// let plan: ReservationPlan = "exact float16[8, 512] 1".parse().unwrap();
/// let (one, other) = (device.admit(plan.clone())?, device.admit(plan)?);
/// let layout = &Layout::from(vec![8, 512]);
/// std::thread::scope(|scope| {
///     for session in [&one, &other] {
///         scope.spawn(move || {
///             let entered = session.enter();
///             let _memory = entered.device().take(layout, Role::Activation).unwrap();
///             let second = entered.device().take(layout, Role::Activation);
///             assert!(matches!(second, Err(Error::Sealed { .. })));
///         });
///     }
/// });
/// # Ok::<(), Error>(())
/// ```
pub struct Admission {
    device: Device,
    buffer: TensorBuffer,
    bytes: u64,
    entry: Entry,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("device", &self.device).field("bytes", &self.bytes).finish()
    }
}

impl Device {
    /// Books and reserves all memory of a session, or nothing: sessions admitted at the same time never exceed the
    /// limit together. The kernels' workspace is taken too.
    ///
    /// ```
    /// use tl_device::{Device, DeviceOptions, Error, ReservationPlan};
    /// let mut options = DeviceOptions::default();
    /// options.memory.limit_bytes = Some(5 << 20); // the workspace takes 4 MiB of it
    /// let device = Device::cpu_with(&options);
    /// let plan: ReservationPlan = "exact float16[256, 1024] 1".parse().unwrap();
    /// let _one = device.admit(plan.clone())?;
    /// assert!(matches!(device.admit(plan), Err(Error::Limit { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::OutOfMemory`], [`Error::NoArena`] on a GPU, and [`Error::Sealed`] where the thread's
    /// own context is sealed.
    pub fn admit(&self, plan: impl Into<SessionPlan>) -> Result<Admission, Error> {
        self.admit_with(plan, None)
    }

    /// [`Device::admit`] with `threads` threads of the session's own, which have their own workspace. Without them
    /// sessions share the device's threads, and a session that finds them busy computes on its entered thread alone.
    ///
    /// ```
    /// use tl_device::{Device, SessionPlan};
    /// let device = Device::cpu();
    /// let session = device.admit_with(SessionPlan::default(), Some(3))?;
    /// assert_eq!(session.enter().device().threads().count(), 3);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Device::admit`].
    pub fn admit_with(&self, plan: impl Into<SessionPlan>, threads: Option<usize>) -> Result<Admission, Error> {
        let plan = plan.into();
        let (memory, bytes) = (self.memory(), plan.bytes());
        let mut booking = memory.book_session(bytes)?;
        let buffer = TensorBuffer::new(self);
        for row in &plan.reservations.rows {
            memory.reserve(buffer.id(), &row.layout, row.count, row.kind, Some(&mut booking))?;
        }
        if let Some(arena) = &plan.arena {
            memory.reserve_arena(buffer.id(), arena, Some(&mut booking))?;
        }
        drop(booking);
        let threads = threads.and_then(|count| memory.claim_threads(count));
        let at = memory.lock().admit(buffer.current());
        let entry = Entry { memory: memory.address(), at, threads };
        // Dropping the admission from here on returns it as a whole.
        let admission = Admission { device: self.clone(), buffer, bytes, entry };
        admission.enter().device().take_workspace()?;
        Ok(admission)
    }
}

impl Admission {
    /// The session's device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes booked for it, without workspaces.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Statistics of its buffer.
    ///
    /// ```
    /// use tl_device::{Device, ReservationPlan};
    /// let session = Device::cpu().admit("exact float16[8] 3".parse::<ReservationPlan>().unwrap())?;
    /// assert_eq!(session.stats().reserved_count, 3);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn stats(&self) -> TensorBufferStats {
        self.buffer.stats()
    }

    /// Makes this thread run for the session until the result is dropped. Entries nest; the last one counts.
    pub fn enter(&self) -> Entered<'_> {
        Entered { admission: self, before: enter(Some(self.entry)), is_of_this_thread: PhantomData }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let memory = self.device.memory();
        // The context's buffer is dropped outside the lock.
        let context = memory.lock().dismiss(self.entry.at);
        drop(context);
        self.entry.threads.into_iter().for_each(|at| memory.release_threads(at));
    }
}

/// Guard during which its thread runs for a session.
pub struct Entered<'a> {
    admission: &'a Admission,
    before: Option<Entry>,
    /// Not `Send`: it belongs to the thread that made it.
    is_of_this_thread: PhantomData<*const ()>,
}

impl fmt::Debug for Entered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.admission.fmt(f)
    }
}

impl Entered<'_> {
    /// The session's device.
    pub fn device(&self) -> &Device {
        &self.admission.device
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        enter(self.before);
    }
}
