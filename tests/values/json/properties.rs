//! Any record, in any mix of forms, is what its protobuf is; anything at all is read or refused.

use std::fmt::Write;

use infinityvm_sdk::{ErrorKind, Revision, Wire, primitives::hex, rpc::Encoding};
use proptest::prelude::*;
use prost::Message;

use super::{
    json,
    plain_client::{relay, state},
    read,
};

/// How a field is written, where there is a choice.
#[derive(Clone, Debug)]
struct Style {
    choices: Vec<u8>,
    snake: bool,
    grown: bool,
}

fn style() -> impl Strategy<Value = Style> {
    (prop::collection::vec(any::<u8>(), 16), any::<bool>(), any::<bool>()).prop_map(|(choices, snake, grown)| Style {
        choices,
        snake,
        grown,
    })
}

/// Writes JSON by hand, so that it shares nothing with the crate.
struct Text {
    style: Style,
    at: usize,
    out: String,
}

impl Text {
    fn new(style: &Style) -> Self {
        Self { style: style.clone(), at: 0, out: "{".into() }
    }

    fn choice(&mut self) -> u8 {
        self.at += 1;
        self.style.choices[self.at % self.style.choices.len()]
    }

    fn field(&mut self, snake: &str, value: &str) {
        let mut name = String::new();
        let mut upper = false;
        for char in snake.chars() {
            match char {
                '_' if !self.style.snake => upper = true,
                _ if std::mem::take(&mut upper) => name.push(char.to_ascii_uppercase()),
                _ => name.push(char),
            }
        }
        let comma = if self.out == "{" { "" } else { "," };
        write!(self.out, "{comma}\"{name}\":{value}").expect("writes");
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let value = match self.choice() % 7 {
            0 => format!("{bytes:?}"),
            1 => format!("\"0x{}\"", hex::encode(bytes)),
            2 => format!("\"{}\"", hex::encode_upper(bytes)),
            3 => format!("\"{}\"", hex::encode(bytes).replace('0', "\\u0030")),
            4 if bytes.is_empty() => "null".into(),
            5 if bytes.is_empty() => return,
            _ => format!("\"{}\"", hex::encode(bytes)),
        };
        self.field(name, &value);
    }

    fn number(&mut self, name: &str, number: impl Into<i128>) {
        let number = number.into();
        let value = match self.choice() % 4 {
            0 => format!("\"{number}\""),
            1 if number == 0 => "null".into(),
            2 if number == 0 => return,
            _ => number.to_string(),
        };
        self.field(name, &value);
    }

    fn finish(mut self) -> String {
        if self.style.grown {
            self.field("added_later", "{\"deep\":[1.5,{\"id\":\"zz\"}]}");
        }
        self.out + "}"
    }
}

macro_rules! as_json {
    ($record:expr, $style:expr, |$text:ident, $job:ident| $($own:expr)?) => {{
        let mut answer = Text::new($style);
        if let Some($job) = &$record.job_result {
            let mut $text = Text::new($style);
            $text.bytes("id", &$job.id);
            $text.number("nonce", $job.nonce);
            $text.number("max_cycles", $job.max_cycles);
            $text.bytes("consumer_address", &$job.consumer_address);
            $text.bytes("program_id", &$job.program_id);
            $text.bytes("onchain_input", &$job.onchain_input);
            $text.bytes("offchain_input_hash", &$job.offchain_input_hash);
            $($own;)?
            $text.bytes("request_signature", &$job.request_signature);
            $text.bytes("result_with_metadata", &$job.result_with_metadata);
            $text.bytes("zkvm_operator_signature", &$job.zkvm_operator_signature);
            if let Some(status) = &$job.status {
                let mut inner = Text::new($style);
                inner.number("status", status.status);
                match &status.failure_reason {
                    Some(reason) => inner.field("failure_reason", &serde_json::to_string(reason).expect("text")),
                    None if $style.grown => inner.field("failure_reason", "null"),
                    None => {}
                }
                inner.number("retries", status.retries);
                let inner = inner.finish();
                $text.field("status", &inner);
            }
            $text.bytes("relay_tx_hash", &$job.relay_tx_hash);
            answer.field("job_result", &$text.finish());
        }
        answer.finish()
    }};
}

/// Bytes that mostly have the length that they must.
fn mostly(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => prop::collection::vec(any::<u8>(), len), 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..80)
}

fn status() -> impl Strategy<Value = Option<relay::JobStatus>> {
    let number = prop_oneof![4 => 0..6i32, 1 => any::<i32>()];
    let status = (number, proptest::option::of(any::<String>()), any::<u32>());
    let status =
        status.prop_map(|(status, failure_reason, retries)| relay::JobStatus { status, failure_reason, retries });
    proptest::option::weighted(0.9, status)
}

fn relay_result() -> impl Strategy<Value = relay::GetResultResponse> {
    let hash = prop_oneof![Just(Vec::new()), mostly(32)];
    let fixed = (mostly(32), any::<u64>(), any::<u64>(), mostly(20), any_bytes(), any_bytes(), mostly(32));
    (fixed, any_bytes(), any_bytes(), any_bytes(), status(), hash).prop_map(
        |(fixed, signature, result, operator, status, tx)| {
            let (id, nonce, max_cycles, consumer_address, program_id, onchain_input, offchain_input_hash) = fixed;
            let job_result = Some(relay::JobResult {
                id,
                nonce,
                max_cycles,
                consumer_address,
                program_id,
                onchain_input,
                offchain_input_hash,
                request_signature: signature,
                result_with_metadata: result,
                zkvm_operator_signature: operator,
                status,
                relay_tx_hash: tx,
            });
            relay::GetResultResponse { job_result }
        },
    )
}

fn state_result() -> impl Strategy<Value = state::GetResultResponse> {
    (relay_result(), mostly(32)).prop_map(|(record, state_hash)| {
        let job_result = record.job_result.map(|job| state::JobResult {
            id: job.id,
            nonce: job.nonce,
            max_cycles: job.max_cycles,
            consumer_address: job.consumer_address,
            program_id: job.program_id,
            onchain_input: job.onchain_input,
            offchain_input_hash: job.offchain_input_hash,
            state_hash,
            request_signature: job.request_signature,
            result_with_metadata: job.result_with_metadata,
            zkvm_operator_signature: job.zkvm_operator_signature,
            status: job.status.map(|status| state::JobStatus {
                status: status.status,
                failure_reason: status.failure_reason,
                retries: status.retries,
            }),
            relay_tx_hash: job.relay_tx_hash,
        });
        state::GetResultResponse { job_result }
    })
}

/// The same record, or the same error.
fn same(revision: Revision, protobuf: Vec<u8>, text: &str) -> Result<(), TestCaseError> {
    let expected = Wire::new(revision, Encoding::Protobuf).get_result_response(&protobuf.into());
    match (expected, read(revision, text)) {
        (Ok(expected), Ok(found)) => prop_assert!(expected == found, "{:?} but {:?}", expected, found),
        (Err(expected), Err(found)) => prop_assert_eq!(expected.to_string(), found.to_string()),
        (expected, found) => prop_assert!(false, "{:?} but {:?} of {}", expected, found, text),
    }
    Ok(())
}

/// Every decoder of both revisions and encodings: an answer or an error of the right kind.
fn reads_or_refuses(bytes: &[u8]) {
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    for revision in Revision::ALL {
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let wire = Wire::new(revision, encoding);
            let errors = [
                wire.get_result_response(&bytes).err(),
                wire.submit_job_response(&bytes).err(),
                wire.submit_program_response(&bytes).err(),
                wire.get_pending_jobs_response(&bytes).err(),
                wire.contains_program_response(&bytes).err(),
            ];
            for error in errors.into_iter().flatten() {
                assert!(matches!(error.kind(), ErrorKind::BadResponse | ErrorKind::Unsupported), "{}", error.report());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn relay_records_mean_the_same_in_json_and_protobuf(record in relay_result(), style in style()) {
        let text = as_json!(record, &style, |text, job|);
        same(Revision::Relay, record.encode_to_vec(), &text)?;
        prop_assert!(read(Revision::State, text).is_err(), "no state hash");
    }

    #[test]
    fn state_records_mean_the_same_in_json_and_protobuf(record in state_result(), style in style()) {
        let text = as_json!(record, &style, |text, job| text.bytes("state_hash", &job.state_hash));
        same(Revision::State, record.encode_to_vec(), &text)?;
        let hash = record.job_result.is_some_and(|job| !job.state_hash.is_empty());
        prop_assert!(!hash || read(Revision::Relay, text).is_err(), "a state hash");
    }

    #[test]
    fn ids_mean_the_same_in_json_and_protobuf(id in mostly(32), style in style()) {
        let protobuf = Wire::new(Revision::Relay, Encoding::Protobuf);
        let json = json(Revision::Relay);
        for name in ["job_id", "program_id"] {
            let mut text = Text::new(&style);
            text.bytes(name, &id);
            let text = text.finish().into();
            let message = relay::SubmitJobResponse { job_id: id.clone() }.encode_to_vec().into();
            if name == "job_id" {
                let (expected, found) = (protobuf.submit_job_response(&message), json.submit_job_response(&text));
                prop_assert_eq!(expected.map_err(|e| e.to_string()), found.map_err(|e| e.to_string()));
            } else {
                let (expected, found) = (protobuf.submit_program_response(&message), json.submit_program_response(&text));
                prop_assert_eq!(expected.map_err(|e| e.to_string()), found.map_err(|e| e.to_string()));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        reads_or_refuses(&bytes);
    }

    #[test]
    fn text_like_json_is_read_or_refused(text in r#"(\{|\}|\[|\]|"|,|:|null|1|-|\.|e|0x|\\|\\u00|"jobResult"|"id"|"status"|"nonce"| ){0,40}"#) {
        reads_or_refuses(text.as_bytes());
    }

    #[test]
    fn changed_records_are_read_or_refused(
        record in relay_result(),
        style in style(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let message = record.encode_to_vec();
        let text = as_json!(record, &style, |text, job|).into_bytes();
        for mut bytes in [message, text] {
            for (at, byte, change) in &changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    match change {
                        0 => bytes[at] = *byte,
                        1 => bytes.insert(at, *byte),
                        2 => drop(bytes.remove(at)),
                        _ => bytes.truncate(at),
                    }
                }
            }
            reads_or_refuses(&bytes);
        }
    }
}

/// More under `SWEEP=full`.
fn cases() -> u32 {
    if support::harness::sweep() { 10_000 } else { 256 }
}
