// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {BaseJobManager} from "../src/common/BaseJobManager.sol";
import {Clob} from "../src/common/Clob.sol";
import {TestToken} from "../src/common/TestToken.sol";
import {ClobConsumer} from "../src/relay/ClobConsumer.sol";
import {StatefulAppOnchainInput, StatefulAppResult} from "../src/relay/Structs.sol";
import {vm} from "./Vm.sol";

/// A token that does not do as it says: it keeps a part, refuses to pay, says false, calls back, or
/// spends all the gas that it gets, as one can that calls whoever is paid.
contract Moody is TestToken {
    enum Mood {
        Good,
        KeepsOne,
        Refuses,
        SaysFalse,
        CallsBack,
        BurnsGas
    }

    Mood public mood;

    constructor() TestToken("Moody", "MDY", 6) {}

    function feel(Mood next) external {
        mood = next;
    }

    function transfer(address to, uint256 amount) external override returns (bool) {
        if (mood == Mood.Refuses) revert("not you");
        if (mood == Mood.SaysFalse) return false;
        if (mood == Mood.CallsBack) Clob(msg.sender).collect(true);
        if (mood == Mood.BurnsGas) assert(burn(0));
        move(msg.sender, to, amount);
        return true;
    }

    function burn(uint256 turns) private view returns (bool) {
        while (gasleft() > 0) turns++;
        return turns > 0;
    }

    function transferFrom(address from, address to, uint256 amount) external override returns (bool) {
        if (mood == Mood.CallsBack) Clob(msg.sender).deposit(from, true, 1);
        move(from, to, mood == Mood.KeepsOne ? amount - 1 : amount);
        return mood != Mood.SaysFalse;
    }
}

/// The order book's contract. The test is its job manager.
contract ClobTest {
    Moody private base;
    TestToken private quote;
    ClobConsumer private clob;
    uint64 private settled;
    bytes private program = "the program";

    address private constant ALICE = address(0xa11ce);
    address private constant BOB = address(0xb0b);

    function setUp() external {
        base = new Moody();
        quote = new TestToken("Quote", "QTE", 6);
        clob = new ClobConsumer(address(this), address(1), 0, root(0), address(base), address(quote), program);
        base.mint(address(this), 1_000_000);
        quote.mint(address(this), 1_000_000);
        base.approve(address(clob), type(uint256).max);
        quote.approve(address(clob), type(uint256).max);
    }

    /// The job manager knows by which program a job was run.
    function getJobMetadata(bytes32) external view returns (BaseJobManager.JobMetadata memory) {
        return BaseJobManager.JobMetadata(program, 1_000, address(clob), 1);
    }

    function root(uint64 number) private pure returns (bytes32) {
        return keccak256(abi.encode(number));
    }

    function settlement(uint256 changes, uint256 payouts) private view returns (Clob.Settlement memory made) {
        made.domain = clob.domainSeparator();
        made.deposits = clob.deposits();
        made.depositHash = clob.depositHash(made.deposits);
        made.changes = new Clob.Change[](changes);
        made.payouts = new Clob.Payout[](payouts);
    }

    /// The job manager brings a result.
    function bring(Clob.Settlement memory made) private {
        bytes32 job = root(settled);
        clob.setInputsForJob(job, abi.encode(StatefulAppOnchainInput(root(settled), "")), "");
        clob.receiveResult(job, abi.encode(StatefulAppResult(root(settled + 1), abi.encode(made))));
        settled++;
    }

    function refused(Clob.Settlement memory made, string memory why) private {
        bytes32 job = root(settled);
        clob.setInputsForJob(job, abi.encode(StatefulAppOnchainInput(root(settled), "")), "");
        bytes memory result = abi.encode(StatefulAppResult(root(settled + 1), abi.encode(made)));
        fails(abi.encodeCall(clob.receiveResult, (job, result)), why);
        assert(clob.getLatestStateRoot() == root(settled));
    }

    function fails(bytes memory data, string memory why) private {
        (bool works, bytes memory answer) = address(clob).call(data);
        require(!works, "was taken");
        bytes memory expected = abi.encodeWithSignature("Error(string)", why);
        require(keccak256(answer) == keccak256(expected), string(abi.encodePacked("reverted with ", answer)));
    }

    function has(address user, uint128 ofBase, uint128 ofQuote) private view {
        (uint128 inBase, uint128 inQuote) = clob.balanceOf(user);
        assert(inBase == ofBase && inQuote == ofQuote);
    }

    function test_deposits_are_held_and_hashed_in_their_order() external {
        vm.expectEmit();
        emit Clob.Deposited(1, ALICE, true, 500);
        clob.deposit(ALICE, true, 500);
        clob.deposit(BOB, false, 700);
        has(ALICE, 500, 0);
        has(BOB, 0, 700);
        assert(base.balanceOf(address(clob)) == 500 && quote.balanceOf(address(clob)) == 700);
        bytes32 first = keccak256(abi.encode(bytes32(0), ALICE, true, uint128(500)));
        assert(clob.deposits() == 2 && clob.depositHash(1) == first);
        assert(clob.depositHash(2) == keccak256(abi.encode(first, BOB, false, uint128(700))));
    }

    function test_what_does_not_arrive_is_no_deposit() external {
        fails(abi.encodeCall(clob.deposit, (ALICE, true, 0)), "Clob.deposit: nothing is deposited");
        string memory lost = "Clob.deposit: the tokens did not arrive";
        fails(abi.encodeCall(clob.deposit, (ALICE, false, 1_000_001)), lost);
        for (uint8 mood = 1; mood < 5; mood++) {
            base.feel(Moody.Mood(mood));
            // One that refuses to pay takes deposits.
            if (Moody.Mood(mood) != Moody.Mood.Refuses) {
                fails(abi.encodeCall(clob.deposit, (ALICE, true, 5)), lost);
            }
        }
        assert(clob.deposits() == 0);
        has(ALICE, 0, 0);
    }

    function test_no_more_is_taken_than_can_be_counted() external {
        base.mint(address(this), type(uint128).max);
        clob.deposit(ALICE, true, type(uint128).max - 1);
        clob.deposit(BOB, true, 1);
        (bool works,) = address(clob).call(abi.encodeCall(clob.deposit, (BOB, true, 1)));
        assert(!works && clob.deposits() == 2);
    }

    function test_trades_move_balances_and_withdrawals_are_paid() external {
        clob.deposit(ALICE, true, 500);
        clob.deposit(BOB, false, 700);
        Clob.Settlement memory made = settlement(2, 2);
        // Alice sells 10 for 70, and takes out 60 of that and 90 of what she had.
        made.changes[0] = Clob.Change(ALICE, -100, 10);
        made.changes[1] = Clob.Change(BOB, 10, -70);
        made.payouts[0] = Clob.Payout(ALICE, true, 90);
        made.payouts[1] = Clob.Payout(ALICE, false, 60);
        bring(made);
        has(ALICE, 400, 10);
        has(BOB, 10, 630);
        assert(base.balanceOf(ALICE) == 90 && quote.balanceOf(ALICE) == 60);
        (uint128 inBase, uint128 inQuote) = clob.held();
        assert(inBase == 410 && inQuote == 640);
        assert(base.balanceOf(address(clob)) == 410 && quote.balanceOf(address(clob)) == 640);
        assert(clob.counted() == 2 && clob.getLatestStateRoot() == root(1));
    }

    function test_a_result_may_count_fewer_deposits_than_there_are() external {
        clob.deposit(ALICE, true, 500);
        Clob.Settlement memory made = settlement(0, 0);
        clob.deposit(BOB, true, 5);
        bring(made);
        assert(clob.counted() == 1);
        has(BOB, 5, 0);
    }

    function test_what_is_not_held_is_not_counted() external {
        clob.deposit(ALICE, true, 500);
        string memory why = "Clob.settle: a deposit was counted that is not held";
        Clob.Settlement memory made = settlement(0, 0);
        made.deposits = 2;
        refused(made, why);
        made.depositHash = 0;
        refused(made, why);
        made.deposits = 1;
        refused(made, why);
        // Another amount.
        made.depositHash = keccak256(abi.encode(bytes32(0), ALICE, true, uint128(501)));
        refused(made, why);
    }

    function test_no_balance_is_below_zero() external {
        clob.deposit(ALICE, true, 500);
        clob.deposit(BOB, true, 500);
        Clob.Settlement memory made = settlement(2, 0);
        made.changes[0] = Clob.Change(ALICE, -501, 0);
        made.changes[1] = Clob.Change(BOB, 501, 0);
        refused(made, "Clob.settle: a balance below zero");
        made.changes[0] = Clob.Change(BOB, 501, 0);
        made.changes[1] = Clob.Change(ALICE, -501, 0);
        refused(made, "Clob.settle: a balance below zero");
        made.changes[0] = Clob.Change(BOB, int256(uint256(type(uint128).max)), 0);
        refused(made, "Clob.settle: a balance beyond all that is held");
    }

    function test_what_is_paid_is_what_users_lose() external {
        clob.deposit(ALICE, true, 500);
        string memory why = "Clob.settle: what users lose is not what is paid";
        Clob.Settlement memory made = settlement(1, 0);
        made.changes[0] = Clob.Change(ALICE, 1, 0);
        refused(made, why);
        made.changes[0] = Clob.Change(ALICE, -1, 0);
        refused(made, why);
        made = settlement(1, 1);
        made.changes[0] = Clob.Change(ALICE, -90, 0);
        made.payouts[0] = Clob.Payout(BOB, true, 91);
        refused(made, why);
        made.payouts[0] = Clob.Payout(BOB, true, 90);
        bring(made);
        assert(base.balanceOf(BOB) == 90);
    }

    function test_signatures_are_for_this_contract() external {
        Clob.Settlement memory made = settlement(0, 0);
        made.domain = keccak256("another");
        refused(made, "Clob.settle: signatures were checked for another contract");
    }

    /// Who signs the jobs also chooses their programs, and there is one for every result.
    function test_only_the_program_s_results_count() external {
        clob.deposit(ALICE, true, 500);
        Clob.Settlement memory made = settlement(1, 1);
        made.changes[0] = Clob.Change(ALICE, -500, 0);
        made.payouts[0] = Clob.Payout(BOB, true, 500);
        program = "another program";
        refused(made, "ClobConsumer: a result of another program");
        program = "";
        refused(made, "ClobConsumer: a result of another program");
        has(ALICE, 500, 0);
        assert(base.balanceOf(BOB) == 0 && clob.programHash() == keccak256("the program"));
        program = "the program";
        bring(made);
    }

    function test_only_the_job_manager_brings_results() external {
        vm.prank(ALICE);
        fails(
            abi.encodeCall(clob.receiveResult, (bytes32(0), "")),
            "Consumer.onlyJobManager: caller is not the job manager"
        );
    }

    /// One whom a token does not pay keeps nobody else's result from the chain, and is paid later.
    function test_what_a_token_refuses_is_owed() external {
        clob.deposit(ALICE, true, 500);
        for (uint8 mood = 2; mood < 5; mood++) {
            base.feel(Moody.Mood(mood));
            Clob.Settlement memory made = settlement(1, 1);
            made.changes[0] = Clob.Change(ALICE, -100, 0);
            made.payouts[0] = Clob.Payout(ALICE, true, 100);
            bring(made);
            vm.prank(ALICE);
            fails(abi.encodeCall(clob.collect, (true)), "Clob.collect: the token refuses");
        }
        has(ALICE, 200, 0);
        (uint128 due,) = clob.owed(ALICE);
        assert(due == 300 && base.balanceOf(ALICE) == 0);
        base.feel(Moody.Mood.Good);
        vm.prank(ALICE);
        clob.collect(true);
        assert(base.balanceOf(ALICE) == 300 && base.balanceOf(address(clob)) == 200);
        vm.prank(ALICE);
        fails(abi.encodeCall(clob.collect, (true)), "Clob.collect: nothing is owed");
    }

    /// What the core says of a payout and of a user whose balance changes: `PAYOUT_GAS` and `CHANGE_GAS`.
    uint256 private constant SAID = 140_000 + 10_000;

    /// One whose token spends whatever it gets keeps nobody else's result from the chain, either.
    function test_a_payment_spends_no_more_than_is_said() external {
        uint256[2] memory spent;
        base.feel(Moody.Mood.BurnsGas);
        for (uint160 turn = 0; turn < 2; turn++) {
            uint160 users = 4 + turn * 16;
            Clob.Settlement memory made = settlement(users, users);
            for (uint160 i = 0; i < users; i++) {
                address user = address((turn << 32) + i + 1);
                clob.deposit(user, true, 10);
                made.changes[i] = Clob.Change(user, -5, 0);
                made.payouts[i] = Clob.Payout(user, true, 5);
            }
            made.deposits = clob.deposits();
            made.depositHash = clob.depositHash(made.deposits);
            uint256 before = gasleft();
            bring(made);
            spent[turn] = before - gasleft();
            (uint128 due,) = clob.owed(address((turn << 32) + 1));
            assert(due == 5);
        }
        uint256 each = (spent[1] - spent[0]) / 16;
        // It was given what it wants, and spent nearly all of it.
        require(each > 100_000 && each < SAID, vm.toString(each));
        base.feel(Moody.Mood.Good);
        vm.prank(address(1));
        clob.collect(true);
        assert(base.balanceOf(address(1)) == 5);
    }

    /// Whoever brings a result, and gives it little gas, cannot have a payment fail that the token would make.
    function test_too_little_gas_fails_no_payment() external {
        clob.deposit(ALICE, true, 500);
        Clob.Settlement memory made = settlement(1, 1);
        made.changes[0] = Clob.Change(ALICE, -100, 0);
        made.payouts[0] = Clob.Payout(ALICE, true, 100);
        clob.setInputsForJob(root(0), abi.encode(StatefulAppOnchainInput(root(0), "")), "");
        bytes memory result = abi.encode(StatefulAppResult(root(1), abi.encode(made)));
        uint256 gas = 60_000;
        while (true) {
            try clob.receiveResult{gas: gas}(root(0), result) {
                break;
            } catch {
                gas += 2_000;
            }
        }
        (uint128 due,) = clob.owed(ALICE);
        assert(due == 0 && base.balanceOf(ALICE) == 100);
    }
}
