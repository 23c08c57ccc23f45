//! Waiting for a run without the interpreter's lock: events and signals are looked after meanwhile.

use std::io::{self, Write};
use std::time::Duration;

use kharon::stop::{Found, Stop};
use kharon::terminal::{Terminal, Verbosity};
use pyo3::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{interval, timeout};

/// How often Python may notice a signal.
const TICK: Duration = Duration::from_millis(50);
/// How long a cancelled push may take to finish the chunks under way.
const GRACE: Duration = Duration::from_secs(5);
/// How long threads of a run that has failed may take to end.
const THREADS_GRACE: Duration = Duration::from_secs(30);
/// How long threads may take that do nothing for a run any more, such as one that looks up a name.
const IDLE_GRACE: Duration = Duration::from_millis(200);

/// Who is told what happens.
pub struct Listener {
    /// Called with every event as JSON.
    pub on_event: Py<PyAny>,
    /// What is worth an event.
    pub verbosity: Verbosity,
}

/// Passes events to the thread that called. The channel is closed when no thread of the run is left.
struct Lines(UnboundedSender<Vec<u8>>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Nobody listens any more once the run is cancelled.
        let _ = self.0.send(line.to_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `work` to its end. What the listener or a signal handler raises cancels it. No thread of it is left
/// then, unless another signal comes.
pub fn run<T: Send>(
    py: Python<'_>,
    listener: &Listener,
    stop: &Stop,
    work: impl AsyncFnOnce(&Terminal) -> anyhow::Result<T> + Send,
) -> PyResult<T> {
    py.detach(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(drive(listener, stop, work));
        runtime.shutdown_timeout(IDLE_GRACE);
        result
    })
}

async fn drive<T>(
    listener: &Listener,
    stop: &Stop,
    work: impl AsyncFnOnce(&Terminal) -> anyhow::Result<T>,
) -> PyResult<T> {
    let (sender, mut events) = unbounded_channel();
    let terminal = Terminal::without(Lines(sender), listener.verbosity);
    let mut work = Box::pin(work(&terminal));
    let outcome = tokio::select! {
        result = &mut work => Ok(result),
        raised = listener.watch(&mut events) => Err(raised),
    };
    let mut signal = None;
    if outcome.is_err() && stop.ask() == Found::Busy {
        // Without being driven, nothing that is under way would end.
        let settled = async {
            tokio::select! { _ = &mut work => (), () = stop.settled() => () }
        };
        tokio::select! {
            _ = timeout(GRACE, settled) => (),
            raised = signalled() => signal = Some(raised),
        }
    }
    drop(work);
    drop(terminal);
    if !matches!(outcome, Ok(Ok(_))) && signal.is_none() {
        // They hold what the next call needs, such as the lock of a `.partial` file.
        let mut left = Vec::new();
        let gone = async {
            while let Some(event) = events.recv().await {
                left.push(event)
            }
        };
        tokio::select! {
            _ = timeout(THREADS_GRACE, gone) => (),
            raised = signalled() => signal = Some(raised),
        }
        if let (Ok(_), None) = (&outcome, &signal) {
            left.iter().try_for_each(|event| listener.tell(event))?;
        }
    }
    if let Some(raised) = signal {
        return Err(raised);
    }
    while let (true, Ok(event)) = (outcome.is_ok(), events.try_recv()) {
        listener.tell(&event)?;
    }
    outcome?.map_err(|error| crate::exception(&error))
}

/// Waits for a signal whose handler raises something.
async fn signalled() -> PyErr {
    let mut tick = interval(TICK);
    loop {
        tick.tick().await;
        if let Err(raised) = Python::attach(|py| py.check_signals()) {
            return raised;
        }
    }
}

impl Listener {
    /// Tells Python of events until it raises something.
    async fn watch(&self, events: &mut UnboundedReceiver<Vec<u8>>) -> PyErr {
        let told = async {
            while let Some(event) = events.recv().await {
                if let Err(raised) = self.tell(&event) {
                    return raised;
                }
            }
            std::future::pending().await
        };
        tokio::select! { raised = told => raised, raised = signalled() => raised }
    }

    fn tell(&self, event: &[u8]) -> PyResult<()> {
        let text = String::from_utf8_lossy(event);
        Python::attach(|py| self.on_event.call1(py, (text,)).map(drop))
    }
}
