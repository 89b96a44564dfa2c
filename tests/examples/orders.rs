//! The service that takes orders loses none of those that it has answered, although it is killed.

use std::{
    io::{BufRead, BufReader, Read},
    process::{ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{Service, example};

/// The service, what it prints, and where it takes orders.
fn start(file: &str) -> (Service, BufReader<ChildStdout>, String) {
    let mut command = example("orders");
    command.args([file, "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
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
    let (mut service, mut out, mut url) = start(&file);
    for number in 1..=60u32 {
        if number % 20 == 0 {
            service.0.kill().expect("killed");
            service.0.wait().expect("gone");
            (service, out, url) = start(&file);
        }
        let order = http.post(format!("{url}orders/{number}")).body((number * number).to_string());
        assert_eq!(order.send().await.expect("an answer").status(), 202);
    }
    for number in 1..=60u32 {
        loop {
            let text =
                http.get(format!("{url}orders/{number}")).send().await.expect("an answer").text().await.expect("text");
            let order: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            if let Some(bill) = order["bill"].as_str() {
                assert_eq!(bill, format!("the square root is {number}"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
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
