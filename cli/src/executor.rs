//! Which command runs a program: the one that was named, or the executor of the virtual machine that a file is for.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::Read as _,
    path::Path,
};

use infinityvm_sdk::{Result, Revision};

use crate::text::refused;

/// The executor of SP1's programs, which `executors/sp1` in the repository builds.
const SP1: &str = "ivm-sp1";
/// The virtual machines' instruction set, as the heads of ELF files have it.
const RISC_V: u16 = 243;

/// The words of the command that runs a program. One word that is the file of a RISC-V program stands for the executor
/// of the revision's virtual machine, which must be on the path.
pub fn command(words: Vec<OsString>, revision: Revision) -> Result<Vec<OsString>> {
    let [file] = &words[..] else { return Ok(words) };
    let name = Path::new(file).display();
    match (guest(Path::new(file)), revision) {
        (None, _) => return Ok(words),
        (Some(_), Revision::State) => {
            return Err(refused(format!("{name} is a program for a virtual machine, and no executor runs those of the State revision"))
                .with_hint("that is RISC Zero, whose executor comes with its prover only: name a command that stands in for the program"));
        }
        (Some(Guest::Risc0), _) => {
            return Err(refused(format!(
                "{name} is a program for RISC Zero, and nodes of the Relay revision run those for SP1"
            ))
            .with_hint("build the program for SP1; or name a command that stands in for it"));
        }
        (Some(Guest::Elf), _) => {}
    }
    if !is_on_path(SP1) {
        return Err(refused(format!("{name} is a program for SP1, and {SP1}, which runs these, is not on the path"))
            .with_hint("install it from this project's repository: cargo install --locked --path executors/sp1"));
    }
    Ok(vec![SP1.into(), file.clone()])
}

/// A program that this machine would not run by itself.
enum Guest {
    /// An ELF of 32 bits for RISC-V.
    Elf,
    /// RISC Zero's combined form, which begins with R0BF.
    Risc0,
}

fn guest(path: &Path) -> Option<Guest> {
    let mut head = [0; 20];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).ok()?;
    let elf = head.starts_with(b"\x7fELF\x01") && u16::from_le_bytes([head[18], head[19]]) == RISC_V;
    match head.starts_with(b"R0BF") {
        true => Some(Guest::Risc0),
        false => elf.then_some(Guest::Elf),
    }
}

/// Refuses a command whose program is nowhere, before a job needs it.
pub fn require(program: &OsStr) -> Result<()> {
    let path = Path::new(program);
    let there = if path.components().count() > 1 { path.is_file() } else { is_on_path(&program.to_string_lossy()) };
    if there {
        return Ok(());
    }
    Err(refused(format!("the program's command {:?} cannot be started: there is no such program", path.display()))
        .with_hint("give its path, or the name of a program that is on the path"))
}

fn is_on_path(name: &str) -> bool {
    // Without a path, the system looks there.
    let folders = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&folders).any(|folder| folder.join(&name).is_file())
}
