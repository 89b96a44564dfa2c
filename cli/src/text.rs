//! Small readers and errors of the command line's own.

use std::{borrow::Cow, time::Duration};

use infinityvm_sdk::{Error, ErrorKind};

/// The error of an argument, or of what it names.
pub fn refused(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, what)
}

/// Reads `500ms`, `90s`, `5m`, `1h`, or seconds without a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("use a number and ms, s, m or h, such as 90s".to_owned()),
    };
    let time = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
    match time {
        Some(0) => Err("no time at all; use at least 1ms".to_owned()),
        // A year is longer than anybody waits, and short enough for every clock.
        Some(time) if time <= 365 * 24 * 3_600_000 => Ok(Duration::from_millis(time)),
        _ => Err("use a number and ms, s, m or h, such as 90s, up to a year".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [("500ms", 500), ("90s", 90_000), ("90", 90_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "0", "0ms", "1d", "-1s", "1.5s", "s5", "99999999999999999999s", "9000000h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
