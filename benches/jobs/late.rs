//! Programs that take a while: how late their results are seen, and after how many calls.

use std::time::Duration;

use infinityvm_sdk::primitives::Bytes;

use crate::{Bench, PAUSE, PROGRAMS, Taken, Way, say_most};

const WAYS: [Way; 5] = [
    Way::ByHand(PAUSE),
    // The fixed intervals of the field.
    Way::ByHand(Duration::from_secs(1)),
    Way::ByHand(Duration::from_secs(2)),
    Way::Run,
    Way::Submit,
];

/// What one way took for the jobs of one program.
struct Row {
    late: Vec<Duration>,
    calls: f64,
}

impl Row {
    fn new(mut late: Vec<Duration>, calls: f64) -> Self {
        late.sort();
        Self { late, calls }
    }

    fn late(&self, percent: usize) -> Duration {
        self.late[(self.late.len() - 1) * percent / 100]
    }

    fn print(&self, name: &str) {
        println!("{name:<40} {:>12.1?} {:>12.1?} {:>12.2}", self.late(50), self.late(99), self.calls);
    }
}

fn heading(what: &str) {
    println!("{what}\n{:<40} {:>12} {:>12} {:>12}", "program, way", "late, p50", "late, p99", "calls a job");
}

/// One program after the other, over gRPC.
pub async fn programs(bench: &mut Bench) {
    heading("programs that take a while, 16 at a time");
    let trip = round_trip(bench).await;
    for (number, millis) in PROGRAMS.into_iter().enumerate().skip(1) {
        let jobs = if millis < 100.0 { 480 } else { 64 };
        let mut rows = Vec::new();
        for way in WAYS {
            // What the client learns of the program, it learns before.
            if way == Way::Run {
                turn(bench, Way::Run, &vec![number; 32], 16).await;
            }
            // Where the pause is longer than the program, its late looks need no large number.
            let few = matches!(way, Way::ByHand(pause) if pause > PAUSE);
            let (late, taken) = turn(bench, way, &vec![number; if few { 32 } else { jobs }], 16).await;
            let row = Row::new(late.into_iter().map(|(_, late)| late).collect(), taken.calls());
            row.print(&format!("{millis} ms, {}", way.name()));
            rows.push(row);
        }
        if let [by_hand, _, _, run, _] = &rows[..] {
            judge(millis, by_hand, run, trip);
        }
    }
}

/// One consumer, four programs.
pub async fn mix(bench: &mut Bench) {
    heading("the programs mixed, 64 at a time");
    let trip = round_trip(bench).await;
    let numbers: Vec<usize> = (0..400).map(|job| 1 + job * 7 % 4).collect();
    let mut rows = Vec::new();
    for way in [Way::ByHand(PAUSE), Way::Run, Way::Submit] {
        if way == Way::Run {
            turn(bench, way, &numbers, 64).await;
        }
        let (late, taken) = turn(bench, way, &numbers, 64).await;
        let of = |number| late.iter().filter(move |(of, _)| *of == number).map(|(_, late)| *late).collect();
        let of_each: Vec<Row> = (1..PROGRAMS.len()).map(|number| Row::new(of(number), taken.calls())).collect();
        for (millis, row) in PROGRAMS.iter().skip(1).zip(&of_each) {
            row.print(&format!("{millis} ms, {}", way.name()));
        }
        rows.push(of_each);
    }
    if let [by_hand, run, _] = &rows[..] {
        for (number, millis) in PROGRAMS.into_iter().skip(1).enumerate() {
            judge(millis, &by_hand[number], &run[number], trip);
        }
    }
}

/// How late each job was seen, with the number of its program.
async fn turn(bench: &mut Bench, way: Way, programs: &[usize], in_flight: usize) -> (Vec<(usize, Duration)>, Taken) {
    let jobs: Vec<_> = programs.iter().map(|number| (*number, bench.job(*number, &Bytes::new()))).collect();
    let (place, mut taken) = (&bench.grpc, Taken::default());
    let jobs = jobs.into_iter().map(|(number, job)| async move { (number, place.run(way, job).await) });
    let late = taken.turn(&mut bench.node, in_flight, jobs).await;
    (late, taken)
}

/// Of a job that is executed at once: its submission and one look.
async fn round_trip(bench: &mut Bench) -> Duration {
    let mut taken = Taken::default();
    let jobs: Vec<_> = (0..200).map(|_| bench.job(0, &Bytes::new())).collect();
    let place = &bench.grpc;
    taken.turn(&mut bench.node, 1, jobs.into_iter().map(|job| place.run(Way::ByHand(PAUSE), job))).await;
    taken.time / taken.calls as u32
}

/// What was promised of a program that takes so many milliseconds.
fn judge(millis: f64, by_hand: &Row, run: &Row, trip: Duration) {
    let ms = |late: Duration| late.as_secs_f64() * 1000.0;
    let say = |what: &str, value, most| say_most(&format!("{millis} ms: {what}"), value, most);
    let (median, late) = (ms(run.late(50)), ms(run.late(99)));
    if millis < 50.0 {
        say("the median is no later than by hand, in ms", median, ms(by_hand.late(50)));
    } else {
        let most = millis * 0.1 + ms(trip) + 2.0;
        say(&format!("the median is late by at most {most:.1} ms"), median, most);
        say("99 of 100 are late by at most half of its time, in ms", late, millis * 0.5);
        say("at most 0.6 times the calls", run.calls / by_hand.calls, 0.6);
    }
    // One call submits.
    say("at most 2.5 looks a job", run.calls - 1.0, 2.5);
}
