//! A suite's report for people: what was measured, how far rounds lie apart, what to doubt.
//!
//! It computes nothing.
//!
//! Invariants: whatever limits the meaning of a figure stands below it.

use std::fmt;

use super::html::number::shown;
use super::model::{Figure, Machine, Part, SuiteReport, Verdict};

/// Rounds of a calm machine lie closer together than this, percent.
const NOISE_PERCENT_MAX: f64 = 25.0;
/// More time than this given to others is worth a word, percent.
const STEAL_PERCENT_MAX: f64 = 1.0;

impl Machine {
    /// What to doubt because of the machine.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.noise_percent > NOISE_PERCENT_MAX {
            warnings.push(format!(
                "the machine was noisy: passes of one loop lay {:.0} % apart; compare ratios within a run only",
                self.noise_percent
            ));
        }
        if self.steal_percent > STEAL_PERCENT_MAX {
            warnings.push(format!(
                "the hypervisor gave {:.1} % of the cores' time to others",
                self.steal_percent
            ));
        }
        if self.load.parse::<f64>().is_ok_and(|load| load > 0.5) {
            warnings.push(format!(
                "others used the machine when it began: load {}",
                self.load
            ));
        }
        warnings
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            f,
            "{}, {}, {}, {} UTC, {:.0} s",
            self.tool,
            self.scale,
            self.revisions(),
            self.started,
            self.took_s
        )?;
        writeln!(
            f,
            "{}, {} cores, {} MiB, Linux {}, data on {}; {}",
            machine.cpu,
            machine.cores,
            machine.memory_kib >> 10,
            machine.kernel,
            machine.file_system,
            machine.cores_used
        )?;
        writeln!(
            f,
            "noise {:.0} %, steal {:.1} %",
            machine.noise_percent, machine.steal_percent
        )?;
        for part in &self.parts {
            write_part(part, f)?;
        }
        writeln!(f)?;
        for warning in &self.warnings {
            writeln!(f, "WARNING: {warning}")?;
        }
        for (name, reason) in &self.skipped {
            writeln!(f, "skipped: {name}: {reason}")?;
        }
        if !self.complete {
            writeln!(f, "INCOMPLETE: it was ended before all was measured")?;
        }
        Ok(())
    }
}

fn write_part(part: &Part, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let verdict = match part.verdict {
        Verdict::Kept => "",
        Verdict::Broken => "  PROMISE BROKEN",
        Verdict::None => "  NO VERDICT",
    };
    writeln!(f, "\n{}: {}{verdict}", part.name, part.subject)?;
    for figure in &part.figures {
        write_figure(figure, f)?;
    }
    for warning in &part.warnings {
        writeln!(f, "  ! {warning}")?;
    }
    Ok(())
}

fn write_figure(figure: &Figure, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [min, median, max] = [figure.min, figure.median, figure.max].map(shown);
    writeln!(
        f,
        "  {:<36}{median:>12} {:<4} {min} .. {max}",
        figure.title, figure.unit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_machine_is_told() {
        let calm = Machine {
            noise_percent: 5.0,
            load: "0.1".to_owned(),
            ..Machine::default()
        };
        assert_eq!(calm.warnings(), [""; 0]);
        let noisy = Machine {
            noise_percent: 50.0,
            steal_percent: 3.0,
            load: "2.0".to_owned(),
            ..Machine::default()
        };
        assert_eq!(noisy.warnings().len(), 3);
    }
}
