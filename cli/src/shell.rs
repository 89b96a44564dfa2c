//! `ivm completions` and `ivm man`.

use std::io::{self, Write as _};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use infinityvm_sdk::Result;

use crate::{cli::Cli, text::refused};

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script that the shell reads.
    pub fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ivm", &mut script);
        print(&script)
    }
}

/// Prints the manual page, each command in a section of its own.
pub fn man() -> Result<()> {
    let mut page = Vec::new();
    let failed = |error| refused("the manual page cannot be written").with_source(error);
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(failed)?;
    for group in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let leaves: Vec<_> = group.get_subcommands().filter(|command| command.get_name() != "help").collect();
        for leaf in if leaves.is_empty() { vec![group] } else { leaves } {
            let name = leaf.get_bin_name().unwrap_or_default().to_uppercase();
            writeln!(page, ".SH {name}").map_err(failed)?;
            let man = clap_mangen::Man::new(leaf.clone());
            man.render_description_section(&mut page).map_err(failed)?;
            man.render_synopsis_section(&mut page).map_err(failed)?;
            man.render_options_section(&mut page).map_err(failed)?;
        }
    }
    print(&page)
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout();
    // Whoever reads may be gone, as `head` is.
    _ = out.write_all(bytes).and_then(|()| out.flush());
    Ok(())
}
