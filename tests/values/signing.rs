//! Keys, signatures and recovery through the public API, against the recorded vectors, and what never shows of a key.

use std::{error::Error as _, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, hex};
use infinityvm_sdk::{
    Error, ErrorKind, JobSigner, LocalSigner, Outcome,
    job::{eip191_hash, recover_signer},
};
use serde_json::Value;
use support::canary::{CANARY, assert_hidden, canary, printed, signed};

fn cases() -> Vec<Value> {
    [include_str!("../vectors/relay.json"), include_str!("../vectors/state.json")]
        .into_iter()
        .flat_map(|text| {
            let file: Value = serde_json::from_str(text).expect("JSON");
            file["cases"].as_array().expect("a list").clone()
        })
        .collect()
}

fn text<'a>(case: &'a Value, pointer: &str) -> &'a str {
    case.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}"))
}

fn bytes(case: &Value, pointer: &str) -> Vec<u8> {
    hex::decode(text(case, pointer)).expect("hex")
}

fn account(case: &Value, pointer: &str) -> Address {
    text(case, pointer).parse().expect("an address")
}

/// Where the vectors keep the operator's part of a case.
const RESULTS: [&str; 2] = ["/result", "/expect/result"];

#[tokio::test]
async fn vectors_byte_for_byte() {
    let cases = cases();
    assert_eq!(cases.len(), 24);
    for case in &cases {
        let signer: LocalSigner = text(case, "/private_key").parse().expect("a key");
        assert_eq!(signer.address(), account(case, "/signer"));
        let request = bytes(case, "/expect/request_abi");
        assert_eq!(eip191_hash(&request), B256::from_slice(&bytes(case, "/expect/eip191_hash")));
        let signature = bytes(case, "/expect/signature");
        assert_eq!(signer.sign_message_sync(&request).as_slice(), signature);
        assert_eq!(signer.sign_message(&request).await.expect("signs"), signature);
        assert_eq!(recover_signer(&request, &signature).expect("recovers"), signer.address());

        let result = RESULTS.iter().find(|at| case.pointer(at).is_some()).expect("a result");
        let operator = LocalSigner::from_hex(text(case, &format!("{result}/operator_key"))).expect("a key");
        assert_eq!(operator.address(), account(case, &format!("{result}/operator")));
        let signed = bytes(case, &format!("{result}/result_with_metadata"));
        let signature = bytes(case, &format!("{result}/operator_signature"));
        assert_eq!(recover_signer(&signed, &signature).expect("recovers"), operator.address());
        assert_eq!(operator.sign_message_sync(&signed).as_slice(), signature);
    }
}

#[tokio::test]
async fn signers_work_behind_pointers() {
    async fn signs(signer: impl JobSigner + 'static) {
        assert_eq!(signer.address(), canary().address());
        // On another task, as the client does it.
        let signature = tokio::spawn(async move { signer.sign_message(b"message").await }).await.expect("joins");
        assert_eq!(signature.expect("signs"), signed(b"message"));
    }
    signs(canary()).await;
    signs(Box::new(canary())).await;
    signs(Arc::new(canary())).await;
    signs(Arc::new(canary()) as Arc<dyn JobSigner>).await;
    signs(Box::new(canary()) as Box<dyn JobSigner>).await;
    signs(canary().clone()).await;
    let signer = canary();
    let borrowed: &dyn JobSigner = &signer;
    assert_eq!((&borrowed).sign_message(b"").await.expect("signs"), signed(b""));
}

#[test]
fn keys_are_read_in_every_allowed_form() {
    let lower = hex::encode(CANARY);
    for text in [lower.clone(), lower.to_uppercase(), format!("0x{lower}"), format!("0x{}", lower.to_uppercase())] {
        assert_eq!(LocalSigner::from_hex(&text).expect("a key").address(), canary().address());
        assert_eq!(text.parse::<LocalSigner>().expect("a key").address(), canary().address());
    }
    assert_eq!(LocalSigner::from_slice(&CANARY).expect("a key").address(), canary().address());
}

#[test]
fn random_keys_differ_and_sign() {
    let (one, other) = (LocalSigner::random().expect("randomness"), LocalSigner::random().expect("randomness"));
    assert_ne!(one.address(), other.address());
    assert_eq!(recover_signer(b"m", &one.sign_message_sync(b"m")).expect("recovers"), one.address());
}

#[test]
fn unusable_signatures_are_refused_with_a_reason() {
    let good = canary().sign_message_sync(b"message");
    let mut zero_based = good;
    zero_based[64] -= 27;
    let mut zero_r = good;
    zero_r[..32].fill(0);
    let mut large_s = good;
    large_s[32..64].fill(0xff);
    let bad: [(&[u8], &str); 6] = [
        (&[], "not 0"),
        (&good[..63], "not 63"),
        (&[&good[..], &[0]].concat(), "not 66"),
        (&zero_based, "27 or 28"),
        (&zero_r, "r is zero"),
        (&large_s, "s is zero, or not below"),
    ];
    for (signature, reason) in bad {
        let error = recover_signer(b"message", signature).expect_err(reason);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Verification, Outcome::NotSent));
        assert!(error.source().expect("a reason").to_string().contains(reason), "{}", error.report());
    }
    assert_ne!(recover_signer(b"messagf", &good).expect("another account"), canary().address());
}

#[test]
#[should_panic(expected = "shows")]
fn the_search_finds_hex() {
    assert_hidden(&format!("Error {}", hex::encode_upper(&CANARY[20..24])), "this");
}

#[test]
#[should_panic(expected = "shows")]
fn the_search_finds_numbers() {
    assert_hidden(&format!("{:#?}", &CANARY[5..9]), "this");
}

#[test]
fn a_signer_prints_its_account_only() {
    let signer = canary();
    assert_eq!(signer.to_string(), signer.address().to_string());
    assert_eq!(format!("{signer:?}"), format!("LocalSigner({})", signer.address()));
    for text in [format!("{signer}"), format!("{signer:?}"), format!("{signer:#?}"), format!("{:?}", Some(&signer))] {
        assert_hidden(&text, "the signer");
    }
}

#[test]
fn errors_repeat_nothing_of_a_malformed_key() {
    let key = hex::encode(CANARY);
    let upper = key.to_uppercase();
    let middle = |with: &str| format!("{}{with}{}", &key[..32], &key[32 + with.chars().count()..]);
    let texts = [
        key[..63].to_owned(),
        key[1..].to_owned(),
        key[..62].to_owned(),
        key[..32].to_owned(),
        format!("0x{}", &key[..63]),
        format!("0x{}", &key[2..]),
        format!("{key}0"),
        format!("{key}00"),
        format!("0x{key}a"),
        format!("{key}{key}"),
        format!(" {key}"),
        format!("{key} "),
        format!("{key}\n"),
        format!("\t0x{key}"),
        format!("0x {key}"),
        format!("0X{key}"),
        format!("0X{}", &upper[2..]),
        format!("0x0x{key}"),
        format!("0x0X{key}"),
        format!("0x0x{}", &key[2..]),
        format!("x{}", &key[1..]),
        format!("{}x", &key[..63]),
        format!("\"{key}\""),
        format!("'{key}'"),
        format!("{key},"),
        format!("key={key}"),
        format!("PRIVATE_KEY=0x{upper}"),
        format!("{{\"key\":\"{key}\"}}"),
        middle("g"),
        middle(" "),
        middle("é"),
        middle("\0"),
        middle("-_"),
        format!("{}…", &key[..60]),
        format!("{}:{}", &key[..32], &key[32..]),
        format!("{CANARY:?}"),
        String::new(),
        "0x".to_owned(),
    ];
    for text in &texts {
        let error = LocalSigner::from_hex(text).expect_err("malformed");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.hint().expect("a hint").contains("64 hex digits"));
        assert_hidden(&printed(&error), text);
        // One text for all: not even which of the faults it was, or where.
        assert_eq!(printed(&error), printed(&text.parse::<LocalSigner>().expect_err("malformed")));
        assert_eq!(printed(&error), printed(&LocalSigner::from_hex("").expect_err("malformed")));
    }
    for slice in [&CANARY[..31], &CANARY[1..], &CANARY[..16], &[&CANARY[..], &[0]].concat(), key.as_bytes(), &[]] {
        let error = LocalSigner::from_slice(slice).expect_err("malformed");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_hidden(&printed(&error), "a slice");
    }
    // Out of range, with most of the canary in it.
    let mut large = CANARY;
    large[..16].fill(0xff);
    for result in
        [LocalSigner::from_bytes(large), LocalSigner::from_slice(&large), LocalSigner::from_hex(&hex::encode(large))]
    {
        let error = result.expect_err("not below the order");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.hint().expect("a hint").contains("order"));
        assert_hidden(&printed(&error), "a number out of range");
    }
}

#[test]
fn zero_and_the_order_are_no_keys() {
    let order = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    for bytes in [[0; 32], order, [0xff; 32]] {
        assert_eq!(LocalSigner::from_bytes(bytes).expect_err("no key").kind(), ErrorKind::InvalidInput);
        assert_eq!(LocalSigner::from_hex(&hex::encode(bytes)).expect_err("no key").kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn own_signers_may_refuse() {
    struct Refuses;

    #[async_trait::async_trait]
    impl JobSigner for Refuses {
        fn address(&self) -> Address {
            Address::ZERO
        }

        async fn sign_message(&self, _message: &[u8]) -> Result<Bytes, Error> {
            Err(Error::new(ErrorKind::Signer, "no").with_source(std::io::Error::other("locked")))
        }
    }

    let signer: Arc<dyn JobSigner> = Arc::new(Refuses);
    let error = signer.sign_message(b"").await.expect_err("refuses");
    assert_eq!(error.source().expect("the cause").to_string(), "locked");
}
