//! What is told in words and figures: the parts at a glance, figures with their rounds, how it was
//! run, and where.
//!
//! It rounds for reading; the JSON has what was measured.
//!
//! Invariants: a row has one unit; what was not measured is a dash.

use std::fmt::{self, Write as _};

use super::bars::direction;
use super::group::{Group, Member};
use super::markup::{Text, write_table};
use super::number::{NONE, Scale, grouped, shown};
use crate::suite::model::{Figure, Machine, Verdict};

/// More rounds than this are counted, not listed.
const VALUES_MAX: usize = 9;

/// A verdict as people read it, with its class in the style sheet.
pub(crate) fn badge(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "<span class=\"badge good\">✓ kept</span>",
        Verdict::Broken => "<span class=\"badge bad\">✗ broken</span>",
        Verdict::None => "<span class=\"badge doubt\">? no verdict</span>",
    }
}

/// All parts, a line each.
pub(super) fn write_overview(out: &mut String, groups: &[Group<'_>]) -> fmt::Result {
    if groups.is_empty() {
        return out.write_str("<p>Nothing was measured.</p>\n");
    }
    write_table(out, "All parts", |out| {
        out.write_str(
            "<tr><th scope=\"col\">Benchmark</th><th scope=\"col\">Server</th>\
             <th scope=\"col\">Promises</th><th scope=\"col\">First figure, median</th>\
             <th scope=\"col\" class=\"n\">Warnings</th></tr>\n",
        )?;
        for (number, group) in groups.iter().enumerate() {
            for member in &group.members {
                let figure = member
                    .part
                    .figures
                    .first()
                    .map_or(NONE.to_owned(), |figure| {
                        let scale = Scale::fitting(&figure.unit, [figure.median]);
                        format!("{}: {}", figure.title, scale.show_with_unit(figure.median))
                    });
                writeln!(
                    out,
                    "<tr><th scope=\"row\"><a href=\"#part-{number}\">{}</a></th><td>{}</td>\
                     <td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
                    Text(group.name),
                    Text(&member.label),
                    badge(member.part.verdict),
                    Text(&figure),
                    member.part.warnings.len()
                )?;
            }
        }
        Ok(())
    })
}

/// Every figure of a group, those of one key below each other.
pub(super) fn write_figures(out: &mut String, group: &Group<'_>) -> fmt::Result {
    let figures = |member: &'_ Member<'_>| member.part.figures.len();
    if group.members.iter().map(figures).sum::<usize>() == 0 {
        return Ok(());
    }
    write_table(out, &format!("{}, figures", group.name), |out| {
        out.write_str("<tr><th scope=\"col\">Figure</th><th scope=\"col\">Server</th>")?;
        for column in ["min", "median", "max"] {
            write!(out, "<th scope=\"col\" class=\"n\">{column}</th>")?;
        }
        out.write_str("<th scope=\"col\">Unit</th><th scope=\"col\">Rounds</th></tr>\n")?;
        let mut done: Vec<(&str, &str)> = Vec::new();
        for figure in group.members.iter().flat_map(|member| &member.part.figures) {
            let kind = (figure.key.as_str(), figure.unit.as_str());
            if !done.contains(&kind) {
                done.push(kind);
                write_rows(out, group, kind)?;
            }
        }
        Ok(())
    })
}

fn write_rows(out: &mut String, group: &Group<'_>, (key, unit): (&str, &str)) -> fmt::Result {
    let rows: Vec<(&Member<'_>, &Figure)> = group
        .members
        .iter()
        .flat_map(|member| {
            member
                .part
                .figures
                .iter()
                .map(move |figure| (member, figure))
        })
        .filter(|(_, figure)| figure.key == key && figure.unit == unit)
        .collect();
    let largest = rows.iter().flat_map(|(_, figure)| [figure.min, figure.max]);
    let scale = Scale::fitting(unit, largest);
    for (place, (member, figure)) in rows.iter().enumerate() {
        out.write_str(if place == 0 {
            "<tr class=\"first\">"
        } else {
            "<tr>"
        })?;
        if place == 0 {
            write!(
                out,
                "<th scope=\"rowgroup\" rowspan=\"{}\">{}<small>{}</small></th>",
                rows.len(),
                Text(&figure.title),
                direction(figure.better)
            )?;
        }
        let [min, median, max] = [figure.min, figure.median, figure.max].map(|it| scale.show(it));
        writeln!(
            out,
            "<td>{}</td><td class=\"n\">{min}</td><td class=\"n\"><b>{median}</b></td>\
             <td class=\"n\">{max}</td><td>{}</td><td class=\"rounds\">{}</td></tr>",
            Text(&member.label),
            Text(&scale.unit),
            rounds(figure, &scale)
        )?;
    }
    Ok(())
}

fn rounds(figure: &Figure, scale: &Scale) -> String {
    let count = figure.values.len();
    if count > VALUES_MAX {
        return grouped(count as f64, 0);
    }
    let values: Vec<String> = figure
        .values
        .iter()
        .map(|value| scale.show(*value))
        .collect();
    format!("{count}: {}", values.join(" · "))
}

/// How each part was run.
pub(super) fn write_commands(out: &mut String, group: &Group<'_>) -> fmt::Result {
    for member in &group.members {
        writeln!(
            out,
            "<details><summary>How {} was run</summary>\n<h4>Server</h4>\n<pre>{}</pre>\n\
             <h4>Generator</h4>\n<pre>{}</pre>\n</details>",
            Text(&member.label),
            Text(&member.part.configuration),
            Text(&member.part.command)
        )?;
    }
    Ok(())
}

/// What was left out.
pub(super) fn write_skipped(out: &mut String, skipped: &[(String, String)]) -> fmt::Result {
    if skipped.is_empty() {
        return Ok(());
    }
    out.write_str("<section>\n<h2 id=\"skipped\">Skipped</h2>\n")?;
    write_table(out, "What was skipped", |out| {
        out.write_str("<tr><th scope=\"col\">What</th><th scope=\"col\">Why</th></tr>\n")?;
        for (name, why) in skipped {
            let (name, why) = (Text(name), Text(why));
            writeln!(
                out,
                "<tr><th scope=\"row\">{name}</th><td class=\"wrap\">{why}</td></tr>"
            )?;
        }
        Ok(())
    })?;
    out.write_str("</section>\n")
}

/// Where it ran.
pub(super) fn write_machine(out: &mut String, machine: &Machine) -> fmt::Result {
    out.write_str("<section>\n<h2 id=\"machine\">Machine</h2>\n<dl class=\"facts\">\n")?;
    let memory = Scale::fitting("B", [machine.memory_kib as f64 * 1024.0]);
    let passes = |passes: &[u64]| {
        let passes = passes.iter().map(|pass| grouped(*pass as f64 / 1e3, 0));
        let passes: Vec<String> = passes.collect();
        format!("{} µs", passes.join(" · "))
    };
    let facts = [
        ("Processor", machine.cpu.clone()),
        ("Cores", machine.cores.to_string()),
        ("Cores used", machine.cores_used.clone()),
        (
            "Memory",
            memory.show_with_unit(machine.memory_kib as f64 * 1024.0),
        ),
        ("Kernel", machine.kernel.clone()),
        ("Frequency governor", machine.governor.clone()),
        ("File system", machine.file_system.clone()),
        ("Load when it began", machine.load.clone()),
        (
            "Time given to others",
            format!("{} %", shown(machine.steal_percent)),
        ),
        (
            "Noise of a fixed loop",
            format!("{} %", shown(machine.noise_percent)),
        ),
        ("The loop before", passes(&machine.calibration_before_ns)),
        ("The loop afterwards", passes(&machine.calibration_after_ns)),
    ];
    let limits = machine
        .limits
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    let sysctls = machine
        .sysctls
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    write_facts(out, facts)?;
    out.write_str(
        "</dl>\n<details><summary>Limits and kernel settings</summary>\n<dl class=\"facts\">\n",
    )?;
    write_facts(out, limits.chain(sysctls))?;
    out.write_str("</dl>\n</details>\n</section>\n")
}

fn write_facts<'a>(
    out: &mut String,
    facts: impl IntoIterator<Item = (&'a str, String)>,
) -> fmt::Result {
    for (name, value) in facts {
        let value = if value.trim().is_empty() {
            NONE
        } else {
            &value
        };
        writeln!(
            out,
            "<div><dt>{}</dt><dd>{}</dd></div>",
            Text(name),
            Text(value)
        )?;
    }
    Ok(())
}
