//! `ivm-sp1 ELF`: answers the one request that InfinityVM's development node writes to its standard input, for the
//! program in this file. The protocol is that of `infinityvm_sdk::devnode::external`.

mod machine;

use std::{
    fs,
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use infinityvm_sdk::devnode::{ProgramError, external::serve_program};

const USAGE: &str = "\
Runs a program of SP1 4.1.2 for InfinityVM's development node.

Usage: ivm-sp1 ELF

ELF is the file that SP1's toolchain wrote. The development node starts this command; a person asks by:
  ivm program id ivm-sp1 ELF         print the program's id
  ivm devnode --program 'ivm-sp1 ELF' run a node that has the program";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(first), None) = (args.next(), args.next()) else { return usage("one file is needed") };
    match first.to_str() {
        Some("-h" | "--help") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("-V" | "--version") => {
            println!("ivm-sp1 {}, SP1 {}", env!("CARGO_PKG_VERSION"), machine::SP1);
            return ExitCode::SUCCESS;
        }
        Some(option) if option.starts_with('-') => return usage("there is no such option"),
        _ => {}
    }
    if io::stdin().is_terminal() {
        return usage("the development node starts this command, and writes to its standard input");
    }
    // What goes wrong with the file is an answer, so that the node can tell its user.
    let elf = || {
        fs::read(&first).map_err(|error| ProgramError::halted(format!("{} cannot be read: {error}", first.display())))
    };
    let id = || machine::id(&elf()?).map(Into::into);
    let run = |input: infinityvm_sdk::devnode::ProgramInput<'_>, max_cycles| machine::run(&elf()?, input, max_cycles);
    match serve_program(io::stdin().lock(), io::stdout().lock(), id, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ivm-sp1: the node cannot be spoken with: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(why: &str) -> ExitCode {
    eprintln!("ivm-sp1: {why}\n\n{USAGE}");
    ExitCode::from(2)
}
