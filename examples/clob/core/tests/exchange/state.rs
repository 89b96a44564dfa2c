//! The exchange as an app: its program against its server, and against whoever would fool it.

use std::collections::BTreeMap;

use alloy_primitives::{I256, U256};
use alloy_sol_types::SolValue;
use clob_core::{
    CHANGE_GAS, Clob, MOST_ACCOUNTS, MOST_ORDERS, MOST_OWN_ORDERS, Outcome, PAYOUT_GAS, RELAY_GAS, Settlement, Token,
    chained,
};
use infinityvm_stf::{Batch, Inputs, Reader, Root, Source, StateTransition, check::Checker, decode_stateful, replay};

use super::*;

const FROM_CHAIN: Source = Source::Chain { block: 7, log_index: 3 };

fn start() -> Checker<Clob> {
    let mut checker = Checker::new(Clob::new(CHAIN, CONTRACT)).unwrap();
    for user in 0..USERS {
        for token in [Token::Base, Token::Quote] {
            let next = deposit(checker.state().exchange().deposits().0, user, token, 1_500);
            checker.request_from(next, FROM_CHAIN).unwrap().unwrap();
        }
    }
    checker
}

/// Whatever a step asks for, for a state in which users have used these nonces.
fn request(clob: &Clob, step: &Step, place: u64) -> Option<(Request, Source)> {
    let next = |user: u8| (address(user), clob.exchange().account(&address(user)).nonce + 1);
    let (user, action) = match step {
        Step::Limit(user, buy, price, size) => (*user, limit(*user, next(*user).1, *buy, *price, *size)),
        Step::Cancel(by, back) => {
            let (user, nonce) = next(*by);
            (*by, Action::Cancel(Cancel { user, nonce, expiry: LATER, order: back % place }))
        }
        Step::Withdraw(by, base, amount) => {
            let (user, nonce) = next(*by);
            (*by, Action::Withdraw(Withdraw { user, nonce, expiry: LATER, base: *base, amount: *amount }))
        }
        Step::Deposit(user, base, amount) => {
            return Some((deposit(clob.exchange().deposits().0, *user, token(*base), *amount), FROM_CHAIN));
        }
        Step::Batch => return None,
    };
    Some((sign(action, user), Source::Request))
}

/// What the contract has: its own deposits, and what settlements add up to.
#[derive(Default)]
struct Contract {
    balances: BTreeMap<(Address, bool), I256>,
    deposits: Vec<B256>,
    paid: BTreeMap<(Address, bool), u128>,
}

impl Contract {
    fn deposit(&mut self, user: Address, base: bool, amount: u128) {
        let before = self.deposits.last().copied().unwrap_or_default();
        self.deposits.push(chained(before, user, token(base), amount));
        *self.balances.entry((user, base)).or_default() += I256::from_raw(U256::from(amount));
    }

    /// As the contract takes it: what is not right panics. Returns the gas that it may spend on it.
    fn settle(&mut self, output: &[u8]) -> u64 {
        let settlement = Settlement::abi_decode_validate(decode_stateful(output).unwrap().1).unwrap();
        assert_eq!(settlement.domain, domain(CHAIN, CONTRACT).separator());
        let counted = usize::try_from(settlement.deposits).unwrap();
        assert_eq!(settlement.depositHash, self.deposits[..counted].last().copied().unwrap_or_default());
        let gas =
            settlement.changes.len() as u64 * CHANGE_GAS + settlement.payouts.len() as u64 * PAYOUT_GAS + RELAY_GAS;
        let mut sums = [I256::ZERO; 2];
        for change in settlement.changes {
            for (base, by) in [(true, change.base), (false, change.quote)] {
                let balance = self.balances.entry((change.user, base)).or_default();
                *balance += by;
                assert!(!balance.is_negative(), "a balance below zero");
                sums[usize::from(base)] += by;
            }
        }
        for payout in settlement.payouts {
            *self.paid.entry((payout.user, payout.base)).or_default() += payout.amount;
            sums[usize::from(payout.base)] += I256::from_raw(U256::from(payout.amount));
        }
        assert_eq!(sums, [I256::ZERO; 2], "what goes is what is paid");
        gas
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whichever way requests fall into batches, the contract's balances are the exchange's totals, and the checker of the
    /// package `infinityvm-stf` finds nothing.
    #[test]
    fn server_program_and_contract_agree(steps in prop::collection::vec(step(), 1..70)) {
        let (mut checker, mut contract) = (start(), Contract::default());
        for user in 0..USERS {
            for base in [true, false] {
                contract.deposit(address(user), base, 1_500);
            }
        }
        let mut withdrawn: BTreeMap<(Address, bool), u128> = BTreeMap::new();
        let mut cost = checker.state().overhead();
        for (place, step) in (9..).zip(steps.iter().chain([&Step::Batch])) {
            let Some((request, source)) = request(checker.state(), step, place) else {
                if let Some(output) = checker.batch().unwrap() {
                    let gas = contract.settle(&output);
                    prop_assert!(gas <= cost.gas, "{} gas, and it was said that it is at most {}", gas, cost.gas);
                    cost = checker.state().overhead();
                }
                continue;
            };
            cost = cost.and(checker.state().cost(&request));
            let answer = checker.request_from(request.clone(), source).unwrap();
            match request {
                Request::Deposit { user, token, amount, .. } => contract.deposit(user, token == Token::Base, amount),
                Request::Signed(Action::Withdraw(Withdraw { user, base, amount, .. }), _) if answer == Ok(Outcome::Withdrawn) => {
                    *withdrawn.entry((user, base)).or_default() += amount;
                }
                Request::Signed(..) => {}
            }
        }
        prop_assert_eq!(contract.paid, withdrawn);
        for user in 0..USERS {
            for base in [true, false] {
                let has = checker.state().exchange().account(&address(user)).funds(token(base)).total();
                prop_assert_eq!(contract.balances[&(address(user), base)], I256::from_raw(U256::from(has)));
            }
        }
    }

    /// Whatever bytes the program takes, its root is the one to which the requests in them lead; and nothing panics.
    #[test]
    fn no_changed_input_leads_to_a_wrong_root(
        steps in prop::collection::vec(step(), 1..30),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..40),
    ) {
        let clob = start().state().clone();
        let mut after = clob.clone();
        let mut entries = Vec::new();
        for (place, step) in (9..).zip(&steps) {
            let Some((request, source)) = request(&after, step, place) else { continue };
            let context = Context { place, time: clob.exchange().last().1, source };
            after.apply(&request, &context).unwrap();
            entries.push((context, request));
        }
        let inputs = clob.inputs(&Batch { number: 1, before: clob.root(), entries });
        prop_assert_eq!(Clob::output_root(&Clob::program(&inputs).unwrap()), Some(after.root()));
        for (at, change) in changes {
            let mut offchain = inputs.offchain.clone();
            let at = at.index(offchain.len());
            offchain[at] ^= change;
            let Ok(output) = Clob::program(&Inputs { offchain: offchain.clone(), ..inputs.clone() }) else { continue };
            let mut reader = Reader::new(&offchain);
            let mut said = Clob::restore(reader.bytes().unwrap()).unwrap();
            prop_assert_eq!(said.root(), clob.root(), "the state of the root");
            let batch = Batch::decode(reader.bytes().unwrap()).unwrap();
            prop_assert_eq!(Clob::output_root(&output), Some(replay(&mut said, &batch)));
            // A domain that the root does not bind is in the output, where the contract compares it.
            let settlement = Settlement::abi_decode_validate(decode_stateful(&output).unwrap().1).unwrap();
            prop_assert_eq!(settlement.domain, said.exchange().domain().separator());
        }
        for length in (0..inputs.offchain.len()).rev().step_by(41) {
            let shorter = Inputs { offchain: inputs.offchain[..length].to_vec(), ..inputs.clone() };
            prop_assert!(Clob::program(&shorter).is_err());
        }
    }

    #[test]
    fn any_bytes_are_refused(onchain: Vec<u8>, offchain: Vec<u8>, state: Option<Vec<u8>>) {
        prop_assert!(Clob::restore(&offchain).is_err() && Clob::output_root(&offchain).is_none());
        let inputs = Inputs { onchain, offchain, state };
        prop_assert!(Clob::program(&inputs).is_err());
    }
}

/// The program itself, over a batch that a server has made up in this state.
fn run(clob: &Clob, entries: Vec<(Context, Request)>) -> Result<Root, String> {
    let batch = Batch { number: 2, before: clob.root(), entries };
    let output = Clob::program(&clob.inputs(&batch)).map_err(|error| error.to_string())?;
    Ok(Clob::output_root(&output).unwrap())
}

/// A victim sells at place 15 and time 5,000, after others whose orders waited, too; and what comes next to be carried out.
fn with_a_victim() -> (Clob, u64, u64) {
    let mut clob = start().state().clone();
    for (place, time, order, by) in
        [(14, 4_000, limit(1, 1, false, 30, 7), 1), (15, 5_000, limit(2, 1, false, 20, 700), 2)]
    {
        let outcome = clob.apply(&sign(order, by), &Context::request(place, time)).unwrap();
        assert!(matches!(outcome, Outcome::Taken { cancelled: 0, .. }));
    }
    assert_eq!(clob.exchange().last(), (15, 5_000));
    (clob, 16, 5_000)
}

const BEHIND: &str = "the batch goes back behind what was carried out";

/// Whoever signs the jobs, and has the right program, gives an accomplice's order the place of one that waits; then a cancel
/// of that number would free what another has set aside.
#[test]
fn no_order_gets_the_place_of_one_that_waits() {
    let (clob, next, time) = with_a_victim();
    let order = |place| (Context::request(place, time), sign(limit(0, 1, false, 90, 1), 0));
    let cancel = Action::Cancel(Cancel { user: address(0), nonce: 2, expiry: LATER, order: 15 });
    let ends = (Context::request(20, time), sign(cancel, 0));
    assert_eq!(run(&clob, vec![order(15), ends.clone()]), Err(BEHIND.to_owned()));
    // In a place of its own it is taken, and the cancel is refused, as the order is another's.
    let mut after = clob.clone();
    after.apply(&order(next).1, &order(next).0).unwrap();
    assert_eq!(after.apply(&ends.1, &ends.0), Ok(Outcome::Refused(Refusal::Order)));
    assert_eq!(run(&clob, vec![order(next), ends]), Ok(after.root()));
}

/// An order at an earlier place would come before all others of its price.
#[test]
fn no_order_jumps_the_queue() {
    let (clob, next, time) = with_a_victim();
    let order = |place| vec![(Context::request(place, time), sign(limit(0, 1, false, 20, 5), 0))];
    for place in [0, 1, 13, 14, 15] {
        assert_eq!(run(&clob, order(place)), Err(BEHIND.to_owned()), "place {place}");
    }
    assert!(run(&clob, order(next)).is_ok());
    // Nor within a batch: it has no encoding. What is written for it stands behind what came before.
    let first = (Context::request(next + 4, time), sign(limit(0, 1, false, 20, 5), 0));
    let second = |place| (Context::request(place, time), sign(limit(3, 1, false, 20, 5), 3));
    assert_eq!(run(&clob, vec![first.clone(), second(next)]), run(&clob, vec![first, second(next + 5)]));
}

/// What has expired is carried out by nobody who says that it is earlier.
#[test]
fn time_does_not_go_back() {
    let (clob, next, time) = with_a_victim();
    let order = Action::Limit(Limit { user: address(0), nonce: 1, expiry: time - 1, buy: false, price: 9, size: 5 });
    let at = |time| vec![(Context::request(next, time), sign(order.clone(), 0))];
    for earlier in [0, 1, time - 1] {
        assert_eq!(run(&clob, at(earlier)), Err(BEHIND.to_owned()), "time {earlier}");
    }
    // Now it is rejected, which leaves the root as it is, and the last place and time.
    assert_eq!(run(&clob, at(time)), Ok(clob.root()));
    let mut after = clob.clone();
    assert_eq!(after.apply(&at(time + 7)[0].1, &at(time + 7)[0].0), Err(Rejection::Expired));
    assert_eq!((after.root(), after.exchange().last()), (clob.root(), (next - 1, time)));
}

/// What is traded forth and back within a batch is none of the contract's business.
#[test]
fn what_cancels_out_is_not_told_to_the_contract() {
    let mut checker = start();
    let changes = |output: &[u8]| Settlement::abi_decode_validate(decode_stateful(output).unwrap().1).unwrap().changes;
    assert_eq!(changes(&checker.batch().unwrap().unwrap()), [], "deposits");
    for (user, nonce, buy) in [(0, 1, false), (1, 1, true), (1, 2, false), (0, 2, true)] {
        checker.request(sign(limit(user, nonce, buy, 10, 5), user)).unwrap().unwrap();
    }
    assert_eq!(changes(&checker.batch().unwrap().unwrap()), [], "forth and back");
    for (user, nonce, buy) in [(0, 3, false), (1, 3, true)] {
        checker.request(sign(limit(user, nonce, buy, 10, 5), user)).unwrap().unwrap();
    }
    assert_eq!(changes(&checker.batch().unwrap().unwrap()).len(), 2, "only forth");
}

/// A snapshot with other counts of what was carried out last.
fn with_counts(snapshot: &[u8], place: u64, time: u64) -> Vec<u8> {
    // Behind version, chain, contract and place.
    let (before, rest) = snapshot.split_at(1 + 8 + 20 + 8);
    [before, &place.to_be_bytes(), &time.to_be_bytes(), &rest[16..]].concat()
}

#[test]
fn a_snapshot_is_exact() {
    let mut checker = start();
    for (nonce, (user, buy, price)) in
        [(0, true, 5), (0, true, 7), (1, false, 9), (1, false, 9)].into_iter().enumerate()
    {
        let nonce = nonce as u64 % 2 + 1;
        checker.request(sign(limit(user, nonce, buy, price, 3), user)).unwrap().unwrap();
    }
    let clob = checker.state();
    let bytes = clob.snapshot();
    let again = Clob::restore(&bytes).unwrap();
    assert_eq!((again.snapshot(), again.root(), again.place()), (bytes.clone(), clob.root(), clob.place()));
    assert_eq!(again.exchange().account(&address(0)), clob.exchange().account(&address(0)), "what is locked, too");
    for length in 0..bytes.len() {
        assert!(Clob::restore(&bytes[..length]).is_err(), "{length} bytes");
    }
    let (place, time) = clob.exchange().last();
    assert_eq!(with_counts(&bytes, place, time), bytes);
    for (place, time) in [(place - 1, time), (place, time - 1)] {
        let other = Clob::restore(&with_counts(&bytes, place, time)).unwrap();
        assert_ne!(other.root(), clob.root(), "the root binds what was carried out last");
    }
    // The last two are offers at one price: the one that came first is first.
    let (order, mut swapped) = (8 + 20 + 8 + 8, bytes);
    let at = swapped.len() - 2 * order;
    let (one, two) = swapped[at..].split_at_mut(order);
    one.swap_with_slice(two);
    assert!(Clob::restore(&swapped).is_err(), "the order is part of the encoding");
}

/// The first state's root depends on nothing, so that a contract can begin with it whose address is not known yet.
#[test]
fn the_first_root_is_every_contract_s() {
    assert_eq!(Clob::new(CHAIN, CONTRACT).root(), Clob::new(1, Address::ZERO).root());
}

/// An exchange that is full gives back what it cannot count, and lets orders go that it cannot keep; and its batches are as
/// large as was said.
#[test]
fn a_full_exchange_gives_back() {
    let mut clob = Clob::new(CHAIN, CONTRACT);
    let mut place = 0;
    let mut apply = |clob: &mut Clob, request: &Request, source| {
        place += 1;
        clob.apply(request, &Context { place, time: 1, source }).unwrap()
    };
    for number in 0..MOST_ACCOUNTS as u64 {
        let user = if number == 0 { address(0) } else { Address::left_padding_from(&number.to_be_bytes()) };
        let request = Request::Deposit { number: number + 1, user, token: Token::Base, amount: 1_000_000 };
        assert_eq!(apply(&mut clob, &request, FROM_CHAIN), Outcome::Deposited);
    }
    let late = deposit(MOST_ACCOUNTS as u64, 1, Token::Base, 5);
    assert_eq!(apply(&mut clob, &late, FROM_CHAIN), Outcome::Returned);
    let again = deposit(MOST_ACCOUNTS as u64 + 1, 0, Token::Base, 5);
    assert_eq!(apply(&mut clob, &again, FROM_CHAIN), Outcome::Deposited);
    assert_eq!(clob.exchange().account(&address(1)), Default::default());
    assert_eq!(clob.exchange().clone().take_payouts(), [((address(1), Token::Base), 5)].into());
    let users: Vec<_> = clob.exchange().accounts().map(|(user, _)| *user).filter(|user| *user != address(0)).collect();
    for number in 0..MOST_ORDERS {
        let (user, nonce) = (users[number / MOST_OWN_ORDERS], (number % MOST_OWN_ORDERS) as u64 + 1);
        let price = 1_000_000 + nonce % 64;
        // Whoever repeats checks no signature.
        let order = Action::Limit(Limit { user, nonce, expiry: LATER, buy: false, price, size: 1 });
        let outcome = clob.repeat(&Request::Signed(order, [0; SIGNATURE]), number as u64 + 1_000_000, 1);
        assert_eq!(outcome, Outcome::Taken { fills: Vec::new(), resting: 1, cancelled: 0 });
    }
    let more = sign(limit(0, 1, false, 3, 1), 0);
    assert_eq!(
        clob.apply(&more, &Context::request(2_000_000, 1)),
        Ok(Outcome::Taken { fills: Vec::new(), resting: 0, cancelled: 1 })
    );
    // The checker counts places from 1.
    let clob = Clob::restore(&with_counts(&clob.snapshot(), 0, 0)).unwrap();
    assert_eq!(clob.exchange().book().len(), MOST_ORDERS);
    let mut checker = Checker::new(clob).unwrap();
    let next = sign(limit(0, 2, false, 3, 0), 0);
    assert_eq!(checker.request(next).unwrap(), Ok(Outcome::Refused(Refusal::Zero)));
    checker.batch().unwrap().unwrap();
}
