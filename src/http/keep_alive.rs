//! HTTP/2 pings: how often, and less often once a server has complained about them.
//!
//! A server may close a connection that is pinged more often than it likes: GOAWAY with ENHANCE_YOUR_CALM and the text
//! `too_many_pings`. gRPC's rule for clients is to double the interval for the connections that follow (gRPC proposal
//! A8, "client-side keepalive"). gRPC's C core allows two pings every five minutes by default. Servers that know no
//! gRPC have words of their own, or none. A complaint without words counts as well: it costs some pings, and the other
//! mistake costs every long call.

#[cfg(any(feature = "grpc", feature = "rest"))]
use std::error::Error as StdError;
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use super::settings::bounded;
use crate::sync::Lock;

/// How h2 shows a GOAWAY with ENHANCE_YOUR_CALM; after it stands the text, if there is one.
#[cfg(any(feature = "grpc", feature = "rest"))]
const CALM: &str = "connection error received: detected excessive load generating behavior";

/// The pings of a transport: interval and timeout, if there are to be any.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    times: Option<(Duration, Duration)>,
    doubled: AtomicU32,
}

/// How often the interval had been doubled when a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doublings(u32);

impl KeepAlive {
    pub(crate) fn new(times: Option<(Duration, Duration)>) -> Self {
        Self { times, doubled: AtomicU32::new(0) }
    }

    /// That of connections made from now on.
    pub(crate) fn pace(&self) -> Doublings {
        Doublings(self.doubled.load(Relaxed))
    }

    /// Interval and timeout at this pace.
    pub(crate) fn times(&self, pace: Doublings) -> Option<(Duration, Duration)> {
        let (interval, timeout) = self.times?;
        Some((bounded(interval.saturating_mul(1 << pace.0.min(31))), timeout))
    }

    /// Doubles the interval if this error, of a connection made at this pace, is a complaint about pings. Of several
    /// connections that a server closes one counts.
    #[cfg(any(feature = "grpc", feature = "rest"))]
    pub(crate) fn heed(&self, pace: Doublings, error: &(dyn StdError + 'static)) {
        if self.times.is_some() && complains(error) {
            _ = self.doubled.compare_exchange(pace.0, pace.0.saturating_add(1), Relaxed, Relaxed);
        }
    }
}

/// By the text: h2, whose error it is, shows the data of a GOAWAY in no other way. `too_many_pings` is how gRPC's
/// servers write it.
#[cfg(any(feature = "grpc", feature = "rest"))]
fn complains(error: &(dyn StdError + 'static)) -> bool {
    let text = error.to_string();
    let words: String =
        text.chars().filter(char::is_ascii_alphabetic).map(|letter| letter.to_ascii_lowercase()).collect();
    let of_pings = ["toomanyping", "pingflood", "excessiveping", "pingstrike"].iter().any(|word| words.contains(word));
    of_pings || text.ends_with(CALM) || error.source().is_some_and(complains)
}

/// What makes connections, with the pace of their pings: made anew once that is too fast.
pub(crate) struct Paced<C>(Lock<Option<(C, Doublings)>>);

impl<C> Default for Paced<C> {
    fn default() -> Self {
        Self(Lock::default())
    }
}

impl<C: Clone> Paced<C> {
    /// The one of this pace, made if there is none.
    pub(crate) fn at<E>(&self, pace: Doublings, make: impl FnOnce() -> Result<C, E>) -> Result<C, E> {
        let mut slot = self.0.lock();
        if let Some((made, _)) = slot.as_ref().filter(|(_, of)| *of == pace) {
            return Ok(made.clone());
        }
        let made = make()?;
        *slot = Some((made.clone(), pace));
        Ok(made)
    }
}

#[cfg(all(test, any(feature = "grpc", feature = "rest")))]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_complaint_doubles_the_interval_once_for_all_connections_of_a_pace() {
        let second = Duration::from_secs(1);
        let keep_alive = KeepAlive::new(Some((15 * second, 10 * second)));
        let first = keep_alive.pace();
        keep_alive.heed(first, &io::Error::other("connection error received: detected excessive load"));
        assert_eq!(keep_alive.pace(), first, "a server may have other reasons for that");
        let complaint = io::Error::other("detected excessive load generating behavior (b\"too_many_pings\")");
        (0..3).for_each(|_| keep_alive.heed(first, &complaint));
        assert_eq!(keep_alive.times(keep_alive.pace()), Some((30 * second, 10 * second)));
        keep_alive.heed(keep_alive.pace(), &complaint);
        assert_eq!(keep_alive.times(keep_alive.pace()), Some((60 * second, 10 * second)));
        (0..100).for_each(|_| keep_alive.heed(keep_alive.pace(), &complaint));
        assert!(keep_alive.times(keep_alive.pace()).is_some(), "no number of complaints overflows");
    }

    #[test]
    fn complaints_in_the_forms_there_are() {
        for (text, complaint) in [
            ("b\"too_many_pings\"", true),
            ("b\"Too many pings\"", true),
            ("b\"TOO_MANY_PINGS\"", true),
            ("b\"too many ping frames\"", true),
            ("b\"ping flood\"", true),
            ("", true),
            ("b\"too_many_resets\"", false),
            ("b\"too many headers\"", false),
        ] {
            let text = if text.is_empty() { CALM.to_owned() } else { format!("{CALM} ({text})") };
            assert_eq!(complains(&io::Error::other(text.clone())), complaint, "{text}");
        }
        for other in [
            "connection error received: not a result of an error",
            "connection closed",
            "stream error received: stream no longer needed",
        ] {
            assert!(!complains(&io::Error::other(other)), "{other}");
        }
    }

    #[test]
    fn what_is_made_at_one_pace_is_made_anew_at_the_next() {
        let paced = Paced::default();
        let at = |pace, made| paced.at(Doublings(pace), || Ok::<u8, ()>(made)).unwrap();
        assert_eq!([at(0, 1), at(0, 2), at(1, 3), at(1, 4)], [1, 1, 3, 3]);
    }
}
