//! Sessions side by side on one device, each with memory of its own that was booked before it began.
//!
//! A thread runs for the device as a whole, or for the admission that it has entered: then its requests are served by
//! the admission's buffer, its threads compute, and what the buffer does not serve is an error. Which admission a
//! thread has entered is the thread's own knowledge; what belongs to an admission lies with the device's books, under
//! their lock.

use std::fmt;
use std::marker::PhantomData;

use crate::device::Device;
use crate::memory::thread_context::{Entry, enter};
use crate::tensor_buffer::TensorBuffer;
use crate::trace::piece_bytes;
use crate::{ArenaPlan, Error, ReservationPlan, TensorBufferStats};

/// All that a session needs at most: buffers by layout, and a block for the rest of its activations.
///
/// ```
/// use tl_device::{ReservationPlan, SessionPlan};
/// let rows: ReservationPlan = "exact float16[8, 512] 4".parse()?;
/// assert_eq!(SessionPlan::from(rows).bytes(), 4 * 8192);
/// # Ok::<(), tl_device::PlanError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionPlan {
    /// Buffers by layout.
    pub reservations: ReservationPlan,
    /// One block for activations, on a CPU.
    pub arena: Option<ArenaPlan>,
}

impl SessionPlan {
    /// Bytes of all of it.
    pub fn bytes(&self) -> u64 {
        self.reservations.bytes().saturating_add(self.arena.as_ref().map_or(0, arena_bytes))
    }

    /// Reserves it in a buffer.
    ///
    /// # Errors
    /// As for [`TensorBuffer::reserve`]; what came before the part that failed stays reserved.
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
    /// The block, and the buffers beside it for what stays from step to step.
    fn from(arena: ArenaPlan) -> SessionPlan {
        SessionPlan { reservations: arena.beside.clone(), arena: Some(arena).filter(|arena| arena.size_bytes > 0) }
    }
}

/// A session's memory on a device: booked as a whole, and its own until it is dropped.
///
/// A thread that has entered it is served by its buffer, and sealed: nothing that it asks for is a new allocation. So
/// sessions with plans of their own run side by side, each on a thread of its own, and none can take what another was
/// promised.
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
    /// Books and reserves all that a session needs, or nothing: sessions that are admitted at the same time never take
    /// more than the limit between them. The kernels' workspace is taken too.
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

    /// As [`Device::admit`], with so many threads of the session's own, which come with a workspace of their own.
    /// Without them sessions share the device's, and a session whose turn it is not computes on the thread that has
    /// entered it alone.
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
        // From here on it is given back whole, whatever fails.
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

    /// The bytes that were booked for it, workspaces aside.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How well its buffer has served.
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

    /// Lets this thread run for the session until the result is dropped. Sessions can be entered within each other; the
    /// last one counts.
    pub fn enter(&self) -> Entered<'_> {
        Entered { admission: self, before: enter(Some(self.entry)), is_of_this_thread: PhantomData }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let memory = self.device.memory();
        // The buffer that it held is dropped outside the lock.
        let context = memory.lock().dismiss(self.entry.at);
        drop(context);
        self.entry.threads.into_iter().for_each(|at| memory.release_threads(at));
    }
}

/// While it exists, the thread that made it runs for a session.
pub struct Entered<'a> {
    admission: &'a Admission,
    before: Option<Entry>,
    /// It belongs to the thread that made it.
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
