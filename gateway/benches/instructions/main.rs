//! How many instructions the hot paths take, counted by callgrind and held against a baseline:
//! the time of this project's own code on a machine whose clocks are too noisy to see 2 %.
//!
//! It opens no socket and reads no clock. `perf/gate.sh` runs the gate, `cargo test` a tiny one:
//! each operation a few times, one of them counted if valgrind is there. `perf/MICRO.md` says how
//! to read it.
//!
//! Invariants: what makes an operation ready is not counted; counts made with other tools than the
//! baseline's are never compared with it.

mod baseline;
mod callgrind;
#[path = "../../tests/allocations/crowd.rs"]
#[expect(dead_code, reason = "the tests of allocations count more of it")]
mod crowd;
mod gate;
mod scenario;
#[path = "../../../storage-engine/benches/store/stage.rs"]
#[expect(dead_code, reason = "the benches of the store measure more of it")]
mod stage;
#[path = "../shard/talk.rs"]
mod talk;

use std::process::ExitCode;

use callgrind::CountError;
use scenario::{SCENARIOS, Scenario};

/// Operations of the tiny run.
const FEW: u32 = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Cargo adds `--bench` when it is asked for benches.
    match arguments.strip_suffix(&["--bench"]).unwrap_or(&arguments) {
        ["--count", name, operations] => {
            let operations = operations.parse().expect("a number of operations");
            Scenario::named(name).run(operations);
            ExitCode::SUCCESS
        }
        ["--gate"] => gate::run(false),
        ["--gate", "--update"] => gate::run(true),
        // Who asks for tests by their names means others.
        [.., name] if !name.starts_with("--") => ExitCode::SUCCESS,
        _ => {
            tiny();
            ExitCode::SUCCESS
        }
    }
}

/// Everything once, and one count: twice the operations take twice the instructions.
fn tiny() {
    gate::check();
    SCENARIOS.iter().for_each(|scenario| scenario.run(FEW));
    println!("{} operations run", SCENARIOS.len());
    let counted = SCENARIOS[0];
    let count = |operations| callgrind::count(&counted, operations);
    let counts = count(FEW).and_then(|once| Ok((once, count(2 * FEW)?)));
    match counts {
        Ok((once, twice)) => {
            let ratio = twice as f64 / once as f64;
            assert!((1.98..2.02).contains(&ratio), "{once}, then {twice}");
            println!("{}: {} instructions", counted.name, once / u64::from(FEW));
        }
        Err(CountError::NoValgrind) => {
            println!("valgrind is not installed: NOT TESTED is the counting of instructions");
        }
        Err(error) => panic!("{error}"),
    }
}
