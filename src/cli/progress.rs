//! Progress of long work, on standard error: one line drawn in place on a terminal, else a line for each change.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::{Terminal, visible};
use crate::clock::{Clock, SystemClock};

/// Time after which a silent wait says that it is still there, so that no pipeline takes it for dead.
const STILL: Duration = Duration::from_secs(60);

/// Time before anything is drawn: what is quick shows nothing.
const QUIET: Duration = Duration::from_millis(300);

/// What is going on.
pub(super) struct Progress {
    terminal: Terminal,
    bar: Option<ProgressBar>,
    began: Instant,
    said: String,
    said_at: Instant,
}

impl Progress {
    /// Nothing yet.
    pub(super) fn new(terminal: &Terminal) -> Progress {
        let now = Instant::now();
        Progress { terminal: terminal.clone(), bar: None, began: now, said: String::new(), said_at: now }
    }

    /// Something with a size: bytes of a transfer.
    pub(super) fn bytes(terminal: &Terminal, total: u64) -> Progress {
        let mut progress = Progress::new(terminal);
        if !terminal.redraws || !terminal.talks {
            return progress;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{wide_msg} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
            bar.set_style(style);
        }
        progress.bar = Some(bar);
        progress
    }

    /// More of it came.
    pub(super) fn came(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// What is going on now.
    pub(super) fn now(&mut self, text: &str) {
        let text = visible(text);
        if !self.terminal.talks {
            return;
        }
        if self.terminal.redraws {
            if self.began.elapsed() < QUIET && self.bar.is_none() {
                self.said = text;
                return;
            }
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            });
            bar.set_message(text);
        } else if text != self.said {
            self.line(&text);
            self.said = text;
        }
    }

    /// Draws what is going on, where that was too early, and says now and then that it goes on.
    pub(super) fn tick(&mut self) {
        if self.terminal.redraws && self.bar.is_none() && !self.said.is_empty() {
            let text = std::mem::take(&mut self.said);
            self.now(&text);
        }
        if !self.terminal.redraws && self.terminal.talks && !self.said.is_empty() && self.said_at.elapsed() >= STILL {
            let text = format!("still: {}", self.said);
            self.line(&text);
        }
    }

    /// A line that stays.
    pub(super) fn done(&mut self, text: &str) {
        self.clear();
        if !self.terminal.talks {
            return;
        }
        if self.terminal.redraws {
            self.terminal.say(&visible(text))
        } else {
            self.line(&visible(text))
        }
        self.began = Instant::now();
        self.said.clear();
    }

    /// Takes away what is drawn, before something else is written.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, text: &str) {
        let at = SystemClock.now();
        self.terminal.say(&format!("{:02}:{:02}:{:02}Z {text}", at.hour(), at.minute(), at.second()));
        self.said_at = Instant::now();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
