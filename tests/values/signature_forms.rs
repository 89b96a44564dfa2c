//! The forms that signatures come in: what is made of each for a plain account, and what is refused, with a word why.

use std::error::Error as _;

use alloy_primitives::{Address, Bytes, hex, keccak256};
use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, JobSigner, LocalSigner, OffchainJobRequest, Outcome, ProgramId, Revision, SignedJob, UnsignedJob,
    job::{SignerKind, eip191_hash, recover_signer, signature},
};
use proptest::prelude::*;
use support::{
    canary::{CANARY, assert_hidden, canary, hides, printed, signed},
    signatures::{compact, der, high, integer, with_v},
};

/// A signer elsewhere that always returns these bytes.
struct Returns {
    address: Address,
    bytes: Vec<u8>,
    kind: SignerKind,
}

#[async_trait]
impl JobSigner for Returns {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_message(&self, _message: &[u8]) -> Result<Bytes, Error> {
        Ok(self.bytes.clone().into())
    }

    fn kind(&self) -> SignerKind {
        self.kind
    }
}

fn job(nonce: u64) -> UnsignedJob {
    let job = OffchainJobRequest::builder(Address::repeat_byte(7), ProgramId::new(vec![1])).max_cycles(1);
    job.build().expect("a job").prepare(Revision::Relay, nonce).expect("prepared")
}

async fn sign(job: &UnsignedJob, kind: SignerKind, bytes: Vec<u8>) -> Result<SignedJob, Error> {
    job.clone().sign(&Returns { address: canary().address(), bytes, kind }).await
}

#[tokio::test]
async fn an_account_signs_in_one_form_whatever_it_returns() {
    let mut parities = [0; 2];
    for nonce in 1..=32 {
        let job = job(nonce);
        let message = job.signing_bytes();
        let good = signed(message);
        let odd = good[64] - 27;
        parities[usize::from(odd)] += 1;
        let high = high(&good);
        let forms = [
            ("as it is", good.clone()),
            ("v 0 or 1", with_v(&good, odd)),
            ("the other v", with_v(&good, 28 - odd)),
            ("the other of 0 and 1", with_v(&good, 1 - odd)),
            ("v of a reduced r", with_v(&good, 29 + odd)),
            ("EIP-155 without a chain", with_v(&good, 35 + odd)),
            ("EIP-155, chain 1", with_v(&good, 37 + odd)),
            ("EIP-155, chain 10", with_v(&good, 55 + odd)),
            ("EIP-155, chain 109", with_v(&good, 253 + odd)),
            ("EIP-155, chain 137, cut to a byte", with_v(&good, 53 + odd)),
            ("v 255", with_v(&good, 255)),
            ("no v", good[..64].to_vec()),
            ("EIP-2098", compact(&good)),
            ("high s", high.clone()),
            ("high s and v 0 or 1", with_v(&high, 1 - odd)),
            ("high s and the v of the low one", with_v(&high, good[64])),
            ("high s and no v", high[..64].to_vec()),
        ];
        for (name, form) in forms {
            let job = sign(&job, SignerKind::Account, form.clone()).await.unwrap_or_else(|error| {
                panic!("{name}: {}", error.report());
            });
            assert_eq!(job.signature()[..], good, "{name}");
            assert_eq!(signature::normalize(&form, message, canary().address()).expect(name)[..], good);
        }
        for form in [der(&good), der(&high)] {
            assert_eq!(signature::from_der(&form, message, canary().address()).expect("DER")[..], good);
        }
    }
    assert!(parities.iter().all(|times| *times > 5), "{parities:?}");
}

#[tokio::test]
async fn what_is_not_the_accounts_signature_is_refused_with_a_word_why() {
    let job = job(1);
    let message = job.signing_bytes();
    let good = signed(message);
    let digits = hex::encode(&good);
    let digest = eip191_hash(message);
    let hash = alloy_signer_local::PrivateKeySigner::from_slice(&CANARY).expect("a key");
    let of_hash = |hash_of: alloy_primitives::B256| -> Vec<u8> {
        alloy_signer::SignerSync::sign_hash_sync(&hash, &hash_of).expect("signs").as_bytes().to_vec()
    };
    let stranger = LocalSigner::from_bytes([5; 32]).expect("a key");
    let mut wrong_r = good.clone();
    wrong_r[..32].fill(0);
    let mut wrong_s = good.clone();
    wrong_s[32..64].fill(0xff);
    let not_deployed = [&good[..], &[0x64, 0x92].repeat(16)].concat();
    let undeployed_wallet = [&vec![0x20; 320][..], &[0x64, 0x92].repeat(16)].concat();
    let with_prefix = |prefix: &str| format!("{prefix}{digits}").into_bytes();
    let forms: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "check the signer"),
        ("hex digits", digits.clone().into_bytes(), "decode"),
        ("0x and hex digits", with_prefix("0x"), "decode"),
        ("0X and hex digits", with_prefix("0X"), "decode"),
        ("upper case", digits.to_uppercase().into_bytes(), "decode"),
        ("a line of hex digits", format!("{digits}\r\n").into_bytes(), "decode"),
        ("hex digits in quotes", format!("\"0x{digits}\"").into_bytes(), "decode"),
        ("hex digits without v", digits.as_bytes()[..128].to_vec(), "decode"),
        ("base64", [b"MEUCIQ", &b"A7".repeat(40)[..], b"=="].concat(), "text"),
        ("a JSON object", format!("{{\"sig\":\"0x{digits}\"}}").into_bytes(), "text"),
        ("a message of the service", b"request is pending approval".to_vec(), "text"),
        ("text of 65 bytes", vec![b'a'; 65], "text"),
        ("text of 64 bytes", digits.as_bytes()[..64].to_vec(), "text"),
        ("DER", der(&good), "from_der"),
        ("DER with a high s", der(&high(&good)), "from_der"),
        ("63 bytes", good[..63].to_vec(), "65 bytes"),
        ("66 bytes", [&good[..], &[0]].concat(), "65 bytes"),
        ("v in front", [&good[64..], &good[..64]].concat(), "another message"),
        ("three words", [&good[..64], &[0; 31], &good[64..]].concat(), "65 bytes"),
        ("1 byte", vec![1], "65 bytes"),
        ("zeros", vec![0; 65], "put together"),
        ("r is zero", wrong_r, "put together"),
        ("s beyond the order", wrong_s, "put together"),
        ("another key", stranger.sign_message_sync(message).to_vec(), "the key's account"),
        ("another message", signed(b"another"), "another message"),
        ("no prefix", of_hash(keccak256(message)), "without the prefix"),
        ("the digest as a message", signed(digest.as_slice()), "the digest, as a message"),
        ("the hash as a message", signed(keccak256(message).as_slice()), "keccak-256 of the message, as a message"),
        ("the digest, hashed again", of_hash(keccak256(digest)), "hashed once more"),
        ("hex digits of the message", signed(hex::encode(message).as_bytes()), "hex digits, as text"),
        ("0x and hex digits of it", signed(hex::encode_prefixed(message).as_bytes()), "hex digits, as text"),
        ("EIP-6492", not_deployed, "deploy"),
        ("EIP-6492 of a wallet", undeployed_wallet, "deploy"),
    ];
    for (name, form, hint) in forms {
        let error = sign(&job, SignerKind::Account, form.clone()).await.expect_err(name);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{name}");
        assert!(!error.is_retryable() && error.job_id() == Some(job.id().into()), "{name}");
        assert!(error.hint().expect("what next").contains(hint), "{name}: {}", error.report());
        assert_hidden(&printed(&error), name);
        hides(&form, &printed(&error), name);
        let error = signature::normalize(&form, message, canary().address()).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Signer, "{name}");
        assert!(error.hint().is_some(), "{name}");
        hides(&form, &printed(&error), name);
        let error = signature::from_der(&form, message, canary().address());
        assert_eq!(error.is_ok(), name.starts_with("DER"), "{name}");
    }
    let error =
        sign(&job, SignerKind::Account, stranger.sign_message_sync(message).to_vec()).await.expect_err("stranger");
    assert!(error.to_string().contains(&stranger.address().to_string()), "it says who signed: {error}");
}

#[tokio::test]
async fn der_is_read_as_services_write_it_and_nothing_else_is() {
    let (message, account) = (b"message", canary().address());
    let good = signed(message);
    let read = |der: &[u8]| signature::from_der(der, message, account);
    let (r, s) = (&good[..32], &good[32..64]);
    let sequence = |parts: &[&[u8]]| {
        let content = parts.concat();
        [&[0x30, content.len() as u8], &content[..]].concat()
    };
    let raw = |number: &[u8]| [&[2, number.len() as u8], number].concat();
    let long = |number: &[u8]| [&[2, 0x81, number.len() as u8], number].concat();
    let zeros = |number: &[u8], zeros| raw(&[&vec![0; zeros][..], number].concat());
    let taken = [
        ("DER", der(&good)),
        ("without the zero that keeps it positive", sequence(&[&raw(r), &raw(s)])),
        ("more zeros", sequence(&[&zeros(r, 3), &zeros(s, 1)])),
        ("long lengths", sequence(&[&long(r), &long(s)])),
        ("a long length of the sequence", [&[0x30, 0x81][..], &der(&good)[1..]].concat()),
    ];
    for (name, form) in taken {
        assert_eq!(read(&form).unwrap_or_else(|error| panic!("{name}: {error}"))[..], good);
    }
    let whole = der(&good);
    let refused = [
        ("nothing", vec![]),
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("one byte", vec![0x30]),
        ("something behind it", [&whole[..], &[1]].concat()),
        ("one integer", sequence(&[&integer(r)])),
        ("three integers", sequence(&[&integer(r), &integer(s), &integer(&[1])])),
        ("no integers", sequence(&[])),
        ("empty integers", sequence(&[&[2, 0], &[2, 0]])),
        ("an integer of 33 bytes", sequence(&[&raw(&[&[1], r].concat()), &integer(s)])),
        ("another tag", sequence(&[&[&[3], &integer(r)[1..]].concat(), &integer(s)])),
        ("a set", [&[0x31], &whole[1..]].concat()),
        ("65 bytes", good.clone()),
        ("no length", vec![0x30, 0x80, 0, 0]),
        ("a length beyond the end", vec![0x30, 0x81, 0xff, 2, 1, 1]),
        ("another message", der(&signed(b"another"))),
        ("s and r", sequence(&[&integer(s), &integer(r)])),
        ("hex", hex::encode(&whole).into_bytes()),
        ("PEM", b"-----BEGIN SIGNATURE-----".to_vec()),
    ];
    for (name, form) in refused {
        let error = read(&form).expect_err(name);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{name}");
        assert!(error.hint().is_some(), "{name}");
        hides(&form, &printed(&error), name);
    }
    // As short as they come: r of 1, which no key makes here.
    assert!(read(&sequence(&[&[2, 1, 1], &[2, 1, 1]])).is_err());
}

#[tokio::test]
async fn a_contract_signs_in_its_own_form_but_for_what_no_consumer_takes() {
    let job = job(1);
    let good = signed(job.signing_bytes());
    let wallet = [&[0_u8; 12][..], Address::repeat_byte(9).as_slice(), &good, &good].concat();
    for form in
        [vec![0], vec![1, 2, 3], with_v(&good, 0), with_v(&good, 31), wallet, der(&good), b"a short text".to_vec()]
    {
        let signed = sign(&job, SignerKind::Contract, form.clone()).await.expect("taken as it is");
        assert_eq!(signed.signature()[..], form);
        assert_eq!(job.clone().with_signature(form.clone().into()).expect("taken").signature()[..], form);
    }
    let refused = [
        ("nothing", vec![], "empty"),
        ("EIP-6492", [&good[..], &[0x64, 0x92].repeat(16)].concat(), "not deployed"),
        ("the magic number alone", [0x64, 0x92].repeat(16), "not deployed"),
        ("hex digits", hex::encode(&good).into_bytes(), "text"),
        ("many hex digits", hex::encode_prefixed([good.clone(), good.clone()].concat()).into_bytes(), "text"),
    ];
    for (name, form, problem) in refused {
        let error = sign(&job, SignerKind::Contract, form.clone()).await.expect_err(name);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{name}");
        assert!(error.to_string().contains(problem) && error.hint().is_some(), "{name}: {}", error.report());
        // A signature made elsewhere.
        let error = job.clone().with_signature(form.clone().into()).expect_err(name);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotSent), "{name}");
        assert!(error.to_string().contains(problem) && error.hint().is_some(), "{name}: {}", error.report());
        hides(&form, &printed(&error), name);
    }
    // The magic number counts at the end only.
    let middle = [&[0x64, 0x92].repeat(16)[..], &good].concat();
    assert!(sign(&job, SignerKind::Contract, middle).await.is_ok());
}

/// The key is in the process: there is nothing to check, and no time is spent.
#[tokio::test]
async fn a_local_key_is_taken_at_its_word() {
    assert_eq!(canary().kind(), SignerKind::LocalKey);
    let returns = |kind| Returns { address: Address::ZERO, bytes: vec![], kind };
    for kind in [SignerKind::Account, SignerKind::Contract, SignerKind::LocalKey] {
        let signer: Box<dyn JobSigner> = Box::new(returns(kind));
        let borrowed: &dyn JobSigner = &&*signer;
        assert_eq!((signer.kind(), borrowed.kind()), (kind, kind));
        assert_eq!(std::sync::Arc::new(signer).kind(), kind);
    }
    let signed = job(1).sign(&canary()).await.expect("signs");
    assert_eq!(signed.recover().expect("recovers"), canary().address());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn no_bytes_panic_and_what_is_made_recovers(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..3),
        encoded in any::<bool>(),
    ) {
        let account = canary().address();
        for made in [signature::normalize(&bytes, b"m", account), signature::from_der(&bytes, b"m", account)] {
            prop_assert!(made.is_err());
        }
        let good = signed(b"m");
        let mut near = if encoded { der(&good) } else { good.clone() };
        for (at, mask) in flips {
            let at = at % near.len();
            near[at] ^= mask;
        }
        let made = [signature::normalize(&near, b"m", account), signature::from_der(&near, b"m", account)];
        for made in made.into_iter().flatten() {
            prop_assert_eq!(recover_signer(b"m", &made).unwrap(), account);
            prop_assert_eq!(&made[..], &good[..]);
        }
    }
}

#[test]
fn the_cause_of_a_refusal_is_kept() {
    let error = signature::normalize(&[0; 65], b"m", canary().address()).expect_err("zero");
    assert!(error.source().expect("the cause").to_string().contains("r is zero"));
}
