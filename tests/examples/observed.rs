//! The example that can be seen exports what the guide lists, and shows spans.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
};

use support::guide;

use super::{Service, example};

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn it_exports_every_metric_of_the_guide_and_shows_spans() {
    let mut command = example("observed");
    command.args(["--listen", "127.0.0.1:0", "--jobs", "20"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut service = Service(command.spawn().expect("starts"));
    let mut spans = service.0.stderr.take().expect("a pipe");
    // Read all the while, or the service would wait for that.
    let spans = std::thread::spawn(move || {
        let mut text = String::new();
        _ = spans.read_to_string(&mut text);
        text
    });
    let mut lines = BufReader::new(service.0.stdout.take().expect("a pipe")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    let place = line();
    assert_eq!(line(), "20 jobs are relayed");
    let address = place.split('/').nth(2).expect("an address");
    let metrics = get(address, "/metrics");
    drop(service);

    let rows = guide::table(&guide::page(), "\n| metric | kind |");
    assert!(rows.len() > 10);
    for row in rows {
        let (name, kind) = (&row[0], &row[1]);
        assert!(metrics.contains(&format!("# TYPE {name} {kind}\n")), "{name}: {metrics}");
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name}: {metrics}");
    }
    let shows = |series: &str| assert!(metrics.contains(series), "{series}: {metrics}");
    shows("infinityvm_jobs_total{stage=\"relayed\",outcome=\"ok\",program=\"double\"} 20\n");
    shows("infinityvm_job_stage_seconds_bucket{stage=\"relayed\",program=\"double\",le=\"+Inf\"} 20\n");
    shows("infinityvm_calls_total{method=\"SubmitJob\",outcome=\"interrupted\"} 2\n");
    shows("infinityvm_connected 1\n");

    let spans = spans.join().expect("no panic");
    for name in ["order{", ":submit{", ":flight{", ":wait{", ":look{", "coprocessor_node.v1.CoprocessorNode/SubmitJob{"]
    {
        assert!(spans.contains(name), "{name}: {spans}");
    }
}

#[test]
fn wrong_arguments_are_explained() {
    let output = example("observed").arg("--nothing").output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("known: --listen ADDRESS, --jobs NUMBER"), "{text}");
}
