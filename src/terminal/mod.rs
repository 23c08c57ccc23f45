//! Everything drawn on the terminal or asked there: the only writer of stdout and stderr.
//!
//! A [`Terminal`] is made once, from the command line's [`Options`]. Its [`Terminal::reporter`] takes
//! the events of a run and shows them as bars, plain lines or JSON lines; all of that, errors and
//! questions too, goes to stderr. stdout is for the result alone.
//!
//! Promises: events of moving bytes cost a few atomic additions; nothing of what a far host says can
//! steer the terminal; user names, passwords and queries in URLs are cut out. Refuses: to ask where
//! nobody can answer.

mod bars;
mod json;
mod lines;
mod prompt;
mod tally;
mod text;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::bars::Bars;
use self::json::Json;
use self::lines::{Counts, Lines};
pub use self::prompt::{KeyQuestion, Login, PromptError};
use self::text::{Paint, clean};
use crate::progress::Reporter;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// Bars on a terminal, lines without one.
    #[default]
    Auto,
    /// Bars; lines where the terminal cannot draw them.
    Bars,
    /// A line now and then.
    Lines,
    /// One JSON object per event and line.
    Json,
    /// Messages only.
    None,
}

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// Notes and progress too.
    #[default]
    Normal,
    /// Details too.
    Verbose,
}

/// What the command line says about showing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How progress is shown.
    pub progress: ProgressMode,
    /// How much is told.
    pub verbosity: Verbosity,
}

/// What became of text for stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    Whole,
    /// The reader has gone, as `head` does; nothing more needs to be written.
    ReaderGone,
}

/// One way to show the events of a run.
trait Surface: Reporter {
    /// How often [`Surface::tick`] is wanted, if ever.
    fn period(&self) -> Option<Duration>;

    /// Shows where the work stands.
    fn tick(&self, now: Instant);

    /// Prints lines among whatever is shown.
    fn print(&self, text: &str);

    /// Prints an error: its message first, then its causes.
    fn print_error(&self, messages: &[String], hints: &[String]) {
        self.print(&error_text(messages, hints, stderr_paint()));
    }

    /// Takes away what was drawn, for good.
    fn end(&self) {}

    /// Takes away what was drawn while `during` runs.
    fn pause(&self, during: &mut dyn FnMut()) {
        during();
    }

    /// Takes away what was drawn, until [`Surface::show`].
    fn hide(&self) {}

    /// Draws again.
    fn show(&self) {}
}

/// Shows again what was hidden when it is dropped.
struct Hidden<'a>(&'a dyn Surface);

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        self.0.show();
    }
}

/// Everything kharon shows and asks. Made once per run, by the binary.
pub struct Terminal {
    surface: Arc<dyn Surface>,
    ticker: Mutex<Option<Ticker>>,
    /// Whether there may be somebody to ask.
    asks: bool,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

impl Terminal {
    /// A terminal on this process's stderr and stdout. Looks at `NO_COLOR` and `TERM`.
    pub fn open(options: &Options) -> Self {
        Self::on(surface(*options), true)
    }

    /// No terminal at all: events go to `writer` as `--progress json` writes them, each line in one call, and
    /// nobody is asked anything.
    pub fn without(writer: impl Write + Send + 'static, verbosity: Verbosity) -> Self {
        Self::on(Arc::new(Json::new(writer, verbosity)), false)
    }

    fn on(surface: Arc<dyn Surface>, asks: bool) -> Self {
        let ticker = surface.period().and_then(|period| Ticker::start(surface.clone(), period));
        Self { surface, ticker: Mutex::new(ticker), asks }
    }

    /// Takes the events of the run. All reporters of one terminal are one.
    pub fn reporter(&self) -> Arc<dyn Reporter> {
        self.surface.clone()
    }

    /// Takes the bars away and shows no more progress; messages still print. A second call does
    /// nothing.
    pub fn finish(&self) {
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ticker) = ticker {
            ticker.stop();
            self.surface.end();
        }
    }

    /// Ends progress and prints `error`, its causes and `hints`, on stderr.
    pub fn print_error(&self, error: &anyhow::Error, hints: &[String]) {
        self.finish();
        self.surface.print_error(&error_messages(error), &without_repeats(hints));
    }

    /// Writes a part of the result to stdout, at once.
    ///
    /// # Errors
    /// Fails if stdout does, but for a reader that has gone, which is a quiet end.
    pub fn write_stdout(&self, text: &str) -> io::Result<Written> {
        let mut written = Ok(Written::Whole);
        self.surface.pause(&mut || written = write_result(io::stdout().lock(), text.as_bytes()));
        written
    }

    /// Asks for a password for `registry`, and for a user name where none is given. Dropped while it
    /// waits, as a signal does, it leaves the terminal as it was.
    ///
    /// # Errors
    /// Fails where stdin or stderr is no terminal, and when the person ends the input.
    pub async fn prompt_login(
        &self,
        registry: &str,
        username: Option<&str>,
    ) -> Result<Login, PromptError> {
        if !self.asks {
            return Err(PromptError::NoTerminal(registry.to_owned()));
        }
        self.surface.hide();
        let _hidden = Hidden(&*self.surface);
        prompt::ask_login(clean(registry), username.map(str::to_owned)).await
    }

    /// Asks for the password of the key `name`.
    ///
    /// # Errors
    /// Fails where there is nobody to ask, and if the question is interrupted.
    pub async fn prompt_key_password(
        &self,
        name: &str,
        question: KeyQuestion,
    ) -> Result<String, PromptError> {
        if !self.asks {
            return Err(PromptError::NoTerminalForKey(name.to_owned()));
        }
        self.surface.hide();
        let _hidden = Hidden(&*self.surface);
        prompt::ask_key_password(clean(name), question).await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `error`, its causes and `hints` as lines that are safe to show, without a label in front.
pub fn plain_error(error: &anyhow::Error, hints: &[String]) -> String {
    let text = error_text(&error_messages(error), &without_repeats(hints), Paint::Plain);
    text.strip_prefix("error: ").map_or_else(|| text.clone(), str::to_owned)
}

/// `text`, chosen by a far host or a payload, as it may be shown.
pub fn shown(text: &str) -> String {
    clean(text)
}

/// Reads the password for `--password-stdin`: the first line of stdin without its line end.
///
/// # Errors
/// Fails if there is none, if it is longer than 64 KiB or not UTF-8, and if reading fails.
pub fn read_password_stdin() -> Result<String, PromptError> {
    prompt::read_password(io::stdin().lock())
}

/// Whether stdout is a terminal, so that no payload should be written there.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether stdin is a terminal, so that no payload will come from there.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// stdout as a file, for a payload: without the line buffer of [`std::io::Stdout`], which copies.
///
/// # Errors
/// Fails if stdout is closed.
pub fn stdout_file() -> io::Result<File> {
    #[cfg(unix)]
    let owned = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let owned = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(File::from(owned))
}

fn surface(options: Options) -> Arc<dyn Surface> {
    let (stderr, verbosity) = (io::stderr(), options.verbosity);
    let lines = |counts| Arc::new(Lines::new(io::stderr(), stderr_paint(), verbosity, counts));
    match options.progress {
        ProgressMode::Json => Arc::new(Json::new(stderr, verbosity)),
        ProgressMode::None => lines(Counts::Hidden),
        ProgressMode::Auto | ProgressMode::Bars
            if verbosity > Verbosity::Quiet && stderr.is_terminal() && !terminal_is_dumb() =>
        {
            Arc::new(Bars::new(stderr_paint(), verbosity))
        }
        ProgressMode::Auto | ProgressMode::Bars | ProgressMode::Lines => lines(Counts::Shown),
    }
}

fn terminal_is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Colours as <https://no-color.org> asks. Old Windows consoles show the codes as text.
fn stderr_paint() -> Paint {
    let is_set = |name| std::env::var_os(name).is_some_and(|value: _| value != OsStr::new(""));
    let takes_codes = !cfg!(windows) || is_set("WT_SESSION") || is_set("TERM");
    if io::stderr().is_terminal() && takes_codes && !is_set("NO_COLOR") && !terminal_is_dumb() {
        Paint::Coloured
    } else {
        Paint::Plain
    }
}

/// The error and its causes. Some libraries put the cause's text into their own: said once is enough.
fn error_messages(error: &anyhow::Error) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if !messages.last().is_some_and(|last| last.contains(&message)) {
            messages.push(message);
        }
    }
    messages
}

fn without_repeats(hints: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for hint in hints {
        if !once.contains(hint) {
            once.push(hint.clone());
        }
    }
    once
}

fn error_text(messages: &[String], hints: &[String], paint: Paint) -> String {
    let mut lines = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let message = clean(message);
        lines.push(match index {
            0 => format!("{} {message}", paint.error()),
            _ => format!("  caused by: {message}"),
        });
    }
    lines.extend(hints.iter().map(|hint| format!("{} {}", paint.hint(), clean(hint))));
    lines.join("\n")
}

fn write_result(mut stdout: impl Write, bytes: &[u8]) -> io::Result<Written> {
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Written::Whole),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::ReaderGone),
        Err(error) => Err(error),
    }
}

/// A thread that calls [`Surface::tick`] at once and then again and again until it is stopped.
struct Ticker {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Ticker {
    /// Without a thread to spare there is no progress, but the work goes on.
    fn start(surface: Arc<dyn Surface>, period: Duration) -> Option<Self> {
        let (stop, stopped) = mpsc::channel();
        surface.tick(Instant::now());
        let tick = move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                surface.tick(Instant::now());
            }
        };
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(tick).ok()?;
        Some(Self { stop, thread })
    }

    fn stop(self) {
        drop(self.stop);
        // It ends at once, unless drawing panicked, and then it has ended.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    /// A writer whose text can be looked at.
    #[derive(Clone, Default)]
    pub(super) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub(super) fn text(&self) -> String {
            let bytes = self.0.lock().expect("no writer panicked").clone();
            String::from_utf8(bytes).expect("text is UTF-8")
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panicked").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn errors_name_each_cause_once_and_hints_stand_last() {
        let error = Err::<(), _>(io::Error::other("connection refused"))
            .context("cannot reach `far`: connection refused")
            .context("cannot push `app:1`")
            .expect_err("an error");
        let hints = ["is it on?", "is it on?", "try \x1b[1m--insecure"].map(str::to_owned);
        let text = error_text(&error_messages(&error), &without_repeats(&hints), Paint::Plain);
        let expected = "error: cannot push `app:1`\n  \
            caused by: cannot reach `far`: connection refused\n\
            hint: is it on?\n\
            hint: try \\u{1b}[1m--insecure";
        assert_eq!(text, expected);
        let coloured = error_text(&["x".to_owned()], &["y".to_owned()], Paint::Coloured);
        assert_eq!(coloured, "\x1b[1;31merror:\x1b[0m x\n\x1b[1;36mhint:\x1b[0m y");
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_end() {
        struct Failing(io::ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let gone = write_result(Failing(io::ErrorKind::BrokenPipe), b"x");
        assert_eq!(gone.expect("a quiet end"), Written::ReaderGone);
        let full = write_result(Failing(io::ErrorKind::StorageFull), b"x");
        assert_eq!(full.expect_err("a full disk").kind(), io::ErrorKind::StorageFull);
    }
}
