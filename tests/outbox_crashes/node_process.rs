//! The node as the parent holds it: a child that is told what to do on a line, and answers on lines.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub struct NodeProcess {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Where it listens.
    pub grpc: String,
    pub rest: String,
    /// The RPC of its chain, and the contract there.
    pub rpc: String,
    pub job_manager: String,
    pub operator: String,
    pub program: String,
    /// How often it was restarted.
    pub restarts: usize,
    pub reorganisations: usize,
}

/// What landed, and what the node's records say, by nonce.
#[derive(Debug, Default)]
pub struct Report {
    pub landed: Vec<(u64, String)>,
    pub records: BTreeMap<u64, String>,
}

impl NodeProcess {
    pub fn start(state: bool, key: &str, consumers: &[String], mines: bool) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        let revision = if state { "state" } else { "relay" };
        command.args(["node", revision, key, &consumers.join(","), &mines.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = output.next().expect("the node starts").unwrap();
        let words: Vec<_> = ready.split(' ').map(str::to_owned).collect();
        let [_, grpc, rest, rpc, job_manager, operator, program] = words.try_into().expect("what the node says");
        let (restarts, reorganisations) = (0, 0);
        Self { child, input, output, grpc, rest, rpc, job_manager, operator, program, restarts, reorganisations }
    }

    fn tell(&mut self, command: &str) -> Vec<String> {
        writeln!(self.input, "{command}").unwrap();
        let answer = self.output.by_ref().map(Result::unwrap);
        answer.take_while(|line| line != "ok").collect()
    }

    /// It loses what it has in memory, and its connections.
    pub fn restart(&mut self) {
        self.restarts += 1;
        self.tell("restart");
    }

    /// The next replies to submissions get lost.
    pub fn lose_replies(&mut self, count: usize, with_connection: bool) {
        self.tell(&format!("lose {count} {}", if with_connection { "connection" } else { "stream" }));
    }

    /// What was in the last blocks comes back after so many milliseconds.
    pub fn reorganise(&mut self, depth: usize, after: usize) {
        self.reorganisations += 1;
        self.tell(&format!("reorganise {depth} {after}"));
    }

    /// Of each consumer.
    pub fn report(&mut self, consumers: usize) -> Vec<Report> {
        let mut reports: Vec<_> = (0..consumers).map(|_| Report::default()).collect();
        for line in self.tell("report") {
            let words: Vec<_> = line.split(' ').collect();
            let nonce = words[2].parse().unwrap();
            let report = &mut reports[words[1].parse::<usize>().unwrap()];
            match words[0] {
                "landed" => {
                    let bytes = (0..words[3].len()).step_by(2);
                    let bytes = bytes.map(|at| u8::from_str_radix(&words[3][at..at + 2], 16).unwrap());
                    report.landed.push((nonce, String::from_utf8(bytes.collect()).unwrap()));
                }
                _ => _ = report.records.insert(nonce, words[3].to_owned()),
            }
        }
        reports
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
