//! When something is tried again, and how long that waits.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::connection::RetryPolicy;
use super::error::{Error, Trouble};
use crate::progress::Reporter;

/// The longest wait that a registry can ask for (`Retry-After`); a run that waits longer looks dead.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(5 * 60);
/// From this wait on, people are told.
const WORTH_A_WARNING: Duration = Duration::from_secs(5);
/// A name that a resolver does not know twice is not known: a typing error should show at once.
const UNKNOWN_HOST_ATTEMPTS: usize = 2;
/// A port where nobody ever listened is most likely the wrong one.
const CLOSED_PORT_ATTEMPTS: usize = 3;
/// How often content is sent that a registry fails on (500): some do so where they should refuse it.
const FAILED_CONTENT_ATTEMPTS: usize = 3;

/// The attempts at one thing.
pub(super) struct Attempts {
    policy: RetryPolicy,
    reporter: Arc<dyn Reporter>,
    delays: ExponentialBackoff,
    /// Whether what is sent may be the cause of a 500.
    sends_content: bool,
    /// How many errors came that are believed sooner than others.
    telling: usize,
}

impl Attempts {
    pub(super) fn new(policy: RetryPolicy, reporter: Arc<dyn Reporter>) -> Self {
        Self { policy, reporter, delays: delays(policy), sends_content: false, telling: 0 }
    }

    /// For requests whose content may be what a registry fails on.
    pub(super) fn of_content(self) -> Self {
        Self { sends_content: true, ..self }
    }

    /// Begins to count anew, because the last attempt got somewhere.
    pub(super) fn reset(&mut self) {
        self.delays = delays(self.policy);
        self.telling = 0;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// Gives `error` back if it will not pass by, or was the last that is tolerated.
    pub(super) async fn pause_after(&mut self, error: Error) -> Result<(), Error> {
        if error.is_temporary() { self.pause_after_any(error).await } else { Err(error) }
    }

    /// Waits before the next attempt, whatever the error is.
    ///
    /// # Errors
    /// Gives `error` back if it was the last that is tolerated.
    pub(super) async fn pause_after_any(&mut self, error: Error) -> Result<(), Error> {
        if let Some(most) = self.believed_after(&error) {
            self.telling += 1;
            if self.telling >= most {
                return Err(error);
            }
        }
        let Some(delay) = self.delays.next() else { return Err(error) };
        let delay = match error.retry_after() {
            Some(asked) if !asked.is_zero() => asked.min(LONGEST_ASKED_WAIT),
            _ => delay,
        };
        let message = format!("{error}; trying again in {:.1} s", delay.as_secs_f64());
        if delay >= WORTH_A_WARNING {
            self.reporter.warn(message);
        } else {
            self.reporter.detail(message);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// How often an error has to come until it is believed, if not as often as all others.
    fn believed_after(&self, error: &Error) -> Option<usize> {
        match (error.trouble(), error.status()) {
            (Some(Trouble::UnknownHost), _) => Some(UNKNOWN_HOST_ATTEMPTS),
            (Some(Trouble::Closed), _) => Some(CLOSED_PORT_ATTEMPTS),
            (_, Some(500)) if self.sends_content => Some(FAILED_CONTENT_ATTEMPTS),
            _ => None,
        }
    }
}

fn delays(policy: RetryPolicy) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(policy.first_delay)
        .with_max_delay(policy.longest_delay)
        .with_max_times(policy.attempts.saturating_sub(1))
        .with_jitter()
        .build()
}

/// Reads `Retry-After`, which is a number of seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_port_is_known_within_five_seconds() {
        let pauses = delays(RetryPolicy::default()).take(CLOSED_PORT_ATTEMPTS - 1);
        assert!(pauses.sum::<Duration>() < Duration::from_secs(5));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 10:00:00 GMT").expect("a date");
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sat, 21 Nov 2026 10:00:09 GMT", Some(9)),
            ("Sat, 21 Nov 2026 09:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
