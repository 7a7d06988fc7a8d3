//! Keys from the command line, for operators: makes, lists, rotates, deletes, imports and verifies them, in
//! any store. A new key is written to the standard output, once; what is for people to the standard error.
//!
//! Exits with 0 when it is done, 1 when the answer is no (a key is not valid, a deletion was not confirmed),
//! 2 when it was asked wrongly, 3 when it failed.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod show;
mod store;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::arguments::{Arguments, Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Completions { shell } = arguments.command {
        let mut command = Arguments::command();
        clap_complete::generate(shell, &mut command, "tower-api-key", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    match commands::run(arguments).await {
        Ok(code) => code,
        Err(failure) => {
            show::failure(&*failure);
            ExitCode::from(3)
        }
    }
}
