//! The worker threads that kernels share their work among, and the only place where threads share memory.
//!
//! A run publishes one job (a borrowed closure and a number of tasks), and gives each thread a range of the task numbers. A
//! thread takes those of its own range one after the other, so that tasks that lie side by side in memory are read as one
//! stream, which the hardware's prefetching follows; then it takes the last ones of the others' ranges, until none is left.
//! A task is a number or a tile of the output, and what is computed there is the kernel's. Beside the workers, a set of threads
//! owns what their products share: the instruction set, the workspace, and what is known of how weights are read best.
//!
//! # Why the sharing is sound
//!
//! *The job.* `Shared::job` is an `UnsafeCell`. Only the owner, who holds the mutex `Threads::workers`, writes it, and only
//! while `control` is closed and counts no active worker. A worker reads it only between entering (a compare-exchange
//! that adds one to `control` while it is open, and so fails once the owner has closed it) and leaving (subtracting
//! one). The owner opens `control` after writing the job, and before it returns it closes `control` and waits until the
//! count is zero. So each read lies between the write before it and the next one, and the closure, whose lifetime is
//! erased in the job, is called only while the owner's borrow of it lives. Every access to `control` is at least
//! acquire/release, so that what happens inside a job is seen by what comes after it: the job by the workers, their results
//! by the owner. A panic in a task is caught on its thread, and the owner waits all the same.
//!
//! *The tasks.* A range is one word, its first number and its end. Taking a task replaces the word by one that has a task
//! less, with a compare-exchange, so each number is taken once, from the front or from the back. A range only shrinks while a
//! job runs, and the owner fills the ranges anew when it writes the job.
//!
//! *Parking.* A worker announces that it sleeps and then looks at `control` again, under the mutex that its condition
//! variable releases; the owner opens `control` and then looks for sleepers. All four accesses are sequentially
//! consistent, so one of the two sees the other and no wake-up is lost. The same holds for an owner that waits for the
//! last worker.
//!
//! *The output.* `for_tiles` takes the output as `&mut`, a whole number of groups. A row of the output is named by its group
//! and its number in the group, and each such pair by one row only, inside the output (see [`Tiling::row`]). A tile is a
//! rectangle of rows and columns of one group; those of a group do not overlap, and each task number runs once. A [`Tile`]
//! lends only rows of its own rectangle, through `&mut self`. So no element is reachable from two tasks. `for_tile_pairs` does the
//! same for two outputs at a time, and `for_listed_tiles` where a list names the rows of the groups: before anything runs, it makes
//! sure that no row is named twice.
#![allow(unsafe_code)]

use crate::address_space::{THREAD_BYTES, has_address_space};
use crate::isa::Isa;
use crate::quant::{BestPrefetch, Prefetch};
use crate::workspace::{self, Line, Workspace, WorkspaceGuard};
use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle thread watches for work before it parks: longer than what lies between two products of a decoding step,
/// the choice of a token and its printing included, and too short to be noticed.
const SPIN: Duration = Duration::from_micros(1000);

/// `control`: the active workers in the low bits, two flags, and the number of the job above them.
const ACTIVE: u64 = 0xFFFF;
const OPEN: u64 = 1 << 16;
const SHUTDOWN: u64 = 1 << 17;
const JOB: u64 = 1 << 18;

/// A CPU's worker threads. They are started by the first parallel run, spin for a millisecond when idle, then
/// park, and are joined on drop.
pub struct Threads {
    count: usize,
    isa: Isa,
    /// The running workers. The holder of the lock owns them all: it is the owner of the run.
    workers: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
    /// What [`Threads::workspace`] lends.
    workspace: Mutex<Option<Workspace>>,
    prefetch: BestPrefetch,
}

struct Shared {
    control: AtomicU64,
    job: UnsafeCell<Job>,
    /// The task numbers that are left of each thread's range; the owner's is the first.
    ranges: Box<[Range]>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    parking: Mutex<()>,
    wake: Condvar,
    n_sleepers: AtomicUsize,
    done: Condvar,
    owner_sleeps: AtomicBool,
}

/// A borrowed closure.
#[derive(Clone, Copy)]
struct Job {
    /// Points to the owner's reference to the closure, whose lifetime it forgets.
    body: *const (),
}

/// Task numbers, in a line of the cache of its own: the first in the upper half of the word, the end in the lower one.
#[derive(Default)]
#[repr(align(64))]
struct Range(AtomicU64);

impl Range {
    fn set(&self, tasks: std::ops::Range<u32>) {
        self.0.store(u64::from(tasks.start) << 32 | u64::from(tasks.end), SeqCst);
    }

    /// Takes the first task.
    fn take_first(&self) -> Option<u32> {
        self.take(|tasks| (tasks.start, tasks.start + 1..tasks.end))
    }

    /// Takes the last task.
    fn take_last(&self) -> Option<u32> {
        self.take(|tasks| (tasks.end - 1, tasks.start..tasks.end - 1))
    }

    /// `split` gives a task of a range that is not empty, and the others.
    fn take(&self, split: impl Fn(std::ops::Range<u32>) -> (u32, std::ops::Range<u32>)) -> Option<u32> {
        let mut word = self.0.load(SeqCst);
        loop {
            let tasks = (word >> 32) as u32..word as u32;
            if tasks.is_empty() {
                return None;
            }
            let (task, rest) = split(tasks);
            let rest = u64::from(rest.start) << 32 | u64::from(rest.end);
            match self.0.compare_exchange_weak(word, rest, SeqCst, SeqCst) {
                Ok(_) => return Some(task),
                Err(now) => word = now,
            }
        }
    }
}

// SAFETY: `job` is the only field that is not `Sync` by itself; the module's header says why its accesses never meet. The
// closure behind it is `Sync`, so every thread may call it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is used only by threads that are inside a run, wherever `Shared` itself was moved.
unsafe impl Send for Shared {}

impl Threads {
    /// `count` threads in all, the caller's included (0 counts as 1), with the best instructions of this CPU.
    pub fn new(count: usize) -> Threads {
        Threads::with_isa(count, Isa::detect())
    }

    /// As [`Threads::new`], with the given instructions, one of [`Isa::all`].
    pub fn with_isa(count: usize, isa: Isa) -> Threads {
        let count = count.clamp(1, ACTIVE as usize);
        Threads {
            count,
            isa,
            workers: Mutex::new(Vec::new()),
            workspace: Mutex::new(None),
            prefetch: BestPrefetch::default(),
            shared: Arc::new(Shared {
                control: AtomicU64::new(0),
                job: UnsafeCell::new(Job { body: std::ptr::null() }),
                ranges: (0..count).map(|_| Range::default()).collect(),
                panic: Mutex::new(None),
                parking: Mutex::new(()),
                wake: Condvar::new(),
                n_sleepers: AtomicUsize::new(0),
                done: Condvar::new(),
                owner_sleeps: AtomicBool::new(false),
            }),
        }
    }

    /// Allocates the threads' own memory, [`WORKSPACE_BYTES`](crate::WORKSPACE_BYTES), unless they have it. `false`: there is
    /// no memory for it. Products and attention that run before take it by themselves.
    pub fn take_workspace(&self) -> bool {
        let mut workspace = lock(&self.workspace);
        if workspace.is_none() {
            *workspace = workspace::allocate();
        }
        workspace.is_some()
    }

    /// The threads' own memory, a fixed piece, for one product at a time: a second product waits for the first.
    pub(crate) fn workspace(&self) -> impl std::ops::DerefMut<Target = [Line]> {
        let guard = lock(&self.workspace);
        WorkspaceGuard::new(guard)
    }

    /// How weights are prefetched when a few tokens are multiplied by them; `None` until the first products with large weights have
    /// shown which way is the fastest.
    pub fn weight_prefetch(&self) -> Option<Prefetch> {
        self.prefetch.found()
    }

    /// The measurement of [`Threads::weight_prefetch`].
    pub(crate) fn best_prefetch(&self) -> &BestPrefetch {
        &self.prefetch
    }

    /// How many threads share a run, the caller's included.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The instructions that kernels use on these threads.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Calls `body(0)` to `body(n_tasks - 1)`, each once, in any order, on the caller's thread and the workers, and
    /// returns when all are done. Inside a task, or while another thread's run has the workers, everything runs on the
    /// caller's thread. If a task panics, no new ones are started and the panic goes on in the caller. Allocates nothing
    /// once the workers run.
    pub fn run(&self, n_tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        // Task counts above `u32::MAX`, which no range can hold, run inline.
        let n_shared = u32::try_from(n_tasks).ok().filter(|n| *n > 1 && self.count > 1);
        let owned = n_shared.and_then(|n| Some((n, self.own_workers()?)));
        match owned {
            Some((n_tasks, workers)) => {
                self.shared.run(n_tasks, body);
                let panic = lock(&self.shared.panic).take();
                drop(workers);
                if let Some(payload) = panic {
                    resume_unwind(payload);
                }
            }
            None => (0..n_tasks).for_each(body),
        }
    }

    /// Takes the workers unless a run has them, starting them if need be. Where the system refuses a thread, there are fewer.
    fn own_workers(&self) -> Option<MutexGuard<'_, Vec<JoinHandle<()>>>> {
        let mut workers = match self.workers.try_lock() {
            Ok(workers) => workers,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if workers.is_empty() {
            for index in 1..self.count {
                if !has_address_space(THREAD_BYTES) {
                    break;
                }
                let shared = Arc::clone(&self.shared);
                let thread = thread::Builder::new().name(format!("tl-cpu-{index}"));
                match thread.spawn(move || shared.work(index)) {
                    Ok(worker) => workers.push(worker),
                    Err(_) => break,
                }
            }
        }
        Some(workers)
    }

    /// Calls `body(i, chunk)` for the i-th `chunk_len` elements of `out`, in parallel; the last chunk may be shorter.
    pub fn for_chunks<T: Send>(&self, out: &mut [T], chunk_len: usize, body: &(dyn Fn(usize, &mut [T]) + Sync)) {
        self.for_chunks_if(true, out, chunk_len, body);
    }

    /// As [`Threads::for_chunks`], on the caller's thread alone unless `parallel`.
    pub(crate) fn for_chunks_if<T: Send>(
        &self,
        parallel: bool,
        out: &mut [T],
        chunk_len: usize,
        body: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let tiling = Tiling { n_cols: out.len(), group_rows: 1, row_step: 1, tile_rows: 1, tile_cols: chunk_len };
        self.for_tiles_if(parallel, out, tiling, &|mut tile| {
            body(tile.first_col() / chunk_len, tile.row_mut(0));
        });
    }

    /// Cuts `out` into tiles and calls `body` with each, in parallel: tiles of the same columns of a group one after the other.
    pub fn for_tiles<T: Send>(&self, out: &mut [T], tiling: Tiling, body: &(dyn Fn(Tile<'_, T>) + Sync)) {
        self.for_tiles_if(true, out, tiling, body);
    }

    /// As [`Threads::for_tiles`], on the caller's thread alone unless `parallel`.
    pub(crate) fn for_tiles_if<T: Send>(
        &self,
        parallel: bool,
        out: &mut [T],
        tiling: Tiling,
        body: &(dyn Fn(Tile<'_, T>) + Sync),
    ) {
        if out.is_empty() {
            return;
        }
        let tiles = Tiles::new(out, tiling);
        // SAFETY: each task takes the tile of its own number.
        let task = |task| body(unsafe { tiles.tile(task) });
        if parallel { self.run(tiles.n_tiles(), &task) } else { (0..tiles.n_tiles()).for_each(task) }
    }

    /// Cuts two outputs into the same number of tiles and calls `body` with the tiles of each number, in parallel.
    ///
    /// # Panics
    /// If there are not as many tiles of one as of the other.
    pub(crate) fn for_tile_pairs<T: Send, U: Send>(
        &self,
        (first, first_tiling): (&mut [T], Tiling),
        (second, second_tiling): (&mut [U], Tiling),
        body: &(dyn Fn(Tile<'_, T>, Tile<'_, U>) + Sync),
    ) {
        if first.is_empty() || second.is_empty() {
            return;
        }
        let (first, second) = (Tiles::new(first, first_tiling), Tiles::new(second, second_tiling));
        assert_eq!(first.n_tiles(), second.n_tiles(), "tiles of two outputs");
        // SAFETY: each task takes the tiles of its own number.
        self.run(first.n_tiles(), &|task| body(unsafe { first.tile(task) }, unsafe { second.tile(task) }));
    }

    /// As [`Threads::for_tiles`], on the caller's thread alone unless `parallel`, with groups of rows anywhere in `out`, which has at
    /// most [`MAX_LISTED`] rows of `n_cols`: row `i` of group `g` is row `rows[starts[g] + i]` of `out`, and the group ends where the
    /// next one starts; the last of `starts` is the end.
    ///
    /// # Panics
    /// If a row is listed twice or lies outside, or the starts are in no order.
    #[expect(clippy::too_many_arguments, reason = "an output, its groups and the size of a tile")]
    pub(crate) fn for_listed_tiles<T: Send>(
        &self,
        parallel: bool,
        out: &mut [T],
        n_cols: usize,
        rows: &[u32],
        starts: &[u32],
        [tile_rows, tile_cols]: [usize; 2],
        body: &(dyn Fn(Tile<'_, T>) + Sync),
    ) {
        let ([first, .., end], false) = (starts, out.is_empty()) else { return };
        assert!(n_cols > 0 && tile_rows > 0 && tile_cols > 0, "empty tiles");
        let n_rows = out.len() / n_cols;
        assert!(n_rows <= MAX_LISTED && out.len() == n_rows * n_cols, "{n_rows} rows of {n_cols} in {}", out.len());
        assert!(starts.is_sorted(), "groups one after the other");
        let mut is_listed = [false; MAX_LISTED];
        for &row in &rows[*first as usize..*end as usize] {
            assert!((row as usize) < n_rows, "row {row} of {n_rows}");
            assert!(!std::mem::replace(&mut is_listed[row as usize], true), "row {row} is listed twice");
        }
        let groups = |group: usize| starts[group] as usize..starts[group + 1] as usize;
        let n_groups = starts.len() - 1;
        let most_rows = (0..n_groups).map(|group| groups(group).len()).max().unwrap_or(0);
        let (tiles_down, tiles_across) = (most_rows.div_ceil(tile_rows), n_cols.div_ceil(tile_cols));
        let start = Start(out.as_mut_ptr());
        let task = |task| {
            let first_row = task % tiles_down * tile_rows;
            let first_col = task / tiles_down % tiles_across * tile_cols;
            let group = task / tiles_down / tiles_across;
            let group_rows = &rows[groups(group)];
            if first_row >= group_rows.len() {
                return;
            }
            let n_rows = tile_rows.min(group_rows.len() - first_row);
            body(Tile {
                group,
                first_row,
                first_col,
                n_rows,
                n_cols: tile_cols.min(n_cols - first_col),
                row_stride: n_cols,
                listed: Some(&group_rows[first_row..first_row + n_rows]),
                // SAFETY: `out` has a row, as a row that lies in it is listed, and the column lies inside the row.
                start: unsafe { start.pointer().add(first_col) },
                out: PhantomData,
            });
        };
        let n_tasks = n_groups * tiles_across * tiles_down;
        if parallel { self.run(n_tasks, &task) } else { (0..n_tasks).for_each(task) }
    }
}

/// The most rows of an output whose rows are listed.
pub(crate) const MAX_LISTED: usize = 4096;

/// How [`Threads::for_tiles`] cuts an output.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    /// Elements in a row of the output.
    pub n_cols: usize,
    /// Rows that belong together, such as the rows of one matrix of a batch: no tile covers rows of two groups.
    pub group_rows: usize,
    /// From a row of a group to its next one, in rows of the output: 1 where a group's rows lie one after the other. With `s`,
    /// `s` groups take turns, as the matrices in a batch `[outer, group_rows, s, n_cols]` do.
    pub row_step: usize,
    /// The most rows of a tile.
    pub tile_rows: usize,
    /// The most columns of a tile.
    pub tile_cols: usize,
}

impl Tiling {
    /// The row of the output that is row `row` of group `group`. The rows of the output are an array `[outer, group_rows, row_step]`,
    /// and a group has those of an index of `outer` and one of `row_step`: so no row belongs to two groups, and with a number of
    /// groups that is a multiple of `row_step`, none lies outside.
    fn row(&self, group: usize, row: usize) -> usize {
        (group / self.row_step * self.group_rows + row) * self.row_step + group % self.row_step
    }
}

/// An output that is cut into tiles, by their numbers.
struct Tiles<'a, T> {
    start: Start<T>,
    tiling: Tiling,
    n_groups: usize,
    tiles_down: usize,
    tiles_across: usize,
    /// The borrow of the output.
    out: PhantomData<&'a ()>,
}

impl<'a, T> Tiles<'a, T> {
    fn new(out: &'a mut [T], tiling: Tiling) -> Self {
        let Tiling { n_cols, group_rows, row_step, tile_rows, tile_cols } = tiling;
        assert!(tile_rows > 0 && tile_cols > 0, "empty tiles");
        let group_len = n_cols.checked_mul(group_rows);
        let fits = group_len
            .and_then(|len| len.checked_mul(row_step))
            .is_some_and(|interleaved| out.len().is_multiple_of(interleaved));
        assert!(fits, "{} elements in groups of {group_rows} rows of {n_cols}, {row_step} apart", out.len());
        Tiles {
            start: Start(out.as_mut_ptr()),
            tiling,
            n_groups: out.len() / (group_rows * n_cols),
            tiles_down: group_rows.div_ceil(tile_rows),
            tiles_across: n_cols.div_ceil(tile_cols),
            out: PhantomData,
        }
    }

    fn n_tiles(&self) -> usize {
        self.n_groups * self.tiles_across * self.tiles_down
    }

    /// The tile of that number, below [`Tiles::n_tiles`].
    ///
    /// # Safety
    /// No other tile of this number exists.
    unsafe fn tile(&self, number: usize) -> Tile<'a, T> {
        let Tiling { n_cols, group_rows, row_step, tile_rows, tile_cols } = self.tiling;
        debug_assert!(number < self.n_tiles(), "tile {number} of {}", self.n_tiles());
        let first_row = number % self.tiles_down * tile_rows;
        let first_col = number / self.tiles_down % self.tiles_across * tile_cols;
        let group = number / self.tiles_down / self.tiles_across;
        Tile {
            group,
            first_row,
            first_col,
            n_rows: tile_rows.min(group_rows - first_row),
            n_cols: tile_cols.min(n_cols - first_col),
            row_stride: n_cols * row_step,
            listed: None,
            // SAFETY: the row lies inside the output, and the column inside the row.
            start: unsafe { self.start.pointer().add(self.tiling.row(group, first_row) * n_cols + first_col) },
            out: PhantomData,
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let workers = self.workers.get_mut().unwrap_or_else(PoisonError::into_inner);
        if workers.is_empty() {
            return;
        }
        self.shared.control.fetch_or(SHUTDOWN, SeqCst);
        drop(lock(&self.shared.parking));
        self.shared.wake.notify_all();
        for worker in workers.drain(..) {
            // A worker catches every panic of its tasks, so that there is nothing to hear of here.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("count", &self.count).field("isa", &self.isa).finish()
    }
}

impl Shared {
    /// Runs a job; the caller owns the workers.
    fn run(&self, n_tasks: u32, body: &(dyn Fn(usize) + Sync)) {
        // SAFETY: the caller is the owner, and `control` is closed without active workers, as the last run left it.
        unsafe { *self.job.get() = Job { body: (&raw const body).cast() } };
        let bound = |thread: usize| (u64::from(n_tasks) * thread as u64 / self.ranges.len() as u64) as u32;
        for (thread, range) in self.ranges.iter().enumerate() {
            range.set(bound(thread)..bound(thread + 1));
        }
        let number = self.control.load(SeqCst) & !(JOB - 1);
        self.control.store(number.wrapping_add(JOB) | OPEN, SeqCst);
        if self.n_sleepers.load(SeqCst) > 0 {
            let _parking = lock(&self.parking);
            for _ in 1..(n_tasks as usize).min(self.n_sleepers.load(SeqCst) + 1) {
                self.wake.notify_one();
            }
        }

        self.take_tasks(0);
        self.control.fetch_and(!OPEN, SeqCst);
        if !spin_until(|| self.control.load(SeqCst) & ACTIVE == 0) {
            let mut parking = lock(&self.parking);
            self.owner_sleeps.store(true, SeqCst);
            while self.control.load(SeqCst) & ACTIVE != 0 {
                parking = self.done.wait(parking).unwrap_or_else(PoisonError::into_inner);
            }
            self.owner_sleeps.store(false, SeqCst);
        }
    }

    /// A worker's life: joins each job that it sees open, once, until shutdown.
    fn work(&self, thread: usize) {
        let mut last_job = 0;
        loop {
            let control = self.wait_for_job(last_job);
            if control & SHUTDOWN != 0 {
                return;
            }
            let entered = self.control.compare_exchange(control, control + 1, SeqCst, SeqCst);
            if entered.is_ok() {
                last_job = control & !(JOB - 1);
                self.take_tasks(thread);
                self.control.fetch_sub(1, SeqCst);
                if self.owner_sleeps.load(SeqCst) {
                    drop(lock(&self.parking));
                    self.done.notify_one();
                }
            }
        }
    }

    /// Spins, then sleeps, until a job other than `last_job` is open or the threads shut down; returns `control` as it was seen.
    fn wait_for_job(&self, last_job: u64) -> u64 {
        let ready = |control: u64| control & SHUTDOWN != 0 || (control & OPEN != 0 && control & !(JOB - 1) != last_job);
        let mut control = self.control.load(SeqCst);
        let spun = spin_until(|| {
            control = self.control.load(SeqCst);
            ready(control)
        });
        if spun {
            return control;
        }
        let mut parking = lock(&self.parking);
        self.n_sleepers.fetch_add(1, SeqCst);
        loop {
            control = self.control.load(SeqCst);
            if ready(control) {
                break;
            }
            parking = self.wake.wait(parking).unwrap_or_else(PoisonError::into_inner);
        }
        self.n_sleepers.fetch_sub(1, SeqCst);
        control
    }

    /// Takes tasks of the open job until none is left: those of the thread's range, then the others' last ones. The caller is
    /// the owner, whose number is 0, or a worker that has entered.
    fn take_tasks(&self, thread: usize) {
        // SAFETY: no thread writes the job while the owner runs it or a worker is active (see the header).
        let job = unsafe { *self.job.get() };
        // SAFETY: `run` put the address of such a reference there, on its own stack, and does not return before this
        // function does.
        let body = unsafe { *job.body.cast::<&(dyn Fn(usize) + Sync)>() };
        let (before, own_and_after) = self.ranges.split_at(thread);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let Some((own, after)) = own_and_after.split_first() else { return };
            while let Some(task) = own.take_first() {
                body(task as usize);
            }
            for other in after.iter().chain(before) {
                while let Some(task) = other.take_last() {
                    body(task as usize);
                }
            }
        }));
        if let Err(payload) = result {
            self.ranges.iter().for_each(|range| range.set(0..0));
            lock(&self.panic).get_or_insert(payload);
        }
    }
}

/// A lock without poison: nothing that these mutexes protect can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins until `ready`, at most for [`SPIN`]; says whether it became ready.
#[expect(clippy::disallowed_methods, reason = "a thread spins for a bounded time before it parks")]
fn spin_until(mut ready: impl FnMut() -> bool) -> bool {
    let mut started = None;
    loop {
        for _ in 0..32 {
            if ready() {
                return true;
            }
            spin_loop();
        }
        if started.get_or_insert_with(Instant::now).elapsed() > SPIN {
            return false;
        }
    }
}

/// The first element of an output, for tasks on any thread.
struct Start<T>(*mut T);

// SAFETY: tasks reach the elements only through tiles that do not overlap, and `T: Send` lets other threads write them.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    fn pointer(&self) -> *mut T {
        self.0
    }
}

/// A rectangle of an output that one task alone writes; see [`Threads::for_tiles`].
#[derive(Debug)]
pub struct Tile<'a, T> {
    group: usize,
    first_row: usize,
    first_col: usize,
    n_rows: usize,
    n_cols: usize,
    row_stride: usize,
    /// The rows of the output that the tile's rows are; none: they lie one after the other.
    listed: Option<&'a [u32]>,
    start: *mut T,
    out: PhantomData<&'a mut [T]>,
}

impl<T> Tile<'_, T> {
    /// Which group's rows the tile covers.
    pub fn group(&self) -> usize {
        self.group
    }

    /// The first row of its group that the tile covers.
    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// The first column of the output that the tile covers.
    pub fn first_col(&self) -> usize {
        self.first_col
    }

    /// How many rows the tile has.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// How many columns the tile has.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// The tile's part of its `row`-th row: `n_cols` elements.
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.n_rows, "row {row} of a tile of {}", self.n_rows);
        let row = self.listed.map_or(row, |listed| listed[row] as usize);
        // SAFETY: the tile's rows are `row_stride` apart (see `Tiling::row`), or that many times the number by which they are listed,
        // and lie inside the output, no other tile covers them, and `&mut self` lends one at a time.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.n_cols) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn check_run(threads: &Threads, n_tasks: usize) {
        let calls: Vec<AtomicU32> = (0..n_tasks).map(|_| AtomicU32::new(0)).collect();
        threads.run(n_tasks, &|task| {
            calls[task].fetch_add(1, SeqCst);
        });
        assert!(calls.iter().all(|c| c.load(SeqCst) == 1), "{n_tasks} tasks, each once");
    }

    fn panic_message(run: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("a panic");
        payload.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn every_task_runs_once() {
        for count in [0, 1, 2, 3, 8] {
            let threads = Threads::new(count);
            for n_tasks in [0, 1, 2, 3, 31, 257, 10_000] {
                check_run(&threads, n_tasks);
            }
        }
    }

    #[test]
    fn many_tiny_runs_spinning_and_parked() {
        let threads = Threads::new(3);
        for round in 0..20_000 {
            check_run(&threads, 1 + round % 5);
            if round % 500 == 0 {
                thread::sleep(SPIN * 3);
            }
        }
    }

    #[test]
    fn results_are_seen_by_the_caller() {
        let threads = Threads::new(4);
        let mut out = vec![0usize; 1000];
        for round in 0..2000 {
            threads.for_chunks(&mut out, 1 + round % 300, &|chunk, out| out.fill(chunk + round));
            let len = 1 + round % 300;
            assert!(out.iter().enumerate().all(|(i, &v)| v == i / len + round));
        }
    }

    #[test]
    fn tiles_cover_the_output_once() {
        let threads = Threads::new(3);
        let sizes =
            [(0, 1, 1, 5), (1, 1, 1, 1), (2, 3, 1, 7), (3, 33, 1, 31), (1, 100, 1, 64), (6, 5, 3, 7), (7, 1, 7, 2)];
        for (groups, group_rows, row_step, n_cols) in sizes {
            for (tile_rows, tile_cols) in [(1, 1), (2, 3), (7, 100), (100, 7)] {
                let mut out = vec![0usize; groups * group_rows * n_cols];
                let tiling = Tiling { n_cols, group_rows, row_step, tile_rows, tile_cols };
                threads.for_tiles(&mut out, tiling, &|mut tile| {
                    assert!(tile.first_row() + tile.n_rows() <= group_rows);
                    let (outer, inner) = (tile.group() / row_step, tile.group() % row_step);
                    for row in 0..tile.n_rows() {
                        let row_of_group = tile.first_row() + row;
                        let row_of_out = (outer * group_rows + row_of_group) * row_step + inner;
                        let first = row_of_out * n_cols + tile.first_col();
                        for (col, value) in tile.row_mut(row).iter_mut().enumerate() {
                            *value += first + col + 1;
                        }
                    }
                });
                assert!(out.iter().enumerate().all(|(i, &v)| v == i + 1));
            }
        }
    }

    #[test]
    fn pairs_of_tiles_have_the_same_number() {
        let threads = Threads::new(3);
        // Three groups of 5 rows that take turns, and three of 2 rows one after the other: columns in twos.
        let (mut turns, mut rows) = (vec![0; 5 * 3 * 7], vec![0; 3 * 2 * 7]);
        let tiling =
            |group_rows, row_step| Tiling { n_cols: 7, group_rows, row_step, tile_rows: group_rows, tile_cols: 2 };
        threads.for_tile_pairs((&mut turns, tiling(5, 3)), (&mut rows, tiling(2, 1)), &|mut a, mut b| {
            assert_eq!((a.group(), a.first_col(), a.n_cols()), (b.group(), b.first_col(), b.n_cols()));
            (0..5).for_each(|row| a.row_mut(row).iter_mut().for_each(|x| *x += 1 + b.group() as i32));
            (0..2).for_each(|row| b.row_mut(row).iter_mut().for_each(|x| *x += 1));
        });
        assert!(turns.iter().enumerate().all(|(i, &x)| x == 1 + (i / 7 % 3) as i32) && rows == vec![1; 42]);
    }

    #[test]
    #[should_panic(expected = "tiles of two outputs")]
    fn pairs_of_tiles_that_differ_in_number() {
        let tiling = |tile_cols| Tiling { n_cols: 4, group_rows: 1, row_step: 1, tile_rows: 1, tile_cols };
        Threads::new(1).for_tile_pairs((&mut [0; 4], tiling(2)), (&mut [0; 4], tiling(1)), &|_, _| {});
    }

    #[test]
    #[should_panic(expected = "12 elements in groups of 2 rows of 2, 2 apart")]
    fn groups_that_take_turns_are_whole() {
        let tiling = Tiling { n_cols: 2, group_rows: 2, row_step: 2, tile_rows: 1, tile_cols: 1 };
        Threads::new(1).for_tiles(&mut [0; 12], tiling, &|_| {});
    }

    #[test]
    fn nested_runs_run_inline() {
        let threads = Threads::new(3);
        let total = AtomicU32::new(0);
        for _ in 0..200 {
            threads.run(8, &|_| {
                let caller = thread::current().id();
                threads.run(8, &|_| {
                    assert_eq!(thread::current().id(), caller);
                    total.fetch_add(1, SeqCst);
                });
            });
        }
        assert_eq!(total.load(SeqCst), 200 * 64);
    }

    #[test]
    fn a_panic_reaches_the_caller_after_all_have_stopped() {
        let threads = Threads::new(3);
        for round in 0..300 {
            let running = AtomicU32::new(0);
            let message = panic_message(|| {
                threads.run(16, &|task| {
                    running.fetch_add(1, SeqCst);
                    let _leave = Leave(&running);
                    if task == round % 16 {
                        panic!("task {task}");
                    }
                });
            });
            assert_eq!(message, format!("task {}", round % 16));
            assert_eq!(running.load(SeqCst), 0);
            check_run(&threads, 16);
        }

        struct Leave<'a>(&'a AtomicU32);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
    }

    #[test]
    fn several_callers_share_the_workers() {
        let threads = Threads::new(3);
        thread::scope(|scope| {
            for caller in 0..4 {
                let threads = &threads;
                scope.spawn(move || {
                    for round in 0..3000 {
                        check_run(threads, 1 + (round + caller) % 9);
                        if round % 100 == 0 {
                            panic_message(|| threads.run(4, &|task| panic!("{task}")));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn dropping_joins_spinning_and_parked_workers() {
        for round in 0..50 {
            let threads = Threads::new(4);
            check_run(&threads, 100);
            if round % 2 == 0 {
                thread::sleep(SPIN * 4);
            }
            let shared = Arc::downgrade(&threads.shared);
            drop(threads);
            assert_eq!(shared.strong_count(), 0);
        }
    }
}
