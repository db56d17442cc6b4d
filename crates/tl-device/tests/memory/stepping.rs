//! Random programs of steps with more and fewer rows, served by an arena that was planned from the longest of them: what is
//! out never overlaps, a step that finds the arena empty needs nothing else, and all comes back.

use proptest::prelude::*;
use tl_device::{ArenaPlan, Device, Layout, Lease, Role, Simulation, Source, TensorBuffer};

use super::{check_sums, device, f16, fill, is_all_of};

/// The rows of the longest step.
const MOST_ROWS: usize = 9;

/// A tensor of a step: how wide it is, whether it has a row for each of the step's rows or one, and how many requests of the
/// step it outlives.
#[derive(Clone, Copy, Debug)]
struct Piece {
    width: usize,
    has_rows: bool,
    outlives: usize,
}

impl Piece {
    fn layout(self, n: usize) -> Layout {
        f16(&[if self.has_rows { n } else { 1 }, self.width])
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// A whole step of so many rows.
    Step(usize),
    /// The beginning of a step, ended after so many requests.
    Part { n: usize, len: usize },
    /// A tensor that stays.
    Keep(usize),
    /// One that stayed goes.
    Drop(usize),
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = (1..200usize, any::<bool>(), 0..6usize).prop_map(|(width, has_rows, outlives)| Piece {
        width,
        has_rows,
        outlives,
    });
    prop::collection::vec(piece, 1..20)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let n = || 1..=MOST_ROWS;
    let act = prop_oneof![
        6 => n().prop_map(Act::Step),
        2 => (n(), 0..20usize).prop_map(|(n, len)| Act::Part { n, len }),
        1 => (1..300usize).prop_map(Act::Keep),
        2 => (0..10usize).prop_map(Act::Drop),
    ];
    prop::collection::vec(act, 1..30)
}

/// The arena for the longest step.
fn plan(pieces: &[Piece]) -> ArenaPlan {
    let device = Device::simulated(Simulation::default());
    device.start_trace();
    run(&device, pieces, MOST_ROWS, &mut |_, _| ());
    device.stop_trace().arena().unwrap()
}

/// What looks at a tensor that was just taken, beside those that are out.
type See<'a> = dyn FnMut(&mut Lease, &[(usize, Lease)]) + 'a;

/// Takes a step's tensors in order, shows each to `see` with those that are out, and gives each back in its time.
fn run(device: &Device, pieces: &[Piece], n: usize, see: &mut See) {
    let mut out: Vec<(usize, Lease)> = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        out.retain(|(until, _)| *until >= at);
        let mut lease = device.take(&piece.layout(n), Role::Activation).unwrap();
        see(&mut lease, &out);
        out.push((at + piece.outlives, lease));
    }
}

/// What is kept from act to act, and the byte that each is filled with.
type Kept = Vec<(Lease, u8)>;

fn check(pieces: &[Piece], acts: &[Act]) {
    let device = device();
    let buffer = TensorBuffer::new(&device);
    let plan = plan(pieces);
    buffer.reserve_arena(&plan).unwrap();
    device.set_tensor_buffer(buffer.clone());
    let mut kept: Kept = Vec::new();
    let mut number = 0u8;
    for act in acts {
        match *act {
            Act::Step(n) => {
                let (is_free, before) = (buffer.stats().in_use_count == 0, buffer.stats());
                step(&device, pieces, n, &kept);
                let after = buffer.stats();
                assert_eq!(after.in_use_count, before.in_use_count);
                if is_free {
                    let taken = (after.arena_taken_count - before.arena_taken_count) as usize;
                    assert_eq!((taken, after.fallback_count), (pieces.len(), before.fallback_count));
                }
            }
            Act::Part { n, len } => step(&device, &pieces[..len.min(pieces.len())], n, &kept),
            Act::Keep(width) => {
                number = number.wrapping_add(1);
                let mut lease = device.take(&f16(&[width]), Role::Activation).unwrap();
                fill(&mut lease, number);
                kept.push((lease, number));
            }
            Act::Drop(at) if !kept.is_empty() => drop(kept.swap_remove(at % kept.len())),
            Act::Drop(_) => {}
        }
        check_sums(&device);
        assert!(kept.iter().all(|(lease, byte)| is_all_of(lease, *byte)), "what is kept was written over");
    }
    kept.clear();
    let stats = device.stats();
    assert_eq!((buffer.stats().in_use_count, stats.live_bytes, stats.waste_bytes), (0, 0, 0));
    assert_eq!(stats.reserved_free_bytes, plan.size_bytes as u64);
    assert!(stats.largest_free_bytes >= plan.size_bytes as u64, "the block is one free range again");
    buffer.clear();
    device.trim();
    assert_eq!(device.stats().driver_bytes, 0);
}

/// Runs a step and looks at the bytes of everything that is out after each request.
fn step(device: &Device, pieces: &[Piece], n: usize, kept: &Kept) {
    let mut number = 100u8;
    run(device, pieces, n, &mut |lease, out| {
        number = number.wrapping_add(1);
        fill(lease, number);
        let ranges = out.iter().map(|(_, other)| other).chain(kept.iter().map(|(other, _)| other));
        let own = lease.bytes().as_ptr_range();
        for other in ranges.map(|other| other.bytes().as_ptr_range()) {
            assert!(other.end <= own.start || own.end <= other.start, "two tensors overlap");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shorter_steps_fit_where_the_longest_does(pieces in pieces(), acts in acts()) {
        if !crate::ON_GPU {
            check(&pieces, &acts);
        }
    }
}

/// The sources of a step's requests.
fn sources(device: &Device, work: impl FnOnce()) -> Vec<Source> {
    device.start_trace();
    work();
    let trace = device.stop_trace();
    let events = trace.events();
    let source = |event: tl_device::Event| match event.action {
        tl_device::Action::Take { source, .. } => Some(source),
        _ => None,
    };
    events.filter_map(source).collect()
}

#[test]
fn two_orders_that_begin_alike() {
    if crate::ON_GPU {
        return;
    }
    let device = device();
    let take = |dims: &[usize]| device.take(&f16(dims), Role::Activation).unwrap();
    // With one row the step ends otherwise; the sizes tell the two apart from the first request on.
    let long = |n: usize| {
        let a = take(&[n, 64]);
        let b = take(&[n, 256]);
        drop(a);
        let c = take(&[n, 64]);
        drop((b, c));
    };
    let short = || {
        let a = take(&[1, 64]);
        let b = take(&[1, 256]);
        let c = take(&[7, 300]);
        drop((a, b, c));
    };
    device.start_trace();
    long(20);
    short();
    let plan = device.stop_trace().arena().unwrap();
    device.trim();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_arena(&plan).unwrap();
    device.set_tensor_buffer(buffer.clone());
    device.seal();
    for n in [20, 3, 1, 7] {
        assert_eq!(sources(&device, || long(n)), [Source::Arena; 3], "{n}");
        assert_eq!(sources(&device, short), [Source::Arena; 3]);
    }
    assert_eq!((plan.size_bytes, buffer.stats().arena_most_bytes), (20 * (64 + 256) * 2, plan.size_bytes as u64));
}

/// Steps whose first request is the same: which of them it is shows with the second, and what the first one got lies where both
/// have it.
#[test]
fn steps_with_one_beginning() {
    if crate::ON_GPU {
        return;
    }
    let device = device();
    let take = |dims: &[usize]| device.take(&f16(dims), Role::Activation).unwrap();
    // The shorter one takes more in all, the longer one more at once.
    let step = |n: usize, rounds: usize| {
        let _table = take(&[16]);
        (0..rounds).for_each(|_| drop(take(&[n, 64])));
    };
    device.start_trace();
    step(31, 10);
    step(32, 1);
    let plan = device.stop_trace().arena().unwrap();
    assert_eq!(plan.ratio(), 1.0);
    device.trim();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_arena(&plan).unwrap();
    device.set_tensor_buffer(buffer);
    device.seal();
    for (n, rounds) in [(32, 1), (31, 10), (7, 10), (32, 1), (1, 1)] {
        assert_eq!(sources(&device, || step(n, rounds)), vec![Source::Arena; rounds + 1], "{n}");
    }
}

#[test]
fn a_cache_does_not_lie_in_the_arena() {
    if crate::ON_GPU {
        return;
    }
    let device = device();
    device.start_trace();
    drop(device.take(&f16(&[64]), Role::Activation).unwrap());
    let plan = device.stop_trace().arena().unwrap();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_arena(&plan).unwrap();
    buffer.reserve(f16(&[64]), 1).unwrap();
    device.set_tensor_buffer(buffer.clone());
    let mut held = Vec::new();
    let mut take = |role: Role| sources(&device, || held.push(device.take(&f16(&[64]), role).unwrap()));
    assert_eq!(take(Role::Cache), [Source::Reserve]);
    assert_eq!(take(Role::Cache), [Source::Pool]);
    assert_eq!(take(Role::Activation), [Source::Arena]);
}
