//! A server in a process of its own, so that time and memory are the client's. The two talk in lines, over pipes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

/// Set in the environment of the process that serves.
pub const ROLE: &str = "INFINITYVM_BENCH_SERVER";

pub struct Child {
    process: std::process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// Starts this program once more, in the other role.
    pub fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let mut process = command.env(ROLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, input, output }
    }

    /// The next line that the server says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        assert!(line.ends_with('\n'), "the server has gone");
        line.trim_end().to_owned()
    }

    /// Tells the server something, and returns the first line of its answer.
    pub fn ask(&mut self, question: &str) -> String {
        writeln!(self.input, "{question}").expect("the server listens");
        self.line()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
