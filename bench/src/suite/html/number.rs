//! Numbers as people read them: grouped by thousands, with the digits that matter, in a unit that
//! fits.
//!
//! It never hides that something is no number, and leaves parsing to the JSON.
//!
//! Invariants: three digits that matter, or all before the point.

/// Stands for what is no number, or was not measured.
pub(crate) const NONE: &str = "–";

/// From here on digits are written as a power of ten.
const HUGE: f64 = 1e15;

/// Units by what they are larger than the first one, smallest first.
const LADDERS: [&[(&str, f64)]; 4] = [
    &[("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)],
    &[("µs", 1.0), ("ms", 1e3), ("s", 1e6)],
    &[("ms", 1.0), ("s", 1e3)],
    &[
        ("B", 1.0),
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
    ],
];

/// A unit for reading, and by what figures are divided for it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Scale {
    /// Its name; may be empty.
    pub(crate) unit: String,
    divisor: f64,
}

impl Scale {
    /// The unit as the report has it.
    pub(crate) fn plain(unit: &str) -> Self {
        let unit = match unit {
            "us" => "µs",
            "1/s" => "/s",
            unit => unit,
        };
        Self {
            unit: unit.to_owned(),
            divisor: 1.0,
        }
    }

    /// The largest unit in which the largest of the values has two digits before the point.
    pub(crate) fn fitting(unit: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let plain = Self::plain(unit);
        let finite = values.into_iter().filter(|value| value.is_finite());
        let largest = finite.fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let ladder = LADDERS.iter().find(|ladder| ladder[0].0 == plain.unit);
        let fits = |(_, divisor): &&(&str, f64)| largest >= 10.0 * divisor;
        let rung = ladder.and_then(|ladder| ladder.iter().rfind(fits));
        rung.map_or(plain, |&(unit, divisor)| Self {
            unit: unit.to_owned(),
            divisor,
        })
    }

    /// The value in this unit.
    pub(crate) fn of(&self, value: f64) -> f64 {
        value / self.divisor
    }

    /// The value in this unit, for reading, without the unit.
    pub(crate) fn show(&self, value: f64) -> String {
        shown(self.of(value))
    }

    /// The same with the unit.
    pub(crate) fn show_with_unit(&self, value: f64) -> String {
        format!("{} {}", self.show(value), self.unit)
            .trim_end()
            .to_owned()
    }
}

/// A number for reading.
pub(crate) fn shown(value: f64) -> String {
    let size = value.abs();
    let most = match size {
        _ if !value.is_finite() => return NONE.to_owned(),
        _ if size >= HUGE || (size != 0.0 && size < 1e-4) => return format!("{value:.2e}"),
        _ if size.fract() == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ if size >= 0.1 => 3,
        _ => 4,
    };
    // Zeros at the end that say nothing: 0.82, not 0.820.
    let is_enough = |decimals: &usize| {
        let shifted = (0..*decimals).fold(size, |shifted, _| shifted * 10.0);
        (shifted - shifted.round()).abs() < 1e-9
    };
    grouped(value, (0..most).find(is_enough).unwrap_or(most))
}

/// A finite number with so many digits behind the point.
pub(crate) fn grouped(value: f64, decimals: usize) -> String {
    let digits = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = digits
        .split_once('.')
        .map_or((digits.as_str(), None), |(whole, fraction)| {
            (whole, Some(fraction))
        });
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

/// A time for reading, of seconds.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return NONE.to_owned();
    }
    let whole = seconds.round();
    let (hours, minutes) = ((whole / 3600.0).floor(), (whole / 60.0).floor());
    if seconds < 60.0 {
        format!("{} s", shown(seconds))
    } else if hours < 1.0 {
        format!("{minutes} min {} s", whole - minutes * 60.0)
    } else {
        format!("{} h {} min", grouped(hours, 0), minutes - hours * 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: &str, value: f64, expected: &str) {
        assert_eq!(
            Scale::fitting(unit, [value]).show_with_unit(value),
            expected
        );
    }

    #[test]
    fn numbers_with_units() {
        check("us", 0.0, "0 µs");
        check("us", 9_999.0, "9,999 µs");
        check("us", 10_000.0, "10 ms");
        check("us", 12_345_678.0, "12.3 s");
        check("B", 4_321.4, "4,321 B");
        check("B", 15_360.0, "15 KiB");
        check("B", 3.0 * 1_073_741_824.0, "3,072 MiB");
        check("1/s", 1_234_567.4, "1,234,567 /s");
        check("", 0.8333, "0.833");
        check("%", -12.34, "-12.3 %");
        check("widgets", 1e18, "1.00e18 widgets");
        check("us", f64::NAN, "– µs");
        check("us", f64::INFINITY, "– µs");
        check("us", 0.012_34, "0.0123 µs");
        check("", 1e-9, "1.00e-9");
    }

    #[test]
    fn durations() {
        assert_eq!(duration(8.25), "8.25 s");
        assert_eq!(duration(723.4), "12 min 3 s");
        assert_eq!(duration(7_384.0), "2 h 3 min");
        assert_eq!(duration(f64::NAN), NONE);
    }
}
