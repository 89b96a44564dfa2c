//! The chain changes its mind: between looks, and in the middle of one.

use infinityvm_sdk::{ErrorKind, Revision, Until};

use crate::{
    fake_chain::{Tx, World},
    node::{Rig, Says, pause},
};

#[tokio::test(start_paused = true)]
async fn a_block_that_is_dropped_between_looks_is_not_final() {
    let rig = Rig::new(Revision::Relay).await;
    rig.says(Says::Done(rig.first.clone()));
    let wait = rig.wait_final(3);
    let tx = rig.post(&rig.first, b"first");
    rig.chain.mine(vec![tx.clone()]);
    rig.chain.mine_empty(1);
    pause(1000).await;
    // Dropped, and the chain is longer than before.
    rig.chain.with(|world| {
        world.drop_blocks(2);
        world.mine_empty(6);
    });
    pause(3000).await;
    assert!(!wait.is_finished(), "it is on chain no more");
    let block = rig.chain.mine(vec![tx]);
    rig.chain.mine_empty(2);
    let result = wait.await.unwrap().unwrap();
    let place = result.finality().unwrap();
    assert_eq!((place.block_number, place.block_hash, place.confirmations), (block.number, block.hash, 3));
}

#[tokio::test(start_paused = true)]
async fn another_result_in_another_block_is_the_one_that_is_returned() {
    let rig = Rig::new(Revision::State).await;
    rig.says(Says::Done(rig.first.clone()));
    let wait = rig.wait_final(3);
    rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
    pause(1000).await;
    rig.chain.with(|world| {
        world.drop_blocks(1);
        world.mine(Vec::new());
        world.mine(vec![rig.post(&rig.second, b"second")]);
    });
    pause(1000).await;
    rig.chain.mine_empty(2);
    assert_eq!(wait.await.unwrap().unwrap().output()[..], *b"second");
}

/// Before each question of a look, in turn: whatever was asked before, no final comes out that is not true at the end of the look.
#[tokio::test(start_paused = true)]
async fn a_reorganisation_in_the_middle_of_a_look_never_yields_a_final() {
    type Change = fn(&mut World, &Rig);
    let changes: [(&str, Change); 4] = [
        ("dropped", |world, _| {
            world.drop_blocks(2);
            world.mine_empty(4);
        }),
        ("dropped and shorter", |world, _| drop(world.drop_blocks(2))),
        ("another result in the same place", |world, rig| {
            world.drop_blocks(2);
            world.mine(vec![rig.post(&rig.second, b"second")]);
            world.mine(Vec::new());
        }),
        ("the same in another block", |world, rig| {
            let txs: Vec<Tx> = world.drop_blocks(2);
            world.mine_empty(3);
            world.mine(txs);
            let _ = rig;
        }),
    ];
    let mut ambushed = 0;
    for shown in [false, true] {
        for (what, change) in changes {
            for question in 0..16 {
                let rig = std::sync::Arc::new(Rig::new(Revision::Relay).await);
                if shown {
                    rig.says(Says::Done(rig.first.clone()));
                }
                rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
                rig.chain.mine_empty(1);
                let inside = std::sync::Arc::clone(&rig);
                rig.chain.lock().ambush(question, Box::new(move |world| change(world, &inside)));
                let ended = rig.handle().wait(Until::Finalized { confirmations: 2 }).await;
                let world = rig.chain.lock();
                ambushed += world.counts.ambushed;
                let landed = world.answered().landed(rig.job.id().into()).filter(|landed| landed.depth >= 2);
                match (ended, landed) {
                    (Ok(result), Some(landed)) => {
                        assert_eq!(result.output()[..], landed.completion.output[..], "{what} at {question}");
                        let place = result.finality().unwrap();
                        assert_eq!((place.block_hash, place.tx_hash), (landed.block.hash, landed.tx.hash));
                        assert!(place.confirmations <= landed.depth);
                    }
                    (Err(error), None) => assert_eq!(error.kind(), ErrorKind::DeadlineExceeded),
                    (ended, landed) => panic!("{what} at {question}: {ended:?} {landed:?}"),
                }
            }
        }
    }
    assert!(ambushed > 80, "{ambushed} looks were disturbed");
}

/// There and back again while it is looked at: every block between is read, and must lead to the head.
#[tokio::test(start_paused = true)]
async fn a_branch_that_came_and_went_proves_nothing() {
    for (there, back) in (1..12).flat_map(|there| (there + 1..14).map(move |back| (there, back))) {
        let rig = std::sync::Arc::new(Rig::new(Revision::Relay).await);
        // True is the first; the second is on a branch that lasts for some questions.
        rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
        rig.chain.mine_empty(3);
        let kept = std::sync::Arc::new(std::sync::Mutex::new(None));
        {
            let (inside, keep) = (std::sync::Arc::clone(&rig), std::sync::Arc::clone(&kept));
            let mut world = rig.chain.lock();
            world.ambush(
                there,
                Box::new(move |world| {
                    *keep.lock().unwrap() = Some(world.blocks().clone());
                    world.drop_blocks(4);
                    world.mine(vec![inside.post(&inside.second, b"second")]);
                    world.mine_empty(3);
                }),
            );
            let keep = std::sync::Arc::clone(&kept);
            world.ambush(back, Box::new(move |world| world.restore(keep.lock().unwrap().take().unwrap())));
        }
        let result = rig.handle().wait(Until::Finalized { confirmations: 2 }).await.unwrap();
        let counts = rig.chain.counts();
        // It may also have ended before the way back, on the branch.
        let output = rig.chain.lock().answered().landed(rig.job.id().into()).unwrap().completion.output;
        assert_eq!(result.output()[..], output[..], "{there} {back} {counts:?}");
    }
}

/// What an earlier look has found is no verdict for whoever comes later, even if nothing more was to be asked for the others.
#[tokio::test(start_paused = true)]
async fn an_earlier_look_is_no_verdict_for_a_later_wait() {
    for shorter in [1, 2] {
        let rig = Rig::new(Revision::Relay).await;
        let patient = rig.wait_final(10);
        let tx = rig.post(&rig.first, b"first");
        rig.chain.mine_empty(2);
        rig.chain.mine(vec![tx.clone()]);
        pause(1500).await;
        let block = rig.chain.with(|world| {
            world.drop_blocks(1 + shorter);
            world.mine(vec![tx.clone()])
        });
        let result = rig.handle().wait(Until::Finalized { confirmations: 1 }).await.unwrap();
        assert_eq!(result.finality().unwrap().block_hash, block.hash);
        rig.chain.mine_empty(9);
        assert_eq!(patient.await.unwrap().unwrap().finality().unwrap().block_hash, block.hash);
    }
}
