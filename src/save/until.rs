//! Waiting for a thread whose work is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Where this is dropped, it is waited until a thread has ended, so that nothing is written any more into a folder that is
/// removed next. What the thread reads from must have been dropped before.
pub(super) struct UntilEnded {
    ended: Receiver<()>,
    given_up: Arc<AtomicBool>,
}

/// What the thread keeps until it ends.
pub(super) struct Running {
    given_up: Arc<AtomicBool>,
    _ended: Sender<()>,
}

pub(super) fn until_ended() -> (UntilEnded, Running) {
    let (sender, ended) = channel();
    let given_up = Arc::new(AtomicBool::new(false));
    let running = Running { given_up: Arc::clone(&given_up), _ended: sender };
    (UntilEnded { ended, given_up }, running)
}

impl Running {
    /// Whether nobody wants to know any more what comes of it.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

impl Drop for UntilEnded {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        // Nothing is ever sent: this is the end of the other side.
        let _ = self.ended.recv();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_waits_for_the_end() {
        let (until, running) = until_ended();
        let thread = std::thread::spawn(move || {
            while !running.is_given_up() {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(running);
        });
        assert!(!thread.is_finished());
        drop(until);
        thread.join().expect("an end");
    }
}
