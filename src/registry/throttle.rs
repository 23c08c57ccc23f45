//! The limit of all transfers of a run together, and of those of one registry: buckets of tokens, both
//! directions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How much may pass at once after a pause, as a part of a second's worth.
const BURST_SECONDS: f64 = 0.1;

/// Lets bytes pass at a rate. Bytes are paid for after they passed, so that no caller has to know
/// beforehand how many will come, and a dropped future loses none.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: Option<f64>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    filled: Instant,
    balance_bytes: f64,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let bytes_per_second = bytes_per_second.map(|rate| rate.max(1) as f64);
        let bucket = Bucket { filled: Instant::now(), balance_bytes: 0.0 };
        Self { bytes_per_second, bucket: Mutex::new(bucket) }
    }

    /// Waits until the bytes that passed so far are paid for.
    pub(super) async fn ready(&self) {
        while let Some(wait) = self.debt(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }

    fn debt(&self, now: Instant) -> Option<Duration> {
        let rate = self.bytes_per_second?;
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.saturating_duration_since(bucket.filled).as_secs_f64() * rate;
        bucket.filled = now;
        bucket.balance_bytes = (bucket.balance_bytes + earned).min(rate * BURST_SECONDS);
        (bucket.balance_bytes < 0.0)
            .then(|| Duration::from_secs_f64((-bucket.balance_bytes / rate).max(0.001)))
    }

    /// Pays for bytes that passed.
    pub(super) fn spend(&self, bytes: usize) {
        if self.bytes_per_second.is_some() {
            #[expect(clippy::cast_precision_loss, reason = "a piece is small")]
            let bytes = bytes as f64;
            self.bucket.lock().unwrap_or_else(PoisonError::into_inner).balance_bytes -= bytes;
        }
    }
}

/// All limits that hold for one transfer.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// That of the run.
    pub(super) all: Arc<Throttle>,
    /// That of the registry.
    pub(super) host: Option<Arc<Throttle>>,
}

impl Limits {
    /// Waits until the bytes that passed so far are paid for.
    pub(super) async fn ready(&self) {
        self.all.ready().await;
        if let Some(host) = &self.host {
            host.ready().await;
        }
    }

    /// Pays for bytes that passed.
    pub(super) fn spend(&self, bytes: usize) {
        self.all.spend(bytes);
        if let Some(host) = &self.host {
            host.spend(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_rate_whoever_sends_them() {
        let throttle = Throttle::new(Some(1000));
        let start = Instant::now();
        let mut now = start;
        for _ in 0..10 {
            while let Some(wait) = throttle.debt(now) {
                now += wait;
            }
            throttle.spend(500);
        }
        let wait = throttle.debt(now).expect("the last bytes are not paid for");
        let seconds = (now + wait - start).as_secs_f64();
        assert!((4.8..5.2).contains(&seconds), "{seconds} s");
    }

    #[test]
    fn a_long_pause_earns_no_more_than_a_short_burst() {
        let throttle = Throttle::new(Some(1000));
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(throttle.debt(later), None);
        throttle.spend(1100);
        let wait = throttle.debt(later).expect("the burst is smaller than that");
        assert!((0.9..1.1).contains(&wait.as_secs_f64()), "{wait:?}");
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let throttle = Throttle::new(None);
        throttle.spend(usize::MAX);
        assert_eq!(throttle.debt(Instant::now()), None);
    }
}
