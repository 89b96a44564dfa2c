//! The quickstart does what the README says: by itself, over a file of the user's, and against a running node.

use std::process::Output;

use infinityvm_sdk::{
    LocalSigner, Revision,
    devnode::{ConsumerRules, DevNode},
    primitives::{Address, SolValue, U256, hex},
};

use super::{example, printed};

fn quickstart(arguments: &[&str]) -> Output {
    example("quickstart").args(arguments).output().expect("runs")
}

#[test]
fn by_itself_in_both_revisions() {
    let text = printed(&quickstart(&[]));
    assert_eq!(text.matches("the square root of 1524157875019052100 is 1234567890").count(), 2, "{text}");
    assert_eq!(text.matches("8760 rows, lowest -835, highest 2637, mean 900.56").count(), 2, "{text}");
    assert_eq!(text.matches("their roots add up to 5050").count(), 2, "{text}");
    assert!(text.contains("== state revision") && text.contains("== relay revision"));
}

#[test]
fn over_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mine.csv");
    std::fs::write(&file, "name,number\na,3\nb,-5\nc,8\n").expect("writes");
    let text = printed(&quickstart(&[file.to_str().expect("text")]));
    assert_eq!(text.matches("3 rows, lowest -5, highest 8, mean 2.00").count(), 2, "{text}");

    std::fs::write(&file, "name,number\na,three\n").expect("writes");
    let output = quickstart(&[file.to_str().expect("text")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("job failed") && text.contains("what next"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn against_a_running_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key.hex");
    std::fs::write(&key, format!("{}\n", hex::encode([0x37; 32]))).expect("writes");
    let signer = LocalSigner::from_slice(&[0x37; 32]).expect("a key");
    let consumer = Address::repeat_byte(9);
    for (revision, rest) in Revision::ALL.into_iter().flat_map(|revision| [(revision, false), (revision, true)]) {
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(revision).consumer(consumer, rules).start().await.expect("starts");
        let root = node.register_program(|input| {
            let number = U256::abi_decode(input.onchain).expect("a number");
            Ok((number, number.root(2)).abi_encode())
        });
        // Another program than the example's own: its check must notice.
        let wrong = node.register_program(|_| Ok((1u64, 2i64, 3i64, 4i64).abi_encode()));
        let (how, url) = if rest { ("--rest", node.rest_url()) } else { ("--node", node.grpc_url()) };
        let arguments = [
            (how, url),
            ("--key-file", key.display().to_string()),
            ("--consumer", consumer.to_string()),
            ("--operator", node.operator().to_string()),
            ("--square-root", root.to_string()),
            ("--summary", wrong.to_string()),
        ];
        let mut arguments: Vec<_> = arguments.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
        let name = revision.to_string();
        if rest {
            // A gateway cannot be asked.
            arguments.extend(["--revision", &name]);
        }
        let output = tokio::task::block_in_place(|| quickstart(&arguments));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(out.contains("is 1234567890") && out.contains("relayed"), "{out}{err}");
        assert!(!output.status.success() && err.contains("not the one computed here"), "{out}{err}");
    }
}

#[test]
fn wrong_arguments_are_explained() {
    for (arguments, reason) in [
        (vec!["--nose", "x"], "unknown option --nose"),
        (vec!["--node"], "--node needs a value"),
        (vec!["--node", "http://127.0.0.1:1"], "a running node needs --key-file too"),
        (vec!["no-such-file.csv"], "no-such-file.csv"),
    ] {
        let output = quickstart(&arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(reason), "{arguments:?}: {text}");
    }
}
