//! `ivm program`.

use clap::{Args, Subcommand, ValueEnum};
use infinityvm_sdk::{ProgramId, ProgramUpload, Result};
use serde_json::json;

use crate::{
    cli::Globals,
    connect,
    exit::Exit,
    input::Source,
    output::{Output, Page},
};

#[derive(Debug, Subcommand)]
pub enum ProgramCommand {
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
    #[arg(long, value_name = "ID")]
    id: Option<ProgramId>,

    /// The virtual machine that the program is built for
    #[arg(long, value_name = "NAME", default_value = "sp1")]
    vm: Vm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Vm {
    Sp1,
    Risc0,
}

#[derive(Args, Debug)]
pub struct HasArgs {
    /// The program's id
    #[arg(value_name = "ID")]
    id: ProgramId,
}

impl ProgramCommand {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<Exit> {
        match self {
            Self::Upload(args) => args.run(globals, output).await,
            Self::Has(args) => args.run(globals, output).await,
        }
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
        let id = connect::builder(globals).await?.connect().await?.submit_program(program).await?;
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
