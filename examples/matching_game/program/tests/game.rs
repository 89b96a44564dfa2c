//! The game against a model that shares no code with it, and its program against whoever would fool it.

use std::collections::BTreeMap;

use alloy_primitives::{Address, keccak256};
use alloy_sol_types::SolValue;
use infinityvm_stf::{
    Batch, Context, Inputs, Reader, StateTransition, check::Checker, decode_stateful, put_bytes, replay,
};
use matching_game_program::{
    Act, Form, Game, Match, Rejection, Request, Response,
    proofs::{key_of, leaf},
};
use nomt_core::{hasher::Sha2Hasher, update::build_trie};
use proptest::prelude::*;

/// The game as its rules read: a list of who waits.
#[derive(Default)]
struct Model {
    waiting: Vec<(u64, Address)>,
    pairs: Vec<(u64, Address, Address)>,
}

impl Model {
    fn play(&mut self, request: &Request) -> Result<Response, Rejection> {
        let place = self.waiting.iter().position(|(number, _)| *number == request.number);
        let own = place.is_some_and(|place| self.waiting[place].1 == request.user);
        match request.act {
            Act::Cancel if !own => Err(Rejection::NotWaiting),
            Act::Cancel => {
                self.waiting.swap_remove(place.unwrap());
                Ok(Response::Cancelled)
            }
            Act::Submit if own => Err(Rejection::AlreadyWaiting),
            Act::Submit => match place {
                None => {
                    self.waiting.push((request.number, request.user));
                    Ok(Response::Waiting)
                }
                Some(place) => {
                    let (number, partner) = self.waiting.swap_remove(place);
                    self.pairs.push((number, partner, request.user));
                    Ok(Response::Matched { partner })
                }
            },
        }
    }

    /// The root as `nomt-core` itself builds it from nothing.
    fn root(&self, form: Form) -> [u8; 32] {
        let leaves = self.waiting.iter().map(|(number, user)| leaf(key_of(*number), *user));
        let leaves: BTreeMap<_, _> = leaves.map(|leaf| (leaf.key_path, leaf.value_hash)).collect();
        let tree = build_trie::<Sha2Hasher>(0, leaves, |_| {});
        match form {
            Form::Relay => tree,
            Form::State => *keccak256(tree),
        }
    }
}

fn request() -> impl Strategy<Value = Request> {
    // Few numbers and few users, so that they meet.
    (any::<bool>(), 0..12_u8, prop_oneof![0..40_u64, any::<u64>()]).prop_map(|(cancel, user, number)| Request {
        act: if cancel { Act::Cancel } else { Act::Submit },
        user: Address::with_last_byte(user),
        number,
    })
}

fn submit(user: u8, number: u64) -> Request {
    Request { act: Act::Submit, user: Address::with_last_byte(user), number }
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Relay), Just(Form::State)]
}

/// A game after these requests.
fn played(form: Form, requests: &[Request]) -> Game {
    let mut game = Game::new(form);
    for request in requests {
        let _ = game.apply(request, &Context::request(1, 1));
    }
    game
}

fn batch(game: &Game, requests: &[Request]) -> Batch<Request> {
    let entries = requests.iter().enumerate().map(|(place, request)| (Context::request(place as u64, 0), *request));
    Batch { number: 1, before: game.root(), entries: entries.collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Answers, roots and pairs are the model's, whichever way the requests fall into batches; and the checker finds
    /// nothing.
    #[test]
    fn server_program_and_model_agree(
        form in form(),
        batches in prop::collection::vec(prop::collection::vec(request(), 0..30), 1..6),
    ) {
        let mut model = Model::default();
        let mut checker = Checker::new(Game::new(form)).unwrap();
        for requests in batches {
            model.pairs.clear();
            for request in requests {
                prop_assert_eq!(checker.request(request).unwrap(), model.play(&request));
                prop_assert_eq!(checker.state().root(), model.root(form));
                prop_assert_eq!(checker.state().len(), model.waiting.len());
            }
            let Some(output) = checker.batch().unwrap() else { continue };
            let (root, pairs) = decode_stateful(&output).unwrap();
            prop_assert_eq!(root, model.root(form));
            let pairs: Vec<Match> = SolValue::abi_decode_validate(pairs).unwrap();
            let pairs: Vec<_> = pairs.into_iter().map(|pair| (pair.number, pair.first, pair.second)).collect();
            prop_assert_eq!(&pairs, &model.pairs);
        }
    }

    /// Whatever bytes the program takes, its root is the one to which the requests in them lead.
    #[test]
    fn no_changed_input_leads_to_a_wrong_root(
        form in form(),
        before in prop::collection::vec(request(), 0..60),
        requests in prop::collection::vec(request(), 1..12),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..40),
    ) {
        let game = played(form, &before);
        let inputs = game.inputs(&batch(&game, &requests));
        for (at, change) in changes {
            let mut offchain = inputs.offchain.clone();
            let at = at.index(offchain.len());
            offchain[at] ^= change;
            let changed = Inputs { offchain, ..inputs.clone() };
            let Ok(output) = Game::program(&changed) else { continue };
            let said = Batch::decode(Reader::new(&changed.offchain).bytes().unwrap()).unwrap();
            prop_assert_eq!(Game::output_root(&output), Some(replay(&mut played(form, &before), &said)));
        }
    }

    /// Proofs that somebody else made, or that are cut off, or longer, are not taken.
    #[test]
    fn proofs_are_of_this_state_and_whole(
        form in form(),
        before in prop::collection::vec(request(), 1..60),
        requests in prop::collection::vec(request(), 1..12),
        number in any::<u64>(),
    ) {
        let game = played(form, &before);
        let made = batch(&game, &requests);
        let inputs = game.inputs(&made);
        prop_assert!(Game::program(&inputs).is_ok());
        for length in (0..inputs.offchain.len()).rev().step_by(13) {
            let shorter = Inputs { offchain: inputs.offchain[..length].to_vec(), ..inputs.clone() };
            prop_assert!(Game::program(&shorter).is_err());
        }
        let longer = Inputs { offchain: [inputs.offchain.as_slice(), &[0]].concat(), ..inputs.clone() };
        prop_assert!(Game::program(&longer).is_err());

        // Another state's proofs, with this state's root.
        let mut other = played(form, &before);
        other.apply(&submit(200, number), &Context::request(1, 1)).unwrap();
        let mut offchain = Vec::new();
        put_bytes(&mut offchain, &made.encode());
        let theirs = other.inputs(&made).offchain;
        offchain.extend_from_slice(&theirs[offchain.len()..]);
        let mixed = Inputs { offchain: offchain.clone(), ..inputs.clone() };
        if offchain != inputs.offchain {
            prop_assert!(Game::program(&mixed).is_err());
        }
    }

    /// Bytes of any kind are inputs, snapshots and outputs of nothing, and nothing panics.
    #[test]
    fn any_bytes_are_refused(onchain: Vec<u8>, offchain: Vec<u8>, state: Option<Vec<u8>>) {
        prop_assert!(Game::restore(&offchain).is_err() || offchain.len() == 3);
        prop_assert!(Game::output_root(&offchain).is_none());
        let inputs = Inputs { onchain, offchain, state };
        prop_assert!(Game::program(&inputs).is_err());
    }
}

#[test]
fn the_two_forms_keep_what_their_contracts_compare() {
    let (relay, state) = (Game::new(Form::Relay), Game::new(Form::State));
    assert_eq!(relay.root(), [0; 32]);
    assert_eq!(state.root(), *keccak256([0; 32]));
    let requests = [submit(1, 7)];
    let (of_relay, of_state) = (relay.inputs(&batch(&relay, &requests)), state.inputs(&batch(&state, &requests)));
    assert_eq!((of_relay.onchain.len(), of_relay.state), (128, None));
    assert_eq!((of_state.onchain.len(), of_state.state.as_deref()), (0, Some(&[0; 32][..])));
}

#[test]
fn a_snapshot_is_exact() {
    let game = played(Form::Relay, &[submit(1, 7), submit(2, 3), submit(3, u64::MAX)]);
    let bytes = game.snapshot();
    assert_eq!(Game::restore(&bytes).unwrap().snapshot(), bytes);
    for length in 0..bytes.len() {
        assert!(Game::restore(&bytes[..length]).is_err(), "{length} bytes");
    }
    let mut swapped = bytes.clone();
    let (numbers, entry) = (3, 28);
    let (one, two) = swapped[numbers..].split_at_mut(entry);
    one.swap_with_slice(&mut two[..entry]);
    assert!(Game::restore(&swapped).is_err(), "the order is part of the encoding");
    let mut other = bytes;
    other[0] = 9;
    assert!(Game::restore(&other).unwrap_err().to_string().contains("version 9"));
}

/// With 20,000 who wait, a batch of 500 stays within what was said, and well below what its ways would take one by one.
#[test]
fn batches_of_a_large_state_stay_small() {
    let crowd: Vec<_> = (0..20_000).map(|number| submit(1, number)).collect();
    let mut checker = Checker::new(played(Form::Relay, &crowd)).unwrap();
    let deepest = 40;
    for number in 0..500 {
        checker.request(submit(2, number * 41)).unwrap().unwrap();
    }
    let before = played(Form::Relay, &crowd);
    let requests: Vec<_> = (0..500).map(|number| submit(2, number * 41)).collect();
    let size = before.inputs(&batch(&before, &requests)).offchain.len();
    checker.batch().unwrap().unwrap();
    assert!(size < 500 * (Request::SIZE + 4 + 87 + 12 * 32), "{size} bytes");
    assert!(before.cost(&requests[0]).offchain < 200 + 32 * deepest);
}
