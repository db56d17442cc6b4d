//! Progress on standard error, if that is a terminal; the line is cleared at the end.
//!
//! [`Bar`] shows progress, rate and time left. [`Progress`] shows the memory that a program holds while it runs, if
//! standard output is no terminal, so that the two do not mix: a thread reads the device's counters.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tl_device::{Device, Mapping, bytes as display_bytes};

/// Runs shorter than this show nothing.
const DELAY: Duration = Duration::from_millis(500);

/// Interval between updates of the line.
const INTERVAL: Duration = Duration::from_millis(250);

/// Goes to the line's first column and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Whether there is a terminal on which a line can be cleared.
fn can_clear() -> bool {
    let is_able = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    is_able && std::io::stderr().is_terminal()
}

/// A bar with rate and time left, shown while it lives; nothing if standard error is no terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that counts bytes.
    pub(crate) fn of_bytes(total: u64) -> Bar {
        Bar::new(total, "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {msg}")
    }

    /// A bar that counts things of this name.
    pub(crate) fn of_things(total: u64, name: &str) -> Bar {
        Bar::new(total, &format!("{{wide_bar}} {{pos}} of {{len}} {name}, {{per_sec}}, {{eta}} left {{msg}}"))
    }

    fn new(total: u64, template: &str) -> Bar {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Bar(ProgressBar::new(total).with_style(style.progress_chars("=> ")))
    }

    /// Sets the progress.
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Sets the progress, the total and the message, without control characters: names may come from a file.
    pub(crate) fn set_of(&self, done: u64, total: u64, what: &str) {
        self.0.set_length(total);
        self.0.set_message(what.chars().filter(|c| !c.is_control()).take(40).collect::<String>());
        self.0.set_position(done);
    }

    /// Shows how much of these files has been read, while the result lives; a thread polls the counter.
    pub(crate) fn of_reading(total: u64) -> Option<Reading> {
        if !can_clear() {
            return None;
        }
        let (stop, stopped) = channel::<()>();
        let before = Mapping::bytes_read();
        let thread = std::thread::Builder::new().name("tl-progress".into()).spawn(move || {
            if stopped.recv_timeout(DELAY) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = Bar::of_bytes(total);
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                bar.set(Mapping::bytes_read() - before);
            }
        });
        Some(Reading { stop: Some(stop), thread: Some(thread.ok()?) })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar over bytes read from files, shown while it lives.
pub(crate) struct Reading {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A bar that could not be shown is no reason to fail.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The progress line of a run, shown while it lives.
pub(crate) struct Progress {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to show what this device holds, if there is a terminal for it.
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

/// Shows the line until the sender of `stopped` is dropped.
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
