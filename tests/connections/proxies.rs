//! nginx and haproxy, as ordinary processes with settings of the tests' own, before a development node. Jobs go through
//! them while they reload, close idle connections, give up on slow answers, refuse long bodies and ask for pauses: none
//! is lost, and none runs twice.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use infinityvm_sdk::{
    Client, ErrorKind, JobHandle, JobId, OffchainJobRequest, Outcome, ProgramId, RetryPolicy, Revision, Until,
    client::ClientBuilder,
    devnode::DevNode,
    rpc::Method,
    transport::{GrpcTransport, RestTransport},
};
use support::scripted::sweep;
use tokio::net::TcpStream;

use crate::rig::{CONSUMER, Home, multi_thread, within};

/// The most that the proxies take of a body, in bytes, and how long they wait for an answer.
const BODY: usize = 16 * 1024;
const READ: Duration = Duration::from_secs(2);
/// The proxy reloads whenever so many jobs were submitted: by the clock it would do so without end where the machine is slow.
const RELOAD_EACH: usize = 150;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nginx,
    Haproxy,
}

/// Ports of a proxy: to the node's gRPC server and its gateway, and the same with a limit to the rate of requests.
#[derive(Clone, Copy)]
struct Ports {
    grpc: u16,
    rest: u16,
    limited_grpc: u16,
    limited_rest: u16,
}

struct Proxy {
    kind: Kind,
    child: Child,
    ports: Ports,
    files: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn nginx(dir: &Path, node: &DevNode, ports: Ports) -> String {
    let (dir, grpc, rest) = (dir.display(), node.grpc_address(), node.rest_address());
    let Ports { grpc: grpc_port, rest: rest_port, limited_grpc, limited_rest } = ports;
    let read = READ.as_secs();
    let to_grpc = format!("grpc_pass grpc://grpc; grpc_read_timeout {read}s; grpc_socket_keepalive on;");
    let to_rest = format!(
        "proxy_pass http://rest; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_read_timeout {read}s;"
    );
    let limited = "limit_req zone=limit burst=5 nodelay; limit_req_status 429; error_page 429 = @slow;";
    let slow = "location @slow { internal; add_header Retry-After 1 always; return 429; }";
    format!(
        "user root; daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
        events {{ worker_connections 1024; }}
        http {{
            log_format short \"$connection $status\"; access_log {dir}/access.log short; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
            uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
            keepalive_timeout 1s; keepalive_requests 100; client_max_body_size {BODY}; client_body_timeout {read}s;
            limit_req_zone $binary_remote_addr zone=limit:1m rate=10r/s;
            upstream grpc {{ server {grpc}; keepalive 8; }}
            upstream rest {{ server {rest}; keepalive 8; }}
            server {{ listen 127.0.0.1:{grpc_port} http2; location / {{ {to_grpc} }} }}
            server {{ listen 127.0.0.1:{rest_port}; location / {{ {to_rest} }} }}
            server {{ listen 127.0.0.1:{limited_grpc} http2; location / {{ {limited} {to_grpc} }} {slow} }}
            server {{ listen 127.0.0.1:{limited_rest}; location / {{ {limited} {to_rest} }} {slow} }}
        }}"
    )
}

fn haproxy(node: &DevNode, ports: Ports) -> String {
    let (grpc, rest) = (node.grpc_address(), node.rest_address());
    let Ports { grpc: grpc_port, rest: rest_port, limited_grpc, limited_rest } = ports;
    // Only once it has read the request: else it closes the connection with unread data, and the reset that follows may
    // overtake its answer.
    let body = format!(
        "option http-buffer-request\n            http-request return status 413 if {{ req.hdr_val(content-length) gt {BODY} }}"
    );
    let limited = "http-request track-sc0 src table limits
            http-request return status 429 hdr Retry-After 1 if { sc_http_req_rate(0,limits) gt 10 }";
    let read = READ.as_secs();
    format!(
        "global
            maxconn 1000
            tune.bufsize 131072
            hard-stop-after 3s
        defaults
            mode http
            timeout connect 2s
            timeout client 10s
            timeout server {read}s
            timeout http-keep-alive 1s
        frontend grpc_in
            bind 127.0.0.1:{grpc_port} proto h2
            {body}
            default_backend grpc_out
        frontend rest_in
            bind 127.0.0.1:{rest_port}
            {body}
            default_backend rest_out
        frontend limited_grpc_in
            bind 127.0.0.1:{limited_grpc} proto h2
            {limited}
            default_backend grpc_out
        frontend limited_rest_in
            bind 127.0.0.1:{limited_rest}
            {limited}
            default_backend rest_out
        backend limits
            stick-table type ip size 100 expire 10s store http_req_rate(1s)
        backend grpc_out
            server node {grpc} proto h2
        backend rest_out
            server node {rest}\n"
    )
}

impl Proxy {
    /// Starts it, and returns once it listens.
    async fn start(kind: Kind, node: &DevNode) -> Self {
        let files = tempfile::tempdir().unwrap();
        let ports =
            Ports { grpc: free_port(), rest: free_port(), limited_grpc: free_port(), limited_rest: free_port() };
        let path = files.path().join("config");
        let mut command = match kind {
            Kind::Nginx => {
                fs::write(&path, nginx(files.path(), node, ports)).unwrap();
                let mut command = Command::new("nginx");
                command.arg("-p").arg(files.path()).arg("-e").arg(files.path().join("error.log")).arg("-c").arg(&path);
                command
            }
            Kind::Haproxy => {
                fs::write(&path, haproxy(node, ports)).unwrap();
                let mut command = Command::new("haproxy");
                command.arg("-W").arg("-db").arg("-f").arg(&path);
                command
            }
        };
        // Where it is for the superuser only, for others too.
        let search = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
        let log = fs::File::create(files.path().join("log")).unwrap();
        let child = command.env("PATH", search).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{kind:?} does not start ({error}): install it, as tests/run does"));
        let mut proxy = Self { kind, child, ports, files };
        for port in [ports.grpc, ports.rest, ports.limited_grpc, ports.limited_rest] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                if let Some(status) = proxy.child.try_wait().unwrap() {
                    let said = |name| fs::read_to_string(proxy.files.path().join(name)).unwrap_or_default();
                    panic!("{kind:?} went before it listened ({status}): {} {}", said("log"), said("error.log"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        proxy
    }

    /// What nginx says of its requests since it was asked last: how many there were, over how many connections, and every
    /// status that it gave.
    fn requests(&self) -> (usize, usize, HashSet<String>) {
        let path = self.files.path().join("access.log");
        let log = fs::read_to_string(&path).unwrap();
        fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        let lines: Vec<_> = log.lines().filter_map(|line| line.split_once(' ')).collect();
        let connections: HashSet<_> = lines.iter().map(|(connection, _)| connection).collect();
        (lines.len(), connections.len(), lines.iter().map(|(_, status)| (*status).to_owned()).collect())
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "{:?} is gone", self.kind);
    }

    /// Its workers end once their connections do, and others take their place.
    fn reload(&self) {
        self.signal(if self.kind == Kind::Nginx { "-HUP" } else { "-USR2" });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // The master ends its workers.
        _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        _ = self.child.wait();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Grpc,
    Rest,
}

fn client(home: &Home, over: Over, port: u16) -> ClientBuilder {
    let url = format!("http://127.0.0.1:{port}");
    let policy = RetryPolicy::default().with_attempts(50).with_budget(10_000);
    let builder = Client::builder().revision(Revision::Relay).retry(policy);
    let builder = builder.signer(home.signer.clone()).operator(home.node.operator());
    match over {
        Over::Grpc => builder.transport(GrpcTransport::builder(url).build().unwrap()),
        Over::Rest => builder.transport(RestTransport::builder(url).build().unwrap()),
    }
}

fn job(program: &ProgramId, input: Vec<u8>) -> OffchainJobRequest {
    OffchainJobRequest::builder(CONSUMER, program.clone()).max_cycles(1000).onchain_input(input).build().unwrap()
}

/// Submits so many jobs, 32 at a time; what is open afterwards is submitted again until nothing is. Says of each when it
/// begins.
async fn submit(client: &Client, home: &Home, jobs: usize, begins: impl Fn(usize)) -> HashMap<JobId, JobHandle> {
    let submitted: Vec<_> = stream::iter(0..jobs)
        .map(|number| {
            begins(number);
            client.submit(job(&home.program, number.to_be_bytes().to_vec()))
        })
        .buffer_unordered(32)
        .collect()
        .await;
    let mut handles = HashMap::new();
    let mut open = 0;
    for handle in submitted {
        match handle {
            Ok(handle) => drop(handles.insert(handle.id(), handle)),
            // It is among the unresolved.
            Err(error) if error.outcome() == Outcome::Unknown => open += 1,
            Err(error) => panic!("{}", error.report()),
        }
    }
    assert_eq!(client.unresolved().len(), open);
    while let Some(job) = client.unresolved().pop() {
        if let Ok(handle) = client.submit_signed(job).await {
            handles.insert(handle.id(), handle);
        }
    }
    assert_eq!(handles.len(), jobs, "none is lost");
    handles
}

/// All of it, through one proxy and one transport.
async fn through(proxy: &Proxy, home: &Home, over: Over, jobs: usize) {
    let what = format!("{:?}, {over:?}", proxy.kind);
    let (port, limited) = match over {
        Over::Grpc => (proxy.ports.grpc, proxy.ports.limited_grpc),
        Over::Rest => (proxy.ports.rest, proxy.ports.limited_rest),
    };
    let client_of_all = client(home, over, port).connect().await.unwrap();
    let slowly = client(home, over, limited).connect().await.unwrap();

    // Jobs while the proxy reloads, again and again, and closes all connections.
    let reloads = |number| {
        if number % RELOAD_EACH == RELOAD_EACH - 1 {
            proxy.reload();
        }
    };
    let mut handles = submit(&client_of_all, home, jobs - 13, reloads).await;

    // A body that is too long.
    let error = client_of_all.submit(job(&home.program, vec![1; 2 * BODY])).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::TooLarge, Outcome::Rejected), "{what}: {}", error.report());

    // What was refused is kept until it is sent again or forgotten.
    assert!(client_of_all.forget(error.job_id().unwrap().into()).is_some());

    // The proxy closes what is idle for a second: time itself is what has to pass.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    handles.extend(submit(&client_of_all, home, 2, |_| {}).await);

    // An answer that takes longer than the proxy waits. The node has the job: it is found, and not sent beside itself.
    let held = home.node.faults().hold_reply(Method::SubmitJob);
    let submitting = submit(&client_of_all, home, 1, |_| {});
    tokio::pin!(submitting);
    let released = async {
        tokio::time::sleep(READ * 2).await;
        home.node.faults().clear();
        held.open();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        found = &mut submitting => handles.extend(found),
        () = released => unreachable!(),
    }
    home.node.faults().clear();

    // More at once than the limit allows: 429 with Retry-After.
    let begun = Instant::now();
    handles.extend(submit(&slowly, home, 10, |_| {}).await);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{what}: the pause that was asked for is kept");

    assert_eq!(handles.len(), jobs, "{what}");
    let ids: Vec<_> = handles.keys().copied().collect();
    // Over the way without a limit. Where nothing waits for a list, each look is a call.
    let jobs_to_wait: Vec<_> =
        handles.into_values().map(|handle| client_of_all.resume(handle.signed_job().clone()).unwrap()).collect();
    for waited in client_of_all.wait_all(jobs_to_wait, Until::Executed).await {
        waited.unwrap_or_else(|error| panic!("{what}: {}", error.report()));
    }
    if proxy.kind == Kind::Nginx {
        let (requests, connections, statuses) = proxy.requests();
        println!("{what}: {requests} requests over {connections} connections");
        assert!(requests > 5 * connections, "{what}: connections are used again: {requests}, {connections}");
        for status in ["200", "413", "429", "504"] {
            assert!(statuses.contains(status), "{what}: {statuses:?}");
        }
    }
    let stats = home.node.stats();
    for id in ids {
        assert_eq!(stats.executions(id.into()), 1, "{what}: {id}");
    }
}

#[test]
#[ignore = "needs nginx and haproxy"]
fn jobs_through_proxies_are_neither_lost_nor_doubled() {
    let jobs = if sweep() { 7500 } else { 750 };
    let home = Home::new();
    multi_thread().block_on(within(async {
        let mut took = Vec::new();
        for kind in [Kind::Nginx, Kind::Haproxy] {
            let proxy = Proxy::start(kind, &home.node).await;
            for over in [Over::Grpc, Over::Rest] {
                let begun = Instant::now();
                through(&proxy, &home, over, jobs).await;
                took.push((kind, over, begun.elapsed()));
            }
        }
        println!("{} jobs through {took:?}", 4 * jobs);
    }));
}
