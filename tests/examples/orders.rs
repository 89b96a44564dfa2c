//! The service that takes orders loses none of those that it has answered, although it is killed.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use super::example;

/// The service, what it prints, and where it takes orders.
fn start(file: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut service =
        example("orders").args([file, "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().expect("runs");
    let (mut line, mut out) = (String::new(), BufReader::new(service.stdout.take().expect("a pipe")));
    out.read_line(&mut line).expect("its first line");
    let url = line.trim().strip_prefix("takes orders at ").expect("an address").to_owned();
    (service, out, url)
}

#[tokio::test]
async fn it_loses_none_that_it_has_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.db").to_str().expect("text").to_owned();
    let http = support::rpc::http_client();
    let (mut service, mut out, mut url) = start(&file);
    for number in 1..=60u32 {
        if number % 20 == 0 {
            service.kill().expect("killed");
            service.wait().expect("gone");
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
    assert!(service.wait().expect("ended").success());
    assert_eq!(rest, "0 jobs wait for the next start\n");
    let notes = std::fs::read_to_string(format!("{file}.node")).expect("the node's notes");
    let node = notes.lines().nth(1).expect("its process id");
    assert!(Command::new("kill").args(["-9", node]).status().expect("runs").success());
}
