//! Random sequences with what bounds and watches memory: an arena, limits, sealing, scopes, traces, and returns that wait
//! for queued work which ends in any order. On a device with bytes the contents are checked too.

use proptest::prelude::*;
use tl_device::{
    Action, Device, DeviceOptions, Error, Layout, Lease, MemoryStats, Role, Simulation, Source, TensorBuffer, Trace,
};

use super::{check_sums, fill, is_all_of};

/// What the recording takes of the limit is in it.
const LIMIT: usize = 60_000;
const SOFT_LIMIT: usize = 45_000;

fn layout(index: usize) -> Layout {
    Layout::from(vec![[1, 40, 100, 500, 1500, 4000][index % 6]])
}

#[derive(Clone, Debug)]
enum Step {
    Take { layout: usize, role: Role },
    Drop(usize),
    Complete(usize),
    Reserve { layout: usize, count: usize, is_bound: bool },
    Arena(Vec<usize>),
    Clear,
    Seal(bool),
    Trim,
    OpenScope,
    CloseScope,
    RestartTrace,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let role = prop_oneof![4 => Just(Role::Activation), 1 => Just(Role::Cache), 1 => Just(Role::Learnable)];
    let layout = || 0..6usize;
    let step = prop_oneof![
        12 => (layout(), role).prop_map(|(layout, role)| Step::Take { layout, role }),
        9 => (0..100usize).prop_map(Step::Drop),
        5 => (0..100usize).prop_map(Step::Complete),
        2 => (layout(), 1..3usize, any::<bool>())
            .prop_map(|(layout, count, is_bound)| Step::Reserve { layout, count, is_bound }),
        2 => prop::collection::vec(layout(), 1..8).prop_map(Step::Arena),
        1 => Just(Step::Clear),
        1 => any::<bool>().prop_map(Step::Seal),
        1 => Just(Step::Trim),
        1 => Just(Step::OpenScope),
        1 => Just(Step::CloseScope),
        1 => Just(Step::RestartTrace),
    ];
    prop::collection::vec(step, 1..100)
}

struct Piece {
    lease: Lease,
    layout: Layout,
    pattern: u8,
    role: Role,
}

struct World {
    device: Device,
    buffer: TensorBuffer,
    pieces: Vec<Piece>,
    /// The most that was live since each open scope was opened, by the model's own count.
    scopes: Vec<(tl_device::Scope, u64)>,
    /// What was live when the trace began.
    live_at_trace: u64,
    is_sealed: bool,
    n_taken: u8,
}

impl World {
    fn new(simulation: Option<Simulation>) -> World {
        let mut options = DeviceOptions::default();
        options.threads = 1;
        options.memory.limit_bytes = Some(LIMIT);
        options.memory.soft_limit_bytes = Some(SOFT_LIMIT);
        options.simulation = simulation;
        let is_simulated = options.simulation.is_some();
        let device = if is_simulated { Device::cpu_with(&options) } else { crate::open(&options) };
        let buffer = TensorBuffer::new(&device);
        device.set_tensor_buffer(buffer.clone());
        device.start_trace();
        World { device, buffer, pieces: Vec::new(), scopes: Vec::new(), live_at_trace: 0, is_sealed: false, n_taken: 0 }
    }

    fn live(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.layout.len_bytes().unwrap() as u64).sum()
    }

    fn step(&mut self, step: &Step) {
        let before = self.device.stats();
        match step {
            Step::Take { layout: index, role } => self.take(layout(*index), *role, &before),
            Step::Drop(n) => {
                if !self.pieces.is_empty() {
                    self.pieces.swap_remove(n % self.pieces.len());
                }
            }
            Step::Complete(n) => {
                let waiting = self.device.returning_count();
                let is_done = self.device.complete(n % waiting.max(1));
                assert_eq!((is_done, self.device.returning_count()), (waiting > 0, waiting.saturating_sub(1)));
            }
            Step::Reserve { layout: index, count, is_bound } => {
                let result = match is_bound {
                    true => self.buffer.reserve_up_to(layout(*index), *count),
                    false => self.buffer.reserve(layout(*index), *count),
                };
                self.check_refusal(result.err(), &before);
            }
            Step::Arena(_) if self.device.is_gpu() => {}
            Step::Arena(layouts) => {
                let result = self.buffer.reserve_arena(&arena_of(layouts));
                self.check_refusal(result.err(), &before);
            }
            Step::Clear => self.buffer.clear(),
            Step::Seal(is_sealed) => {
                self.is_sealed = *is_sealed;
                if *is_sealed { self.device.seal() } else { self.device.unseal() }
            }
            Step::Trim => self.device.trim(),
            Step::OpenScope => self.scopes.push((self.device.scope(), self.live())),
            Step::CloseScope => drop(self.scopes.pop()),
            Step::RestartTrace => {
                check_trace(&self.device.stop_trace(), self.live_at_trace, self.live());
                self.live_at_trace = self.live();
                self.device.start_trace();
            }
        }
    }

    fn take(&mut self, layout: Layout, role: Role, before: &MemoryStats) {
        match self.device.take(&layout, role) {
            Ok(mut lease) => {
                self.n_taken = self.n_taken.wrapping_add(1);
                fill(&mut lease, self.n_taken);
                self.pieces.push(Piece { lease, layout, pattern: self.n_taken, role });
                if self.is_sealed {
                    assert_eq!(self.device.stats().allocation_count, before.allocation_count, "sealed");
                }
            }
            Err(error) => self.check_refusal(Some(error), before),
        }
    }

    /// Refused for one of the two reasons that there are, which then holds; and nothing but the pool has changed.
    fn check_refusal(&self, error: Option<Error>, before: &MemoryStats) {
        let after = self.device.stats();
        match error {
            None => assert!(!self.is_sealed || after.allocation_count == before.allocation_count),
            Some(Error::Sealed { .. }) => assert!(self.is_sealed),
            Some(Error::Limit { requested_bytes, limit_bytes, stats, .. }) => {
                assert_eq!((limit_bytes, stats.pooled_bytes), (LIMIT as u64, 0), "the pool was emptied first");
                assert!(stats.total_bytes() + requested_bytes as u64 > limit_bytes);
            }
            Some(error) => panic!("{error}"),
        }
        assert_eq!(after.live_bytes, before.live_bytes);
    }

    fn check(&mut self) {
        check_sums(&self.device);
        let (live, stats) = (self.live(), self.device.stats());
        assert_eq!(stats.live_bytes, live);
        assert!(stats.total_bytes() <= LIMIT as u64, "{stats:?}");
        let sum = |role: Role| -> u64 {
            let own = self.pieces.iter().filter(|piece| piece.role == role);
            own.map(|piece| piece.layout.len_bytes().unwrap() as u64).sum()
        };
        assert_eq!((stats.cache_bytes, stats.learnable_bytes), (sum(Role::Cache), sum(Role::Learnable)));
        for (scope, most) in &mut self.scopes {
            *most = live.max(*most);
            assert_eq!(scope.stats().peak_bytes, *most);
        }
        if self.device.is_simulated() {
            return;
        }
        if !self.device.is_gpu() {
            let mut ranges: Vec<_> = self.pieces.iter().map(|piece| piece.lease.bytes().as_ptr_range()).collect();
            ranges.sort_by_key(|range| (range.start, range.end));
            assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "two pieces overlap");
        }
        for piece in &self.pieces {
            assert!(is_all_of(&piece.lease, piece.pattern), "{} was overwritten", piece.layout);
        }
    }

    fn end(mut self) {
        self.pieces.clear();
        while self.device.returning_count() > 0 {
            self.device.complete(self.device.returning_count() / 2);
            check_sums(&self.device);
        }
        check_trace(&self.device.stop_trace(), self.live_at_trace, 0);
        let stats = self.device.stats();
        assert_eq!((stats.live_bytes, stats.waste_bytes), (0, 0));
        assert_eq!(stats.driver_bytes, stats.reserved_free_bytes + stats.pooled_bytes);
        self.buffer.clear();
        self.device.trim();
        let stats = self.device.stats();
        assert_eq!((stats.driver_bytes, stats.allocation_count), (0, stats.free_count), "all came back");
    }
}

/// An arena for a step that takes these layouts, each returned when the second after it is taken.
fn arena_of(layouts: &[usize]) -> tl_device::ArenaPlan {
    let device = Device::simulated(Simulation::default());
    device.start_trace();
    let mut held = std::collections::VecDeque::new();
    for &index in layouts {
        held.push_back(device.take(&layout(index), Role::Activation).unwrap());
        if held.len() > 2 {
            held.pop_front();
        }
    }
    held.clear();
    device.stop_trace().arena().unwrap()
}

/// Replays a trace: its takes and returns add up to what the ledger said after each of them.
fn check_trace(trace: &Trace, live_before: u64, live_after: u64) {
    let mut held = std::collections::HashMap::new();
    let mut live = live_before;
    // Where the limit left it no room.
    if trace.is_thinned() || trace.is_ended() {
        return;
    }
    for event in trace.events() {
        match &event.action {
            Action::Take { id, layout, source, .. } if *source != Source::File => {
                let bytes = layout.len_bytes().unwrap() as u64;
                assert!(held.insert(*id, bytes).is_none(), "an id names one tensor");
                live += bytes;
                assert_eq!(event.live_bytes, live);
            }
            Action::Return { id } => {
                match held.remove(id) {
                    Some(bytes) => live -= bytes,
                    // Taken before the trace began, of a size that is not in it.
                    None => {
                        assert!(event.live_bytes <= live && live_before > 0);
                        live = event.live_bytes;
                    }
                }
                assert_eq!(event.live_bytes, live);
            }
            _ => assert_eq!(event.live_bytes, live),
        }
        assert!(event.live_bytes + event.reserved_free_bytes + event.pooled_bytes <= event.driver_bytes);
    }
    assert_eq!(live, live_after);
}

fn check(steps: &[Step], simulation: Option<Simulation>) {
    let mut world = World::new(simulation);
    for step in steps {
        world.step(step);
        world.check();
    }
    world.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if crate::ON_GPU { 12 } else { 400 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_on_a_device_with_bytes(steps in steps()) {
        check(&steps, None);
    }

    #[test]
    fn bounds_hold_where_returns_wait_and_end_in_any_order(steps in steps()) {
        let mut simulation = Simulation::default();
        simulation.is_delayed = true;
        check(&steps, Some(simulation));
    }
}
