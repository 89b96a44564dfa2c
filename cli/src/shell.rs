//! `ivm completions` and `ivm man`.

use std::io::{self, Write as _};

use clap::{Args, Command, CommandFactory as _};
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
    for command in described(&command) {
        let name = command.get_bin_name().unwrap_or_default().to_uppercase();
        writeln!(page, ".SH {name}").map_err(failed)?;
        // The options of every command are told once.
        let globals: Vec<_> = command.get_arguments().filter(|option| option.is_global_set()).collect();
        let globals: Vec<_> = globals.into_iter().map(|option| option.get_id().clone()).collect();
        let own = globals.into_iter().fold(command.clone(), |own, id| own.mut_arg(id, |option| option.hide(true)));
        let man = clap_mangen::Man::new(own);
        man.render_description_section(&mut page).map_err(failed)?;
        man.render_synopsis_section(&mut page).map_err(failed)?;
        man.render_options_section(&mut page).map_err(failed)?;
    }
    print(&page)
}

/// The commands below this one that do something by themselves: not those that stand for others only.
fn described(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|command| command.get_name() != "help");
    below
        .flat_map(|command| {
            let own = !command.is_subcommand_required_set() && !command.is_arg_required_else_help_set();
            own.then_some(command).into_iter().chain(described(command))
        })
        .collect()
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Whoever reads may be gone, as `head` is.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(refused("standard output cannot be written")
            .with_source(error)
            .with_hint("write it where there is room")),
        _ => Ok(()),
    }
}
