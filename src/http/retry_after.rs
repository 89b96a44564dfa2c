//! `Retry-After`: how long a server wants to be left alone, in seconds or as a date (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap,
    header::{DATE, HeaderName, RETRY_AFTER},
};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The pause that these headers ask for; nothing where they do not, or cannot be read. A date is counted from the
/// server's own `Date`, as the two clocks may differ, or else from this one's.
pub(crate) fn pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(RETRY_AFTER)?;
    if !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are for ever as well.
        return Some(Duration::from_secs(asked.parse().unwrap_or(u64::MAX)));
    }
    let until = seconds(asked)?;
    let now = text(DATE).and_then(seconds).or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(now.as_secs()).ok()
    })?;
    // One that has passed asks for no pause.
    Some(Duration::from_secs(u64::try_from(until.saturating_sub(now)).unwrap_or(0)))
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
    use http::HeaderValue;

    use super::*;

    fn asked(retry_after: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap())]);
        headers.extend(date.map(|date| (DATE, HeaderValue::from_str(date).unwrap())));
        pause(&headers).map(|pause| pause.as_secs())
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
        for bad in ["-1", "1.5", "1e3", "+5", "", "in a minute", "5 s"] {
            assert_eq!(asked(bad, None), None, "{bad}");
        }
        let (now, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:51:37 GMT");
        assert_eq!(asked(later, Some(now)), Some(120), "by the server's own clock");
        assert_eq!(asked(now, Some(later)), Some(0));
        assert_eq!(asked(later, None), Some(0), "by this clock it has passed");
        assert!(asked("Fri, 01 Jan 2100 00:00:00 GMT", None).unwrap() > 1_000_000);
        assert_eq!(pause(&HeaderMap::new()), None);
    }
}
