//! The service that takes orders loses none of those that it has answered, although it is killed.

use std::{
    io::{BufRead, BufReader, Read},
    process::{ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{Service, example};

/// The service, what it prints, and where it takes orders.
fn start(file: &str, more: &[&str]) -> (Service, BufReader<ChildStdout>, String) {
    let mut command = example("orders");
    command.args([file, "--listen", "127.0.0.1:0"]).args(more).stdout(Stdio::piped());
    let mut service = Service(command.spawn().expect("runs"));
    let (mut line, mut out) = (String::new(), BufReader::new(service.0.stdout.take().expect("a pipe")));
    out.read_line(&mut line).expect("its first line");
    let url = line.trim().strip_prefix("takes orders at ").expect("an address").to_owned();
    (service, out, url)
}

/// The notes of the node, which outlives the service; it is ended with the test.
struct Node(Option<String>);

impl Node {
    /// Nothing, where no process is noted.
    fn kill(&self) -> Option<ExitStatus> {
        let notes = std::fs::read_to_string(self.0.as_deref()?).ok()?;
        Command::new("kill").args(["-9", notes.lines().nth(1)?]).status().ok()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test]
async fn it_loses_none_that_it_has_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.db").to_str().expect("text").to_owned();
    let mut node = Node(Some(format!("{file}.node")));
    let http = support::rpc::http_client();
    let (mut service, mut out, mut url) = start(&file, &[]);
    for number in 1..=60u32 {
        if number % 20 == 0 {
            service.0.kill().expect("killed");
            service.0.wait().expect("gone");
            (service, out, url) = start(&file, &[]);
        }
        let order = http.post(format!("{url}orders/{number}")).body((number * number).to_string());
        assert_eq!(order.send().await.expect("an answer").status(), 202);
    }
    all_billed(&http, &url, 1..=60).await;
    let page = http.get(&url).send().await.expect("an answer").text().await.expect("text");
    assert!(page.contains("/live"), "{page}");
    http.post(format!("{url}drain")).send().await.expect("an answer");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert!(service.0.wait().expect("ended").success());
    assert_eq!(rest, "0 jobs wait for the next start\n");
    assert!(node.kill().expect("its process id").success());
    node.0 = None;
}

async fn all_billed(http: &reqwest::Client, url: &str, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        loop {
            let answer = http.get(format!("{url}orders/{number}")).send().await.expect("an answer");
            let order: serde_json::Value = serde_json::from_str(&answer.text().await.expect("text")).expect("JSON");
            if let Some(bill) = order["bill"].as_str() {
                assert_eq!(bill, format!("the square root is {number}"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Who works on the lane, as the page shows it.
async fn owner(http: &reqwest::Client, url: &str) -> Option<String> {
    let mut live = http.get(format!("{url}live")).send().await.expect("an answer");
    let mut text = String::new();
    while !text.contains("\n\n") {
        let chunk = live.chunk().await.expect("it goes on").expect("more");
        text += std::str::from_utf8(&chunk).expect("text");
    }
    let data = text.trim_start_matches("data:").split("\n\n").next().expect("an event");
    let status: serde_json::Value = serde_json::from_str(data).expect("JSON");
    let owner = &status["lanes"][0]["owner"];
    assert_eq!(owner["since"].is_u64(), owner["instance"].is_string());
    owner["instance"].as_str().map(str::to_owned)
}

/// Both take orders, and one of them works on the lane. Once that one is drained, the other one does.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn two_instances_share_a_database() {
    let (folder, database) = (tempfile::tempdir().expect("a folder"), support::postgres::database());
    let file = folder.path().join("orders").to_str().expect("text").to_owned();
    let mut node = Node(Some(format!("{file}.node")));
    let http = support::rpc::http_client();
    let (mut first, _out, url) = start(&file, &["--postgres", &database, "--instance", "first"]);
    let (_second, _rest, other) = start(&file, &["--postgres", &database, "--instance", "second"]);
    for number in 1..=20u32 {
        let url = if number % 2 == 0 { &url } else { &other };
        let order = http.post(format!("{url}orders/{number}")).body((number * number).to_string());
        assert_eq!(order.send().await.expect("an answer").status(), 202);
    }
    all_billed(&http, &other, 1..=20).await;
    let page = http.get(&other).send().await.expect("an answer").text().await.expect("text");
    assert!(page.contains("worked on by"), "{page}");
    for url in [&url, &other] {
        assert!(owner(&http, url).await.expect("somebody").starts_with("first-"), "it was the first to start");
    }
    http.post(format!("{url}drain")).send().await.expect("an answer");
    assert!(first.0.wait().expect("ended").success());
    while owner(&http, &other).await.is_none_or(|owner| !owner.starts_with("second-")) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let order = http.post(format!("{other}orders/21")).body("441");
    assert_eq!(order.send().await.expect("an answer").status(), 202);
    all_billed(&http, &other, 21..=21).await;
    assert!(node.kill().expect("its process id").success());
    node.0 = None;
}
