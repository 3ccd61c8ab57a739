//! A client's offer in the header Sec-WebSocket-Extensions (RFC 7692, section 7.1).
//!
//! It never repairs an offer: one that is malformed, or asks for what is not done here, is
//! declined, and the connection goes on without compression unless another offer fits.
//!
//! Invariant: an offer is taken only together with the answer that meets it.

use tungstenite::http::HeaderMap;
use tungstenite::http::header::SEC_WEBSOCKET_EXTENSIONS;

use super::{AGREED, AGREED_WITH_WINDOW};

/// What is answered to the first of the offers in these headers that can be taken, if any.
pub(crate) fn answer(headers: &HeaderMap) -> Option<&'static str> {
    headers
        .get_all(SEC_WEBSOCKET_EXTENSIONS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(meet)
}

/// The answer to one offer: the extension's name and its parameters.
fn meet(offer: &str) -> Option<&'static str> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let mut seen = Vec::new();
    let fits = parts.all(|parameter| {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (parameter, None),
        };
        let is_first = !seen.contains(&name);
        seen.push(name);
        is_first && takes(name, value)
    });
    // Who asks for a window takes an answer without one for a refusal (section 7.1.2.1).
    let agreed = match seen.contains(&"server_max_window_bits") {
        true => AGREED_WITH_WINDOW,
        false => AGREED,
    };
    fits.then_some(agreed)
}

/// Whether a parameter is known and can be met. A smaller window for what we send cannot: the
/// compressor is shared and has the largest one.
fn takes(name: &str, value: Option<&str>) -> bool {
    match (name, value) {
        ("server_no_context_takeover" | "client_no_context_takeover", None)
        | ("client_max_window_bits", None)
        | ("server_max_window_bits", Some("15")) => true,
        ("client_max_window_bits", Some(bits)) => is_window(bits),
        _ => false,
    }
}

/// 8 to 15, without leading zeros (section 7.1.2).
fn is_window(bits: &str) -> bool {
    matches!(bits, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(offers: &[&str], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, offer.parse().unwrap());
        }
        assert_eq!(answer(&headers), expected, "{offers:?}");
    }

    #[test]
    fn what_browsers_and_libraries_offer_is_taken() {
        check(&["permessage-deflate"], Some(AGREED));
        check(
            &["permessage-deflate; client_max_window_bits"],
            Some(AGREED),
        );
        check(
            &["permessage-deflate; client_max_window_bits=\"10\""],
            Some(AGREED),
        );
        check(
            &["permessage-deflate;server_no_context_takeover;client_no_context_takeover"],
            Some(AGREED),
        );
        check(
            &["permessage-deflate; server_max_window_bits=15"],
            Some(AGREED_WITH_WINDOW),
        );
        check(
            &["x-webkit-deflate-frame", "permessage-deflate"],
            Some(AGREED),
        );
    }

    #[test]
    fn an_offer_that_cannot_be_met_is_passed_over_for_the_next() {
        let narrow = "permessage-deflate; server_max_window_bits=9";
        check(&[narrow], None);
        check(&[&format!("{narrow}, permessage-deflate")], Some(AGREED));
    }

    #[test]
    fn malformed_offers_are_declined() {
        for offer in [
            "",
            "deflate",
            "permessage-deflate; unknown",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate;",
        ] {
            check(&[offer], None);
        }
    }
}
