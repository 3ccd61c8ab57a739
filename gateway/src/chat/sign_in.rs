//! Who is at the terminal: asks for name and password, or reads a token file.
//!
//! It never shows a password and never keeps one.
//!
//! Invariants: without a terminal nothing is asked twice: name and password are the first lines
//! of the input.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use throng_protocol::User;

use super::api::Api;
use super::error::ChatError;

/// Longest part of a token file that is looked at, bytes: the first line is a token.
const TOKEN_BYTES_MAX: u64 = 8 << 10;

/// Takes the first token of a file.
pub(super) fn with_token_file(api: &mut Api, path: &Path) -> Result<User, ChatError> {
    let failed = |source| ChatError::File {
        path: path.to_owned(),
        source,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the edge that reads what the user names"
    )]
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    file.take(TOKEN_BYTES_MAX)
        .read_to_end(&mut start)
        .map_err(failed)?;
    let start = String::from_utf8_lossy(&start);
    let token = start.lines().map(str::trim).find(|line| !line.is_empty());
    let token = token.ok_or_else(|| ChatError::NoToken {
        path: path.to_owned(),
    })?;
    api.take_token(token.to_owned())
}

/// Logs in, or makes the account; at a terminal, offers the one when the other fails.
pub(super) fn sign_in(
    api: &mut Api,
    user: Option<String>,
    register: bool,
) -> Result<User, ChatError> {
    let name = match user {
        Some(name) => name,
        None => ask("user name: ")?,
    };
    let password = ask_password()?;
    match api.sign_in(&name, &password, register) {
        Err(ChatError::Refused {
            status: 401,
            message,
            ..
        }) if is_interactive() => {
            eprintln!("{message}");
            let answer = ask(&format!(
                "make a new account {name:?} with this password? [y/N] "
            ))?;
            if answer.eq_ignore_ascii_case("y") {
                return api.sign_in(&name, &password, true);
            }
            Err(ChatError::NoCredentials)
        }
        signed_in => signed_in,
    }
}

fn is_interactive() -> bool {
    std::io::stdin().is_terminal()
}

fn ask(question: &str) -> Result<String, ChatError> {
    if is_interactive() {
        eprint!("{question}");
        // A question that cannot be shown is answered all the same.
        let _ = std::io::stderr().flush();
    }
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|source| ChatError::System {
        doing: "reading the input",
        source,
    })?;
    let line = line.trim();
    if line.is_empty() {
        Err(ChatError::NoCredentials)
    } else {
        Ok(line.to_owned())
    }
}

fn ask_password() -> Result<String, ChatError> {
    if !is_interactive() {
        return ask("");
    }
    let password =
        rpassword::prompt_password("password: ").map_err(|source| ChatError::System {
            doing: "reading the password",
            source,
        })?;
    if password.is_empty() {
        Err(ChatError::NoCredentials)
    } else {
        Ok(password)
    }
}
