//! Programs that are commands, named on the command line.

use std::{fs, os::unix::fs::PermissionsExt as _};

use infinityvm_sdk::{OffchainJobRequest, Until, primitives::Bytes};

use crate::{
    rig::{Done, Folder},
    running::Running,
};

/// Speaks the protocol: its id is 0a0b, and its output is `!`, after 40 cycles.
const SPEAKS: &str = r"
case $(od -An -v -tx1 | tr -d ' \n') in
    000000020101) printf '\000\000\000\010\001\001\000\000\000\002\012\013' ;;
    *) printf '\000\000\000\017\001\002\000\000\000\000\000\000\000\050\000\000\000\001!' ;;
esac
";

async fn run(node: &Running, program: Bytes, cycles: u64) -> infinityvm_sdk::Result<Bytes> {
    let consumer = node.text("square_root_consumer").parse().unwrap();
    let job = OffchainJobRequest::builder(consumer, program).max_cycles(cycles).onchain_input(b"abc".to_vec());
    let client = node.client().connect().await?;
    client.run(job.build()?, Until::Executed).await.map(|result| result.output().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_asked_for_its_id_or_given_one() {
    let folder = Folder::new();
    folder.write("speaks.sh", SPEAKS);
    let node = Running::start(&folder, &["--program", "sh speaks.sh", "--program", "0x77=sh speaks.sh again"]);
    assert_eq!(node.program("sh speaks.sh"), Bytes::from_static(&[10, 11]));
    for id in [&[10_u8, 11][..], &[0x77]] {
        let id = Bytes::copy_from_slice(id);
        assert_eq!(run(&node, id.clone(), 40).await.unwrap(), Bytes::from_static(b"!"));
        assert!(run(&node, id, 39).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_command_is_a_filter() {
    let folder = Folder::new();
    let node = Running::start(&folder, &["--program", "0x77=tr a-c x", "--program", "0x78=false", "--raw"]);
    assert_eq!(run(&node, Bytes::from_static(&[0x77]), 1).await.unwrap(), Bytes::from_static(b"xxx"));
    assert!(run(&node, Bytes::from_static(&[0x78]), 1).await.is_err());
    let hangs = Running::start(&Folder::new(), &["--program", "0x77=sleep 1000", "--raw", "--program-timeout", "50ms"]);
    assert!(run(&hangs, Bytes::from_static(&[0x77]), 1).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_quoted_as_for_a_shell() {
    let folder = Folder::new();
    folder.write("a folder/speaks.sh", SPEAKS);
    let node = Running::start(&folder, &["--program", "sh 'a folder/speaks.sh'"]);
    assert_eq!(run(&node, Bytes::from_static(&[10, 11]), 40).await.unwrap(), Bytes::from_static(b"!"));
    let node = Running::start(&Folder::new(), &["--raw", "--program", r#"0x77=sh -c "cat; printf ' \"d'""#]);
    assert_eq!(run(&node, Bytes::from_static(&[0x77]), 1).await.unwrap(), Bytes::from_static(b"abc \"d"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elf_is_run_by_the_executor_on_the_path() {
    let folder = Folder::new();
    // A stand-in, which is started with the file as `ivm-sp1` is.
    let executor = folder.write("bin/ivm-sp1", format!("#!/bin/sh\n[ \"$1\" = 'my guest.elf' ] || exit 1\n{SPEAKS}"));
    fs::set_permissions(&executor, fs::Permissions::from_mode(0o755)).unwrap();
    // The head of an ELF of 32 bits for RISC-V.
    folder.write("my guest.elf", b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0");
    let path = format!("{}:/usr/bin:/bin", folder.path().join("bin").display());
    let with_path =
        |arguments: &[&str]| Done::of(arguments, folder.command(arguments).env("PATH", &path).output().unwrap());
    assert_eq!(with_path(&["program", "id", "my guest.elf"]).ok(), "0x0a0b");
    let node =
        Running::start_with(&folder, &["--program", "'my guest.elf'", "--program", "0x77='my guest.elf'"], |command| {
            command.env("PATH", &path)
        });
    for id in [&[10_u8, 11][..], &[0x77]] {
        assert_eq!(run(&node, Bytes::copy_from_slice(id), 40).await.unwrap(), Bytes::from_static(b"!"));
    }

    // Without the executor, and where there is none.
    let usual = ["devnode", "--grpc-port", "0", "--rest-port", "0", "--socket", "other", "--program", "'my guest.elf'"];
    for arguments in [&["program", "id", "my guest.elf"][..], &usual] {
        let missing = folder.ivm(arguments);
        assert!(missing.fails(2).contains("executors/sp1"), "{}", missing.err);
        let other = with_path(&[&["--revision", "state"], arguments].concat());
        assert!(other.fails(2).contains("RISC Zero"), "{}", other.err);
    }

    // RISC Zero's combined form of a program and its kernel, in either revision.
    folder.write("my guest.elf", b"R0BF\x01\0\0\0\x18\0\0\0\0\0\0\0\0\0\0\0");
    for (revision, words) in [("relay", "those for SP1"), ("state", "no executor runs those")] {
        let told = with_path(&["--revision", revision, "program", "id", "my guest.elf"]);
        assert!(told.fails(2).contains("RISC Zero") && told.err.contains(words), "{}", told.err);
    }
}
