//! The package that guests share with their servers builds for RISC-V without the standard library, and the matching
//! game's program comes to the same output there as here, within the cycles that it says.
//!
//! The target is a zkVM's own (`riscv32im-risc0-zkvm-elf`). Its core library is built from source, by a compiler that
//! `toolchain` beside this file unpacks: the project's own has no libraries for it. The machine that runs it counts one cycle an
//! instruction, and proves nothing.

use std::{env, fs, path::PathBuf, process::Command, sync::OnceLock};

use infinityvm_stf::{Batch, Context, Inputs, StateTransition, check::Checker, replay};
use matching_game_program::{Act, Form, Game, Request};

mod machine;

use machine::Machine;

const TARGET: &str = "riscv32im-risc0-zkvm-elf";
const MOST: u64 = 2_000_000_000;

/// The linker that comes with the project's compiler.
fn linker() -> PathBuf {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "target-libdir"]).output().expect("rustc runs");
    let libraries = PathBuf::from(String::from_utf8(asked.stdout).expect("text").trim());
    let linker = libraries.with_file_name("bin").join("rust-lld");
    assert!(linker.exists(), "{} is missing", linker.display());
    linker
}

/// Builds the guest with the versions that this crate is locked to.
fn guest() -> &'static [u8] {
    static ELF: OnceLock<Vec<u8>> = OnceLock::new();
    ELF.get_or_init(|| {
        let (here, root) =
            (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/riscv"), concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."));
        let root = fs::canonicalize(root).expect("the repository");
        let (folder, target, rustc) =
            (PathBuf::from(here).join("guest"), root.join("target/riscv-build"), root.join("target/riscv/rustc"));
        assert!(root.join("target/riscv/ready").exists(), "no compiler for RISC-V: run {here}/toolchain first");
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("the lock file is copied");
        let flags = format!(
            "-C passes=lower-atomic -C linker={} -C link-arg=--no-relax -C link-arg=-Ttext=0x10000",
            linker().display()
        );
        let output = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
            .current_dir(folder)
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .args(["-Z", "build-std=core,alloc", "-Z", "build-std-features=compiler-builtins-mem"])
            .env("RUSTC", rustc)
            // What a compiler of the stable channel does not do otherwise.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_TARGET_RISCV32IM_RISC0_ZKVM_ELF_RUSTFLAGS", flags)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(target.join(TARGET).join("release/matching-game-guest")).expect("built")
    })
}

/// What the guest makes of it, and in how many cycles.
fn run(inputs: &Inputs) -> (Result<Vec<u8>, String>, u64) {
    Machine::new(guest()).run([Some(&inputs.onchain), Some(&inputs.offchain), inputs.state.as_deref()], MOST)
}

/// Numbers that look like chance, and are the same in every run.
fn requests(count: u64, numbers: u64) -> impl Iterator<Item = Request> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    (0..count).map(move |_| Request {
        act: if next(4) == 0 { Act::Cancel } else { Act::Submit },
        user: [next(50) as u8; 20].into(),
        number: next(numbers),
    })
}

#[test]
#[ignore = "needs a compiler for RISC-V: tests/riscv/toolchain unpacks one"]
fn a_guest_comes_to_the_same_output_within_its_cycles() {
    for form in [Form::Relay, Form::State] {
        let mut crowd = Game::new(form);
        for request in requests(3_000, 1_000_000) {
            let _ = crowd.apply(&request, &Context::request(1, 1));
        }
        let measured = |inputs: &Inputs| {
            let (output, cycles) = run(inputs);
            assert_eq!(output.expect("an output"), Game::program(inputs).expect("an output"), "as here");
            println!("{cycles} cycles");
            cycles
        };
        for mut checker in [Checker::new(Game::new(form)).unwrap(), Checker::new(crowd).unwrap()] {
            checker = checker.cycles(measured);
            for (count, numbers) in [(1, 3), (40, 30), (100, 1_000_000)] {
                let mut said = checker.state().overhead();
                for request in requests(count, numbers) {
                    said = said.and(checker.state().cost(&request));
                    let _ = checker.request(request).unwrap();
                }
                checker.batch().unwrap().expect("a batch");
                println!("for {count} requests, and at most {} were said", said.cycles);
            }
        }
    }
}

#[test]
#[ignore = "needs a compiler for RISC-V: tests/riscv/toolchain unpacks one"]
fn a_guest_refuses_what_the_server_refuses() {
    let mut game = Game::new(Form::Relay);
    let entries = requests(20, 5).enumerate().map(|(place, request)| (Context::request(place as u64, 0), request));
    let batch = Batch { number: 1, before: game.root(), entries: entries.collect() };
    let inputs = game.inputs(&batch);
    let root = replay(&mut game, &batch);
    assert_eq!(Game::output_root(&run(&inputs).0.expect("taken")), Some(root));
    for at in [0, inputs.offchain.len() / 2, inputs.offchain.len() - 1] {
        let shorter = Inputs { offchain: inputs.offchain[..at].to_vec(), ..inputs.clone() };
        let here = Game::program(&shorter).expect_err("refused");
        assert_eq!(run(&shorter).0, Err(here.to_string()));
    }
    let stateful = Inputs { state: Some(vec![1; 32]), ..inputs };
    assert_eq!(run(&stateful).0, Err(Game::program(&stateful).expect_err("refused").to_string()));
}
