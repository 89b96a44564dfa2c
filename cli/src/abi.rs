//! Solidity values as text: what is encoded into an input.

use alloy_dyn_abi::DynSolType;
use infinityvm_sdk::primitives::Bytes;

/// `TYPE=VALUE`, such as `uint256=144` or `(uint256,string)=(144,"root")`, as `abi.encode` would encode it.
pub fn encode(typed: &str) -> Result<Bytes, String> {
    let (kind, value) = typed.split_once('=').ok_or("use abi:TYPE=VALUE, such as abi:uint256=144")?;
    let kind = DynSolType::parse(kind).map_err(|error| format!("{kind:?} is no Solidity type: {error}"))?;
    let value = kind.coerce_str(value).map_err(|error| format!("{value:?} is no {kind}: {error}"))?;
    Ok(value.abi_encode().into())
}

#[cfg(test)]
mod tests {
    use infinityvm_sdk::primitives::{SolValue, U256};

    use super::*;

    #[test]
    fn values_are_encoded_as_solidity_does() {
        assert_eq!(encode("uint256=144").unwrap(), U256::from(144).abi_encode());
        let pair = (U256::from(144), "root".to_owned());
        assert_eq!(encode("(uint256,string)=(144,\"root\")").unwrap(), pair.abi_encode());
        for wrong in ["uint256", "uint257=1", "uint8=256", "=", "(uint256=1"] {
            assert!(encode(wrong).is_err(), "{wrong}");
        }
    }
}
