//! A suite's report as one HTML page that needs nothing else: no script, no font, no network.
//!
//! It knows no benchmark and judges none: what is drawn follows from the names in the report.
//!
//! Invariants: everything from the report is escaped; no report, however odd, breaks the page; what
//! speaks against a figure stands before it.

mod axis;
pub(crate) mod bars;
mod chart;
mod curves;
mod group;
pub(crate) mod markup;
pub(crate) mod number;
mod percentiles;
mod series;
mod svg;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};

use super::model::{SuiteReport, Verdict};
use group::Group;
use markup::{Text, document, write_warnings};
use number::duration;

/// The page.
#[must_use]
pub fn page(report: &SuiteReport) -> String {
    let mut body = String::new();
    write_body(&mut body, report).expect("a string takes all that is written to it");
    document(&format!("{}, {}", title(report), report.started), &body)
}

fn title(report: &SuiteReport) -> &str {
    match report.tool.as_str() {
        "" => "throng-bench",
        tool => tool,
    }
}

fn write_body(out: &mut String, report: &SuiteReport) -> fmt::Result {
    let groups = Group::all(&report.parts);
    write_head(out, report)?;
    tables::write_overview(out, &groups)?;
    for (number, group) in groups.iter().enumerate() {
        write_group(out, number, group)?;
    }
    tables::write_skipped(out, &report.skipped)?;
    tables::write_machine(out, &report.machine)?;
    write_foot(out)
}

fn write_head(out: &mut String, report: &SuiteReport) -> fmt::Result {
    let machine = &report.machine;
    writeln!(
        out,
        "<header>\n<h1>{}</h1>\n<p class=\"meta\"><span>{} scale</span> <span>{}</span> \
         <span>{}</span> <span>took {}</span></p>\n\
         <p class=\"meta\"><span>{}</span> <span>{} cores</span> <span>Linux {}</span></p>",
        Text(title(report)),
        Text(&report.scale),
        Text(&report.revisions()),
        Text(&report.started),
        duration(report.took_s),
        Text(&machine.cpu),
        machine.cores,
        Text(&machine.kernel)
    )?;
    let mut warnings = report.warnings.clone();
    if !report.complete {
        let text = "The run was ended before all of it was done: this is what was done by then.";
        warnings.insert(0, text.to_owned());
    }
    write_warnings(out, &warnings)?;
    write_verdict(out, report)?;
    out.write_str("</header>\n")
}

/// The verdicts of all parts together.
fn write_verdict(out: &mut String, report: &SuiteReport) -> fmt::Result {
    let count = |verdict| {
        let parts = report.parts.iter();
        parts.filter(|part| part.verdict == verdict).count()
    };
    let (broken, none) = (count(Verdict::Broken), count(Verdict::None));
    let (kept, all, skipped) = (
        count(Verdict::Kept),
        report.parts.len(),
        report.skipped.len(),
    );
    let class = match (broken, none) {
        (0, 0) if all > 0 => "good",
        (0, _) => "doubt",
        _ => "bad",
    };
    write!(
        out,
        "<p class=\"verdict {class}\">{kept} of {all} parts kept every promise"
    )?;
    for (count, what) in [
        (broken, "broke one"),
        (none, "came to no verdict"),
        (skipped, "skipped"),
    ] {
        if count > 0 {
            write!(out, "; {count} {what}")?;
        }
    }
    out.write_str(".</p>\n")
}

/// A benchmark: what it shows, what speaks against it, drawings, figures, how it was run.
fn write_group(out: &mut String, number: usize, group: &Group<'_>) -> fmt::Result {
    let name = Text(group.name);
    writeln!(out, "<section>\n<h2 id=\"part-{number}\">{name}</h2>")?;
    let mut said: Vec<&str> = Vec::new();
    for member in &group.members {
        let about = member.part.about.as_str();
        if !about.is_empty() && !said.contains(&about) {
            said.push(about);
            writeln!(out, "<p>{}</p>", Text(about))?;
        }
    }
    write_warnings(out, &warnings(group))?;
    bars::write_bars(out, group)?;
    curves::write_curves(out, group)?;
    series::write_series(out, group)?;
    tables::write_figures(out, group)?;
    tables::write_commands(out, group)?;
    out.write_str("</section>\n")
}

/// What speaks against the figures of a group, the verdicts first.
fn warnings(group: &Group<'_>) -> Vec<String> {
    let verdicts = group.members.iter().filter_map(|member| {
        let label = &member.label;
        match member.part.verdict {
            Verdict::Kept => None,
            Verdict::Broken => Some(format!(
                "{label}: a promise was broken. Its figures are those of a server that lost or \
                 mixed up something; the rounds in the JSON say what."
            )),
            Verdict::None => Some(format!("{label}: could not be run to its end.")),
        }
    });
    let told = group.members.iter().flat_map(|member| {
        let warnings = member.part.warnings.iter();
        warnings.map(|warning| format!("{}: {warning}", member.label))
    });
    verdicts.chain(told).collect()
}

fn write_foot(out: &mut String) -> fmt::Result {
    out.write_str(
        "<footer>\n<h2>How to read this</h2>\n<ul>\n\
         <li>Bars are medians of the rounds and begin at zero. Whiskers span the least and the \
         greatest round: where those of two servers overlap, the difference may be noise.</li>\n\
         <li>Numbers with × are ratios to the first server's median.</li>\n\
         <li>Latency curves are those of the round whose median is the middle one. Each tick to \
         the right is ten times rarer, and a curve ends at its greatest value.</li>\n\
         <li>Series are those of the last round.</li>\n\
         <li>µs are microseconds; KiB, MiB and GiB are powers of 1,024.</li>\n\
         </ul>\n</footer>\n",
    )
}
