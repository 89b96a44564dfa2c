//! Programs that are commands: the protocol by a shell script, raw commands, and all that such a command can do wrong.

use std::{fs, time::Duration};

use alloy_primitives::Bytes;
use infinityvm_sdk::{
    ErrorKind, Revision,
    devnode::{JobState, external::ProgramCommand},
};

use crate::rig::*;

/// Speaks the protocol without this crate: reads the request as hex, and writes bytes. Its id is `badcab1e`. A run takes
/// 40 cycles, and its output is the request after the version, so the test sees all fields. On the onchain input `X` it
/// exits, and on `L` it meets the limit.
const SPEAKS: &str = r#"
hex=$(od -An -v -tx1 | tr -d ' \n')
say() { for byte in $(printf %s "$1" | sed 's/../& /g'); do printf "\\$(printf %03o "0x$byte")"; done; }
message() { say "$(printf %08x $((${#1} / 2)))$1"; }
bytes() { printf %08x%s $((${#1} / 2)) "$1"; }
request=${hex#????????}
case $request in
    0101) message "0101$(bytes badcab1e)" ;;
    0102??????????????????0000000158*) message "0103$(bytes 6e6f)" ;;
    0102??????????????????000000014c*) message "0104$(bytes 6661720a)" ;;
    0102*) message "01020000000000000028$(bytes "${request#0102}")" ;;
esac
"#;

fn shell(script: &str) -> ProgramCommand {
    ProgramCommand::new("sh").with_args(["-c", script])
}

impl Rig<Grpc> {
    /// Runs a job with this command for its program, and returns its record and the reason of its failure.
    async fn run_command(&self, job: &Job, command: ProgramCommand, state: JobState) -> (Rec, Option<String>) {
        self.node.register_command_as(job.program_id.clone(), command);
        let record = self.run(job, state).await;
        (record, self.node.stats().last_execution_error(job.id()).map(str::to_owned))
    }
}

#[tokio::test]
async fn a_command_that_speaks_the_protocol_is_a_program() {
    for revision in Revision::ALL {
        let rig = Rig::<Grpc>::start(revision, |builder| builder).await;
        let id = rig.node.register_command(shell(SPEAKS)).await.unwrap();
        assert_eq!(id, Bytes::from_static(&[0xba, 0xdc, 0xab, 0x1e]));
        let state = if revision == Revision::State { b"st".to_vec() } else { Vec::new() };
        let job = |nonce, onchain: &[u8]| {
            let job = rig.job(nonce);
            job.with(|job| {
                (job.program_id, job.onchain, job.offchain) = (id.clone(), onchain.to_vec(), b"off".to_vec());
                job.state = state.clone();
            })
        };
        let record = rig.run(&job(1, b"on"), JobState::Relayed).await;
        let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let number = u8::from(revision == Revision::Relay);
        let fields = [vec![number], 100_u64.to_be_bytes().to_vec(), field(b"on"), field(b"off"), field(&state)];
        assert_eq!(rig.output(&record), fields.concat());
        assert_eq!(rig.node.stats().last_execution_error(job(1, b"on").id()), None);

        let tight = job(2, b"on").with(|job| job.max_cycles = 39);
        assert_eq!(rig.run(&tight, JobState::Failed).await.failure.as_deref(), Some("execution_error"));
        let said = rig.node.stats();
        assert_eq!(said.last_execution_error(tight.id()), Some("the program takes 40 cycles, and the job allows 39"));
        let limit = rig.run(&job(3, b"L"), JobState::Failed).await;
        assert_eq!(limit.failure.as_deref(), Some("execution_error"));
        assert_eq!(rig.node.stats().last_execution_error(job(3, b"L").id()), Some("far "));

        // As with functions: a State node takes an exit code for a result of 0 bytes.
        let exit = match revision {
            Revision::State => rig.run(&job(4, b"X"), JobState::Relayed).await,
            _ => rig.run(&job(4, b"X"), JobState::Failed).await,
        };
        assert_eq!(exit.failure.is_none(), revision == Revision::State);
        assert_eq!(rig.node.stats().last_execution_error(job(4, b"X").id()), Some("no"));
    }
}

#[tokio::test]
async fn a_command_that_does_anything_else_fails_its_job_with_a_reason() {
    let hang = shell("exec sleep 1000").with_time_limit(Duration::from_millis(50));
    // The rest of its processes may live on with its pipes; the node does not wait for them.
    let abandon = shell("sleep 1000 & printf x").with_time_limit(Duration::from_millis(50));
    let bad = [
        (shell("kill -9 $$"), "gave no answer (signal: 9 (SIGKILL))"),
        (hang, "gave no answer within 50ms, and was killed"),
        (abandon, "gave no answer within 50ms, and was killed"),
        (
            shell("echo hello"),
            "gave no answer of the protocol (it announces 1751477356 bytes, and 2 follow) (exit status: 0)",
        ),
        (shell(r"printf '\000\000\000\002\002\001'"), "it has version 2 of the protocol, and version 1 is known here"),
        (shell(r"printf '\000\000\000\006\001\001\000\000\000\000'"), "answered with an id"),
        (shell("exec cat /dev/zero"), "wrote more than 16777220 bytes, and was killed"),
        (shell("echo 'no luck' >&2; exit 3"), "gave no answer (exit status: 3): no luck"),
        (ProgramCommand::new("there-is-no-such-command"), "cannot be started: No such file"),
    ];
    for revision in Revision::ALL {
        let rig = Rig::<Grpc>::start(revision, |builder| builder).await;
        for (nonce, (command, reason)) in (1..).zip(&bad) {
            let job = rig.job(nonce).with(|job| job.program_id = vec![7; 32].into());
            let (record, why) = rig.run_command(&job, command.clone(), JobState::Failed).await;
            assert_eq!(record.failure.as_deref(), Some("execution_error"), "{reason}");
            assert!(why.as_deref().is_some_and(|why| why.contains(reason)), "{why:?} is not: {reason}");
        }
        rig.run(&rig.job(100), JobState::Relayed).await;
    }
    let rig = Rig::<Grpc>::relay().await;
    for (command, _) in bad {
        let error = rig.node.register_command(command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
}

#[tokio::test]
async fn a_command_need_not_read_what_it_is_told() {
    let rig = Rig::<Grpc>::relay().await;
    // More than a pipe holds.
    let job = rig.job(1).with(|job| job.onchain = vec![1; 1 << 20]);
    let (record, why) = rig.run_command(&job, shell("printf done").with_raw(true), JobState::Relayed).await;
    assert_eq!((rig.output(&record), why), (b"done".to_vec(), None));
}

#[tokio::test]
async fn a_raw_command_reads_the_onchain_input_and_writes_the_output() {
    for revision in Revision::ALL {
        let rig = Rig::<Grpc>::start(revision, |builder| builder).await;
        let job = |nonce| rig.job(nonce).with(|job| job.offchain = b"not this".to_vec());
        let raw = |script| shell(script).with_raw(true);
        let (record, why) = rig.run_command(&job(1), raw("cat; printf !"), JobState::Relayed).await;
        assert_eq!((rig.output(&record), why), (vec![0xaa, b'!'], None));

        let ending = if revision == Revision::State { JobState::Relayed } else { JobState::Failed };
        let (record, why) = rig.run_command(&job(2), raw("printf half; echo why >&2; exit 7"), ending).await;
        assert_eq!(record.failure.as_deref(), (ending == JobState::Failed).then_some("execution_error"));
        assert!(why.is_some_and(|why| why.ends_with("failed (exit status: 7): why")));

        let (record, why) = rig.run_command(&job(3), raw("kill -9 $$"), JobState::Failed).await;
        assert_eq!(record.failure.as_deref(), Some("execution_error"));
        assert!(why.is_some_and(|why| why.ends_with("was ended (signal: 9 (SIGKILL))")));
        let error = rig.node.register_command(raw("cat")).await.unwrap_err();
        assert!(error.to_string().contains("a raw command has no way to"), "{error}");
    }
}

#[tokio::test]
async fn a_command_ends_with_the_life_of_the_node_that_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let rig = Rig::<Grpc>::relay().await;
    let script = r#"echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 1000"#;
    let command = ProgramCommand::new("sh").with_args(["-c", script]).with_args([&file]);
    rig.node.register_command_as(vec![7; 32], command);
    rig.send(&rig.job(1).with(|job| job.program_id = vec![7; 32].into())).await.unwrap();
    let pid = until(|| fs::read_to_string(&file).ok()).await;
    rig.node.restart();
    until(|| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // Gone, or dead and not yet waited for.
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
}

/// Asks until there is something.
async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    within(async {
        loop {
            match look() {
                Some(seen) => return seen,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
}
