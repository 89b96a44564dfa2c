//! Form by form.

use std::fmt::Write;

use infinityvm_sdk::{
    Error, ErrorKind, JobId, JobRecord, JobStatus, Outcome, ProgramId, Revision,
    primitives::{B256, hex},
};
use support::facts;

use super::{json, read};

/// A record of the Relay revision in which one field is written otherwise, or left out if that is empty.
fn record_with(field: &str, value: &str) -> String {
    let mut fields = vec![
        ("id", format!("\"{}\"", "01".repeat(32))),
        ("nonce", "5".into()),
        ("maxCycles", "6".into()),
        ("consumerAddress", format!("\"{}\"", "02".repeat(20))),
        ("programId", "\"abcd\"".into()),
        ("onchainInput", "\"\"".into()),
        ("offchainInputHash", format!("\"{}\"", "03".repeat(32))),
        ("requestSignature", "\"04\"".into()),
        ("resultWithMetadata", "\"\"".into()),
        ("zkvmOperatorSignature", "\"\"".into()),
        ("status", r#"{"status":1,"failureReason":null,"retries":0}"#.into()),
        ("relayTxHash", "\"\"".into()),
    ];
    match fields.iter_mut().find(|(name, _)| *name == field) {
        Some(known) => known.1 = value.into(),
        None => fields.push((field, value.into())),
    }
    let fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_empty()).collect();
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{\"jobResult\":{{{}}}}}", fields.join(","))
}

fn relay_with(field: &str, value: &str) -> Result<JobRecord, Error> {
    read(Revision::Relay, record_with(field, value))
}

/// As servers put it that write their text with a mark of its byte order.
#[test]
fn a_mark_before_the_text_is_no_harm() {
    let text = record_with("nonce", "7");
    assert_eq!(read(Revision::Relay, format!("\u{feff}{text}")).expect("read").nonce(), 7);
    refused(read(Revision::Relay, format!("\u{feff}\u{feff}{text}")), "two marks");
    refused(read(Revision::Relay, "\u{feff}"), "a mark alone");
}

fn refused(answer: Result<impl std::fmt::Debug, Error>, what: &str) -> Error {
    let error = answer.expect_err(what);
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::BadResponse, Outcome::Unknown), "{what}");
    assert!(error.report().to_string().len() < 2000, "a peer's text is repeated in full: {what}");
    error
}

#[test]
fn bytes_are_read_in_every_form() {
    let forms = [
        ("\"00ffab\"", vec![0, 255, 171]),
        ("\"00FFAB\"", vec![0, 255, 171]),
        ("\"0x00fFaB\"", vec![0, 255, 171]),
        ("\"\\u0030\\u0030ff\\u0061b\"", vec![0, 255, 171]),
        ("[0,255,171]", vec![0, 255, 171]),
        (" [ 0 , 255 ,\n171 ] ", vec![0, 255, 171]),
        ("\"\"", vec![]),
        ("\"0x\"", vec![]),
        ("[]", vec![]),
        ("null", vec![]),
        ("", vec![]),
    ];
    for (text, bytes) in forms {
        assert_eq!(relay_with("programId", text).expect(text).program_id(), &ProgramId::new(bytes.clone()), "{text}");
        let absent = text.is_empty();
        let answer = if absent { "{}".into() } else { format!("{{\"programId\":{text}}}") };
        match json(Revision::State).submit_program_response(&answer.into_bytes().into()) {
            Ok(id) => assert_eq!(id, ProgramId::new(bytes)),
            Err(error) => assert!(bytes.is_empty(), "{text}: {error}"),
        }
    }
    let id = [7; 32];
    for text in [hex::encode(id), hex::encode_upper(id), format!("0x{}", hex::encode(id))] {
        let answer = format!("{{\"jobId\":\"{text}\"}}").into_bytes().into();
        assert_eq!(*json(Revision::Relay).submit_job_response(&answer).expect("reads").as_bytes(), id);
    }
}

#[test]
fn bytes_in_no_form_are_refused() {
    let texts = [
        "\"0\"",
        "\"0g\"",
        "\"0x0\"",
        "\"0x0x00\"",
        "\" 00\"",
        "\"AP+r\"",
        "[256]",
        "[-1]",
        "[1.0]",
        "[1e1]",
        "[\"1\"]",
        "[null]",
        "[[1]]",
        "[1,]",
        "1",
        "true",
        "{}",
        "{\"0\":1}",
    ];
    for text in texts {
        refused(relay_with("programId", text), text);
    }
}

#[test]
fn integers_are_exact_or_refused() {
    let most = u64::MAX.to_string();
    let forms = [
        ("0", 0),
        ("1", 1),
        (most.as_str(), u64::MAX),
        ("9007199254740993", 9_007_199_254_740_993),
        ("\"18446744073709551615\"", u64::MAX),
        ("\"7\"", 7),
        ("\"\\u0037\"", 7),
        ("null", 0),
        ("", 0),
    ];
    for (text, number) in forms {
        assert_eq!(relay_with("nonce", text).expect(text).nonce(), number);
        assert_eq!(relay_with("maxCycles", text).expect(text).max_cycles(), number);
    }
    let texts = [
        "1.0",
        "1e3",
        "1E0",
        "0.5",
        "-1",
        "18446744073709551616",
        "\"18446744073709551616\"",
        "\"-1\"",
        "\"\"",
        "\" 1\"",
        "\"+1\"",
        "\"0x1\"",
        "\"1.0\"",
        "\"1e3\"",
        "\"seven\"",
        "01",
        "+1",
        "0x1",
        "NaN",
        "true",
        "[1]",
        "{}",
        "\"999999999999999999999999999999999999999999\"",
    ];
    for text in texts {
        refused(relay_with("nonce", text), text);
    }
    for (retries, fits) in [("4294967295", true), ("\"3\"", true), ("4294967296", false), ("-1", false)] {
        let answer = relay_with("status", &format!("{{\"status\":2,\"retries\":{retries}}}"));
        assert_eq!(answer.is_ok(), fits, "{retries}");
    }
}

#[test]
fn a_status_is_a_number_or_a_name_and_may_grow() {
    let failed = |reason: Option<&str>| facts!(Failed { reason });
    let forms: [(&str, facts::Facts); 15] = [
        ("1", JobStatus::Pending.into()),
        ("2", JobStatus::Done.into()),
        ("3", failed(None)),
        ("4", JobStatus::Relayed.into()),
        ("\"JOB_STATUS_TYPE_PENDING\"", JobStatus::Pending.into()),
        ("\"JOB_STATUS_TYPE_DONE\"", JobStatus::Done.into()),
        ("\"JOB_STATUS_TYPE_FAILED\"", failed(None)),
        ("\"JOB_STATUS_TYPE_RELAYED\"", JobStatus::Relayed.into()),
        ("\"JOB_STATUS_TYPE_UNSPECIFIED\"", JobStatus::Unrecognized(0).into()),
        ("\"JOB_STATUS_TYPE_RETIRED\"", JobStatus::Unrecognized(-1).into()),
        ("0", JobStatus::Unrecognized(0).into()),
        ("5", JobStatus::Unrecognized(5).into()),
        ("-7", JobStatus::Unrecognized(-7).into()),
        ("\"4\"", JobStatus::Relayed.into()),
        ("null", JobStatus::Unrecognized(0).into()),
    ];
    for (text, status) in forms {
        let record = relay_with("status", &format!("{{\"status\":{text}}}")).expect(text);
        assert_eq!(*record.status(), status, "{text}");
    }
    let reasons = [
        ("", failed(None)),
        (",\"failureReason\":null", failed(None)),
        (",\"failureReason\":\"\"", failed(None)),
        (",\"failureReason\":\"low nonce\"", failed(Some("low nonce"))),
        (",\"failureReason\":\"\\u006cow \\n\"", failed(Some("low \n"))),
        (",\"failure_reason\":\"low nonce\"", failed(Some("low nonce"))),
    ];
    for (text, status) in reasons {
        assert_eq!(*relay_with("status", &format!("{{\"status\":3{text}}}")).expect(text).status(), status);
    }
    assert_eq!(*relay_with("status", "{}").expect("as in protobuf").status(), JobStatus::Unrecognized(0));
    for text in [
        "",
        "null",
        "1",
        "[1]",
        "[1,null,0]",
        "\"JOB_STATUS_TYPE_DONE\"",
        "{\"status\":1.0}",
        "{\"status\":2147483648}",
        "{\"status\":[2]}",
        "{\"status\":3,\"failureReason\":7}",
    ] {
        refused(relay_with("status", text), text);
    }
}

#[test]
fn contents_are_as_strict_as_in_protobuf() {
    let short = format!("\"{}\"", "00".repeat(31));
    let cases = [
        ("id", short.as_str(), "id has 31 bytes instead of 32"),
        ("id", "", "id has 0 bytes"),
        ("id", "null", "id has 0 bytes"),
        ("consumerAddress", "[]", "consumer_address has 0 bytes instead of 20"),
        ("consumerAddress", &short, "consumer_address has 31 bytes"),
        ("offchainInputHash", "\"0x\"", "offchain_input_hash has 0 bytes"),
        ("relayTxHash", "\"0801\"", "relay_tx_hash has 2 bytes"),
        ("status", "null", "no status"),
        // A State node's record holds one.
        ("stateHash", "\"\"", "only the State revision has"),
        ("state_hash", &short, "only the State revision has"),
    ];
    for (field, value, text) in cases {
        let error = refused(relay_with(field, value), field);
        assert!(error.to_string().contains(text), "{field} {value}: {error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("revision")), "{error:?}");
    }
    for text in ["{}", "{\"jobResult\":null}", "{\"result\":{}}"] {
        let error = refused(read(Revision::Relay, text), text);
        assert!(error.to_string().contains("no job_result"), "{error}");
    }
    // The State revision wants what the other must not have.
    let hash = format!("\"{}\"", "09".repeat(32));
    let record = read(Revision::State, record_with("stateHash", &hash)).expect("reads");
    assert_eq!(record.state_hash().expect("a hash").to_string(), format!("0x{}", "09".repeat(32)));
    for text in ["", "null", "\"\"", &short] {
        let error = refused(read(Revision::State, record_with("stateHash", text)), text);
        assert!(error.to_string().contains("state_hash has"), "{error}");
    }
    let answers = ["{}", "{\"jobId\":null}", "{\"jobId\":[]}", "{\"jobId\":\"00\"}", "{\"id\":[1]}"];
    for text in answers {
        let error = refused(json(Revision::State).submit_job_response(&text.into()), text);
        assert!(error.to_string().contains("job_id has"), "{error}");
    }
    refused(json(Revision::State).submit_program_response(&"{\"programId\":\"\"}".into()), "an empty id");
}

#[test]
fn what_may_grow_is_ignored() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let values = ["1", "1.5e300", "null", "\"\"", "{\"id\":[{}]}", "[[],{\"a\":{\"a\":1,\"a\":2}}]", &deep];
    let plain = relay_with("", "").expect("reads");
    for value in values {
        assert!(relay_with("", value).expect(value) == plain, "{value}");
        assert!(relay_with("Id", value).expect("names are exact") == plain);
    }
}

#[test]
fn names_are_read_in_either_style_but_once() {
    let camel = record_with("programId", "\"abcd\"");
    let mut snake = String::new();
    for char in camel.chars() {
        // Upper case stands in names only.
        if char.is_ascii_uppercase() {
            write!(snake, "_{}", char.to_ascii_lowercase()).expect("writes");
        } else {
            snake.push(char);
        }
    }
    assert!(snake.contains("\"job_result\":{") && snake.contains("\"relay_tx_hash\":"));
    let same = read(Revision::Relay, snake).expect("snake case") == read(Revision::Relay, camel).expect("camel case");
    assert!(same);

    let id = format!("\"jobId\":{:?}", [1; 32]);
    for text in [format!("{{{id},{id}}}"), format!("{{{id},\"job_id\":null}}"), format!("{{{id},\"\\u006aobId\":[]}}")]
    {
        let error = refused(json(Revision::Relay).submit_job_response(&text.clone().into()), &text);
        assert!(error.report().to_string().contains("duplicate field `jobId`"), "{}", error.report());
    }
    for (field, value) in [("program_id", "\"\""), ("max_cycles", "6"), ("relay_tx_hash", "null")] {
        refused(relay_with(field, value), field);
    }
    refused(relay_with("status", "{\"status\":1,\"status\":1}"), "status twice");
    refused(read(Revision::Relay, "{\"jobResult\":null,\"job_result\":null}"), "two results");
}

#[test]
fn what_is_not_one_object_is_refused() {
    let whole = record_with("", "1");
    let trailing = [" x", "{}", ",", "\0", "null", "]"].map(|tail| format!("{whole}{tail}"));
    let other = [
        "",
        " ",
        "null",
        "[]",
        "1",
        "\"{}\"",
        "true",
        "{",
        "{]",
        "{\"jobResult\"}",
        "{'jobResult':null}",
        "\u{feff}{}",
        "{\"jobResult\":{}",
        "{\"jobResult\":[]}",
        "{\"jobResult\":\"00\"}",
        "<html>502</html>",
        "{\"jobResult\":NaN}",
        "{\"x\":\"\u{1}\"}",
        "{\"x\":\"\\ud800\"}",
        "{\"jobResult\":{},}",
    ];
    for text in trailing.iter().map(String::as_str).chain(other) {
        refused(read(Revision::Relay, text), text);
        refused(read(Revision::State, text), text);
    }
    assert!(read(Revision::Relay, format!("\n\t {whole} \r\n")).is_ok());
    // Where the fields stand in the order of the struct, but without names.
    let ids = format!("[{:?}]", [1; 32]);
    refused(json(Revision::Relay).submit_job_response(&ids.into()), "an array is no object");
    // Not UTF-8, also where nobody reads it.
    for at in ["{\"jobId\":\"", "{\"unknown\":\""] {
        refused(json(Revision::Relay).submit_job_response(&[at.as_bytes(), b"\xff\"}"].concat().into()), at);
    }
    for cut in 0..whole.len() {
        refused(read(Revision::Relay, &whole[..cut]), "cut short");
    }
}

#[test]
fn a_large_answer_is_never_repeated_in_an_error() {
    let large = "\u{e4}".repeat(1 << 20);
    let texts = [
        format!("{{\"jobResult\":\"{large}\"}}"),
        format!("\"{large}\""),
        large.clone(),
        record_with("nonce", &format!("\"{large}\"")),
        record_with("nonce", &format!("\"{}\"", "9".repeat(1 << 20))),
        record_with("nonce", &"9".repeat(1 << 20)),
        record_with("programId", &format!("\"{large}\"")),
        record_with("programId", &format!("[\"{large}\"]")),
        record_with("status", &format!("\"{large}\"")),
        record_with("status", &format!("{{\"retries\":\"{large}\"}}")),
        record_with("status", &format!("{{\"failureReason\":[\"{large}\"]}}")),
    ];
    for (at, text) in texts.into_iter().enumerate() {
        refused(read(Revision::Relay, text), &format!("large text {at}"));
    }
}

#[test]
fn a_large_result_is_read_in_either_form() {
    let bytes: Vec<u8> = (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let hex = relay_with("onchainInput", &format!("\"{}\"", hex::encode(&bytes))).expect("hex");
    let numbers = relay_with("onchainInput", &format!("{bytes:?}")).expect("numbers");
    assert_eq!(hex.onchain_input()[..], bytes);
    assert!(hex == numbers);
}

#[test]
fn job_ids_are_asked_for_as_numbers() {
    let body = json(Revision::State).get_result(JobId::from(B256::repeat_byte(200)));
    assert_eq!(body.to_bytes(), format!("{{\"jobId\":[{}]}}", ["200"; 32].join(",")));
    assert_eq!(body.into_chunks().count(), 1);
}
