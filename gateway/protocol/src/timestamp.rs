//! Times on the wire: ISO 8601 in UTC with milliseconds, `2026-11-21T09:08:07.006Z`.
//!
//! It never asks what time it is and knows no time zone and no leap second.
//!
//! Invariant: the text has 24 bytes up to the year 9999, and texts order as their times do.

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// The text for a time in milliseconds since 1970.
#[must_use]
pub fn iso8601(timestamp_ms: u64) -> String {
    let (year, month, day) = civil_date(timestamp_ms / DAY_MS);
    let of_day_ms = timestamp_ms % DAY_MS;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        of_day_ms / 3_600_000,
        of_day_ms / 60_000 % 60,
        of_day_ms / 1_000 % 60,
        of_day_ms % 1_000,
    )
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
    use super::*;

    #[test]
    fn known_times() {
        for (timestamp_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_645_557_742_000, "2022-02-22T19:22:22.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(timestamp_ms), text);
        }
    }
}
