//! How long a server wants to be left alone: `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3), and
//! what services say in its place: milliseconds, or when the window of a rate limit ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The same as [`RETRY_AFTER`], in milliseconds.
const MILLIS: [&str; 2] = ["retry-after-ms", "x-ms-retry-after-ms"];
/// When the window of a rate limit ends, and how much is left in it.
const RESETS: [&str; 4] = ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset", "x-ratelimit-reset-after"];
const REMAINING: [&str; 3] = ["ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining"];
/// Both in one, as newer drafts of the IETF have it.
const LIMITS: &str = "ratelimit";

/// The longest window that counts. One of a day may be told of beside a refusal for what was asked within a second.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
/// From here on a number is a time: of seconds since 1970, and of milliseconds.
const EPOCH_SECONDS: f64 = 1e9;
const EPOCH_MILLIS: f64 = 1e12;

/// What a refusal is about, as far as its status tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedFor {
    /// Too much was asked in a time.
    Rate,
    /// The server is overloaded or away, or it is its limit.
    Load,
    Other,
}

impl RefusedFor {
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            429 => Self::Rate,
            503 => Self::Load,
            _ => Self::Other,
        }
    }
}

/// The pause that the headers of a refusal ask for; nothing where they do not, or cannot be read. When the window of a
/// rate limit ends counts only where that may be what was met.
pub(crate) fn pause(headers: &HeaderMap, refused: RefusedFor) -> Option<Duration> {
    let window = || match (refused, remaining(headers)) {
        (RefusedFor::Other, _) | (_, Some(1..)) | (RefusedFor::Load, None) => None,
        _ => reset(headers),
    };
    retry_after(headers).or_else(|| millis(headers)).or_else(window)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A date is counted from the server's own `Date`, as the two clocks may differ, or else from this one's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let asked = text(headers, RETRY_AFTER.as_str())?;
    if is_digits(asked) {
        // More digits than fit are for ever as well.
        return Some(Duration::from_secs(asked.parse().unwrap_or(u64::MAX)));
    }
    let Some(until) = seconds(asked) else { return duration(asked) };
    // One that has passed asks for no pause.
    Some(Duration::from_secs(u64::try_from(until.saturating_sub(now(headers)?)).unwrap_or(0)))
}

/// Parts of a second, or a time with its unit, as no standard has it: `0.5`, `1500ms`, `30 seconds`.
fn duration(asked: &str) -> Option<Duration> {
    let (told, rest) = beginning(asked.trim())?;
    Duration::try_from_secs_f64(told).ok().filter(|_| rest.is_empty())
}

fn millis(headers: &HeaderMap) -> Option<Duration> {
    let asked = MILLIS.iter().find_map(|name| text(headers, name))?;
    match is_digits(asked) {
        true => Some(Duration::from_millis(asked.parse().unwrap_or(u64::MAX))),
        false => Duration::try_from_secs_f64(asked.parse::<f64>().ok()? / 1e3).ok(),
    }
}

/// The seconds since 1970, by the server's clock if it tells.
fn now(headers: &HeaderMap) -> Option<i64> {
    text(headers, DATE.as_str()).and_then(seconds).or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(now.as_secs()).ok()
    })
}

/// How much may still be asked within the window, if that is told in a header of its own.
fn remaining(headers: &HeaderMap) -> Option<u64> {
    REMAINING.iter().find_map(|name| text(headers, name)?.parse().ok())
}

/// How long the window lasts: as a number of seconds, a time with its unit, or the time at which it ends. What is over,
/// or is too long, asks for no pause.
fn reset(headers: &HeaderMap) -> Option<Duration> {
    let told = RESETS.iter().find_map(|name| text(headers, name)).and_then(|told| match told.parse::<f64>() {
        Ok(at) if at >= EPOCH_MILLIS => Some(at / 1e3 - now(headers)? as f64),
        Ok(at) if at >= EPOCH_SECONDS => Some(at - now(headers)? as f64),
        Ok(seconds) => Some(seconds),
        Err(_) => spelled(told).or_else(|| Some((seconds(told)? - now(headers)?) as f64)),
    });
    let told = told.or_else(|| window(text(headers, LIMITS)?))?;
    Duration::try_from_secs_f64(told).ok().filter(|pause| !pause.is_zero() && *pause <= LONGEST_WINDOW)
}

/// Of `limit=100, remaining=0, reset=30`, and of `"a";r=0;t=30, "b";r=5;t=900`: the longest window that is used up.
fn window(limits: &str) -> Option<f64> {
    let field = |part: &str, names: [&str; 2]| {
        part.split([';', ',']).find_map(|field| {
            let (name, value) = field.trim().split_once('=')?;
            names.contains(&name).then(|| value.parse::<f64>().ok())?
        })
    };
    let used_up = |part: &&str| field(part, ["r", "remaining"]).is_none_or(|left| left <= 0.0);
    let parts: Vec<&str> = if limits.contains("reset=") { vec![limits] } else { limits.split(',').collect() };
    let ends = parts.iter().copied().filter(|part| used_up(part)).filter_map(|part| field(part, ["t", "reset"]));
    ends.max_by(f64::total_cmp)
}

/// A time with its units, such as `1m30s`, `250ms` or `2 seconds`, in seconds, from the beginning of a text. A number
/// without a unit is of seconds. What goes on as a date or a time of day does is none.
pub(crate) fn spelled(text: &str) -> Option<f64> {
    beginning(text).filter(|(_, rest)| !rest.starts_with(['-', ':', '/'])).map(|(told, _)| told)
}

/// The same, and what follows.
fn beginning(text: &str) -> Option<(f64, &str)> {
    let mut told = part_of_time(text)?;
    while let Some((part, left)) = part_of_time(told.1) {
        told = (told.0 + part, left);
    }
    Some(told)
}

/// A number and its unit in seconds, and what follows.
fn part_of_time(text: &str) -> Option<(f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let number: f64 = number.trim_end_matches('.').parse().ok()?;
    let rest = rest.trim_start_matches(' ');
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, left) = rest.split_at(letters);
    let seconds = match unit {
        "ms" | "millis" | "millisecond" | "milliseconds" => number / 1000.0,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => number,
        "m" | "min" | "mins" | "minute" | "minutes" => number * 60.0,
        "h" | "hour" | "hours" => number * 3600.0,
        _ => return None,
    };
    Some((seconds, left))
}

/// The seconds since 1970 of an HTTP date, in each of its three forms (RFC 9110, section 5.6.7).
fn seconds(date: &str) -> Option<i64> {
    let words: Vec<&str> = date.split([' ', '-', ',']).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match words[..] {
        // Sun, 06 Nov 1994 08:49:37 GMT; Sunday, 06-Nov-94 08:49:37 GMT
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        // Sun Nov  6 08:49:37 1994
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let number = |text: &str| text.parse::<i64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year = match (year.len(), number(year)?) {
        // Of 50 years to come none is meant.
        (2, year) if year >= 70 => 1900 + year,
        (2, year) => 2000 + year,
        (4, year) => year,
        _ => return None,
    };
    let mut clock = time.split(':').map(number);
    let (Some(hour), Some(minute), Some(second), None) = (clock.next()?, clock.next()?, clock.next()?, clock.next())
    else {
        return None;
    };
    let day = number(day)?;
    if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, with the year beginning in March, so that leap days come last.
    let month = i64::try_from(month).ok()? + 1;
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::HeaderName};

    use super::*;

    fn asked(retry_after: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap())]);
        headers.extend(date.map(|date| (DATE, HeaderValue::from_str(date).unwrap())));
        pause(&headers, RefusedFor::Other).map(|pause| pause.as_secs())
    }

    fn told(fields: &[(&'static str, &str)], refused: RefusedFor) -> Option<u64> {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let millis = pause(&fields.iter().map(header).collect(), refused)?.as_millis();
        Some(u64::try_from(millis).unwrap())
    }

    #[test]
    fn dates_in_each_form() {
        for (date, wanted) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
            ("Sun, 31 Dec 2000 23:59:59 GMT", 978_307_199),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
        ] {
            assert_eq!(seconds(date), Some(wanted), "{date}");
        }
        for bad in
            ["", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 32 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        for bad in ["Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Nov 1994 08:49:37:1 GMT", "Sun, 06 Nov 1994 24:49:37 GMT"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn pauses_in_seconds_and_until_a_date() {
        assert_eq!(asked("0", None), Some(0));
        assert_eq!(asked(" 120 ", None), Some(120));
        assert_eq!(asked(&"9".repeat(30), None), Some(u64::MAX));
        for bad in ["-1", "1e3", "+5", "", "in a minute", ".", "NaN", "inf", "5 apples", "2026-11-30T08:49:37Z"] {
            assert_eq!(asked(bad, None), None, "{bad}");
        }
        // As no standard has it.
        for (lenient, millis) in [("1.5", 1_500), ("0.25", 250), ("5 s", 5_000), ("1m30s", 90_000), ("1500ms", 1_500)] {
            assert_eq!(told(&[("retry-after", lenient)], RefusedFor::Other), Some(millis), "{lenient}");
        }
        assert_eq!(told(&[("retry-after-ms", "1500.5")], RefusedFor::Other), Some(1_500));
        let (now, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:51:37 GMT");
        assert_eq!(asked(later, Some(now)), Some(120), "by the server's own clock");
        assert_eq!(asked(now, Some(later)), Some(0));
        assert_eq!(asked(later, None), Some(0), "by this clock it has passed");
        assert!(asked("Fri, 01 Jan 2100 00:00:00 GMT", None).unwrap() > 1_000_000);
        assert_eq!(pause(&HeaderMap::new(), RefusedFor::Rate), None);
    }

    /// At Sun, 06 Nov 1994 08:49:37 GMT, which is 784,111,777.
    #[test]
    fn the_end_of_a_window_is_a_pause_where_a_rate_was_met() {
        const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for (name, value, wanted) in [
            ("ratelimit-reset", "30", Some(30_000)),
            ("x-ratelimit-reset", " 7 ", Some(7_000)),
            ("x-rate-limit-reset", "2.5", Some(2_500)),
            ("x-ratelimit-reset-after", "0.35", Some(350)),
            ("ratelimit-reset", "6m0s", Some(360_000)),
            ("ratelimit-reset", "120ms", Some(120)),
            ("ratelimit-reset", "3600", Some(3_600_000)),
            ("ratelimit", "limit=100, remaining=0, reset=30", Some(30_000)),
            ("ratelimit", "limit=100;w=60, remaining=0, reset=30", Some(30_000)),
            ("ratelimit", "limit=100, remaining=3, reset=30", None),
            ("ratelimit", "\"burst\";r=0;t=2", Some(2_000)),
            ("ratelimit", "\"burst\";r=0;t=2, \"hour\";r=40;t=900", Some(2_000)),
            ("ratelimit", "\"burst\";r=0;t=2, \"hour\";r=0;t=900", Some(900_000)),
            // What is over, is for another day, or makes no sense.
            ("ratelimit-reset", "0", None),
            ("ratelimit-reset", "-5", None),
            ("ratelimit-reset", "3601", None),
            ("ratelimit-reset", "86400", None),
            ("ratelimit-reset", "784111777", None),
            ("ratelimit-reset", "soon", None),
            ("x-ratelimit-reset", "2026-11-30T08:49:37Z", None),
            ("x-ratelimit-reset", "12:30:00", None),
            ("ratelimit-reset", "", None),
            ("ratelimit-reset", "NaN", None),
            ("ratelimit-reset", "inf", None),
            ("ratelimit", "none", None),
        ] {
            assert_eq!(told(&[(name, value)], RefusedFor::Rate), wanted, "{name}: {value}");
            assert_eq!(told(&[(name, value)], RefusedFor::Other), None, "{name}: {value}");
        }
        // As a time: by the server's clock, and by this one.
        let dated = "Sun, 06 Nov 1994 08:50:07 GMT";
        assert_eq!(told(&[("x-ratelimit-reset", dated), ("date", THEN)], RefusedFor::Rate), Some(30_000));
        for (ahead, bound) in [(20, Some(20_000)), (0, None), (7_200, None)] {
            for at in [(now + ahead).to_string(), ((now + ahead) * 1000).to_string()] {
                let pause = told(&[("x-ratelimit-reset", &at)], RefusedFor::Rate);
                let near = |pause: Option<u64>| pause.map(|pause| pause.div_ceil(5_000) * 5_000);
                assert_eq!(near(pause), bound, "{at}: {pause:?}");
            }
        }
        // Beside what is left, and beside what counts more.
        let reset = ("x-ratelimit-reset", "9");
        for (fields, by_rate, by_load) in [
            (vec![reset], Some(9_000), None),
            (vec![reset, ("x-ratelimit-remaining", "0")], Some(9_000), Some(9_000)),
            (vec![reset, ("ratelimit-remaining", "12")], None, None),
            (vec![reset, ("retry-after", "2")], Some(2_000), Some(2_000)),
            (vec![reset, ("retry-after-ms", "250")], Some(250), Some(250)),
            (vec![("x-ms-retry-after-ms", "40"), ("retry-after", "1")], Some(1_000), Some(1_000)),
            (vec![("retry-after-ms", "soon"), reset], Some(9_000), None),
        ] {
            let pauses = [RefusedFor::Rate, RefusedFor::Load].map(|refused| told(&fields, refused));
            assert_eq!(pauses, [by_rate, by_load], "{fields:?}");
        }
    }
}
