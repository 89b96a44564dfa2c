//! Numbers that spread callers out. Not for secrets.

/// The step of a Weyl sequence: 2^64 divided by the golden ratio.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number from 0 to 1 that looks nothing like the state it is made of (the finaliser of SplitMix64).
pub(crate) fn unit(state: u64) -> f64 {
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
}

/// A seed that differs between processes and clients.
pub(crate) fn seed() -> u64 {
    let mut seed = [0; 8];
    // Without randomness of the system's, clients of one machine still differ by where they lie in memory.
    if getrandom::fill(&mut seed).is_err() {
        seed = (std::ptr::from_ref(&seed) as usize as u64).to_le_bytes();
    }
    u64::from_le_bytes(seed)
}
