//! Signals that end the program: Ctrl-C, SIGTERM, SIGHUP.
//!
//! A command that can end in order (it prints its results, then ends) holds an [`Orderly`]; the first signal then only
//! sets [`is_asked`], and the second one ends the program at once. Other commands end at the first. Either way no
//! unfinished file stays behind, and the exit code is 128 plus the signal's number.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use tl_model::format::OutputFile;

#[cfg(unix)]
use crate::process;

/// Number of the last signal; 0: none.
static SIGNAL: AtomicU8 = AtomicU8::new(0);
static IS_ASKED: AtomicBool = AtomicBool::new(false);
/// Number of live [`Orderly`] values.
static ORDERLY: AtomicUsize = AtomicUsize::new(0);

/// Starts listening for signals.
#[cfg(unix)]
pub(crate) fn listen() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    let listener = std::thread::Builder::new().name("signals".to_owned()).stack_size(64 << 10);
    let spawned = listener.spawn(move || {
        for signal in signals.forever() {
            SIGNAL.store(signal as u8, Ordering::Relaxed);
            let was_asked = IS_ASKED.swap(true, Ordering::Relaxed);
            if was_asked || ORDERLY.load(Ordering::Relaxed) == 0 {
                OutputFile::remove_unfinished();
                std::process::exit(exit_code().into());
            }
        }
    });
    if spawned.is_err() {
        // Nobody listens: the signals end the program as they do by default.
        [SIGHUP, SIGINT, SIGTERM].into_iter().for_each(process::restore_default_action);
    }
}

#[cfg(not(unix))]
pub(crate) fn listen() {}

/// Whether a signal has come.
pub(crate) fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Relaxed)
}

/// Whether the last signal was Ctrl-C.
pub(crate) fn is_ctrl_c() -> bool {
    // SIGINT's number, which POSIX fixes.
    SIGNAL.load(Ordering::Relaxed) == 2
}

/// Clears the signal, once the work that it interrupted has ended.
pub(crate) fn clear() {
    IS_ASKED.store(false, Ordering::Relaxed);
}

/// The exit code of a program that a signal ends.
pub(crate) fn exit_code() -> u8 {
    128 + SIGNAL.load(Ordering::Relaxed)
}

/// While it lives, the first signal does not end the program: its owner polls [`is_asked`].
pub(crate) struct Orderly(());

impl Orderly {
    pub(crate) fn new() -> Orderly {
        ORDERLY.fetch_add(1, Ordering::Relaxed);
        Orderly(())
    }
}

impl Drop for Orderly {
    fn drop(&mut self) {
        ORDERLY.fetch_sub(1, Ordering::Relaxed);
    }
}
