//! `ivm program`.

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueEnum};
use infinityvm_sdk::{ProgramId, ProgramUpload, Result, Revision, devnode::external::ProgramCommand};
use serde_json::json;

use crate::{
    cli::Globals,
    connect, executor,
    exit::Exit,
    input::Source,
    output::{Output, Page},
    text::{self, refused},
};

#[derive(Debug, Subcommand)]
pub enum ProgramCommands {
    /// Print the id of a program, as its command tells it
    Id(IdArgs),
    /// Upload a program to the node
    Upload(UploadArgs),
    /// Ask the node whether it has a program (Relay revision, gRPC); exit code 1 if it has not
    Has(HasArgs),
}

#[derive(Args, Debug)]
pub struct UploadArgs {
    /// The program's ELF file, or - for standard input
    #[arg(value_name = "ELF")]
    elf: Source,

    /// The id that the program must have. Required by nodes of the Relay revision
    #[arg(long, value_name = "ID", value_parser = text::value::<ProgramId>)]
    id: Option<ProgramId>,

    /// The virtual machine that the program is built for
    #[arg(long, value_name = "NAME", default_value = "sp1")]
    vm: Vm,
}

#[derive(Args, Debug)]
pub struct IdArgs {
    /// A program's ELF file, if ivm-sp1 is on the path; or a command that speaks the protocol of the dev node's
    /// programs, and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Vm {
    Sp1,
    Risc0,
}

#[derive(Args, Debug)]
pub struct HasArgs {
    /// The program's id
    #[arg(value_name = "ID", value_parser = text::value::<ProgramId>)]
    id: ProgramId,
}

impl ProgramCommands {
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Id(_) | Self::Has(_))
    }

    pub async fn run(self, globals: &Globals, output: &Output) -> Result<Exit> {
        match self {
            Self::Id(args) => args.run(globals, output).await,
            Self::Upload(args) => args.run(globals, output).await,
            Self::Has(args) => args.run(globals, output).await,
        }
    }
}

impl IdArgs {
    async fn run(self, globals: &Globals, output: &Output) -> Result<Exit> {
        let command = executor::command(self.command, globals.revision.unwrap_or(Revision::Relay))?;
        let (program, arguments) = command.split_first().ok_or_else(|| refused("no command was given"))?;
        let mut command = ProgramCommand::new(program).with_args(arguments);
        if let Some(timeout) = globals.timeout {
            command = command.with_time_limit(timeout);
        }
        let id = command.id().await.map_err(|error| {
            error.with_hint(
                "give a command that speaks the protocol of infinityvm_sdk::devnode::external, and what it needs",
            )
        })?;
        output.answer(&json!({ "program": id }), &id);
        Ok(Exit::Done)
    }
}

impl UploadArgs {
    async fn run(self, globals: &Globals, output: &Output) -> Result<Exit> {
        let elf = self.elf.read()?;
        let bytes = elf.len();
        let mut program = match self.vm {
            Vm::Sp1 => ProgramUpload::sp1(elf),
            Vm::Risc0 => ProgramUpload::risc0(elf),
        };
        if let Some(id) = self.id {
            program = program.with_id(id);
        }
        let client = connect::builder(globals).await?.connect().await?;
        if client.revision() == Revision::Relay && program.id().is_none() {
            return Err(refused("a node of the Relay revision wants to be told the program's id").with_hint(
                "give --id with the id that your zkVM's toolchain has printed, or that `ivm program id` derives",
            ));
        }
        let id = client.submit_program(program).await?;
        output.answer(&json!({ "program": id, "bytes": bytes }), &id);
        Ok(Exit::Done)
    }
}

impl HasArgs {
    async fn run(self, globals: &Globals, output: &Output) -> Result<Exit> {
        let has = connect::builder(globals).await?.connect().await?.contains_program(&self.id).await?;
        let page = Page::default().row("program", &self.id).row("at the node", if has { "yes" } else { "no" });
        output.answer(&json!({ "program": self.id, "has": has }), page);
        Ok(if has { Exit::Done } else { Exit::Failed })
    }
}
