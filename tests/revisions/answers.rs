//! What is made of an answer, whatever it is.

use bytes::Bytes;
use infinityvm_sdk::{Client, ErrorKind, Outcome, Result, Revision};
use proptest::prelude::*;
use prost::Message as _;

use crate::rig::*;

/// A runtime for cases that come by the thousand.
fn on_a_runtime() -> impl Fn(Vec<Bytes>) -> Result<Client> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    move |answers| runtime.block_on(connect(answers))
}

async fn wrong(answers: Vec<Bytes>, kind: ErrorKind, part: &str) {
    let error = connect(answers).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotSent), "{part}: {}", error.report());
    let report = error.report().to_string();
    assert!(report.contains(part), "{part:?} is not in {report}");
    assert!(!error.is_retryable() && error.hint().is_some() && error.endpoint().is_some(), "{report}");
}

#[tokio::test]
async fn the_files_may_be_several_and_in_any_order() {
    for revision in Revision::ALL {
        let whole = file(revision);
        let (mut service, mut messages) = (whole.clone(), whole.clone());
        service.message_type.clear();
        service.enum_type.clear();
        service.dependency = vec!["messages.proto".into()];
        messages.service.clear();
        messages.name = Some("messages.proto".into());
        let google = FileDescriptorProto {
            name: Some("google/protobuf/empty.proto".into()),
            package: Some("google.protobuf".into()),
            message_type: vec![DescriptorProto { name: Some("Empty".into()), ..Default::default() }],
            ..Default::default()
        };
        let (s, m, g) = (&service, &messages, &google);
        let orders = [[s, m, g], [s, g, m], [m, s, g], [m, g, s], [g, s, m], [g, m, s]];
        for files in orders {
            let client = connect(vec![answer(&files.map(Clone::clone))]).await.unwrap();
            assert_eq!(client.revision(), revision);
        }
        // The same file twice says nothing new.
        let client = connect(vec![answer(&[whole.clone(), google.clone(), whole.clone()])]).await.unwrap();
        assert_eq!(client.revision(), revision);

        // The service alone: then the message is asked for, too.
        for rest in [vec![messages.clone()], vec![google.clone(), messages.clone(), service.clone()]] {
            let double = Double::saying(vec![answer(&[service.clone(), google.clone()]), answer(&rest)]);
            let client = builder().transport(double.clone()).connect().await.unwrap();
            assert_eq!(client.revision(), revision);
            assert_eq!(double.symbols(), [SERVICE, MESSAGE]);
        }
        // The second answer is of another mind about the service.
        let both = vec![answer(&[service.clone()]), answer(&[file(other(revision))])];
        wrong(both, ErrorKind::BadResponse, "CoprocessorNode is described in two ways").await;
        wrong(vec![answer(&[service.clone()])], ErrorKind::InvalidConfig, "NOT_FOUND").await;
        let again = vec![answer(&[service.clone()]), answer(&[service.clone()])];
        wrong(again, ErrorKind::BadResponse, "do not hold what was asked for").await;
    }
}

#[tokio::test]
async fn a_third_revision_is_named_and_refused() {
    type Change = fn(&mut FileDescriptorProto);
    let changes: [(&str, Change); 9] = [
        ("field 4 of SubmitJobRequest is int64 \"state\"", |file| field_4(file).set_type(Type::Int64)),
        ("field 4 of SubmitJobRequest is string \"state\"", |file| field_4(file).set_type(Type::String)),
        ("field 4 of SubmitJobRequest is enum \"state\"", |file| field_4(file).set_type(Type::Enum)),
        ("field 4 of SubmitJobRequest is untyped \"state\"", |file| field_4(file).r#type = None),
        ("field 4 of SubmitJobRequest is type 99 \"state\"", |file| field_4(file).r#type = Some(99)),
        ("field 4 of SubmitJobRequest is repeated bytes \"state\"", |file| field_4(file).set_label(Label::Repeated)),
        ("field 4 of SubmitJobRequest is bytes \"sta\\nte\"", |file| field_4(file).name = Some("sta\nte".into())),
        ("SubmitJobRequest has no field 4", |file| field_4(file).number = Some(5)),
        ("SubmitJobRequest has more than one field 4", |file| {
            let twin = field_4(file).clone();
            message(file, "SubmitJobRequest").field.push(twin);
        }),
    ];
    for (part, change) in changes {
        let mut third = file(Revision::State);
        change(&mut third);
        wrong(vec![answer(&[third])], ErrorKind::WrongRevision, part).await;
    }
    let mut third = file(Revision::Relay);
    field_4(&mut third).set_type(Type::Bytes);
    wrong(vec![answer(&[third])], ErrorKind::WrongRevision, "is bytes \"relay_strategy\"").await;
    let mut third = file(Revision::Relay);
    field_4(&mut third).name = Some("x".repeat(100_000));
    let error = connect(vec![answer(&[third])]).await.unwrap_err();
    assert!(error.to_string().len() < 1000, "as long as the peer likes");
    let mut third = file(Revision::Relay);
    third.service[0].method.iter_mut().find(|method| method.name() == "SubmitJob").unwrap().input_type =
        Some(".coprocessor_node.v2.SubmitJobRequest".into());
    wrong(vec![answer(&[third])], ErrorKind::WrongRevision, "coprocessor_node.v2.SubmitJobRequest").await;
}

#[tokio::test]
async fn the_calls_must_agree_with_the_field() {
    for call in ["GetPendingJobs", "ContainsProgram"] {
        let mut mixed = file(Revision::State);
        let relay = file(Revision::Relay);
        mixed.service[0].method.extend(relay.service[0].method.iter().filter(|method| method.name() == call).cloned());
        wrong(vec![answer(&[mixed])], ErrorKind::WrongRevision, call).await;
    }
    for revision in Revision::ALL {
        for call in ["SubmitJob", "GetResult", "SubmitProgram"] {
            let mut poor = file(revision);
            without_calls(&mut poor, &[call]);
            wrong(vec![answer(&[poor])], ErrorKind::WrongRevision, &format!("there is no {call}")).await;
        }
    }
    // Calls that nobody knows yet say nothing.
    for revision in Revision::ALL {
        let mut newer = file(revision);
        let mut method = newer.service[0].method[0].clone();
        method.name = Some("CancelJob".into());
        newer.service[0].method.push(method);
        assert_eq!(connect(vec![answer(&[newer])]).await.unwrap().revision(), revision);
    }
}

#[tokio::test]
async fn only_the_message_of_that_very_name_decides() {
    for revision in Revision::ALL {
        let mut right = file(revision);
        let decoy = message(&mut file(other(revision)), "SubmitJobRequest").clone();
        // Within another message, and as a message of another package.
        message(&mut right, "JobResult").nested_type.push(decoy.clone());
        for package in ["coprocessor_node", "coprocessor_node.v1.inner", "v1", ""] {
            let mut elsewhere = file(other(revision));
            elsewhere.package = Some(package.into());
            let both = answer(&[elsewhere.clone(), right.clone(), elsewhere]);
            assert_eq!(connect(vec![both]).await.unwrap().revision(), revision);
        }
        // Of that very name, twice: nobody knows which is meant.
        right.message_type.push(decoy);
        wrong(vec![answer(&[right])], ErrorKind::BadResponse, "SubmitJobRequest is described in two ways").await;
        let two = answer(&[file(revision), file(other(revision))]);
        wrong(vec![two], ErrorKind::BadResponse, "described in two ways").await;
    }
}

#[tokio::test]
async fn what_is_no_answer_is_said_to_be_none() {
    const BAD: ErrorKind = ErrorKind::BadResponse;
    wrong(vec![Bytes::new()], BAD, "holds no files").await;
    wrong(vec![answer(&[]), answer(&[])], BAD, "do not hold what was asked for").await;
    wrong(vec![b"<html>nothing here</html>"[..].into()], BAD, "not an answer of server reflection").await;
    wrong(vec![answer_raw(vec![vec![0xff; 20]])], BAD, "not an answer of server reflection").await;
    wrong(vec![refusal(0, "fine")], BAD, "an error with the status 0").await;
    wrong(vec![refusal(-1, "odd")], BAD, "an error with the status -1").await;
    wrong(vec![refusal(5, "two\nlines")], ErrorKind::InvalidConfig, "NOT_FOUND: two lines").await;
    // Parts of nothing, which take the most memory for their length; then one byte too many.
    let mut file = file(Revision::Relay).encode_to_vec();
    file.extend([0x22, 0].repeat((1 << 17) - 10_000));
    assert_eq!(connect(vec![answer_raw(vec![file.clone()])]).await.unwrap().revision(), Revision::Relay);
    file.extend([0x22, 0].repeat(10_000));
    wrong(vec![answer_raw(vec![file])], BAD, "more than 262144").await;
    wrong(vec![refusal(5, &"x".repeat(100_000))], ErrorKind::InvalidConfig, "xxx").await;
}

/// The decision needs both the type and the name of field 4, which differ in many bytes. So damage to a few bytes can make
/// an answer useless, or take a call from the list, but never turns one revision into the other.
#[test]
fn no_damage_of_one_byte_turns_a_revision_into_the_other() {
    let connect = on_a_runtime();
    for revision in Revision::ALL {
        let whole = answer(&[file(revision)]).to_vec();
        let (mut same, mut refused) = (0, 0);
        let mut check = |bytes: Vec<u8>| match connect(vec![bytes.into()]) {
            Ok(client) => {
                assert_eq!(client.revision(), revision);
                same += 1;
            }
            Err(error) => {
                assert_eq!(error.outcome(), Outcome::NotSent);
                refused += 1;
            }
        };
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                check(bytes);
            }
            for fill in [0, 0xff] {
                check([&whole[..at], &[fill], &whole[at..]].concat());
            }
            check(whole[..at].to_vec());
            check([&whole[..at], &whole[at + 1..]].concat());
        }
        assert!(same > 0 && refused > 0, "{revision}: {same} the same, {refused} refused");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_decide_nothing(answers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..3)) {
        let made = on_a_runtime()(answers.into_iter().map(Bytes::from).collect());
        prop_assert!(made.is_err());
    }

    /// Arbitrary bytes in the place of a file, where they are read as one.
    #[test]
    fn arbitrary_files_never_panic_and_decide_nothing(files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..4)) {
        let answer = answer_raw(files);
        let made = on_a_runtime()(vec![answer.clone(), answer]);
        prop_assert!(made.is_err());
    }

    #[test]
    fn damage_in_several_places_never_turns_a_revision_into_the_other(
        state in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 1..6),
    ) {
        let revision = if state { Revision::State } else { Revision::Relay };
        let mut bytes = answer(&[file(revision)]).to_vec();
        for (at, edit, byte) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        let answer = Bytes::from(bytes);
        match on_a_runtime()(vec![answer.clone(), answer]) {
            Ok(client) => prop_assert_eq!(client.revision(), revision),
            Err(error) => prop_assert_eq!(error.outcome(), Outcome::NotSent),
        }
    }
}
