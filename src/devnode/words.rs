//! Why a call of a contract failed, in the words of alloy, through which real nodes make it.

/// Of a call to an address without code.
pub(super) const NO_DATA: &str =
    "contract call to `getNextNonce` returned no data (\"0x\"); the called address might not be a contract";
/// Of an RPC that does not answer, at the address that chains for development have.
pub(super) const RPC_DOWN: &str = "error sending request for url (http://127.0.0.1:8545/)";
/// Of `maxNonce() + 1` where there is no number left: Solidity's panic 0x11.
pub(super) const OVERFLOW: &str = "server returned an error response: error code 3: execution reverted: panic: \
     arithmetic underflow or overflow (0x11), data: \"0x4e487b710000000000000000000000000000000000000000000000000000000000000011\"";
