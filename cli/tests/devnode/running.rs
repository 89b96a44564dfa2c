//! A node in a process of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command},
};

use infinityvm_sdk::{Client, LocalSigner, OffchainJobRequest, job::OffchainJobRequestBuilder, primitives::Bytes};
use serde_json::Value;

use crate::rig::Folder;

/// It ends when it is dropped, with the anvil that it has started.
pub struct Running {
    child: Child,
    /// What it said of itself.
    pub said: Value,
}

impl Drop for Running {
    fn drop(&mut self) {
        // A killed node writes nothing down.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.interrupt();
        }
        _ = self.child.wait();
    }
}

impl Running {
    /// On free ports, with a socket in the folder.
    pub fn start(folder: &Folder, arguments: &[&str]) -> Self {
        Self::start_with(folder, arguments, |command| command)
    }

    /// As [`start`](Self::start), with more for the command.
    pub fn start_with(folder: &Folder, arguments: &[&str], more: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut usual = vec!["--json", "devnode", "--grpc-port", "0", "--rest-port", "0"];
        if !arguments.contains(&"--socket") {
            usual.extend(["--socket", "socket"]);
        }
        let mut child = more(&mut folder.command(&[&usual, arguments].concat())).spawn().expect("runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("text");
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            let mut why = String::new();
            _ = child.kill();
            _ = child.stderr.take().expect("a pipe").read_to_string(&mut why);
            panic!("the node does not start: {error}: {line}{why}")
        });
        crate::schema::check("devnode", &said);
        Self { child, said }
    }

    /// As Ctrl-C does: it writes its state down, and ends well.
    pub fn end(mut self) {
        assert!(self.interrupt());
        let status = self.child.wait().unwrap();
        let mut why = String::new();
        _ = self.child.stderr.take().expect("a pipe").read_to_string(&mut why);
        assert!(status.success(), "{status}: {why}");
    }

    /// As a crash ends it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn interrupt(&self) -> bool {
        let pid = self.child.id().to_string();
        Command::new("sh").args(["-c", "kill -INT \"$0\"", &pid]).status().is_ok_and(|status| status.success())
    }

    pub fn text(&self, key: &str) -> &str {
        self.said[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.said))
    }

    /// The id of a program, by the name that the node prints.
    pub fn program(&self, name: &str) -> Bytes {
        let programs = self.said["programs"].as_object().unwrap();
        let (id, _) = programs.iter().find(|(_, known)| *known == name).unwrap_or_else(|| panic!("{}", self.said));
        id.parse().unwrap()
    }

    pub fn signer(&self) -> LocalSigner {
        LocalSigner::from_hex(self.said["keys"]["signer"].as_str().unwrap()).unwrap()
    }

    /// The builder of a client that signs for the example consumers.
    pub fn client(&self) -> infinityvm_sdk::client::ClientBuilder {
        let operator = self.text("operator").parse().unwrap();
        Client::builder().grpc(self.text("grpc")).signer(self.signer()).operator(operator)
    }

    /// A job of the square root consumer.
    pub fn square_root(&self, number: u8) -> OffchainJobRequestBuilder {
        let consumer = self.text("square_root_consumer").parse().unwrap();
        let program = self.program("square-root");
        OffchainJobRequest::builder(consumer, program).max_cycles(1_000_000).onchain_input(word(number))
    }
}

/// `abi.encode` of a small number.
pub fn word(number: u8) -> Vec<u8> {
    let mut word = vec![0; 32];
    word[31] = number;
    word
}
