//! A line on standard error that says how far something has come, and goes away when it ends.
//!
//! [`Line`] shows what it is told, where standard error is a terminal. [`Progress`] shows what a program holds while it runs, where
//! standard output is none, so that the two do not mix: another thread writes it, and what it reads are the device's counters.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tl_device::{Device, bytes as display_bytes};

/// What runs for less than this shows nothing.
const DELAY: Duration = Duration::from_millis(500);

/// Time between two states of the line.
const INTERVAL: Duration = Duration::from_millis(250);

/// Goes to the line's first column and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Whether there is a terminal on which a line can be cleared.
fn can_clear() -> bool {
    let is_able = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    is_able && std::io::stderr().is_terminal()
}

/// A line that each text replaces, as long as this lives; none where there is no terminal for it.
pub(crate) struct Line {
    can_clear: bool,
}

impl Line {
    /// A line that is still empty.
    pub(crate) fn new() -> Line {
        Line { can_clear: can_clear() }
    }

    /// Shows this text, without its control characters: names in it may be a file's.
    pub(crate) fn show(&self, text: &str) {
        if self.can_clear {
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            // A line that could not be shown is no reason to fail.
            let _ = write!(std::io::stderr(), "{CLEAR}{text}");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.show("");
    }
}

/// The line of a run, as long as this lives.
pub(crate) struct Progress {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show what this device holds, where there is a terminal to show it on.
    pub(crate) fn start(device: &Device) -> Option<Progress> {
        if !can_clear() || std::io::stdout().is_terminal() {
            return None;
        }
        let (stop, stopped) = channel();
        let device = device.clone();
        let thread = std::thread::Builder::new().name("tl-progress".into());
        let thread = thread.spawn(move || show(&device, &stopped, DELAY, INTERVAL, &mut std::io::stderr())).ok()?;
        Some(Progress { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A line that could not be shown is no reason to fail.
            let _ = thread.join();
        }
    }
}

/// Shows the line until the other end of `stopped` is gone.
fn show(device: &Device, stopped: &Receiver<()>, delay: Duration, interval: Duration, terminal: &mut impl Write) {
    let start = Instant::now();
    let mut wait = delay;
    let mut is_shown = false;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let line = line(device, start.elapsed());
        is_shown = true;
        if write!(terminal, "{CLEAR}{line}").and_then(|()| terminal.flush()).is_err() {
            return;
        }
        wait = interval;
    }
    if is_shown {
        let _ = write!(terminal, "{CLEAR}").and_then(|()| terminal.flush());
    }
}

fn line(device: &Device, elapsed: Duration) -> String {
    let stats = device.stats();
    format!(
        "{:.1} s  live {}  peak {}  from the system {}  allocations {}",
        elapsed.as_secs_f64(),
        display_bytes(stats.live_bytes),
        display_bytes(stats.peak_bytes),
        display_bytes(stats.driver_bytes),
        stats.allocation_count
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_device::{Layout, Role};

    #[test]
    fn the_line_comes_after_a_while_and_goes_away() {
        let device = Device::cpu();
        let _held = device.take(&Layout::from(vec![1024]), Role::Activation).unwrap();
        let check = |delay: Duration, is_expected: bool| {
            let (stop, stopped) = channel();
            let ender = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(60));
                drop(stop);
            });
            let mut terminal = Vec::new();
            show(&device, &stopped, delay, Duration::from_millis(5), &mut terminal);
            ender.join().unwrap();
            let text = String::from_utf8(terminal).unwrap();
            assert_eq!(text.contains("live 2.0 KiB  peak 2.0 KiB"), is_expected, "{text:?}");
            assert_eq!(text.ends_with(CLEAR), is_expected, "{text:?}");
        };
        check(Duration::from_millis(1), true);
        check(Duration::from_secs(3600), false);
    }
}
