//! What the contract tells the exchange, and what it is told.

use alloy_primitives::B256;
use alloy_sol_types::{SolEvent, sol};

use crate::{accounts::Token, request::Request};

sol! {
    /// How a user's balances change.
    #[derive(Debug, PartialEq, Eq)]
    struct Change { address user; int256 base; int256 quote; }

    /// What the contract pays to a user.
    #[derive(Debug, PartialEq, Eq)]
    struct Payout { address user; bool base; uint128 amount; }

    /// What a batch tells the contract.
    #[derive(Debug, PartialEq, Eq)]
    struct Settlement {
        /// The EIP-712 separator of the domain for which signatures were checked.
        bytes32 domain;
        /// How many deposits are counted by now, and the hash of them all.
        uint64 deposits;
        bytes32 depositHash;
        /// Trades and payouts, added up for each user.
        Change[] changes;
        Payout[] payouts;
    }

    /// What the page shows of a token.
    interface Erc20 {
        function symbol() external view returns (string);
        function decimals() external view returns (uint8);
    }

    /// The exchange's contract on the chain: `contracts/src/relay/ClobConsumer.sol`.
    interface ClobContract {
        /// It holds a deposit. They are numbered from 1.
        event Deposited(uint64 indexed number, address indexed user, bool base, uint128 amount);

        /// Takes so much of a token from the caller, for a user.
        function deposit(address user, bool base, uint128 amount) external;
        /// What is traded, and what it is paid with.
        function baseToken() external view returns (address);
        function quoteToken() external view returns (address);
        /// The hash of the id of the program whose results it takes.
        function programHash() external view returns (bytes32);
        /// The block in which it was deployed.
        function since() external view returns (uint256);
        /// Through which results come.
        function getJobManager() external view returns (address);
    }
}

impl Request {
    /// The deposit that a log of the contract tells of; `None` if it is another log.
    #[must_use]
    pub fn of_log(topics: &[B256], data: &[u8]) -> Option<Self> {
        let event = ClobContract::Deposited::decode_raw_log_validate(topics.iter().copied(), data).ok()?;
        let ClobContract::Deposited { number, user, base, amount } = event;
        Some(Self::Deposit { number, user, token: if base { Token::Base } else { Token::Quote }, amount })
    }
}
