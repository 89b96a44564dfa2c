//! The library's advice in this program's words. Its hints name functions and setters, which nobody can call from a
//! shell: each is a command or an option here.

use serde::Serialize;
use serde_json::Value;

/// What the library says, and what it is here. A name is replaced where it stands alone. Longer texts come first.
pub const WORDS: &[(&str, &str)] = &[
    ("ClientBuilder::transport(GrpcTransport::builder(url).allow_plaintext().build()?)", "`--allow-plaintext`"),
    ("ClientBuilder::transport(RestTransport::builder(url).allow_plaintext().build()?)", "`--allow-plaintext`"),
    ("RpcReader::builder(url).allow_plaintext().connect()", "`--allow-plaintext`"),
    ("GrpcTransport::builder(url).header(name, value)", "`--header 'authorization: @FILE'`"),
    ("RestTransport::builder(url).header(name, value)", "`--header 'authorization: @FILE'`"),
    (
        "send them with RpcReader::builder(url).header(name, value)",
        "send them with `--rpc-headers 'authorization: @FILE'`",
    ),
    ("by header() on RpcReader::builder(url)", "with `--rpc-headers 'authorization: @FILE'`"),
    ("try again, or set a longer timeout() on RpcReader::builder(url)", "try again"),
    ("ask for less at once: max_batch() on RpcReader::builder(url)", "take another RPC, which answers more at once"),
    ("make a client with the node's revision, or without ClientBuilder::revision, and sign", "sign"),
    ("sign the job with that one", "sign the job anew, with `--revision` of the node's"),
    ("make a client with that one, and sign the job with it", "sign the job anew, with `--revision` of that one"),
    ("the text that DevNode::save returned", "the file that `ivm devnode --state` has written"),
    ("header() takes", "`--header` takes"),
    ("Client::diagnose", "`ivm job diagnose`"),
    ("Client::get_result", "`ivm job get`"),
    ("Client::post_result", "`ivm job post`"),
    ("Client::replace", "`ivm job replace`"),
    ("Client::resume", "resume (`ivm job wait`)"),
    ("Client::sign", "`ivm job sign`"),
    ("Client::submit", "`ivm job submit`"),
    ("Client::submit_program", "`ivm program upload`"),
    ("Client::submit_signed", "`ivm job send`"),
    ("submit_signed", "`ivm job send`"),
    ("Client::unresolved", "the signed job's file"),
    ("ClientBuilder::chain", "`--rpc-url` and `--job-manager`"),
    ("ClientBuilder::grpc, ClientBuilder::rest or ClientBuilder::transport", "`--node`"),
    ("ClientBuilder::operator", "`--operator`"),
    ("ClientBuilder::revision", "`--revision`"),
    ("ClientBuilder::signer", "`--private-key-file`, or another option for keys"),
    ("JobHandle::diagnose", "`ivm job diagnose`"),
    ("JobHandle::post_result", "`ivm job post`"),
    ("OffchainJobRequest::prepare", "`ivm job sign`"),
    ("OffchainJobRequestBuilder::nonce", "`--nonce`"),
    ("ProgramUpload::with_id", "`--id`"),
    ("ProgramUpload::risc0", "`--vm risc0`"),
    ("RpcPoster::with_max_fee", "`--max-fee`"),
    ("Until::Executed", "`executed`"),
    ("Until::Relayed", "`relayed`"),
    ("`stateful_onchain_input(root, input)`", "`--state-root`"),
    ("`onchain_input`", "`--onchain-input`"),
    ("`offchain_input`", "`--offchain-input`"),
    ("`max_cycles`", "`--max-cycles`"),
    ("`nonce`", "`--nonce`"),
    ("`relay`", "`--relay`"),
    ("`state`", "`--state`"),
    ("`with_id`", "`--id`"),
];

/// The text, with the names of commands and options.
pub fn of_commands(text: &str) -> String {
    WORDS.iter().fold(text.to_owned(), |text, (name, here)| replaced(&text, name, here))
}

/// The same for every text of a document.
pub fn of_json(value: &impl Serialize) -> Value {
    // What cannot be written as JSON is told of by whoever prints it.
    let mut value = serde_json::to_value(value).unwrap_or_default();
    translate(&mut value);
    value
}

fn translate(value: &mut Value) {
    match value {
        Value::String(text) => *text = of_commands(text),
        Value::Array(values) => values.iter_mut().for_each(translate),
        Value::Object(fields) => fields.values_mut().for_each(translate),
        _ => {}
    }
}

/// Replaces the name wherever it is no part of a longer one.
fn replaced(text: &str, name: &str, here: &str) -> String {
    let belongs = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || "_:".contains(letter));
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        // A colon after a name is of the sentence, unless there are two.
        let goes_on = belongs(after.chars().next().filter(|letter| *letter != ':')) || after.starts_with("::");
        let is_part = name.starts_with(char::is_alphanumeric) && belongs(before.chars().next_back()) || goes_on;
        done.push_str(before);
        done.push_str(if is_part { name } else { here });
        rest = after;
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_commands() {
        for (text, here) in [
            (
                "send it with Client::submit_signed: it is in Client::unresolved",
                "send it with `ivm job send`: it is in the signed job's file",
            ),
            ("submit it with submit_signed, or Client::submit.", "submit it with `ivm job send`, or `ivm job submit`."),
            ("state it with ClientBuilder::revision; or", "state it with `--revision`; or"),
            ("leave out `state`", "leave out `--state`"),
            (
                "MyClient::submit and Client::submitted and Client::submit::x",
                "MyClient::submit and Client::submitted and Client::submit::x",
            ),
            ("", ""),
        ] {
            assert_eq!(of_commands(text), here);
        }
    }
}
