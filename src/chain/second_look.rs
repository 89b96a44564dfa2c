//! Bad news that cannot be taken back is believed at the second look: decided without any I/O.
//!
//! Whoever believes that a nonce is taken, or that a signer is refused, signs the payload again; if that was not so,
//! it runs twice. And an RPC can be wrong about it for a moment, whatever it was asked. So what a look shows counts if
//! it is good, or if the look after it shows the same. Looks of which no two in a row agree are a contradiction, which
//! is told as that.

use std::time::Duration;

use super::Chain;
use crate::{
    backoff::{Backoff, Jitter},
    error::{Error, ErrorKind},
};

/// How often it is looked at most.
const LOOKS: u32 = 5;
/// The pauses before the third look and those after it. The second one is made at once.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(800), Jitter::None).growing(4.0);

/// What a look shows.
pub(crate) trait Tidings {
    /// Whether it is bad, and believing it cannot be taken back.
    fn is_bad(&self) -> bool;

    /// Whether another look shows the same.
    fn agrees(&self, other: &Self) -> bool;
}

/// The looks so far.
#[derive(Debug)]
pub(crate) struct SecondLook<V> {
    last: Option<V>,
    looks: u32,
}

/// What is known after a look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<V> {
    /// It counts.
    Told(V),
    /// Another look is needed, after so long.
    Again(Duration),
    /// No two looks in a row have shown the same. This is what the last two showed.
    Contradiction { before: V, last: V },
}

impl<V: Tidings> SecondLook<V> {
    pub(crate) fn new() -> Self {
        Self { last: None, looks: 0 }
    }

    /// Takes a look in.
    pub(crate) fn hear(&mut self, seen: V) -> Heard<V> {
        self.looks += 1;
        match self.last.take() {
            None if !seen.is_bad() => return Heard::Told(seen),
            Some(before) if before.agrees(&seen) => return Heard::Told(seen),
            Some(before) if self.looks >= LOOKS => return Heard::Contradiction { before, last: seen },
            _ => {}
        }
        self.last = Some(seen);
        Heard::Again(self.pause())
    }

    /// A look could not be made, for now: how long to wait before the next one. Nothing if there is to be none.
    pub(crate) fn missed(&mut self) -> Option<Duration> {
        self.looks += 1;
        // Of a first look the error is all there is to say.
        (self.last.is_some() && self.looks < LOOKS).then(|| self.pause())
    }

    fn pause(&self) -> Duration {
        match self.looks {
            0 | 1 => Duration::ZERO,
            looks => PAUSES.nominal(looks - 1),
        }
    }
}

/// An RPC of which no two looks in a row show the same.
pub(crate) fn contradiction(chain: &Chain) -> Error {
    Error::new(ErrorKind::Chain, "the chain's RPC contradicts itself: looks in a row show different things")
        .with_retryable(true)
        .with_endpoint(chain.reader().endpoint())
        .with_hint("try again; do not sign the payload anew for this. If it stays so, the RPC's servers differ: use another one")
        .with_detail(Contradiction)
}

/// What marks such an error.
struct Contradiction;

/// Whether an error is one of those.
pub(crate) fn contradicts(error: &Error) -> bool {
    error.detail::<Contradiction>().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Good news in lower case.
    impl Tidings for char {
        fn is_bad(&self) -> bool {
            self.is_uppercase()
        }

        fn agrees(&self, other: &Self) -> bool {
            self == other
        }
    }

    /// What comes of these looks; a dash is one that could not be made.
    fn heard(looks: &str) -> (String, Duration) {
        let (mut second, mut paused) = (SecondLook::new(), Duration::ZERO);
        for look in looks.chars() {
            if look == '-' {
                match second.missed() {
                    Some(pause) => paused += pause,
                    None => return ("error".into(), paused),
                }
                continue;
            }
            match second.hear(look) {
                Heard::Told(seen) => return (format!("told {seen}"), paused),
                Heard::Contradiction { before, last } => return (format!("contradiction {before} {last}"), paused),
                Heard::Again(pause) => paused += pause,
            }
        }
        ("open".into(), paused)
    }

    #[test]
    fn good_news_is_believed_at_once_and_bad_news_at_the_second_look() {
        for (looks, expected, ms) in [
            ("a", "told a", 0),
            ("A", "open", 0),
            ("AA", "told A", 0),
            ("Aa", "open", 50),
            ("Aaa", "told a", 50),
            ("AaA", "open", 250),
            ("AaAA", "told A", 250),
            ("ABB", "told B", 50),
            ("AaAaA", "contradiction a A", 1050),
            ("AaAab", "contradiction a b", 1050),
            ("-", "error", 0),
            ("A-", "open", 50),
            ("A-A", "told A", 50),
            ("A---", "open", 1050),
            ("A----", "error", 1050),
            ("Aa-aa", "told a", 250),
        ] {
            let (outcome, paused) = heard(looks);
            assert_eq!((outcome.as_str(), paused.as_millis()), (expected, ms), "{looks}");
        }
    }
}
