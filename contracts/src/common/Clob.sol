// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

interface ERC20 {
    function balanceOf(address owner) external view returns (uint256);
}

/// What the order book keeps on chain: deposits, and everybody's balances of two tokens. Trades come as sums for each user.
///
/// It believes a result only as far as it must. A result counts exactly the deposits that are here, by a hash of them all;
/// its signatures were checked for this contract; what it takes from users is what it pays out; and nobody's balance is
/// below zero.
abstract contract Clob {
    /// How a user's balances change.
    struct Change {
        address user;
        int256 base;
        int256 quote;
    }

    struct Payout {
        address user;
        bool base;
        uint128 amount;
    }

    struct Settlement {
        bytes32 domain;
        uint64 deposits;
        bytes32 depositHash;
        Change[] changes;
        Payout[] payouts;
    }

    /// One slot, so that a change costs one.
    struct Balance {
        uint128 base;
        uint128 quote;
    }

    event Deposited(uint64 indexed number, address indexed user, bool base, uint128 amount);
    event Settled(uint64 deposits, uint256 changes, uint256 payouts);
    event Paid(address indexed user, bool base, uint128 amount);
    /// The token refused the payment: it waits for `collect`.
    event Owed(address indexed user, bool base, uint128 amount);

    /// What a token may spend on a payment by a result: it may call whoever is paid, who would spend all there is. If a
    /// transaction has less than that, the 64th part that a call leaves is too little to go on: no payment fails by that.
    uint256 private constant PAY_GAS = 100_000;

    address public immutable baseToken;
    address public immutable quoteToken;
    /// The block in which this was deployed: no deposit is older.
    uint256 public immutable since = block.number;
    /// The EIP-712 separator of what users sign.
    bytes32 public immutable domainSeparator;
    /// How many deposits there were.
    uint64 public deposits;
    /// How many of them results have counted.
    uint64 public counted;
    /// The hash of all deposits up to each: keccak256(abi.encode(the one before, user, base, amount)).
    mapping(uint64 number => bytes32) public depositHash;
    /// Everybody's balances. Deposits count at once, trades and withdrawals with their result.
    mapping(address user => Balance) public balanceOf;
    /// The sum of all balances.
    Balance public held;
    /// What a token refused to pay.
    mapping(address user => Balance) public owed;
    bool private entered;

    modifier once() {
        require(!entered, "Clob.once: called from within a call");
        entered = true;
        _;
        entered = false;
    }

    constructor(address base, address quote) {
        require(base != quote && base.code.length > 0 && quote.code.length > 0, "Clob: two tokens are needed");
        baseToken = base;
        quoteToken = quote;
        domainSeparator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("InfinityVM CLOB"),
                keccak256("1"),
                block.chainid,
                address(this)
            )
        );
    }

    /// Takes the caller's tokens, and counts them for a user. A token that brings less than it says is refused.
    function deposit(address user, bool base, uint128 amount) external once {
        require(amount > 0, "Clob.deposit: nothing is deposited");
        ERC20 token = ERC20(base ? baseToken : quoteToken);
        uint256 before = token.balanceOf(address(this));
        bool done = tryCall(
            address(token),
            gasleft(),
            abi.encodeWithSignature("transferFrom(address,address,uint256)", msg.sender, address(this), amount)
        );
        require(done && token.balanceOf(address(this)) == before + amount, "Clob.deposit: the tokens did not arrive");
        // The sum first: no balance is larger than it.
        if (base) {
            held.base += amount;
            balanceOf[user].base += amount;
        } else {
            held.quote += amount;
            balanceOf[user].quote += amount;
        }
        uint64 number = ++deposits;
        depositHash[number] = keccak256(abi.encode(depositHash[number - 1], user, base, amount));
        emit Deposited(number, user, base, amount);
    }

    /// Pays the caller what their token refused to take before.
    function collect(bool base) external once {
        Balance storage due = owed[msg.sender];
        uint128 amount = base ? due.base : due.quote;
        require(amount > 0, "Clob.collect: nothing is owed");
        if (base) due.base = 0;
        else due.quote = 0;
        require(pay(msg.sender, base, amount, gasleft()), "Clob.collect: the token refuses");
        emit Paid(msg.sender, base, amount);
    }

    /// `result` is `abi.encode(Settlement)`.
    function settle(bytes memory result) internal once {
        Settlement memory made = abi.decode(result, (Settlement));
        require(made.domain == domainSeparator, "Clob.settle: signatures were checked for another contract");
        require(
            made.deposits <= deposits && made.depositHash == depositHash[made.deposits],
            "Clob.settle: a deposit was counted that is not held"
        );
        counted = made.deposits;
        int256 base;
        int256 quote;
        for (uint256 i = 0; i < made.changes.length; i++) {
            Change memory change = made.changes[i];
            Balance storage balance = balanceOf[change.user];
            balance.base = moved(balance.base, change.base);
            balance.quote = moved(balance.quote, change.quote);
            base += change.base;
            quote += change.quote;
        }
        for (uint256 i = 0; i < made.payouts.length; i++) {
            Payout memory payout = made.payouts[i];
            if (payout.base) {
                base += int256(uint256(payout.amount));
                held.base -= payout.amount;
            } else {
                quote += int256(uint256(payout.amount));
                held.quote -= payout.amount;
            }
        }
        require(base == 0 && quote == 0, "Clob.settle: what users lose is not what is paid");
        emit Settled(made.deposits, made.changes.length, made.payouts.length);
        // Tokens are called last.
        for (uint256 i = 0; i < made.payouts.length; i++) {
            Payout memory payout = made.payouts[i];
            if (pay(payout.user, payout.base, payout.amount, PAY_GAS)) {
                emit Paid(payout.user, payout.base, payout.amount);
                continue;
            }
            // One whom the token does not pay must not keep everybody else's results from the chain.
            if (payout.base) owed[payout.user].base += payout.amount;
            else owed[payout.user].quote += payout.amount;
            emit Owed(payout.user, payout.base, payout.amount);
        }
    }

    function moved(uint128 balance, int256 by) private pure returns (uint128) {
        int256 next = int256(uint256(balance)) + by;
        require(next >= 0, "Clob.settle: a balance below zero");
        require(next <= int256(uint256(type(uint128).max)), "Clob.settle: a balance beyond all that is held");
        return uint128(uint256(next));
    }

    function pay(address user, bool base, uint128 amount, uint256 most) private returns (bool) {
        return tryCall(
            base ? baseToken : quoteToken,
            most,
            abi.encodeWithSignature("transfer(address,uint256)", user, amount)
        );
    }

    /// Whether it did not revert, and returned true or nothing, as older tokens do. More than a word is not even copied.
    function tryCall(address token, uint256 most, bytes memory data) private returns (bool done) {
        uint256 size;
        uint256 word;
        assembly ("memory-safe") {
            done := call(most, token, 0, add(data, 32), mload(data), 0, 32)
            size := returndatasize()
            word := mload(0)
        }
        return done && (size == 0 || (size == 32 && word == 1));
    }
}
