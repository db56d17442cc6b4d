//! Sessions side by side on one device: each is served by its own buffers and sealed, and no number of them passes the limit.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tl_device::{Device, DeviceOptions, Error, Layout, ReservationPlan, ReserveKind, Role, SessionPlan, TensorBuffer};

fn device(limit_bytes: Option<usize>) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.memory.limit_bytes = limit_bytes;
    Device::cpu_with(&options)
}

fn plan(text: &str) -> ReservationPlan {
    text.parse().unwrap()
}

fn layout(n: usize) -> Layout {
    Layout::from(vec![n])
}

/// An arena for two tensors of which the first makes room for a third.
fn arena(device: &Device) -> SessionPlan {
    device.start_trace();
    let [a, b] = [512, 512].map(|n| device.take(&layout(n), Role::Activation).unwrap());
    drop(a);
    let c = device.take(&layout(512), Role::Activation).unwrap();
    drop((b, c));
    let plan = device.stop_trace().arena().unwrap();
    device.trim();
    plan.into()
}

#[test]
fn each_has_its_own() {
    let device = device(None);
    let (rows, block) = (device.admit(plan("exact float16[512] 2")).unwrap(), device.admit(arena(&device)).unwrap());
    let both = Barrier::new(2);
    thread::scope(|scope| {
        for (session, pattern) in [(&rows, 1_u8), (&block, 2)] {
            let both = &both;
            scope.spawn(move || {
                let entered = session.enter();
                let device = entered.device();
                for _ in 0..500 {
                    let mut held = [512, 512].map(|n| device.take(&layout(n), Role::Activation).unwrap());
                    held.iter_mut().for_each(|memory| memory.bytes_mut().fill(pattern));
                    let refused = device.take(&layout(512), Role::Activation);
                    assert!(matches!(refused, Err(Error::Sealed { .. })));
                    both.wait();
                    assert!(held.iter().all(|memory| memory.bytes().iter().all(|&byte| byte == pattern)));
                }
            });
        }
    });
    for session in [&rows, &block] {
        assert_eq!((session.stats().taken_count, session.stats().in_use_count), (1000, 0));
    }
    let held = device.stats();
    assert_eq!(held.driver_bytes, rows.bytes() + block.bytes());
    drop((rows, block));
    assert_eq!(device.stats().driver_bytes, 0);
}

/// What a thread sets while it runs for a session is the session's, and the device's own buffer stays what it was.
#[test]
fn contexts_do_not_mix() {
    let device = device(None);
    let own = TensorBuffer::new(&device);
    own.reserve(vec![8], 1).unwrap();
    device.set_tensor_buffer(own.clone());
    let session = device.admit(plan("exact float16[8] 1")).unwrap();
    {
        let entered = session.enter();
        assert!(entered.device().is_sealed());
        let memory = entered.device().take(&layout(8), Role::Activation).unwrap();
        assert_eq!((own.stats().in_use_count, session.stats().in_use_count), (0, 1));
        let other = device.admit(plan("exact float16[8] 1"));
        assert!(matches!(other, Err(Error::Sealed { .. })), "a sealed session does not admit another");
        entered.device().unseal();
        let inner = device.admit(plan("exact float16[8] 1")).unwrap();
        let within = inner.enter();
        drop(within.device().take(&layout(8), Role::Activation).unwrap());
        drop(within);
        assert_eq!((inner.stats().taken_count, session.stats().taken_count), (1, 1));
        // What was taken in a session can be given back anywhere.
        drop(entered);
        drop(memory);
    }
    assert!(!device.is_sealed());
    assert_eq!(session.stats().in_use_count, 0);
    let _memory = device.take(&layout(8), Role::Activation).unwrap();
    assert_eq!(own.stats().in_use_count, 1);
}

/// Sixteen threads ask for 3 MiB each at the same time, under a limit that has room for five.
#[test]
fn the_limit_holds_for_sessions() {
    let device = device(None);
    device.take_workspace().unwrap();
    let workspace = device.stats().workspace_bytes as usize;
    for round in 0..20 {
        let device = self::device(Some(workspace + (16 << 20)));
        let (start, admitted) = (Barrier::new(16), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    let session = device.admit(plan("exact float16[1024, 1024] 1\nexact float32[256, 1024] 1"));
                    let is_admitted = session.is_ok();
                    if let Err(error) = &session {
                        assert!(error.to_string().contains("a session of 3.0 MiB"), "{error}");
                    }
                    admitted.fetch_add(usize::from(is_admitted), Ordering::Relaxed);
                    start.wait();
                    drop(session);
                });
            }
        });
        assert_eq!(admitted.into_inner(), 5, "round {round}");
        assert_eq!(device.stats().driver_bytes, 0);
    }
}

#[test]
fn nothing_is_left_of_one_that_fails() {
    let device = device(Some(64 << 20));
    let before = device.stats();
    assert!(device.admit(plan("exact float16[8] 1\nexact float16[1073741824] 1")).is_err());
    let mut absurd = ReservationPlan::default();
    absurd.add(&layout(8), ReserveKind::Exact, usize::MAX);
    assert!(device.admit(absurd).is_err());
    assert_eq!(device.stats(), before);
    device.seal();
    assert!(matches!(device.admit(plan("exact float16[8] 1")), Err(Error::Sealed { .. })));
}

#[test]
fn threads_of_its_own() {
    let device = device(None);
    let sessions: Vec<_> = (0..20).map(|_| device.admit_with(SessionPlan::default(), Some(2)).unwrap()).collect();
    let counts: Vec<usize> = sessions.iter().map(|session| session.enter().device().threads().count()).collect();
    // The sets are bounded: sessions beyond them share the device's own.
    assert_eq!((counts.iter().filter(|&&count| count == 2).count(), counts[19]), (16, 1));
    let workspaces = device.stats().workspace_bytes;
    drop(sessions);
    let again = device.admit_with(SessionPlan::default(), Some(2)).unwrap();
    assert_eq!(again.enter().device().threads().count(), 2);
    assert_eq!(device.stats().workspace_bytes, workspaces, "a set is made once");
}
