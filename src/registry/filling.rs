//! One session being filled with a blob: in one request, or chunk by chunk.

use std::sync::Arc;
use std::time::Duration;

use super::client::Ask;
use super::error::{Error, Kind};
use super::http::{Body, Method, Url, headers};
use super::outgoing::Outgoing;
use super::section::{self, Checkpoint, Outcome, Section, check_empty};
use super::sending::{Beginning, Sending};
use super::upload::UploadSession;
use crate::units::format_bytes;

/// How fast a registry moves a finished upload to its place at the least: on some storage services it
/// is copied. Its answer may take that much longer.
const COMMIT_BYTES_PER_SECOND: u64 = 10_000_000;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

impl Sending<'_> {
    /// Sends the blob in one request.
    pub(super) async fn send_whole(&mut self, session: &mut UploadSession) -> Result<(), Error> {
        let mut ask = self.ask_commit(session);
        let size_bytes = self.content.size_bytes;
        if size_bytes == 0 {
            self.judge(check_empty(&self.content).await)?;
            self.registry.answer_once(&ask).await.map_err(|error| self.lost_or(error))?;
            return Ok(());
        }
        let section = Section::new(Arc::clone(&self.content), self.content.start(), 0..size_bytes);
        let outgoing = section.outgoing();
        ask.request.body = Body::Stream(Arc::clone(&outgoing));
        let sent = self.send(&ask, &outgoing, 0).await;
        match (self.judge(section.outcome())?, sent) {
            (_, Ok(_)) => Ok(()),
            (_, Err(error)) => Err(self.lost_or(error)),
        }
    }

    /// Sends what the session does not hold yet, and ends it.
    pub(super) async fn send_chunks(
        &mut self,
        session: &mut UploadSession,
        beginning: Beginning,
    ) -> Result<(), Error> {
        let mut at = match beginning {
            Beginning::New => {
                self.kept.remember(session, &self.content);
                self.content.start()
            }
            Beginning::Former => self.find_place(session).await?,
        };
        while at.offset < self.content.size_bytes {
            at = self.send_chunk(session, at).await?;
        }
        let stop = self.stop.clone();
        let under_way = stop.begin().await;
        let response = self.registry.answer_once(&self.ask_commit(session)).await;
        if response.is_ok() {
            self.kept.forget();
        }
        under_way.end().await;
        response.map_err(|error| self.lost_or(error))?.finish().await;
        Ok(())
    }

    /// Asks how far a session is, and reads the source up to there.
    async fn find_place(&mut self, session: &mut UploadSession) -> Result<Checkpoint, Error> {
        let received = self.ask_received(session).await?;
        let lost = || self.subject.error(Kind::LostSession);
        if received > self.content.size_bytes {
            return Err(lost());
        }
        let read = section::read_up_to(&self.content, received).await;
        let Outcome::Sent(at) = self.judge(read)? else { return Err(lost()) };
        if received > 0 {
            self.registry.http().reporter.note(format!(
                "going on with blob `{}` at {} of {}",
                self.content.digest,
                format_bytes(received),
                format_bytes(self.content.size_bytes),
            ));
        }
        self.progress.set(received);
        Ok(at)
    }

    /// Sends one chunk, the rest of it again as long as the session lives.
    async fn send_chunk(
        &mut self,
        session: &mut UploadSession,
        from: Checkpoint,
    ) -> Result<Checkpoint, Error> {
        let chunk_bytes = self.chunk_bytes.max(session.chunk_min_bytes);
        let end = from.offset.saturating_add(chunk_bytes).min(self.content.size_bytes);
        let mut start = from.offset;
        let stop = self.stop.clone();
        let mut attempts = self.registry.http().attempts();
        loop {
            let section = Section::new(Arc::clone(&self.content), from.clone(), start..end);
            let under_way = stop.begin().await;
            let answer = self.send_patch(session, &section, start..end).await;
            under_way.end().await;
            let outcome = self.judge(section.outcome())?;
            let received = match answer {
                Ok(received) if received > start => received,
                Ok(_) => return Err(self.subject.error(Kind::LostSession)),
                Err(error) if error.is_temporary() || error.status() == Some(416) => {
                    attempts.pause_after_any(error).await?;
                    self.ask_received(session).await?
                }
                Err(error) => return Err(self.lost_or(error)),
            };
            match outcome {
                Outcome::Sent(at) if received == end => return Ok(at),
                _ if (from.offset..end).contains(&received) => {}
                // The session has other bytes than were sent: nothing can be built upon it.
                _ => return Err(self.subject.error(Kind::LostSession)),
            }
            if received > start {
                attempts.reset();
            }
            start = received;
            self.progress.set(start);
        }
    }

    /// Sends bytes into the session, and gives how many it holds then.
    async fn send_patch(
        &mut self,
        session: &mut UploadSession,
        section: &Arc<Section>,
        range: std::ops::Range<u64>,
    ) -> Result<u64, Error> {
        let outgoing = section.outgoing();
        let mut ask = session.ask(Method::PATCH, &self.subject);
        ask.request = ask
            .request
            .with(headers::CONTENT_TYPE, "application/octet-stream")
            .with(headers::CONTENT_RANGE, &format!("{}-{}", range.start, range.end - 1))
            .with_body(Body::Stream(Arc::clone(&outgoing)));
        let response = self.send(&ask, &outgoing, range.start).await?;
        session.location = response.location().map_err(|failure| self.subject.error(failure))?;
        self.kept.remember(session, &self.content);
        let received = response.value(headers::RANGE).and_then(received_bytes);
        response.finish().await;
        Ok(received.unwrap_or(range.end))
    }

    /// Asks the session how many bytes it holds.
    async fn ask_received(&mut self, session: &mut UploadSession) -> Result<u64, Error> {
        let ask = session.ask(Method::GET, &self.subject);
        let response = self.registry.answer(&ask).await.map_err(|error| {
            // Some know the session, and have no answer to this question: that is no better.
            let is_mute = error.status() == Some(501) || error.is_refusal();
            let is_lost = is_mute && !error.is_unauthorized();
            if is_lost { self.subject.error(Kind::LostSession) } else { error }
        })?;
        if let Ok(location) = response.location() {
            session.location = location;
            self.kept.remember(session, &self.content);
        }
        let received = response.value(headers::RANGE).and_then(received_bytes);
        response.finish().await;
        received.ok_or_else(|| self.subject.error(Kind::LostSession))
    }

    /// Sends a body and tells its progress meanwhile.
    async fn send(
        &mut self,
        ask: &Ask,
        outgoing: &Arc<Outgoing>,
        start: u64,
    ) -> Result<super::answer::Response, Error> {
        let sending = self.registry.answer_once(ask);
        tokio::pin!(sending);
        let mut tell = tokio::time::interval(TELL_EVERY);
        loop {
            let answer = tokio::select! {
                answer = &mut sending => Some(answer),
                _ = tell.tick() => None,
            };
            self.progress.set(start + outgoing.taken_bytes());
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    fn ask_commit(&self, session: &UploadSession) -> Ask {
        let mut ask = session.ask(Method::PUT, &self.subject);
        ask.request = ask.request.with(headers::CONTENT_TYPE, "application/octet-stream");
        add_digest(&mut ask.request.url, &self.content.digest.to_string());
        ask.request.patience =
            Duration::from_secs(self.content.size_bytes / COMMIT_BYTES_PER_SECOND);
        ask
    }

    /// Turns a source that is of no use into an error.
    fn judge(&self, outcome: Outcome) -> Result<Outcome, Error> {
        match outcome {
            Outcome::Damaged(mismatch) => Err(self.subject.error(Kind::DamagedSource(mismatch))),
            Outcome::Unreadable(error) => Err(self.subject.error(Kind::Source(error))),
            usable => Ok(usable),
        }
    }

    /// A session that is not known any more is lost; the blob may yet be sent by another.
    fn lost_or(&self, error: Error) -> Error {
        if error.is_not_found() { self.subject.error(Kind::LostSession) } else { error }
    }
}

/// Adds `digest=…` behind whatever query the session's address has, which must stay as it is.
fn add_digest(location: &mut Url, digest: &str) {
    location.query_pairs_mut().append_pair("digest", digest);
}

/// Reads how many bytes a session holds from `Range: 0-LAST`, which is no range of RFC 9110.
///
/// distribution writes `0-0` where it holds nothing, as if it held one byte; nobody sends one byte.
fn received_bytes(range: &str) -> Option<u64> {
    let range = range.trim().trim_start_matches("bytes=");
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_holds_is_read_as_registries_write_it() {
        for (range, expected) in [
            ("0-1023", Some(1024)),
            ("bytes=0-1023", Some(1024)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0--1", None),
            ("", None),
        ] {
            assert_eq!(received_bytes(range), expected, "{range}");
        }
    }

    #[test]
    fn the_digest_joins_the_sessions_own_query() {
        for (location, expected) in [
            ("http://r/u/1", "http://r/u/1?digest=sha256%3Aab"),
            ("http://r/u/1?_state=a%2Fb%3D", "http://r/u/1?_state=a%2Fb%3D&digest=sha256%3Aab"),
        ] {
            let mut url: Url = location.parse().expect(location);
            add_digest(&mut url, "sha256:ab");
            assert_eq!(url.as_str(), expected);
        }
    }
}
