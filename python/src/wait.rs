//! Waiting for a run without the interpreter's lock: events and signals are looked after meanwhile.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kharon::progress::{Event, Reporter};
use kharon::stop::{Found, Stop};
use pyo3::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How often Python may notice a signal.
const TICK: Duration = Duration::from_millis(50);
/// How long a cancelled run may take to finish what must not be torn.
const GRACE: Duration = Duration::from_secs(5);

/// Passes events to the thread that called.
struct Channel(UnboundedSender<Event>);

impl Reporter for Channel {
    fn report(&self, event: Event) {
        // Nobody listens any more once the run is cancelled.
        let _ = self.0.send(event);
    }
}

/// Runs `work` to its end. What `on_event` or a signal handler raises cancels it.
pub fn run<T: Send, W: Future<Output = anyhow::Result<T>>>(
    py: Python<'_>,
    on_event: &Py<PyAny>,
    stop: &Stop,
    work: impl FnOnce(Arc<dyn Reporter>) -> W + Send,
) -> PyResult<T> {
    py.detach(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let (sender, mut events) = unbounded_channel();
            let mut work = Box::pin(work(Arc::new(Channel(sender))));
            let outcome = tokio::select! {
                result = &mut work => Ok(result),
                raised = watch(&mut events, on_event) => Err(raised),
            };
            match outcome {
                Ok(result) => {
                    while let Ok(event) = events.try_recv() {
                        tell(on_event, &event)?;
                    }
                    result.map_err(|error| crate::exception(&error))
                }
                Err(raised) => {
                    if stop.ask() == Found::Busy {
                        // Without being driven, nothing that is under way would end.
                        let _ = tokio::time::timeout(GRACE, async {
                            tokio::select! { _ = &mut work => (), () = stop.settled() => () }
                        })
                        .await;
                    }
                    Err(raised)
                }
            }
        });
        // A thread may still wait for a file that says nothing: not for long.
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    })
}

/// Tells Python of events until it raises something.
async fn watch(events: &mut UnboundedReceiver<Event>, on_event: &Py<PyAny>) -> PyErr {
    let mut tick = tokio::time::interval(TICK);
    loop {
        let told = tokio::select! {
            _ = tick.tick() => Python::attach(|py| py.check_signals()),
            Some(event) = events.recv() => tell(on_event, &event),
        };
        if let Err(raised) = told {
            return raised;
        }
    }
}

fn tell(on_event: &Py<PyAny>, event: &Event) -> PyResult<()> {
    let text = serde_json::to_string(event).map_err(|error| crate::exception(&error.into()))?;
    Python::attach(|py| on_event.call1(py, (text,)).map(drop))
}
