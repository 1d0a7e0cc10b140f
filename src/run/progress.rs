//! How far long work has got, on standard error.
//!
//! A terminal shows a bar with the rate and the time left, and on a line of its own below it what the work has
//! found so far. A log file gets a line now and then. `--quiet` prints nothing. Standard output is left to results.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// The first line comes after this time, each next after twice the time before, up to the limit.
const FIRST_LINE: Duration = Duration::from_secs(2);
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Where and how progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A bar on a terminal.
    Bar,
    /// Plain lines.
    Lines,
    /// Nothing.
    Silent,
}

impl Output {
    /// Prints a line where no progress is being shown. Nothing where output is silent.
    pub fn note(self, line: &str) {
        if self != Output::Silent {
            say(line);
        }
    }

    /// What suits standard error.
    pub fn for_stderr(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match (quiet, io::stderr().is_terminal() && !dumb) {
            (true, _) => Output::Silent,
            (false, true) => Output::Bar,
            (false, false) => Output::Lines,
        }
    }
}

/// Prints a line on standard error. That nobody reads it is no reason to stop the work.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The progress of one piece of work. Can be shared between threads.
#[derive(Debug)]
pub struct Progress(Inner);

#[derive(Debug)]
enum Inner {
    /// A bar, and the units that come behind its own.
    Bar(ProgressBar, u64),
    Lines(Mutex<LineProgress>),
    Silent,
}

impl Progress {
    /// Work of `total` units named `what`, of which `done` were done before (in a run that is
    /// resumed): they count as done but not in the rate.
    pub fn start(output: Output, what: impl Into<Cow<'static, str>>, done: u64, total: u64) -> Self {
        Progress::before(output, what, (done, total), 0)
    }

    /// The same of work that as much as `rest` units comes behind: the time left is that of all.
    pub fn before(
        output: Output,
        what: impl Into<Cow<'static, str>>,
        (done, total): (u64, u64),
        rest: u64,
    ) -> Self {
        Progress(match output {
            Output::Silent => Inner::Silent,
            Output::Lines => {
                let out = Box::new(io::stderr());
                Inner::Lines(Mutex::new(LineProgress::new(what.into(), (done, total), rest, out)))
            }
            Output::Bar => {
                let bar = bar(ProgressDrawTarget::stderr(), what.into(), (done, total), rest);
                bar.enable_steady_tick(Duration::from_millis(250));
                Inner::Bar(bar, rest)
            }
        })
    }

    /// `units` more are done.
    pub fn advance(&self, units: u64) {
        match &self.0 {
            Inner::Bar(bar, _) => bar.inc(units),
            Inner::Lines(plain) => lock(plain).advance(units),
            Inner::Silent => {}
        }
    }

    /// What to show beside the figures, such as the best result so far.
    pub fn message(&self, message: impl Into<Cow<'static, str>>) {
        match &self.0 {
            Inner::Bar(bar, rest) => {
                // Below the bar from now on.
                if bar.message().is_empty() {
                    restyle(bar, *rest, "\n  {wide_msg}");
                }
                bar.set_message(message);
            }
            Inner::Lines(plain) => lock(plain).message = message.into(),
            Inner::Silent => {}
        }
    }

    /// Prints a line without breaking a bar. Nothing where output is silent.
    pub fn note(&self, line: &str) {
        match &self.0 {
            Inner::Bar(bar, _) => bar.suspend(|| say(line)),
            Inner::Lines(plain) => lock(plain).print(line),
            Inner::Silent => {}
        }
    }

    /// Ends the display; the last state stays to be read. Dropping ends it and leaves nothing.
    pub fn finish(self) {
        match &self.0 {
            Inner::Bar(bar, _) => bar.abandon(),
            Inner::Lines(plain) => lock(plain).finish(),
            Inner::Silent => {}
        }
    }
}

/// A bar that fills what its figures leave of a line.
fn bar(
    target: ProgressDrawTarget,
    what: Cow<'static, str>,
    (done, total): (u64, u64),
    rest: u64,
) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), target);
    restyle(&bar, rest, "");
    bar.set_prefix(what);
    bar.set_position(done);
    bar.reset_eta();
    bar
}

/// What a bar shows, with `below` behind it.
fn restyle(bar: &ProgressBar, rest: u64, below: &str) {
    let template = format!("{{prefix}} [{{wide_bar}}] {{pos}}/{{len}} {{rate}}, {{left}}{below}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        let left = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let units = state.len().unwrap_or(0).saturating_sub(state.pos()) + rest;
            let left = time_of(units, state.per_sec());
            let _ = write!(out, "{left:#} {}", left_in(rest));
        };
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to a line in memory cannot fail.
            let _ = out.write_str(&per_second(state.per_sec()));
        };
        bar.set_style(style.progress_chars("=> ").with_key("rate", rate).with_key("left", left));
    }
}

/// A rate for people.
fn per_second(rate: f64) -> String {
    format!("{rate:.1}/s")
}

/// How long so many units take at a rate.
fn time_of(units: u64, rate: f64) -> HumanDuration {
    // A stalled start would give more seconds than a Duration holds.
    let seconds = (units as f64 / rate.max(1e-9)).min(1e9);
    HumanDuration(Duration::from_secs_f64(seconds.ceil()))
}

/// What stands behind the time that is left, where `rest` units come behind those that are shown.
fn left_in(rest: u64) -> &'static str {
    if rest > 0 { "left in all" } else { "left" }
}

/// A panic elsewhere must not take the display's user down with it.
fn lock(plain: &Mutex<LineProgress>) -> MutexGuard<'_, LineProgress> {
    plain.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Progress as lines.
struct LineProgress {
    what: Cow<'static, str>,
    before: u64,
    done: u64,
    total: u64,
    /// Units that come behind.
    rest: u64,
    message: Cow<'static, str>,
    started: Instant,
    pace: LineSchedule,
    out: Box<dyn Write + Send>,
}

impl std::fmt::Debug for LineProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plain({}: {}/{})", self.what, self.done, self.total)
    }
}

impl LineProgress {
    fn new(
        what: Cow<'static, str>,
        (done, total): (u64, u64),
        rest: u64,
        out: Box<dyn Write + Send>,
    ) -> Self {
        let (message, started, pace) = (Cow::Borrowed(""), Instant::now(), LineSchedule::new());
        LineProgress { what, before: done, done, total, rest, message, started, pace, out }
    }

    fn advance(&mut self, units: u64) {
        self.done += units;
        let elapsed = self.started.elapsed();
        // The line of the end is `finish`'s.
        if self.done < self.total && self.pace.due(elapsed) {
            let line = self.line(elapsed);
            self.print(&line);
        }
    }

    fn finish(&mut self) {
        let line = self.line(self.started.elapsed());
        self.print(&line);
    }

    fn line(&self, elapsed: Duration) -> String {
        let (done, total) = (self.done, self.total);
        let mut line = format!("{}: {done}/{total}", self.what);
        let rate = (done - self.before) as f64 / elapsed.as_secs_f64().max(1e-9);
        if done < total && done > self.before {
            let left = time_of(total - done + self.rest, rate);
            line += &format!(", {}, about {left} {}", per_second(rate), left_in(self.rest));
        } else if done > self.before {
            line += &format!(", {}", per_second(rate));
        }
        if !self.message.is_empty() {
            line += &format!(", {}", self.message);
        }
        line
    }

    fn print(&mut self, line: &str) {
        // Nowhere to print is no reason to stop the work.
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}

/// When the next line is due: the pauses double up to a limit.
#[derive(Debug)]
struct LineSchedule {
    next: Duration,
    silence: Duration,
}

impl LineSchedule {
    fn new() -> Self {
        LineSchedule { next: FIRST_LINE, silence: FIRST_LINE }
    }

    fn due(&mut self, elapsed: Duration) -> bool {
        if elapsed < self.next {
            return false;
        }
        self.silence = (self.silence * 2).min(LONGEST_SILENCE);
        self.next = elapsed + self.silence;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_at_growing_intervals_and_never_further_apart_than_the_limit() {
        let mut pace = LineSchedule::new();
        let at: Vec<u64> = (0..300).filter(|&s| pace.due(Duration::from_secs(s))).collect();
        assert_eq!(at, [2, 6, 14, 30, 62, 122, 182, 242]);
    }

    #[test]
    fn a_line_says_where_the_work_is_how_fast_and_what_is_best() {
        let mut plain = LineProgress::new("evaluating".into(), (10, 60), 0, Box::new(io::sink()));
        assert_eq!(plain.line(Duration::from_secs(5)), "evaluating: 10/60");
        plain.done = 30;
        plain.message = "best 97.8 %".into();
        assert_eq!(
            plain.line(Duration::from_secs(10)),
            "evaluating: 30/60, 2.0/s, about 15 seconds left, best 97.8 %"
        );
        // Twenty more come behind.
        plain.rest = 20;
        assert_eq!(
            plain.line(Duration::from_secs(10)),
            "evaluating: 30/60, 2.0/s, about 25 seconds left in all, best 97.8 %"
        );
        plain.done = 60;
        assert_eq!(plain.line(Duration::from_secs(25)), "evaluating: 60/60, 2.0/s, best 97.8 %");
        let tiny = plain.line(Duration::ZERO);
        assert!(tiny.starts_with("evaluating: 60/60"), "{tiny}");
    }

    #[test]
    fn short_work_prints_one_line_and_notes_are_printed_as_they_are() {
        let buffer = Buffer::default();
        let plain = LineProgress::new("digits".into(), (0, 3), 0, Box::new(buffer.clone()));
        let progress = Progress(Inner::Lines(Mutex::new(plain)));
        progress.advance(1);
        progress.note("a warning");
        progress.advance(2);
        progress.finish();
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0], "a warning");
        assert!(lines[1].starts_with("digits: 3/3, "), "{text}");
    }

    /// A terminal of 80 columns that keeps what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Narrow(Arc<Mutex<Vec<String>>>);

    impl indicatif::TermLike for Narrow {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.into());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn on_80_columns_a_bar_leaves_room_for_all_that_is_said() {
        let terminal = Narrow::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let bar = bar(target, "network 3/4, with the validation images".into(), (0, 123_456), 0);
        let progress = Progress(Inner::Bar(bar, 0));
        let message = "epoch 125: loss 2.1234 with distillation, training 85.33 %, validation 88.0 %";
        progress.advance(2_000);
        progress.message(message);
        let Inner::Bar(bar, _) = &progress.0 else { panic!("no bar") };
        bar.force_draw();
        let written = terminal.0.lock().unwrap().clone();
        let lines: Vec<&str> =
            written.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
        let [.., figures, said] = &lines[..] else { panic!("{written:?}") };
        assert_eq!(*said, message);
        let parts = ["2000/123456 ", " left"];
        assert!(figures.len() <= 80 && parts.iter().all(|part| figures.contains(part)), "{figures:?}");
        let rate = figures.split_whitespace().find_map(|word| word.strip_suffix("/s,")).unwrap();
        assert_eq!(rate.split('.').nth(1).map(str::len), Some(1), "{figures:?}");
    }

    #[test]
    fn quiet_is_silent() {
        assert_eq!(Output::for_stderr(true), Output::Silent);
        let progress = Progress::start(Output::Silent, "nothing", 0, 1);
        progress.advance(1);
        assert!(matches!(progress.0, Inner::Silent));
    }

    #[test]
    fn a_bar_counts_from_where_a_resumed_run_stands() {
        let progress = Progress::start(Output::Bar, "search", 4, 10);
        progress.advance(2);
        progress.message("best 12");
        let Inner::Bar(bar, _) = &progress.0 else { panic!("no bar") };
        assert_eq!((bar.position(), bar.length(), bar.message()), (6, Some(10), "best 12".into()));
    }
}
