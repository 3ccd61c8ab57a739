//! HTML: what is around a page, and text in it.
//!
//! It never trusts what a report says: no byte of it becomes a tag, and if one did, the page's own
//! policy lets no script run and nothing be loaded.
//!
//! Invariants: every string of a report goes through [`Text`].

use std::fmt::{self, Write as _};

/// Text as HTML, between tags or in a quoted attribute.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                '\n' | '\t' => out.write_char(character)?,
                _ if character.is_control() => out.write_char('\u{fffd}')?,
                _ => out.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// A whole page, whose body is HTML already.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        Text(title),
        include_str!("page.css")
    )
}

/// A table in a box of its own that scrolls, by keyboard too, so that the page need not.
pub(crate) fn write_table(
    out: &mut String,
    about: &str,
    rows: impl FnOnce(&mut String) -> fmt::Result,
) -> fmt::Result {
    writeln!(
        out,
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\"><table>",
        Text(about)
    )?;
    rows(out)?;
    out.write_str("</table></div>\n")
}

/// What to keep in mind, as a box that cannot be overlooked; nothing where there is nothing.
pub(crate) fn write_warnings(out: &mut String, warnings: &[String]) -> fmt::Result {
    if warnings.is_empty() {
        return Ok(());
    }
    out.write_str("<ul class=\"warnings\" aria-label=\"Warnings\">\n")?;
    for warning in warnings {
        writeln!(out, "<li>{}</li>", Text(warning))?;
    }
    out.write_str("</ul>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        let text = Text("<script>alert(\"1\" & '2')</script>\u{0}\u{1b}[31m\n").to_string();
        assert_eq!(
            text,
            "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;\u{fffd}\u{fffd}[31m\n"
        );
    }
}
