//! Work that is begun ahead of its turn.

use std::collections::VecDeque;
use std::thread::{Scope, ScopedJoinHandle};
use std::vec;

/// The items of a list, each with the result of `work` on it, in the list's order. Up to `width` items are
/// worked on, each on a thread of its own, or wait for their turn; a new one begins when a result is asked
/// for.
pub(crate) struct Ahead<'scope, 'env, T, R, F> {
    scope: &'scope Scope<'scope, 'env>,
    items: vec::IntoIter<T>,
    running: VecDeque<ScopedJoinHandle<'scope, (T, R)>>,
    width: usize,
    work: F,
}

impl<'scope, 'env, T, R, F: Fn(&T) -> R> Ahead<'scope, 'env, T, R, F> {
    pub(crate) fn new(
        scope: &'scope Scope<'scope, 'env>,
        items: Vec<T>,
        width: usize,
        work: F,
    ) -> Self {
        Self { scope, items: items.into_iter(), running: VecDeque::new(), width, work }
    }
}

impl<'scope, T, R, F> Iterator for Ahead<'scope, '_, T, R, F>
where
    T: Send + 'scope,
    R: Send + 'scope,
    F: Fn(&T) -> R + Clone + Send + 'scope,
{
    type Item = (T, R);

    fn next(&mut self) -> Option<(T, R)> {
        self.begin();
        match self.running.pop_front()?.join() {
            Ok(done) => Some(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<'scope, T, R, F> Ahead<'scope, '_, T, R, F>
where
    T: Send + 'scope,
    R: Send + 'scope,
    F: Fn(&T) -> R + Clone + Send + 'scope,
{
    /// Begins as much as may run, before the first result is asked for.
    pub(crate) fn begin(&mut self) {
        while self.running.len() < self.width
            && let Some(item) = self.items.next()
        {
            let work = self.work.clone();
            let work = move || {
                let result = work(&item);
                (item, result)
            };
            self.running.push_back(self.scope.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_not_too_many_at_once() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results: Vec<(u64, u64)> = std::thread::scope(|scope| {
            let work = |item: &u64| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(20 - 2 * item));
                running.fetch_sub(1, Ordering::SeqCst);
                item * item
            };
            Ahead::new(scope, (0..10).collect(), 3, work).collect()
        });
        assert_eq!(results, (0..10).map(|item| (item, item * item)).collect::<Vec<_>>());
        assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "{most:?} at once");
    }
}
