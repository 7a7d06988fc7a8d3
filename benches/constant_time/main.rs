//! Whether the time that verification takes tells anything of a secret, asked in three ways:
//! `benches/constant_time.sh`.
//!
//! * `undefined RUN` marks secrets as undefined and runs the verify path, in valgrind: [`undefined`].
//! * `dudect SAMPLES` times two classes of secrets and tests whether they can be told apart: [`dudect`].
//! * `refusals PAIRS` times the reasons for which a key is refused: [`refusals`].

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a benchmark")]

mod call;
mod chance;
mod dudect;
mod memcheck;
mod refusals;
mod ticks;
mod undefined;
mod welch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().ok();
    let is_well = match arguments[..] {
        // `cargo bench`, `cargo test`: it only shows that it runs.
        [] => {
            welch::check();
            undefined::RUNS.into_iter().all(undefined::run)
        }
        ["undefined", run] => undefined::run(run),
        ["dudect", samples] if let Some(samples) = number(samples) => dudect::run(samples),
        ["refusals", pairs] if let Some(pairs) = number(pairs) => refusals::run(pairs),
        _ => {
            eprintln!("undefined RUN, dudect SAMPLES or refusals PAIRS");
            false
        }
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
