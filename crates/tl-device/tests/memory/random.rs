//! Random sequences of everything that a program can do with memory, against a small model: what is held, and which
//! buffers of which reservation are free.

use proptest::prelude::*;
use tl_device::{DType, Device, Layout, Lease, ReserveKind, Role, Storage, TensorBuffer};

use super::{Value, check_sums, device_with, fill, is_all, is_all_of};

const N_LAYOUTS: usize = 7;

fn layout(index: usize) -> Layout {
    let (dtype, dims): (DType, &[usize]) = [
        (DType::F16, &[4, 8][..]),
        (DType::F32, &[4, 8]),
        (DType::F16, &[5, 9]),
        (DType::F32, &[0]),
        (DType::Bool, &[1]),
        (DType::F16, &[40, 50]),
        (DType::F16, &[3, 8]),
    ][index];
    Layout::new(dtype, dims)
}

#[derive(Clone, Debug)]
enum Step {
    Reserve {
        kind: ReserveKind,
        layout: usize,
        count: usize,
    },
    /// From the device, or straight from the current tensor buffer.
    Take {
        layout: usize,
        role: Role,
        direct: bool,
    },
    /// These and the following name what is held by a number, taken modulo how much is held.
    Share(usize),
    Clone(usize),
    Drop(usize),
    Recycle(usize),
    Clear,
    ClearShape(usize),
    ClearLearnableShape(usize),
    Trim,
    /// A new tensor buffer in place of the current one, or none; the former one goes if nothing else has it.
    Replace {
        with_new: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(ReserveKind::Exact), Just(ReserveKind::UpTo), Just(ReserveKind::Learnable)];
    let role = prop_oneof![3 => Just(Role::Activation), 1 => Just(Role::Learnable)];
    let layout = || 0..N_LAYOUTS;
    let held = || 0..1000usize;
    let step = prop_oneof![
        4 => (kind, layout(), 0..4usize).prop_map(|(kind, layout, count)| Step::Reserve { kind, layout, count }),
        12 => (layout(), role, any::<bool>()).prop_map(|(layout, role, direct)| Step::Take { layout, role, direct }),
        5 => held().prop_map(Step::Share),
        4 => held().prop_map(Step::Clone),
        8 => held().prop_map(Step::Drop),
        4 => held().prop_map(Step::Recycle),
        1 => Just(Step::Clear),
        1 => layout().prop_map(Step::ClearShape),
        1 => layout().prop_map(Step::ClearLearnableShape),
        1 => Just(Step::Trim),
        1 => any::<bool>().prop_map(|with_new| Step::Replace { with_new }),
    ];
    prop::collection::vec(step, 1..120)
}

/// A reservation as the model has it. Clearing ends it; a later one of the same layout is another.
struct Reservation {
    kind: ReserveKind,
    layout: Layout,
    free: usize,
    in_use: usize,
}

/// A piece of memory that is out: the handles on it, its contents, and the reservation that it came from.
struct Piece {
    lease: Option<Lease>,
    handles: Vec<Storage>,
    layout: Layout,
    pattern: u8,
    is_learnable: bool,
    reservation: Option<usize>,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        self.lease.as_ref().map_or_else(|| self.handles[0].bytes(), Lease::bytes)
    }

    fn is_intact(&self) -> bool {
        match &self.lease {
            Some(lease) => is_all_of(lease, self.pattern),
            None => is_all(&self.handles[0], self.pattern),
        }
    }
}

struct World {
    device: Device,
    buffer: Option<TensorBuffer>,
    /// All that ever were, by the number that pieces know; what was cleared or went with its buffer is `None`.
    reservations: Vec<Option<Reservation>>,
    pieces: Vec<Piece>,
    taken: u64,
    fallbacks: u64,
    n_taken: u8,
}

impl World {
    fn new() -> World {
        let device = device_with(|memory| {
            memory.pool_max_bytes = 6000;
            memory.max_buffers_per_size = 2;
        });
        World { device, buffer: None, reservations: Vec::new(), pieces: Vec::new(), taken: 0, fallbacks: 0, n_taken: 0 }
    }

    fn step(&mut self, step: &Step) {
        let held = self.pieces.len().max(1);
        match *step {
            Step::Reserve { kind, layout: index, count } => self.reserve(kind, layout(index), count),
            Step::Take { layout: index, role, direct } => self.take(layout(index), role, direct),
            Step::Share(n) => {
                if let Some(piece) = self.pieces.get_mut(n % held) {
                    piece.handles.extend(piece.lease.take().map(Lease::share));
                }
            }
            Step::Clone(n) => {
                if let Some(piece) = self.pieces.get_mut(n % held) {
                    piece.handles.extend(piece.handles.first().cloned());
                }
            }
            Step::Drop(n) => self.drop_handle(n % held),
            Step::Recycle(n) => self.recycle(n % held),
            Step::Clear => self.clear(|_| true, TensorBuffer::clear),
            Step::ClearShape(index) => {
                let shape = layout(index).shape().clone();
                let is_meant = |r: &Reservation| r.kind != ReserveKind::Learnable && *r.layout.shape() == shape;
                self.clear(is_meant, |buffer| buffer.clear_shape(&shape));
            }
            Step::ClearLearnableShape(index) => {
                let shape = layout(index).shape().clone();
                let is_meant = |r: &Reservation| r.kind == ReserveKind::Learnable && *r.layout.shape() == shape;
                self.clear(is_meant, |buffer| buffer.clear_learnable_shape(&shape));
            }
            Step::Trim => {
                self.device.trim();
                assert_eq!(self.device.stats().pooled_bytes, 0);
            }
            Step::Replace { with_new } => self.replace(with_new),
        }
    }

    fn replace(&mut self, with_new: bool) {
        self.buffer = with_new.then(|| TensorBuffer::new(&self.device));
        drop(self.device.replace_tensor_buffer(self.buffer.clone()).unwrap());
        self.reservations.iter_mut().for_each(|reservation| *reservation = None);
        (self.taken, self.fallbacks) = (0, 0);
    }

    fn reserve(&mut self, kind: ReserveKind, layout: Layout, count: usize) {
        let Some(buffer) = &self.buffer else { return };
        match kind {
            ReserveKind::Exact => buffer.reserve(&layout, count),
            ReserveKind::UpTo => buffer.reserve_up_to(&layout, count),
            ReserveKind::Learnable => buffer.reserve_learnable(&layout, count),
        }
        .unwrap();
        let same = |r: &&mut Reservation| r.kind == kind && r.layout == layout;
        match self.reservations.iter_mut().flatten().find(same) {
            Some(reservation) => reservation.free += count,
            None => self.reservations.push(Some(Reservation { kind, layout, free: count, in_use: 0 })),
        }
    }

    /// The reservation that must serve this request.
    fn source(&self, layout: &Layout, role: Role) -> Option<usize> {
        let fits = |kind: ReserveKind, own: &Layout| match kind {
            ReserveKind::UpTo => {
                own.dtype() == layout.dtype()
                    && own.shape().len() == layout.shape().len()
                    && own.shape().iter().zip(layout.shape().iter()).all(|(bound, dim)| dim <= bound)
            }
            _ => own == layout,
        };
        let all = self.reservations.iter().enumerate();
        let candidates = all.filter_map(|(i, r)| r.as_ref().map(|r| (i, r))).filter(|(_, r)| {
            r.free > 0 && (r.kind == ReserveKind::Learnable) == (role == Role::Learnable) && fits(r.kind, &r.layout)
        });
        candidates.min_by_key(|(_, r)| (r.kind == ReserveKind::UpTo, r.layout.len_bytes().unwrap())).map(|(i, _)| i)
    }

    fn take(&mut self, layout: Layout, role: Role, direct: bool) {
        let source = self.source(&layout, role);
        let allocations = self.device.stats().allocation_count;
        let lease = match (&self.buffer, role) {
            (Some(buffer), Role::Activation) if direct => buffer.take(&layout).unwrap(),
            (Some(buffer), Role::Learnable) if direct => buffer.take_learnable(&layout).unwrap(),
            _ => Some(self.device.take(&layout, role).unwrap()),
        };
        if self.buffer.is_some() {
            self.taken += u64::from(source.is_some() && role != Role::Learnable);
            self.fallbacks += u64::from(source.is_none() && role == Role::Activation);
        }
        if let Some(at) = source {
            let reservation = self.reservations[at].as_mut().unwrap();
            reservation.free -= 1;
            reservation.in_use += 1;
            assert_eq!(self.device.stats().allocation_count, allocations, "{layout} was reserved");
        }
        let Some(mut lease) = lease else { return assert!(source.is_none() && direct, "{layout} was reserved") };
        assert!(!direct || source.is_some() || self.buffer.is_none(), "{layout} was not reserved");
        assert_eq!(lease.len_bytes(), layout.len_bytes().unwrap());
        self.n_taken = self.n_taken.wrapping_add(1);
        fill(&mut lease, self.n_taken);
        self.pieces.push(Piece {
            lease: Some(lease),
            handles: Vec::new(),
            layout,
            pattern: self.n_taken,
            is_learnable: role == Role::Learnable,
            reservation: source,
        });
    }

    fn drop_handle(&mut self, index: usize) {
        let Some(piece) = self.pieces.get_mut(index) else { return };
        if piece.handles.len() > 1 {
            piece.handles.pop();
        } else {
            self.end(index, false);
        }
    }

    fn recycle(&mut self, index: usize) {
        let (Some(buffer), Some(piece)) = (&self.buffer, self.pieces.get_mut(index)) else { return };
        let Some(storage) = piece.handles.pop() else { return };
        match buffer.recycle(Value(storage)) {
            Ok(()) => self.end(index, true),
            Err(refused) => {
                assert!(!piece.handles.is_empty(), "refused the only handle");
                piece.handles.push(refused.0.0);
            }
        }
    }

    /// The last handle of a piece goes, or has gone.
    fn end(&mut self, index: usize, is_recycled: bool) {
        let piece = self.pieces.swap_remove(index);
        assert!(!is_recycled || piece.handles.is_empty(), "recycled what is shared");
        let place = piece.reservation.and_then(|at| self.reservations[at].as_mut());
        if let Some(reservation) = place {
            reservation.in_use -= 1;
            reservation.free += usize::from(!piece.is_learnable || is_recycled);
        }
    }

    fn clear(&mut self, is_meant: impl Fn(&Reservation) -> bool, clear: impl Fn(&TensorBuffer)) {
        let Some(buffer) = &self.buffer else { return };
        clear(buffer);
        self.reservations.iter_mut().filter(|r| r.as_ref().is_some_and(&is_meant)).for_each(|r| *r = None);
    }

    fn check(&self) {
        check_sums(&self.device);
        let stats = self.device.stats();
        let bytes = |piece: &Piece| piece.layout.len_bytes().unwrap() as u64;
        assert_eq!(stats.live_bytes, self.pieces.iter().map(bytes).sum::<u64>());
        assert_eq!(
            stats.learnable_bytes,
            self.pieces.iter().filter(|piece| piece.is_learnable).map(bytes).sum::<u64>()
        );
        if !self.device.is_gpu() {
            let mut ranges: Vec<_> = self.pieces.iter().map(|piece| piece.bytes().as_ptr_range()).collect();
            ranges.sort_by_key(|range| (range.start, range.end));
            for pair in ranges.windows(2) {
                assert!(pair[0].end <= pair[1].start && pair[0].start < pair[1].start, "two pieces overlap");
            }
        }
        for piece in &self.pieces {
            assert!(piece.is_intact(), "{} was overwritten", piece.layout);
        }
        let own = || self.reservations.iter().flatten();
        let reserve = self.device.tensor_buffer_stats();
        assert_eq!(reserve.reserved_count, own().map(|r| r.free + r.in_use).sum::<usize>());
        assert_eq!(reserve.in_use_count, own().map(|r| r.in_use).sum::<usize>());
        assert_eq!((reserve.taken_count, reserve.fallback_count), (self.taken, self.fallbacks));
        assert!(reserve.reused_count <= reserve.taken_count);
        let free_bytes = |r: &Reservation| (r.free * r.layout.len_bytes().unwrap().max(1).next_multiple_of(64)) as u64;
        assert_eq!(stats.reserved_free_bytes, own().map(free_bytes).sum::<u64>());
    }

    fn end_all(mut self) {
        while !self.pieces.is_empty() {
            self.drop_handle(0);
            self.check();
        }
        let stats = self.device.stats();
        assert_eq!((stats.live_bytes, stats.waste_bytes), (0, 0));
        self.clear(|_| true, TensorBuffer::clear);
        self.device.trim();
        let stats = self.device.stats();
        assert_eq!((stats.driver_bytes, stats.allocation_count), (0, stats.free_count), "all came back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if crate::ON_GPU { 12 } else { 400 }, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_overlaps_nothing_is_lost_all_comes_back(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.end_all();
    }
}
