//! Values that are written in a configuration or on a command line, and read again.

use std::{fmt::Display, str::FromStr};

use infinityvm_sdk::{
    Error, ErrorKind, Outcome, ProgramId, RelayStrategy, Revision, Severity, Until, primitives::B256,
};

fn read_as_written<T: Display + FromStr<Err = Error> + PartialEq + std::fmt::Debug>(values: &[(T, &str)]) {
    for (value, name) in values {
        assert_eq!(value.to_string(), *name);
        assert_eq!(name.parse::<T>().unwrap(), *value);
        assert_eq!(name.to_uppercase().parse::<T>().unwrap(), *value);
        for wrong in [format!("{name} "), format!("{name}x"), format!(":{name}"), String::new(), "\n".repeat(9_999)] {
            let error = wrong.parse::<T>().unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotSent), "{wrong}");
            assert!(error.hint().unwrap().contains(values[0].1), "{error:?}");
            assert!(error.to_string().len() < 1_200, "{error:?}");
        }
    }
}

#[test]
fn values_are_read_as_they_are_written() {
    read_as_written(&[(RelayStrategy::Unordered, "unordered"), (RelayStrategy::Ordered, "ordered")]);
    read_as_written(&[(Revision::State, "state"), (Revision::Relay, "relay")]);
    read_as_written(&[(Severity::Note, "note"), (Severity::Warning, "warning"), (Severity::Error, "error")]);
    read_as_written(&[
        (Outcome::NotSent, "not_sent"),
        (Outcome::Rejected, "rejected"),
        (Outcome::Unknown, "unknown"),
        (Outcome::Accepted, "accepted"),
    ]);
    let finalized = |confirmations| Until::Finalized { confirmations };
    read_as_written(&[
        (Until::Executed, "executed"),
        (Until::Relayed, "relayed"),
        (finalized(12), "finalized:12"),
        (finalized(0), "finalized:0"),
        (finalized(u64::MAX), "finalized:18446744073709551615"),
    ]);
    for wrong in ["finalized", "finalized:", "finalized:-1", "finalized:18446744073709551616", "executed:1"] {
        let error = wrong.parse::<Until>().unwrap_err();
        assert!(error.hint().unwrap().contains("`finalized:12`"), "{error:?}");
    }
}

#[test]
fn a_program_id_comes_from_what_users_hold() {
    fn id(id: impl Into<ProgramId>) -> ProgramId {
        id.into()
    }
    let wanted = ProgramId::new(vec![0xab; 32]);
    let held: &[u8; 32] = &[0xab; 32];
    let digits = "ab".repeat(32);
    for id in [
        id([0xab; 32]),
        id(held),
        id(B256::repeat_byte(0xab)),
        id(vec![0xab; 32]),
        id(bytes::Bytes::from_static(&[0xab; 32])),
        id(infinityvm_sdk::primitives::Bytes::from_static(&[0xab; 32])),
        id(&wanted),
        digits.parse().unwrap(),
        format!("0x{digits}").parse().unwrap(),
        format!("0x{}", digits.to_uppercase()).parse().unwrap(),
        wanted.to_string().parse().unwrap(),
    ] {
        assert_eq!(id, wanted);
    }
    for wrong in ["0xa", "abc", "xy", "0x0x", " ab", "ab "] {
        let error = wrong.parse::<ProgramId>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
        assert!(error.hint().is_some(), "{error:?}");
    }
}
