//! What only a GPU has: launches, the stream's order, staging, counts of what is made, failures.
//!
//! Skipped where the machine has no GPU, unless `TL_REQUIRE_GPU` is set.
#![cfg(feature = "gpu")]

use tl_device::{Binding, DType, Device, DeviceOptions, Error, Launch, Layout, Lease, Role, Storage, TensorBuffer};

#[path = "../../../tests/gpu.rs"]
mod gpu;
use gpu::gpu;

fn options() -> DeviceOptions {
    DeviceOptions::default()
}

fn words(n: usize) -> Layout {
    Layout::new(DType::I32, [n])
}

fn read_words(storage: &Storage) -> Result<Vec<u32>, Error> {
    let mut bytes = Vec::new();
    let mut n = 0;
    storage.read(0, storage_len(storage), &mut |part| {
        n += part.len();
        bytes.extend_from_slice(part);
    })?;
    assert_eq!(n, storage_len(storage));
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}

fn storage_len(storage: &Storage) -> usize {
    Binding::read(storage).len_bytes()
}

const ADD: &str = "
    struct Params { n: u32, increment: u32 }
    var<immediate> p: Params;
    @group(0) @binding(0) var<storage, read> x: array<u32>;
    @group(0) @binding(1) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
        let i = (group.x + group.y * groups.x) * 64u + lane;
        if i < p.n { out[i] = x[i] + p.increment; }
    }
";

fn launch_add(device: &Device, x: Binding, out: &mut Lease, n: usize, increment: u32) -> Result<(), Error> {
    let source = |_: &_| ADD.to_owned();
    device.launch(&Launch {
        name: "add",
        variant: 0,
        source: &source,
        reads: &[x],
        writes: &[Binding::write(out)],
        reports_faults: false,
        immediates: &[n as u32, increment],
        groups: n.div_ceil(64) as u32,
    })
}

fn add(device: &Device, x: &Storage, n: usize, increment: u32) -> Storage {
    let mut out = device.take(&words(n), Role::Activation).unwrap();
    launch_add(device, Binding::read(x), &mut out, n, increment).unwrap();
    out.share()
}

fn upload(device: &Device, values: &[u32]) -> Storage {
    let mut lease = device.take(&words(values.len()), Role::Activation).unwrap();
    lease.write(0, bytemuck::cast_slice(values)).unwrap();
    lease.share()
}

#[test]
fn a_chain_of_launches_in_recycled_memory() {
    let Some(device) = gpu(&options()) else { return };
    let n = 1000;
    let values: Vec<u32> = (0..n as u32).collect();
    let mut x = upload(&device, &values);
    // More than a batch, and every result dropped while the next launch still reads it.
    for _ in 0..700 {
        x = add(&device, &x, n, 3);
    }
    let expected: Vec<u32> = values.iter().map(|x| x + 2100).collect();
    assert_eq!(read_words(&x).unwrap(), expected);
    let stats = device.gpu_stats().unwrap();
    assert_eq!((stats.dispatches, stats.readbacks, stats.uploads, stats.pipelines_created), (700, 1, 1, 1));
    assert!(stats.buffers_created <= 3 && stats.bind_groups_created <= 6, "{stats:?}");
    assert!(stats.submissions <= 6, "{stats:?}");
}

#[test]
fn uploads_of_every_size_arrive_in_order() {
    let Some(device) = gpu(&options()) else { return };
    // Odd lengths, many small ones, and more than the whole ring holds.
    for len in [1usize, 3, 4, 5, 17, 4096, (2 << 20) - 4, (2 << 20) + 12, 11 << 20] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        let mut lease = device.take(&Layout::new(DType::Bool, [len]), Role::Activation).unwrap();
        lease.write(0, &bytes).unwrap();
        let mut found = Vec::new();
        lease.read(0, len, &mut |part| found.extend_from_slice(part)).unwrap();
        assert!(found == bytes, "{len} bytes");
        let mut middle = Vec::new();
        let (from, n) = (len / 3, len / 2);
        lease.read(from, n, &mut |part| middle.extend_from_slice(part)).unwrap();
        assert!(middle == bytes[from..from + n], "{len} bytes from {from}");
    }
    // A buffer that is written again while a launch that reads its old contents is queued.
    let mut sums = Vec::new();
    for round in 0..300u32 {
        let x = upload(&device, &[round; 64]);
        sums.push(add(&device, &x, 64, 1));
    }
    for (round, sum) in sums.iter().enumerate() {
        assert_eq!(read_words(sum).unwrap(), [round as u32 + 1; 64], "round {round}");
    }
}

#[test]
fn nothing_is_made_after_the_first_round() {
    let Some(device) = gpu(&options()) else { return };
    let buffer = TensorBuffer::new(&device);
    buffer.reserve(words(5000), 3).unwrap();
    device.set_tensor_buffer(buffer);
    let round = |seed: u32| {
        let mut x = upload(&device, &vec![seed; 5000]);
        for _ in 0..20 {
            x = add(&device, &x, 5000, 1);
        }
        assert_eq!(read_words(&x).unwrap(), vec![seed + 20; 5000]);
    };
    round(0);
    device.seal();
    let before = device.gpu_stats().unwrap();
    (1..10).for_each(round);
    let after = device.gpu_stats().unwrap();
    let made = |s: &tl_device::GpuStats| (s.buffers_created, s.bind_groups_created, s.pipelines_created);
    let held = |s: &tl_device::GpuStats| (s.driver_buffers, s.driver_bind_groups, s.driver_pipelines);
    assert_eq!(made(&before), made(&after));
    assert_eq!(held(&before), held(&after));
    assert_eq!(after.dispatches - before.dispatches, 9 * 20);
}

#[test]
fn freed_buffers_leave_the_driver() {
    let mut options = options();
    options.memory = tl_device::MemoryOptions::unpooled();
    let Some(device) = gpu(&options) else { return };
    let held = device.gpu_stats().unwrap().driver_buffers;
    let mut x = upload(&device, &[1; 100]);
    for _ in 0..50 {
        x = add(&device, &x, 100, 1);
    }
    assert_eq!(read_words(&x).unwrap(), [51; 100]);
    drop(x);
    device.synchronize().unwrap();
    let stats = device.gpu_stats().unwrap();
    assert!(stats.driver_buffers <= held && stats.buffers_created == 51, "{stats:?}");
    assert_eq!(stats.driver_bind_groups, 0);
    assert_eq!(device.stats().driver_bytes, 0);
}

#[test]
fn a_program_that_is_wrong_is_an_error() {
    let Some(device) = gpu(&options()) else { return };
    for source in ["fn main( {", "@compute @workgroup_size(1) fn other() {}"] {
        let mut out = device.take(&words(4), Role::Activation).unwrap();
        let text = |_: &_| source.to_owned();
        let error = device.launch(&Launch {
            name: "broken",
            variant: source.len() as u64,
            source: &text,
            reads: &[],
            writes: &[Binding::write(&mut out)],
            reports_faults: false,
            immediates: &[],
            groups: 1,
        });
        let error = error.unwrap_err().to_string();
        let name = &device.gpu_info().unwrap().name;
        assert!(error.contains("broken") && error.contains(name.as_str()), "{error}");
    }
    // The device goes on.
    let x = upload(&device, &[5; 8]);
    assert_eq!(read_words(&add(&device, &x, 8, 2)).unwrap(), [7; 8]);
}

#[test]
fn an_index_out_of_range_is_told_once() {
    let Some(device) = gpu(&options()) else { return };
    let x = upload(&device, &[9; 4]);
    let mut out = device.take(&words(4), Role::Activation).unwrap();
    let source = |_: &_| {
        "@group(0) @binding(0) var<storage, read> x: array<u32>;
         @group(0) @binding(1) var<storage, read_write> out: array<u32>;
         struct Fault { flag: atomic<u32>, index: i32, size: u32, unused: u32 }
         @group(0) @binding(2) var<storage, read_write> fault: Fault;
         @compute @workgroup_size(1) fn main() {
             if x[0] >= 4u && atomicExchange(&fault.flag, 1u) == 0u { fault.index = i32(x[0]); fault.size = 4u; }
             out[0] = 1u;
         }"
        .to_owned()
    };
    device
        .launch(&Launch {
            name: "fault",
            variant: 0,
            source: &source,
            reads: &[Binding::read(&x)],
            writes: &[Binding::write(&mut out)],
            reports_faults: true,
            immediates: &[],
            groups: 1,
        })
        .unwrap();
    let out = out.share();
    assert_eq!(read_words(&out).unwrap_err(), Error::Index { index: 9, size: 4 });
    assert_eq!(read_words(&out).unwrap()[0], 1);
}

#[test]
fn too_much_memory_is_an_error_with_the_name() {
    let mut options = options();
    options.memory.limit_bytes = Some(1 << 20);
    let Some(device) = gpu(&options) else { return };
    let refused = device.take(&words(1 << 20), Role::Activation).err().unwrap();
    assert!(matches!(refused, Error::Limit { .. }), "{refused}");
    let Some(device) = gpu(&DeviceOptions::default()) else { return };
    let refused = device.take(&words(1 << 45), Role::Activation).err().unwrap().to_string();
    assert!(refused.contains(&device.gpu_info().unwrap().name), "{refused}");
    assert!(device.take(&words(16), Role::Activation).is_ok());
}

#[test]
fn what_a_gpu_cannot_do() {
    let Some(device) = gpu(&options()) else { return };
    let file = tl_device::Mapping::open("Cargo.toml").unwrap();
    assert_eq!(device.adopt(&file, 0, 4).err(), Some(Error::NotMappable));
    device.start_trace();
    drop(device.take(&words(8), Role::Activation).unwrap());
    let plan = device.stop_trace().arena().unwrap();
    assert_eq!(TensorBuffer::new(&device).reserve_arena(&plan).err(), Some(Error::NoArena));
    let foreign = Device::cpu().take(&words(8), Role::Activation).unwrap();
    let mut out = device.take(&words(8), Role::Activation).unwrap();
    let error = launch_add(&device, Binding::read_lease(&foreign), &mut out, 8, 1).unwrap_err();
    assert!(error.to_string().contains("another device"), "{error}");
}

#[test]
fn a_device_that_does_not_answer_counts_as_hung() {
    let mut options = options();
    options.gpu.timeout = std::time::Duration::ZERO;
    let Some(device) = gpu(&options) else { return };
    let n = 1 << 20;
    let mut x = upload(&device, &vec![1; n]);
    for _ in 0..20 {
        x = add(&device, &x, n, 1);
    }
    let error = read_words(&x).unwrap_err().to_string();
    let name = &device.gpu_info().unwrap().name;
    assert!(error.contains("hung") && error.contains(name.as_str()), "{error}");
    // What comes later fails with it rather than wait again.
    assert!(device.synchronize().unwrap_err().to_string().contains("hung"));
    assert!(device.take(&words(1 << 16), Role::Activation).is_err());
}

#[test]
fn a_tensor_beyond_the_binding_limit_is_an_error() {
    let mut options = options();
    options.gpu.max_binding_bytes = Some(4096);
    let Some(device) = gpu(&options) else { return };
    let x = upload(&device, &[1; 2000]);
    let mut out = device.take(&words(2000), Role::Activation).unwrap();
    let error = launch_add(&device, Binding::read(&x), &mut out, 2000, 1).unwrap_err().to_string();
    assert!(error.contains("8.0 KiB") && error.contains("4.0 KiB"), "{error}");
    let parts = Binding::read(&x).part(0, 4096);
    let mut small = device.take(&words(1000), Role::Activation).unwrap();
    launch_add(&device, parts, &mut small, 1000, 1).unwrap();
    assert_eq!(read_words(&small.share()).unwrap(), [2; 1000]);
}

#[test]
fn several_threads_share_a_device() {
    let Some(device) = gpu(&options()) else { return };
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..20 {
                    let mut x = upload(device, &[thread * 1000 + round; 500]);
                    for _ in 0..10 {
                        x = add(device, &x, 500, 1);
                    }
                    assert_eq!(read_words(&x).unwrap(), [thread * 1000 + round + 10; 500]);
                }
            });
        }
    });
    assert_eq!(device.stats().live_bytes, 0);
}

#[test]
fn the_pool_is_emptied_and_the_request_repeated() {
    let mut options = options();
    options.memory.limit_bytes = Some(1_200_000);
    let Some(device) = gpu(&options) else { return };
    let x = upload(&device, &vec![3; 120_000]);
    let sum = add(&device, &x, 100_000, 4);
    drop(x);
    assert!(device.stats().pooled_bytes >= 480_000, "{:?}", device.stats());
    // Beside what is live there is room for this only without what the pool holds, which queued work still reads.
    let y = upload(&device, &vec![5; 140_000]);
    assert_eq!((device.stats().pooled_bytes, device.stats().eviction_count), (0, 0));
    assert_eq!(read_words(&sum).unwrap()[..100_000], vec![7; 100_000]);
    assert_eq!(read_words(&y).unwrap(), vec![5; 140_000]);
}
