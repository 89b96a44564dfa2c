//! The exchange as an app: its program against its server, and against whoever would fool it.

use std::collections::BTreeMap;

use alloy_primitives::{I256, U256};
use alloy_sol_types::SolValue;
use clob_core::{
    CHANGE_GAS, Clob, MOST_ACCOUNTS, MOST_ORDERS, Outcome, PAYOUT_GAS, RELAY_GAS, Settlement, Token, chained,
};
use infinityvm_stf::{Batch, Inputs, Reader, Source, StateTransition, check::Checker, decode_stateful, replay};

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
            let context = Context { place, time: 5, source };
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
    for nonce in 1..=MOST_ORDERS as u64 {
        // Whoever repeats checks no signature.
        let request = Request::Signed(limit(0, nonce, false, 1_000_000 + nonce % 64, 1), [0; SIGNATURE]);
        let outcome = clob.repeat(&request, nonce + 1_000_000);
        assert_eq!(outcome, Outcome::Taken { fills: Vec::new(), resting: 1, cancelled: 0 });
    }
    let more = sign(limit(0, MOST_ORDERS as u64 + 1, false, 3, 1), 0);
    assert_eq!(
        apply(&mut clob, &more, Source::Request),
        Outcome::Taken { fills: Vec::new(), resting: 0, cancelled: 1 }
    );
    let mut checker = Checker::new(clob).unwrap();
    let next = sign(limit(0, MOST_ORDERS as u64 + 2, false, 3, 0), 0);
    assert_eq!(checker.request(next).unwrap(), Ok(Outcome::Refused(Refusal::Zero)));
    checker.batch().unwrap().unwrap();
}
