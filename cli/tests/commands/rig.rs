//! The binary, run as a user runs it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::schema;

/// A folder of a test's own, in which commands run: their files are there, and so is their home.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("written");
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The command, with nothing in its environment but this.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ivm"));
        command.args(arguments).current_dir(self.path()).env_clear().env("HOME", self.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn ivm(&self, arguments: &[&str]) -> Done {
        Done::of(arguments, self.command(arguments).output().expect("runs"))
    }

    /// With this on standard input.
    pub fn ivm_with(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that refuses its arguments reads nothing.
        _ = stdin.write_all(input);
        drop(stdin);
        Done::of(arguments, child.wait_with_output().expect("ends"))
    }
}

/// A command that has ended.
pub struct Done {
    pub what: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn of(arguments: &[&str], output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let code = output.status.code().expect("an exit code and no signal");
        Self { what: arguments.join(" "), code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// What it printed, if it is done.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "ivm {}: {}{}", self.what, self.out, self.err);
        self.out.trim_end()
    }

    /// Its answer as JSON, if it is done: one document in one line, as the schema says.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.ok().lines().count(), 1, "ivm {}: {}", self.what, self.out);
        self.document(&self.out)
    }

    /// A document that it printed, which is what the schema says of this command.
    #[track_caller]
    pub fn document(&self, text: &str) -> Value {
        let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("ivm {}: {error}: {text}", self.what));
        if let Some(definition) = self.definition() {
            schema::check(definition, &value);
        }
        value
    }

    /// What the schema calls the answer of this command, if that is JSON.
    fn definition(&self) -> Option<&'static str> {
        let words: Vec<_> = self.what.split(' ').filter(|word| *word != "--json").take(2).collect();
        Some(match words[..] {
            ["ffi", ..] => return None,
            ["devnode", "fault"] => "fault",
            ["devnode", ..] => "devnode",
            _ if self.what.contains("--out ") => "file",
            ["job", "build"] => "built_job",
            ["job", "sign"] => "signed_job",
            ["job", "submit" | "send" | "wait" | "verify" | "replace"] => "job",
            ["job", "events"] => "event",
            ["job", "id"] => "job_id",
            ["job", "get"] => "record",
            ["job", "preflight"] => "preflight",
            ["job", "diagnose"] => "diagnosis",
            ["job", "post"] => "posted",
            ["program", "id"] => "program",
            ["program", "upload"] => "upload",
            ["program", "has"] => "has",
            ["node", "info"] => "node",
            ["nonce", _] => "nonce",
            ["outbox", "status"] => "outbox_status",
            ["outbox", "list"] => "outbox_jobs",
            ["outbox", "retry" | "replace" | "renumber" | "abandon"] => "outbox_job",
            ["outbox", "pause" | "resume"] => "outbox_lane",
            _ => panic!("the schema has no answer of ivm {}", self.what),
        })
    }

    /// What it said of a failure with this exit code.
    #[track_caller]
    pub fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "ivm {}: {}{}", self.what, self.out, self.err);
        &self.err
    }
}
