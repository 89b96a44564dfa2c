//! A key that must not show, and the search for it in all that is printed.

use std::error::Error as _;

use infinityvm_sdk::{Error, LocalSigner, primitives::hex};

/// The key that must not show. Every byte differs from its neighbours, so a part of it is told from chance.
pub const CANARY: [u8; 32] = hex!("c4a97e5d13f08b62d1e94c37a8650bf2791ed43f9c2a58b6e70d61fb834c95ae");

pub fn canary() -> LocalSigner {
    LocalSigner::from_bytes(CANARY).expect("a key")
}

/// What the key signs, to be compared with the bytes of other signers.
pub fn signed(message: &[u8]) -> Vec<u8> {
    canary().sign_message_sync(message).to_vec()
}

/// Everything an error can print.
pub fn printed(error: &Error) -> String {
    let mut all = format!("{error} {error:?} {error:#?} {} {:?} {:?}", error.report(), error.hint(), error.faults());
    let mut cause = error.source();
    while let Some(error) = cause {
        all += &format!(" {error} {error:?} {error:#?}");
        cause = error.source();
    }
    all
}

/// Looks for three neighbouring bytes of the key: in hex of either case, at either half byte, or in decimal.
pub fn assert_hidden(printed: &str, whose: &str) {
    shows_no_part(&CANARY, 3, printed, whose);
}

/// The same for a signature, or what stood in its place, of which eight bytes in a row are no chance.
pub fn hides(secret: &[u8], printed: &str, whose: &str) {
    if secret.is_ascii() && secret.len() >= 8 {
        for part in secret.windows(8) {
            let part = std::str::from_utf8(part).expect("ASCII");
            assert!(part.trim().len() < 8 || !printed.contains(part), "{whose} shows {part}: {printed}");
        }
    }
    // Nobody's zeros.
    let told: Vec<u8> = secret.iter().copied().filter(|byte| *byte != 0).collect();
    shows_no_part(&told, 8, printed, whose);
}

fn shows_no_part(secret: &[u8], bytes: usize, printed: &str, whose: &str) {
    let lower = printed.to_lowercase();
    let digits = hex::encode(secret);
    for part in digits.as_bytes().windows(2 * bytes) {
        let part = std::str::from_utf8(part).expect("ASCII");
        assert!(!lower.contains(part), "{whose} shows {part}: {printed}");
    }
    let squeezed: String = printed.split_whitespace().collect();
    for part in secret.windows(bytes) {
        let part = part.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        assert!(!squeezed.contains(&part), "{whose} shows {part}: {printed}");
    }
}
