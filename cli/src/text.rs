//! Small readers and errors of the command line's own.

use std::{borrow::Cow, io, str::FromStr, time::Duration};

use infinityvm_sdk::{Error, ErrorKind, primitives::Address};

/// The error of an argument, or of what it names.
pub fn refused(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, what)
}

/// The error of a file that cannot be read.
pub fn unreadable(name: &str, error: io::Error) -> Error {
    refused(format!("{name} cannot be read"))
        .with_source(error)
        .with_hint("check the path, and that it is a file that you may read")
}

/// Reads a value of the library's, and says what it is to be if it is none.
pub fn value<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

/// Reads the address of an account or a contract, which is never zero.
pub fn address(text: &str) -> Result<Address, String> {
    match text.parse::<Address>() {
        Ok(address) if address.is_zero() => {
            Err("it is the zero address; use that of your contract or account".to_owned())
        }
        parsed => parsed.map_err(|error| format!("{error}; use 0x and 40 hex digits")),
    }
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
