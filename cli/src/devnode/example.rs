//! The example programs, which the example consumers know. Each does the same in both revisions.

use infinityvm_sdk::{
    Revision,
    devnode::{DevNode, ProgramError, ProgramInput, ProgramOutput},
    primitives::{B256, Bytes, U256, keccak256},
};

/// A program that needs no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    /// `abi.encode(uint256 number)` → `abi.encode(uint256 number, uint256 root)`, the root rounded down.
    SquareRoot,
    /// Adds `abi.encode(uint256 amount)` to a sum. The state is `abi.encode(uint256 sum)`, and its root is the state's
    /// keccak-256. In the Relay revision the state travels as the offchain input.
    Sum,
}

impl Example {
    pub const ALL: [Self; 2] = [Self::SquareRoot, Self::Sum];

    pub fn name(self) -> &'static str {
        match self {
            Self::SquareRoot => "square-root",
            Self::Sum => "sum",
        }
    }

    /// The id that the node gives it: the keccak-256 of a sentence.
    pub fn id(self) -> Bytes {
        keccak256(format!("infinityvm example program: {}", self.name())).to_vec().into()
    }

    pub fn register(self, node: &DevNode, id: Bytes) {
        node.register_program_as(id, move |input| self.run(input));
    }

    fn run(self, input: ProgramInput<'_>) -> Result<ProgramOutput, ProgramError> {
        match self {
            Self::SquareRoot => {
                let number = word(input.onchain, "the onchain input")?;
                let output = [number.to_be_bytes::<32>(), square_root(number).to_be_bytes()].concat();
                Ok(ProgramOutput::new(output).with_cycles(1_000))
            }
            Self::Sum => {
                let (root, own) = input.stateful()?;
                // A State node hands over the state itself, which it has compared with the hash.
                let state = if input.state.is_empty() { input.offchain } else { input.state };
                let amount = word(&own, "the app's input")?;
                let sum = word(state, "the state")?;
                if keccak256(state) != root {
                    return Err(ProgramError::new("the offchain input is not the state of the signed root"));
                }
                let next = sum.checked_add(amount).ok_or_else(|| ProgramError::new("the sum is too large"))?;
                let next = next.to_be_bytes::<32>();
                Ok(ProgramOutput::stateful(keccak256(next), next.to_vec()).with_cycles(2_000))
            }
        }
    }
}

/// One ABI-encoded `uint256`.
fn word(bytes: &[u8], what: &str) -> Result<U256, ProgramError> {
    let word = B256::try_from(bytes).map_err(|_| {
        ProgramError::new(format!("{what} is {} bytes long, and should be one ABI-encoded uint256", bytes.len()))
    })?;
    Ok(word.into())
}

/// Rounded down: Newton's way, from above.
fn square_root(number: U256) -> U256 {
    if number.is_zero() {
        return number;
    }
    let mut root = U256::ONE << number.bit_len().div_ceil(2);
    loop {
        let next = (root + number / root) >> 1;
        if next >= root {
            return root;
        }
        root = next;
    }
}

/// The revision of a node for which none was named.
pub const REVISION: Revision = Revision::Relay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_rounded_down() {
        for (number, root) in
            [(0, 0), (1, 1), (2, 1), (3, 1), (4, 2), (80, 8), (81, 9), (82, 9), (u64::MAX, u64::from(u32::MAX))]
        {
            assert_eq!(square_root(U256::from(number)), U256::from(root), "{number}");
        }
        let root = square_root(U256::MAX);
        assert!(root * root <= U256::MAX && root == (U256::ONE << 128) - U256::ONE);
    }
}
