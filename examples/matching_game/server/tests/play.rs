//! The server is played with, killed and started again; nothing that it has answered is lost, and nothing happens twice.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use infinityvm_sdk::primitives::{Address, B256};
use infinityvm_stf::{Context, StateTransition};
use matching_game_program::{Act, Form, Game, Request, Response};
use serde_json::Value;
use support::{
    anvil::Anvil,
    contracts::Consumer,
    harness::{Random, seed, within},
    rpc::{Rpc, http_client},
};

/// The server, what it prints, and where it plays. Ended with the test, as is its node.
struct Server {
    process: Child,
    out: BufReader<ChildStdout>,
    url: String,
    flags: Vec<String>,
    notes: String,
}

impl Server {
    fn start(flags: Vec<String>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_matching-game"));
        command.args(&flags).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut process = command.spawn().expect("runs");
        let (mut line, mut out) = (String::new(), BufReader::new(process.stdout.take().expect("a pipe")));
        out.read_line(&mut line).expect("its first line");
        let url = line.trim().strip_prefix("plays at ").expect("an address").to_owned();
        let notes = format!("{}.node", flags[1]);
        Self { process, out, url, flags, notes }
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    /// Kills it, and starts it again.
    fn again(&mut self) {
        self.kill();
        let next = Self::start(self.flags.clone());
        // What is dropped is the dead one, but its node goes on.
        let mut last = std::mem::replace(self, next);
        last.notes.clear();
    }

    fn noted(&self) -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(&self.notes).ok()?).ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        if let Some(process) = self.noted().and_then(|notes| notes["process"].as_u64()) {
            _ = Command::new("kill").args(["-9", &process.to_string()]).status();
        }
    }
}

/// Plays so many rounds against a server that is killed every now and then, and returns the game as it is to be. The replies
/// are compared with that game; of some requests the reply gets lost, and they are made again.
async fn play(
    server: &mut Server,
    form: Form,
    rounds: usize,
    kill_every: usize,
) -> (Game, BTreeMap<u64, (Address, Address)>) {
    let (mut random, http) = (Random::new(seed()), http_client());
    let (mut game, mut pairs) = (Game::new(form), BTreeMap::new());
    for round in 1..=rounds {
        let act = if random.below(5) == 0 { Act::Cancel } else { Act::Submit };
        let (user, number) = (Address::repeat_byte(1 + random.below(9) as u8), random.below(12) as u64);
        let path = format!("{}/{user}/{number}", if act == Act::Submit { "submit" } else { "cancel" });
        let expected = game.apply(&Request { act, user, number }, &Context::request(round as u64, 0));
        if let Ok(Response::Matched { partner }) = expected {
            pairs.insert(number, (partner, user));
        }
        let mut first = None;
        let times = if random.below(4) == 0 { 2 } else { 1 };
        for time in 0..times {
            let reply = http.post(format!("{}{path}", server.url)).header("idempotency-key", round.to_string());
            let reply = reply.send().await.expect("a reply");
            let (status, text) = (reply.status().as_u16(), reply.text().await.expect("text"));
            match expected {
                Ok(response) => {
                    assert_eq!(status, 200, "{text}");
                    let value: Value = serde_json::from_str(&text).expect("JSON");
                    assert_eq!(value["place"], round);
                    match response {
                        Response::Waiting => assert_eq!(value["waiting"], true),
                        Response::Matched { partner } => {
                            let said: Address = value["partner"].as_str().expect("text").parse().expect("an address");
                            assert_eq!(said, partner);
                        }
                        Response::Cancelled => assert_eq!(value["cancelled"], true),
                    }
                }
                Err(_) => assert_eq!(status, 409, "{text}"),
            }
            assert_eq!(first.get_or_insert(text.clone()), &text, "the first answer");
            // In half of the cases the second request comes to another process.
            if time == 0 && times == 2 && random.below(8) == 0 {
                server.again();
            }
        }
        if round % kill_every == 0 {
            server.again();
        }
    }
    for number in 0..12_u64 {
        let text = http.get(format!("{}numbers/{number}", server.url)).send().await.expect("a reply").text().await;
        let value: Value = serde_json::from_str(&text.expect("text")).expect("JSON");
        let user = value["user"].as_str().map(|user| user.parse::<Address>().expect("an address"));
        assert_eq!(user, game.waiting(number), "number {number}");
    }
    (game, pairs)
}

async fn settled(server: &Server, place: usize) -> Value {
    let reply = http_client().get(format!("{}settled/{place}", server.url)).send().await.expect("a reply");
    let (status, text) = (reply.status().as_u16(), reply.text().await.expect("text"));
    assert_eq!(status, 200, "{text}");
    let status = http_client().get(format!("{}status", server.url)).send().await.expect("a reply").text().await;
    serde_json::from_str(&status.expect("text")).expect("JSON")
}

/// Ends it properly, and returns the last that it prints.
async fn drain(server: &mut Server) -> String {
    http_client().post(format!("{}drain", server.url)).send().await.expect("a reply");
    let mut rest = String::new();
    server.out.read_to_string(&mut rest).expect("the rest");
    assert!(server.process.wait().expect("ended").success(), "{rest}");
    rest
}

fn flags(folder: &tempfile::TempDir, form: Form, more: &[&str]) -> Vec<String> {
    let file = folder.path().join("game.db").to_str().expect("text").to_owned();
    let mut flags = vec!["--db".to_owned(), file];
    flags.extend((form == Form::State).then(|| "--state".to_owned()));
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    flags
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_loses_none_that_it_has_answered() {
    for form in [Form::Relay, Form::State] {
        within(async {
            let folder = tempfile::tempdir().expect("a folder");
            let mut server = Server::start(flags(&folder, form, &[]));
            let (game, _) = play(&mut server, form, 120, 40).await;
            let status = settled(&server, 120).await;
            assert_eq!(status["last_place"], 120, "{status}");
            assert_eq!(status["root"], serde_json::to_value(B256::from(game.root())).expect("text"));
            let unknown = http_client().get(format!("{}settled/121", server.url)).send().await.expect("a reply");
            assert_eq!(unknown.status().as_u16(), 404);
            assert_eq!(drain(&mut server).await, "0 of 120 answers are in no batch yet\n");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn the_contract_has_the_root_and_the_pairs() {
    for form in [Form::Relay, Form::State] {
        within(async {
            let (anvil, folder) = (Anvil::start(), tempfile::tempdir().expect("a folder"));
            let url = anvil.http_url();
            let mut server = Server::start(flags(&folder, form, &["--rpc", &url]));
            let (game, pairs) = play(&mut server, form, 90, 30).await;
            settled(&server, 90).await;
            let consumer: Address =
                server.noted().expect("notes")["consumer"].as_str().expect("text").parse().expect("one");
            let rpc = Rpc::new(&url);
            let root = match form {
                Form::Relay => rpc.view(consumer, &Consumer::getLatestStateRootCall {}).await,
                Form::State => rpc.view(consumer, &Consumer::getLatestStateHashCall {}).await,
            };
            assert_eq!(root.expect("the root"), B256::from(game.root()));
            assert!(!pairs.is_empty());
            for (number, (first, second)) in pairs {
                for (user, partner) in [(first, second), (second, first)] {
                    let call = Consumer::getPartnerCall { number, user };
                    assert_eq!(rpc.view(consumer, &call).await.expect("a partner"), partner, "number {number}");
                }
            }
        })
        .await;
    }
}
