//! Times on the wire: ISO 8601 in UTC with milliseconds, `2026-11-21T09:08:07.006Z`.
//!
//! It never asks what time it is and knows no time zone and no leap second.
//!
//! Invariants: the text has 24 bytes up to the year 9999, and texts order as their times do; the
//! text of a time that was read is the text that it was read from.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ts_rs::TS;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// A time: ISO 8601 in UTC with milliseconds, `2026-11-21T09:08:07.006Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, TS)]
#[ts(as = "String")]
pub struct Timestamp(
    /// Milliseconds since 1970.
    pub u64,
);

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_date(self.0 / DAY_MS);
        let of_day_ms = self.0 % DAY_MS;
        write!(
            formatter,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            of_day_ms / 3_600_000,
            of_day_ms / 60_000 % 60,
            of_day_ms / 1_000 % 60,
            of_day_ms % 1_000,
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &FORM))
    }
}

const FORM: &str = "a time like 2026-11-21T09:08:07.006Z";

/// The time that has this text, of years 1970 to 9999.
fn parse(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let are_digits = digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| are_digits)
    };
    let days = days_since_1970(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let of_day_ms = ((number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?) * 1_000;
    let timestamp = Timestamp(days * DAY_MS + of_day_ms + number(20, 23)?);
    // What stands between the numbers, and days and hours that there are not.
    (timestamp.to_string() == text).then_some(timestamp)
}

/// The other way round than [`civil_date`]; whatever for a date that there is not.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let month_from_march = (month + 9) % 12;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month_from_march + 2) / 5;
    (era * 146_097 + day_of_era + day).checked_sub(719_468 + 1)
}

/// Year, month and day of the Gregorian calendar, by counting in eras of 400 years that begin
/// on 1 March (Hinnant, "chrono-compatible low-level date algorithms").
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        let json = format!("\"{text}\"");
        let read: Result<Timestamp, _> = serde_json::from_str(&json);
        assert_eq!(read.ok().map(|it| it.0), expected, "{text}");
        if let Some(timestamp_ms) = expected {
            assert_eq!(
                serde_json::to_string(&Timestamp(timestamp_ms)).unwrap(),
                json
            );
        }
    }

    #[test]
    fn known_times() {
        check("1970-01-01T00:00:00.000Z", Some(0));
        check("2000-02-29T00:00:00.000Z", Some(951_782_400_000));
        check("2000-02-29T23:59:59.999Z", Some(951_868_799_999));
        check("2022-02-22T19:22:22.000Z", Some(1_645_557_742_000));
        check("2100-03-01T00:00:00.000Z", Some(4_107_542_400_000));
        check("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999));
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "now",
            "2100-02-29T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:60:00.000Z",
            "2026-01-01T00:00:00.000",
            "2026-01-01 00:00:00.000Z",
            "2026-01-01T00:00:00.000Z ",
            "+026-01-01T00:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00.00\u{e9}Z",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn the_text_of_a_time_is_read_as_that_time(timestamp_ms in 0..253_402_300_800_000_u64) {
            check(&Timestamp(timestamp_ms).to_string(), Some(timestamp_ms));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9T:.Z é-]{0,30}") {
            let _ = parse(&text);
        }
    }
}
