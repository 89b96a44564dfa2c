//! The checker finds each thing that an app does wrong, and nothing in one that does it right.

use std::cell::Cell;

use infinityvm_stf::{
    Batch, Codec, Context, Cost, DecodeError, Inputs, ProgramError, RestoreError, Root, Source, StateTransition,
    check::{Checker, Fault, Inexact, encoding},
    replay,
};

/// What the app under test does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    RejectionMoves,
    /// `apply` counts what is not in the snapshot.
    ForgottenState,
    /// `apply` asks something other than the state.
    Undetermined,
    AnswerVaries,
    SnapshotWithoutState,
    SnapshotRefused,
    CostTooLow,
    CyclesTooLow,
    ProgramFails,
    ProgramForgetsOne,
    NoRoot,
    UnsteadyInputs,
    LooseRequest,
    RequestNotTaken,
}

thread_local! {
    static WRONG: Cell<Wrong> = const { Cell::new(Wrong::Nothing) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn wrong(what: Wrong) -> bool {
    WRONG.get() == what
}

fn called() -> u64 {
    CALLS.set(CALLS.get() + 1);
    CALLS.get()
}

#[derive(Debug)]
struct Sum {
    sum: u64,
    rejected: u64,
}

#[derive(Debug, Clone, Copy)]
struct Add(u16);

impl Codec for Add {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if wrong(Wrong::RequestNotTaken) {
            return Err(DecodeError::Invalid);
        }
        let used = if wrong(Wrong::LooseRequest) { bytes.get(..2).unwrap_or(bytes) } else { bytes };
        u16::decode(used).map(Self)
    }
}

impl StateTransition for Sum {
    type Request = Add;
    type Response = u64;
    type Rejection = ();

    fn apply(&mut self, request: &Add, context: &Context) -> Result<u64, ()> {
        if request.0 == 0 || matches!(context.source, Source::Chain { block: 13, .. }) {
            self.rejected += 1;
            self.sum += u64::from(wrong(Wrong::RejectionMoves));
            return Err(());
        }
        self.sum += u64::from(request.0);
        if wrong(Wrong::ForgottenState) {
            self.sum += self.rejected;
        }
        if wrong(Wrong::Undetermined) {
            self.sum += called();
        }
        Ok(if wrong(Wrong::AnswerVaries) { called() } else { self.sum })
    }

    fn root(&self) -> Root {
        let mut root = [0; 32];
        root[24..].copy_from_slice(&self.sum.to_be_bytes());
        root
    }

    fn inputs(&self, batch: &Batch<Add>) -> Inputs {
        let onchain = if wrong(Wrong::UnsteadyInputs) { called().encoded() } else { Vec::new() };
        Inputs { onchain, offchain: batch.encode(), state: Some(self.sum.encoded()) }
    }

    fn program(inputs: &Inputs) -> Result<Vec<u8>, ProgramError> {
        if wrong(Wrong::ProgramFails) {
            return Err("it is broken".into());
        }
        let mut sum = Self { sum: u64::decode(inputs.state.as_deref().ok_or("no state")?)?, rejected: 0 };
        let mut batch = Batch::decode(&inputs.offchain)?;
        if wrong(Wrong::ProgramForgetsOne) {
            batch.entries.pop();
        }
        replay(&mut sum, &batch);
        let root = sum.root();
        Ok(if wrong(Wrong::NoRoot) { root[..31].to_vec() } else { root.to_vec() })
    }

    fn output_root(output: &[u8]) -> Option<Root> {
        output.try_into().ok()
    }

    fn cost(&self, _: &Add) -> Cost {
        let entry = if wrong(Wrong::CostTooLow) { 1 } else { Batch::<Add>::entry_size(2) };
        Cost { offchain: entry, cycles: if wrong(Wrong::CyclesTooLow) { 9 } else { 10 }, ..Cost::ZERO }
    }

    fn overhead(&self) -> Cost {
        Cost {
            onchain: 8,
            offchain: if wrong(Wrong::CostTooLow) { 0 } else { Batch::<Add>::HEADER },
            state: 8,
            ..Cost::ZERO
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        self.sum.encoded()
    }

    fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        if wrong(Wrong::SnapshotRefused) {
            return Err("not this one".into());
        }
        let sum = if wrong(Wrong::SnapshotWithoutState) { 0 } else { u64::decode(bytes)? };
        Ok(Self { sum, rejected: 0 })
    }
}

fn ten_cycles_each(inputs: &Inputs) -> u64 {
    Batch::<Add>::decode(&inputs.offchain).map_or(0, |batch| 10 * batch.entries.len() as u64)
}

/// Two batches with answers, rejections, and a request from the chain.
fn check(what: Wrong) -> Result<(), Fault> {
    WRONG.set(what);
    let mut checker = Checker::new(Sum { sum: 5, rejected: 0 })?.cycles(ten_cycles_each);
    for batch in 0..2 {
        let mut expected = checker.state().sum;
        for add in [1, 0, 500, 0, 70] {
            expected += u64::from(add);
            let answer = checker.request(Add(add))?;
            if what == Wrong::Nothing {
                assert_eq!(answer, if add == 0 { Err(()) } else { Ok(expected) });
            }
        }
        for (block, taken) in [(13, false), (12, true)] {
            let answer = checker.request_from(Add(3), Source::Chain { block, log_index: 0 })?;
            assert_eq!(answer.is_ok(), taken);
        }
        assert_eq!(checker.pending(), 7);
        let output = checker.batch()?.expect("a batch");
        if what == Wrong::Nothing {
            assert_eq!(output[24..], (5 + 574 * (batch + 1_u64)).to_be_bytes());
        }
        assert_eq!((checker.batch()?, checker.pending()), (None, 0));
    }
    Ok(())
}

#[test]
fn an_app_that_does_all_right_passes() {
    check(Wrong::Nothing).unwrap();
}

#[test]
fn each_wrong_is_found_and_named() {
    let root = |sum: u64| {
        let mut root = [0; 32];
        root[24..].copy_from_slice(&sum.to_be_bytes());
        root
    };
    let found = |what| check(what).expect_err("it is found");
    assert_eq!(found(Wrong::RejectionMoves), Fault::RejectionMoved { place: 2 });
    // The server has counted the rejections of the first batch, which the program knows nothing of.
    assert_eq!(found(Wrong::ForgottenState), Fault::Root { batch: 2, server: root(1177), program: root(1165) });
    assert_eq!(found(Wrong::AnswerVaries), Fault::NotDeterministic { place: 1 });
    assert_eq!(found(Wrong::Undetermined), Fault::Unsteady { batch: 1 });
    assert_eq!(found(Wrong::SnapshotWithoutState), Fault::Snapshot { before: root(5), after: root(0) });
    assert_eq!(found(Wrong::SnapshotRefused), Fault::Restore("not this one".into()));
    let Fault::Cost { batch: 1, said, is } = found(Wrong::CostTooLow) else { panic!("the size") };
    assert!(said.offchain == 7 && is.offchain > said.offchain, "{said:?} {is:?}");
    let Fault::Cost { batch: 1, said, is } = found(Wrong::CyclesTooLow) else { panic!("the cycles") };
    assert_eq!((said.cycles, is.cycles), (63, 70));
    assert_eq!(found(Wrong::ProgramFails), Fault::Program { batch: 1, error: "it is broken".into() });
    assert_eq!(found(Wrong::ProgramForgetsOne), Fault::Root { batch: 1, server: root(579), program: root(576) });
    assert_eq!(found(Wrong::NoRoot), Fault::NoRoot { batch: 1 });
    assert_eq!(found(Wrong::UnsteadyInputs), Fault::Unsteady { batch: 1 });
    let loose = Inexact::Another(vec![0, 1, 0]);
    assert_eq!(found(Wrong::LooseRequest), Fault::Encoding { place: 1, what: loose });
    let refused = Inexact::NotTaken(vec![0, 1]);
    assert_eq!(found(Wrong::RequestNotTaken), Fault::Encoding { place: 1, what: refused });
}

#[test]
fn encodings_of_usual_types_are_exact() {
    encoding(&String::from("näher")).unwrap();
    encoding(&vec![7_u8; 600]).unwrap();
    encoding(&true).unwrap();
    encoding(&u128::MAX).unwrap();
    encoding(&()).unwrap();
}
