//! Asking a run to end in good order: what must not be torn ends first, nothing else begins.

use std::future::{Future, pending};

use tokio::sync::watch;

/// Asks a run to end, from anywhere; clones ask the same run. By default nobody has asked yet.
///
/// Work that was not begun waits from then on and is dropped with its run, when the last request that
/// was under way has ended ([`Self::settled`]).
#[derive(Clone, Debug, Default)]
pub struct Stop(watch::Sender<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_asked: bool,
    under_way: usize,
}

/// What was going on when a run was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing that has to end first.
    Idle,
    /// Requests that would be lost if they were torn.
    Busy,
}

impl Stop {
    /// Asks.
    pub fn ask(&self) -> Found {
        self.0.send_modify(|state| state.is_asked = true);
        if self.0.borrow().under_way == 0 { Found::Idle } else { Found::Busy }
    }

    /// Waits until somebody has asked, and nothing is under way any more.
    pub async fn settled(&self) {
        self.wait_for(|state| state.is_asked && state.under_way == 0).await;
    }

    /// Goes on unless somebody has asked: then never.
    pub(crate) async fn pass(&self) {
        if self.0.borrow().is_asked {
            pending::<()>().await;
        }
    }

    /// Begins something that must not be torn, unless somebody has asked.
    pub(crate) async fn begin(&self) -> UnderWay<'_> {
        let begun = self.0.send_if_modified(|state| {
            state.under_way += usize::from(!state.is_asked);
            !state.is_asked
        });
        if begun { UnderWay(self) } else { pending().await }
    }

    /// Does `work`, which is dropped as soon as somebody asks.
    pub(crate) async fn unless_asked<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            () = self.wait_for(|state| state.is_asked) => pending().await,
        }
    }

    async fn wait_for(&self, is_met: impl FnMut(&State) -> bool) {
        // Its sender lives as long as this value.
        let _ = self.0.subscribe().wait_for(is_met).await;
    }
}

/// Something that must not be torn, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a Stop);

impl UnderWay<'_> {
    /// Ends it. If somebody has asked meanwhile, nothing comes after it.
    pub(crate) async fn end(self) {
        let stop = self.0;
        drop(self);
        stop.pass().await;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.under_way -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether `work` is done soon; what waits for ever is not.
    async fn is_done<T>(work: impl Future<Output = T>) -> bool {
        tokio::time::timeout(Duration::from_millis(20), work).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_under_way_ends_and_nothing_else_begins() {
        let stop = Stop::default();
        assert!(is_done(stop.pass()).await && !is_done(stop.settled()).await);
        let (first, second) = (stop.begin().await, stop.begin().await);
        assert_eq!(stop.clone().ask(), Found::Busy);
        assert!(!is_done(stop.pass()).await && !is_done(stop.begin()).await);
        assert!(!is_done(stop.unless_asked(pending::<()>())).await);
        drop(first);
        assert!(!is_done(stop.settled()).await);
        assert!(!is_done(second.end()).await);
        assert!(is_done(stop.settled()).await);
        assert_eq!(stop.ask(), Found::Idle);
    }

    #[tokio::test]
    async fn without_being_asked_everything_goes_on() {
        let stop = Stop::default();
        assert!(is_done(stop.begin().await.end()).await);
        assert!(is_done(stop.unless_asked(async {})).await);
        assert!(!is_done(stop.settled()).await);
    }
}
