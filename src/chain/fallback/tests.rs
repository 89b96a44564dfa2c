//! Scripted RPCs that lag, lie, fail, hang, flap and recover, under a clock that stands.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{
    backoff::Random,
    chain::{Answer, At, Block, Call, Chain, ChainReader, OneRpc, Question, WhyLeft},
    error::{Error, ErrorKind, Result},
    retry::RetryPolicy,
};

const CHAIN: u64 = 8453;
/// Between two blocks of the chain.
const BLOCK: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Works,
    /// So many blocks behind.
    Lags(u64),
    /// Its head stands still.
    Stuck(u64),
    Fails,
    Hangs,
    /// It is on a chain with this id.
    Lies(u64),
    /// It answers, and has no state to tell of.
    Useless,
}

/// A chain that grows by the clock, and an RPC of it.
#[derive(Clone, Debug)]
struct Scripted(Arc<Script>);

#[derive(Debug)]
struct Script {
    index: u8,
    begun: Instant,
    /// So long an answer takes.
    delay: Duration,
    mode: Mutex<(Mode, u64)>,
    /// How often it was asked.
    asked: Mutex<usize>,
}

fn block(number: u64, fork: u64) -> Block {
    let hash =
        |number: u64| keccak256([number.to_be_bytes(), (if number > 0 { fork } else { 0 }).to_be_bytes()].concat());
    Block::new(number, hash(number), hash(number.wrapping_sub(1)), 1_700_000_000 + number * BLOCK.as_secs())
}

impl Scripted {
    fn all<const N: usize>() -> [Self; N] {
        let begun = Instant::now();
        std::array::from_fn(|index| {
            let (mode, asked) = (Mutex::new((Mode::Works, 0)), Mutex::default());
            Self(Arc::new(Script { index: index as u8, begun, delay: Duration::from_millis(20), mode, asked }))
        })
    }

    fn set(&self, mode: Mode) {
        self.0.mode.lock().unwrap().0 = mode;
    }

    /// The chain has other blocks from now on, and is shorter by so many.
    fn reorganise(&self, shorter: u64) {
        self.0.mode.lock().unwrap().1 += shorter;
    }

    fn mode(&self) -> Mode {
        self.0.mode.lock().unwrap().0
    }

    fn asked(&self) -> usize {
        *self.0.asked.lock().unwrap()
    }

    /// The number of the chain's latest block, and of the one that it shows.
    fn height(&self) -> (u64, u64) {
        let best = 1_000 + (self.0.begun.elapsed().as_secs() / BLOCK.as_secs());
        let (mode, shorter) = *self.0.mode.lock().unwrap();
        let shown = match mode {
            Mode::Lags(blocks) => best - blocks,
            Mode::Stuck(at) => at.min(best),
            Mode::Lies(_) => best + 1_000_000,
            _ => best,
        };
        (best, shown - shorter)
    }

    fn answer(&self, question: &Question) -> Result<Answer> {
        let (mode, shorter) = *self.0.mode.lock().unwrap();
        let (head, fork) = (self.height().1, if let Mode::Lies(id) = mode { id } else { shorter });
        let at = |at: At| match at {
            At::Latest | At::Finalized => Some(block(head, fork)),
            At::Number(number) => (number <= head).then(|| block(number, fork)),
            At::Hash(hash) => {
                (head.saturating_sub(130)..=head).rev().map(|number| block(number, fork)).find(|it| it.hash == hash)
            }
        };
        Ok(match question {
            Question::ChainId => Answer::ChainId(if let Mode::Lies(id) = mode { id } else { CHAIN }),
            Question::Block(wanted) => Answer::Block(at(*wanted)),
            _ if mode == Mode::Useless => return Err(busy("the state is not available")),
            Question::Call(_, wanted) => match at(*wanted) {
                Some(block) => Answer::Returned(said(self.0.index, mode, block.number)),
                None => return Err(busy("header not found")),
            },
            other => panic!("{other:?}"),
        })
    }
}

/// What its contracts say: who it is, whether it is a lie, and the block.
fn said(index: u8, mode: Mode, number: u64) -> Bytes {
    let mut said = vec![index, u8::from(matches!(mode, Mode::Lies(_)))];
    said.extend(number.to_be_bytes());
    said.into()
}

fn busy(what: &'static str) -> Error {
    Error::new(ErrorKind::Chain, what).with_retryable(true)
}

#[async_trait]
impl ChainReader for Scripted {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        *self.0.asked.lock().unwrap() += 1;
        sleep(self.0.delay).await;
        match self.mode() {
            Mode::Fails => Err(busy("connection refused")),
            Mode::Hangs => {
                sleep(Duration::from_secs(10)).await;
                Err(busy("no answer in time"))
            }
            _ => Ok(questions.iter().map(|question| self.answer(question)).collect()),
        }
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        loop {
            sleep(self.0.delay).await;
            match self.mode() {
                Mode::Fails => return Err(busy("connection refused")),
                Mode::Hangs => {}
                _ => match self.answer(&Question::Block(At::Latest))? {
                    Answer::Block(Some(head)) if known != Some(head.hash) => return Ok(head),
                    _ => {}
                },
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    fn endpoint(&self) -> &str {
        ["https://first.example", "https://second.example", "https://third.example"][usize::from(self.0.index)]
    }
}

fn chain(rpcs: &[Scripted]) -> Chain {
    Chain::over_any(rpcs.to_vec(), Address::ZERO).unwrap()
}

/// What a verdict of three looks has read.
#[derive(Debug)]
struct Seen {
    by: u8,
    lie: bool,
    /// The block that it is about.
    head: u64,
}

/// A verdict that takes some time: a first look, and two more.
async fn verdict(chain: &Chain, pause: Duration) -> Result<Seen> {
    let ask = |batch: &mut crate::chain::Batch| batch.raw_call(Call::new(Address::ZERO, Bytes::new()));
    let read = |one: OneRpc| async move {
        let first = one.at_latest(ask).await?;
        let (mut head, mut tip, mut looks) = (first.head, first.tip, vec![(first.asked, first.answers)]);
        for _ in 0..2 {
            sleep(pause).await;
            let again = one.again(tip, ask).await?;
            (head, tip) = (again.head, again.tip);
            looks.push((again.asked, again.answers));
        }
        let mut all = Vec::new();
        for (ticket, mut answers) in looks {
            all.push(answers.take(ticket)?.unwrap());
        }
        assert!(all.iter().all(|said| said[..2] == all[0][..2]), "of one RPC from beginning to end: {all:?}");
        let number = u64::from_be_bytes(all[2][2..].try_into().unwrap());
        assert_eq!(number, head.number);
        Ok(Seen { by: all[0][0], lie: all[0][1] != 0, head: number })
    };
    chain.verdict(read).await
}

async fn by(chain: &Chain) -> Result<u8> {
    verdict(chain, Duration::ZERO).await.map(|seen| seen.by)
}

fn why(chain: &Chain, index: usize) -> Option<WhyLeft> {
    chain.rpcs()[index].left.as_ref().map(|left| left.why)
}

#[tokio::test(start_paused = true)]
async fn the_first_that_works_is_read_and_one_that_fails_is_left_for_longer_and_longer() {
    let rpcs = Scripted::all::<3>();
    let chain = chain(&rpcs);
    assert_eq!(by(&chain).await.unwrap(), 0);
    rpcs[0].set(Mode::Fails);
    let before = rpcs[0].asked();
    for _ in 0..600 {
        assert_eq!(by(&chain).await.unwrap(), 1);
        sleep(Duration::from_secs(1)).await;
    }
    // The holds double up to a minute.
    let tries = rpcs[0].asked() - before;
    assert!((10..40).contains(&tries), "{tries} tries in ten minutes");
    assert_eq!(why(&chain, 0), Some(WhyLeft::Failed));
    let left = chain.rpcs().remove(0).left.unwrap();
    assert!(left.error.to_string().contains("connection refused") && left.pause <= Duration::from_secs(60));
    // It is back: read again, if nobody waits for that.
    rpcs[0].set(Mode::Works);
    let mut readers = BTreeMap::new();
    for _ in 0..120 {
        *readers.entry(by(&chain).await.unwrap()).or_insert(0) += 1;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(why(&chain, 0).is_none() && chain.rpcs()[0].in_use, "{:?}", chain.rpcs());
    assert!(readers.keys().eq(&[0, 1]), "{readers:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_holds_up_each_reader_once_and_for_three_seconds() {
    let rpcs = Scripted::all::<2>();
    let chain = chain(&rpcs);
    assert_eq!(by(&chain).await.unwrap(), 0);
    rpcs[0].set(Mode::Hangs);
    let begun = Instant::now();
    let together = (0..20).map(|_| {
        let chain = chain.clone();
        tokio::spawn(async move { by(&chain).await })
    });
    for reading in together.collect::<Vec<_>>() {
        assert_eq!(reading.await.unwrap().unwrap(), 1);
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(by(&chain).await.unwrap(), 1);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Whoever gives up sooner leaves a sign, too.
    let rpcs = Scripted::all::<2>();
    let chain = self::chain(&rpcs);
    assert_eq!(by(&chain).await.unwrap(), 0);
    rpcs[0].set(Mode::Hangs);
    assert!(tokio::time::timeout(Duration::from_secs(2), by(&chain)).await.is_err());
    assert_eq!(by(&chain).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_on_another_chain_is_left_out_with_a_reason() {
    let rpcs = Scripted::all::<3>();
    rpcs[0].set(Mode::Lies(1));
    let chain = chain(&rpcs);
    for _ in 0..100 {
        assert_eq!(by(&chain).await.unwrap(), 1);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(why(&chain, 0), Some(WhyLeft::WrongChain { chain_id: 1 }));
    let left = chain.rpcs().remove(0).left.unwrap();
    assert_eq!(left.error.kind(), ErrorKind::WrongChain);
    // One that turns is noticed with its next answer.
    rpcs[1].set(Mode::Lies(5));
    for _ in 0..100 {
        assert_eq!(by(&chain).await.unwrap(), 2);
    }
    assert_eq!(why(&chain, 1), Some(WhyLeft::WrongChain { chain_id: 5 }));
    rpcs[2].set(Mode::Lies(6));
    let error = by(&chain).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::WrongChain, false), "{error:?}");
    assert_eq!(chain.next_nonce(Address::ZERO).await.unwrap_err().kind(), ErrorKind::WrongChain);
    assert_eq!(chain.reader().next_head(None).await.unwrap_err().kind(), ErrorKind::WrongChain);
    // And all the same it is looked at again.
    rpcs.iter().for_each(|rpc| rpc.set(Mode::Works));
    let mut read = Vec::new();
    for _ in 0..1_200 {
        read.extend(by(&chain).await.ok());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(read.last(), Some(&0));
}

#[tokio::test(start_paused = true)]
async fn where_the_rpcs_are_divided_the_chain_that_is_meant_must_be_said() {
    let rpcs = Scripted::all::<2>();
    rpcs[0].set(Mode::Lies(1));
    let divided = chain(&rpcs);
    let error = by(&divided).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongChain);
    let report = error.report().to_string();
    for said in ["first.example is on chain 1", "second.example is on chain 8453", "Chain::with_chain_id"] {
        assert!(report.contains(said), "{report}");
    }
    assert_eq!(by(&divided.clone().with_chain_id(CHAIN)).await.unwrap(), 1);
    assert_eq!(by(&chain(&rpcs).with_chain_id(1)).await.unwrap(), 0);
    let error = by(&chain(&rpcs).with_chain_id(7)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongChain);
    // Of an only one, too.
    let only = Chain::new(rpcs[0].clone(), Address::ZERO);
    assert_eq!(by(&only).await.unwrap(), 0);
    assert_eq!(by(&only.with_chain_id(CHAIN)).await.unwrap_err().kind(), ErrorKind::WrongChain);
    // The first that answers is no majority as long as the others may speak.
    let rpcs = Scripted::all::<3>();
    rpcs[0].set(Mode::Lies(1));
    rpcs[1].set(Mode::Fails);
    assert_eq!(by(&chain(&rpcs)).await.unwrap_err().kind(), ErrorKind::WrongChain);
    rpcs[1].set(Mode::Works);
    assert_eq!(by(&chain(&rpcs)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_lags_is_left_and_the_head_never_goes_back() {
    for lagging in [Mode::Lags(60), Mode::Stuck(1_000)] {
        let rpcs = Scripted::all::<2>();
        let chain = chain(&rpcs);
        assert_eq!(by(&chain).await.unwrap(), 0);
        rpcs[0].set(lagging);
        let (mut last, mut readers) = (1_000, Vec::new());
        for _ in 0..90 {
            let seen = verdict(&chain, Duration::ZERO).await.unwrap();
            assert!(seen.head >= last, "{lagging:?}: {seen:?} after {last}");
            last = seen.head;
            readers.push(seen.by);
            sleep(Duration::from_secs(1)).await;
        }
        assert!(readers[45..].iter().all(|by| *by == 1), "{lagging:?}: {readers:?}");
        assert!(matches!(why(&chain, 0), Some(WhyLeft::Lags { blocks: 4.. })), "{:?}", why(&chain, 0));
        rpcs[0].set(Mode::Works);
        for _ in 0..120 {
            let seen = verdict(&chain, Duration::ZERO).await.unwrap();
            assert!(seen.head >= last, "{seen:?} after {last}");
            last = seen.head;
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(by(&chain).await.unwrap(), 0);
    }
}

/// By itself it would not be seen to lag: the head that was told last is as old.
#[tokio::test(start_paused = true)]
async fn whether_one_lags_still_is_seen_beside_those_that_do_not() {
    let rpcs = Scripted::all::<2>();
    let chain = chain(&rpcs);
    assert_eq!(by(&chain).await.unwrap(), 0);
    rpcs[0].set(Mode::Lags(9));
    sleep(Duration::from_secs(16)).await;
    by(&chain).await.unwrap();
    for at in 0..20 {
        sleep(Duration::from_secs(14)).await;
        assert_eq!(by(&chain).await.unwrap(), 1, "{at}");
        assert!(matches!(why(&chain, 0), Some(WhyLeft::Lags { .. })), "{at}: {:?}", why(&chain, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_a_little_behind_is_waited_for_and_a_head_that_nobody_has_is_given_up() {
    let rpcs = Scripted::all::<2>();
    let chain = chain(&rpcs);
    let first = verdict(&chain, Duration::ZERO).await.unwrap();
    rpcs[0].set(Mode::Fails);
    rpcs[1].set(Mode::Lags(2));
    let next = verdict(&chain, Duration::ZERO).await.unwrap();
    assert!(next.by == 1 && next.head >= first.head, "{next:?} {first:?}");
    assert_eq!(why(&chain, 1), None);
    // For long.
    rpcs[1].set(Mode::Lags(300));
    let told = next.head;
    let begun = Instant::now();
    let seen = loop {
        match verdict(&chain, Duration::ZERO).await {
            Ok(seen) => break seen,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        sleep(Duration::from_secs(1)).await;
    };
    // Its own chain may have gone back at once; else the block counts for two minutes.
    assert!(seen.head < told && begun.elapsed() < Duration::from_secs(200), "{seen:?} {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reorganisation_is_still_seen() {
    let rpcs = Scripted::all::<2>();
    let chain = chain(&rpcs);
    for _ in 0..20 {
        by(&chain).await.unwrap();
        sleep(BLOCK).await;
    }
    let first = verdict(&chain, Duration::ZERO).await.unwrap();
    rpcs.iter().for_each(|rpc| rpc.reorganise(3));
    let next = verdict(&chain, Duration::ZERO).await.unwrap();
    assert_eq!((next.by, next.head + 3), (0, first.head));
}

#[tokio::test(start_paused = true)]
async fn heads_that_are_told_never_go_back_as_the_rpc_changes() {
    let rpcs = Scripted::all::<3>();
    let chain = chain(&rpcs);
    let reader = chain.clone();
    let told = tokio::spawn(async move {
        let (mut known, mut told, begun) = (None, Vec::new(), Instant::now());
        while begun.elapsed() < Duration::from_secs(600) {
            if let Ok(head) = reader.reader().next_head(known).await {
                known = Some(head.hash);
                told.push(head.number);
            } else {
                sleep(Duration::from_millis(500)).await;
            }
        }
        told
    });
    let modes = [Mode::Fails, Mode::Hangs, Mode::Stuck(1_020), Mode::Lags(2), Mode::Lies(3), Mode::Lags(40)];
    for (turn, mode) in modes.into_iter().cycle().take(20).enumerate() {
        let rpc = &rpcs[turn % 2];
        sleep(Duration::from_secs(20)).await;
        rpc.set(mode);
        sleep(Duration::from_secs(10)).await;
        rpc.set(Mode::Works);
    }
    let told = told.await.unwrap();
    assert!(told.is_sorted(), "{told:?}");
    assert!(told.len() > 250 && told.last() > Some(&1_290), "{} {:?}", told.len(), told.last());
}

/// The budget that a dead one uses up is its own.
#[tokio::test(start_paused = true)]
async fn each_has_a_budget_of_its_own() {
    let rpcs = Scripted::all::<2>();
    let policy = RetryPolicy::default().with_budget(5).with_deadline(Duration::from_secs(3600));
    let chain = chain(&rpcs).with_retry(policy);
    assert_eq!(by(&chain).await.unwrap(), 0);
    rpcs.iter().for_each(|rpc| rpc.set(Mode::Fails));
    for _ in 0..20 {
        assert!(by(&chain).await.unwrap_err().is_retryable());
    }
    // Whichever was asked again, five times each at most; and each verdict begins for nothing.
    let asked: usize = rpcs.iter().map(Scripted::asked).sum();
    rpcs[1].set(Mode::Works);
    sleep(Duration::from_secs(61)).await;
    for _ in 0..20 {
        assert_eq!(by(&chain).await.unwrap(), 1);
    }
    assert!(asked < 60, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_and_knows_nothing_is_left_for_another() {
    let rpcs = Scripted::all::<2>();
    let chain = chain(&rpcs);
    rpcs[0].set(Mode::Useless);
    assert_eq!(by(&chain).await.unwrap(), 1);
    assert_eq!(why(&chain, 0), Some(WhyLeft::Failed));
}

/// Random schedules: no verdict mixes RPCs, none is of another chain, and no head goes back but an RPC's own.
#[tokio::test(start_paused = true)]
async fn whatever_the_rpcs_do_no_verdict_mixes_them() {
    let (mut made, mut failed, mut switched, mut lies) = (0, 0, 0, 0);
    for seed in 0..50 {
        let rpcs = Scripted::all::<3>();
        let chain = chain(&rpcs).with_retry(RetryPolicy::default().with_deadline(Duration::from_secs(8)));
        let random = Random::seeded(seed);
        let below = |count: u64| (random.unit() * count as f64) as u64;
        let turmoil = {
            let rpcs = rpcs.clone();
            let random = Random::seeded(seed ^ 0xabcd);
            let below = move |count: u64| (random.unit() * count as f64) as u64;
            tokio::spawn(async move {
                // So that it is known which chain is meant.
                sleep(Duration::from_secs(1)).await;
                loop {
                    let rpc = &rpcs[below(3) as usize];
                    rpc.set(match below(12) {
                        0 => Mode::Lags(1 + below(3)),
                        1 => Mode::Lags(10 + below(100)),
                        2 => Mode::Stuck(rpc.height().1),
                        3 | 4 => Mode::Fails,
                        5 => Mode::Hangs,
                        6 => Mode::Lies(1 + below(2)),
                        7 => Mode::Useless,
                        _ => Mode::Works,
                    });
                    sleep(Duration::from_millis(100 + below(4_000))).await;
                }
            })
        };
        let (mut last, mut at) = (None::<Seen>, Instant::now());
        for _ in 0..60 {
            match verdict(&chain, Duration::from_millis(below(400))).await {
                Ok(seen) => {
                    made += 1;
                    assert!(!seen.lie, "seed {seed}: {seen:?}");
                    if let Some(last) = &last {
                        switched += u32::from(last.by != seen.by);
                        // A block that nobody has shown for two minutes does not count any more.
                        let long = at.elapsed() > Duration::from_secs(120);
                        assert!(seen.head >= last.head || long, "seed {seed}: {seen:?} after {last:?}");
                    }
                    (last, at) = (Some(seen), Instant::now());
                }
                Err(error) => {
                    failed += 1;
                    lies += u32::from(error.kind() == ErrorKind::WrongChain);
                    assert!(matches!(error.kind(), ErrorKind::Chain | ErrorKind::WrongChain), "{error:?}");
                }
            }
            sleep(Duration::from_millis(below(1_500))).await;
        }
        turmoil.abort();
    }
    // Most of the time something is wrong with most of them.
    assert!(made > 2_000 && switched > 100, "{made} made, {failed} failed ({lies} lies), {switched} switched");
}
