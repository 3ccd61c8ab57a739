//! `throng chat` as a script uses it: lines in, lines out.
//!
//! What a terminal adds (prompts, erased lines) is not seen here.

use std::io::Write;
use std::net::SocketAddr;

use super::place::PASSWORD;
use super::process::{Launch, Process};

fn chat(address: SocketAddr, args: &[&str]) -> Process {
    let mut launch = Launch::new(["chat", "--target"]).arg(format!("http://{address}"));
    for arg in args {
        launch = launch.arg(arg);
    }
    launch.spawn()
}

fn typed(process: &mut Process, line: &str) {
    let input = process.input().as_mut().unwrap();
    writeln!(input, "{line}").unwrap();
}

#[test]
fn two_terminals_talk() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let mut ada = chat(server.address, &["--user", "ada", "--register"]);
    typed(&mut ada, PASSWORD);
    ada.line_with("ada");
    typed(&mut ada, "/create Reading circle");
    ada.line_with("Reading circle/general");
    typed(&mut ada, "/invite");
    let line = ada.line_with("/join ");
    let code = line.split_once("/join ").unwrap().1;
    let code = code.split_whitespace().next().unwrap();
    typed(&mut ada, "is anybody there?");
    ada.line_with("ada: is anybody there?");

    let mut bob = chat(server.address, &["--user", "bob", "--register"]);
    typed(&mut bob, PASSWORD);
    bob.line_with("bob");
    typed(&mut bob, &format!("/join {code}"));
    bob.line_with("ada: is anybody there?");
    typed(&mut bob, "yes, Grüße 👋");
    for terminal in [&mut ada, &mut bob] {
        terminal.line_with("bob: yes, Grüße 👋");
    }
    typed(&mut ada, "/quit");
    assert_eq!(ada.ended().code, Some(0));
    typed(&mut bob, "the last word");
    drop(bob.input().take());
    assert_eq!(bob.ended().code, Some(0), "the end of the input is the end");

    let mut again = chat(
        server.address,
        &["--user", "ada", "--channel", "Reading circle/general"],
    );
    typed(&mut again, PASSWORD);
    again.line_with("bob: the last word");
    server.stop();
}

#[test]
fn what_fails_is_said() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let mut nobody = chat(server.address, &["--user", "nobody"]);
    typed(&mut nobody, PASSWORD);
    let ended = nobody.ended();
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("password"), "{}", ended.errors);
    let address = server.address;
    server.stop();
    let mut alone = chat(address, &["--user", "ada"]);
    typed(&mut alone, PASSWORD);
    let ended = alone.ended();
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("reached"), "{}", ended.errors);
}
