//! The virtual machine: a program's id and its execution, as nodes of the Relay revision have them from SP1's prover.

use std::panic::{AssertUnwindSafe, catch_unwind};

use infinityvm_sdk::{
    Revision,
    devnode::{ProgramError, ProgramInput, ProgramOutput},
};
use p3_baby_bear::BabyBear;
use p3_field::{AbstractField as _, PrimeField32 as _, TwoAdicField as _};
use sp1_core_executor::{ExecutionError, Executor, Program, SP1Context};
use sp1_core_machine::{riscv::RiscvAir, shape::CoreShapeConfig};
use sp1_primitives::poseidon2_hash;
use sp1_stark::{SP1CoreOpts, StarkVerifyingKey, baby_bear_poseidon2::BabyBearPoseidon2};

/// Its version, that of the released nodes.
pub const SP1: &str = "4.1.2";

/// The id of a program: the hash of the key that verifies its proofs, eight numbers of 32 bits each, big-endian.
pub fn id(elf: &[u8]) -> Result<Vec<u8>, ProgramError> {
    guarded(|| {
        let mut program = program(elf)?;
        // The prover fixes the heights of the program's own tables, which are a part of the key.
        CoreShapeConfig::<BabyBear>::default()
            .fix_preprocessed_shape(&mut program)
            .map_err(|error| ProgramError::halted(format!("the program fits no shape of the prover: {error}")))?;
        let (_, key) = RiscvAir::machine(BabyBearPoseidon2::default()).setup(&program);
        let digest = poseidon2_hash(elements(&key));
        Ok(digest.into_iter().flat_map(|element| element.as_canonical_u32().to_be_bytes()).collect())
    })
}

/// What of a key is hashed, in the order of SP1's `HashableKey`.
fn elements(key: &StarkVerifyingKey<BabyBearPoseidon2>) -> Vec<BabyBear> {
    let commit: &[BabyBear; 8] = key.commit.as_ref();
    let start = &key.initial_global_cumulative_sum.0;
    let mut elements = commit.to_vec();
    elements.push(key.pc_start);
    elements.extend(start.x.0);
    elements.extend(start.y.0);
    for (_, domain, _) in &key.chip_information {
        let (height, generator) = (1 << domain.log_n, BabyBear::two_adic_generator(domain.log_n));
        let lengths = [domain.log_n, height].map(BabyBear::from_canonical_usize);
        elements.extend(lengths);
        elements.extend([domain.shift, generator]);
    }
    elements
}

/// Runs a program within so many cycles, without a proof, as the node does.
pub fn run(elf: &[u8], input: ProgramInput<'_>, max_cycles: u64) -> Result<ProgramOutput, ProgramError> {
    if input.revision() != Revision::Relay {
        return Err(ProgramError::halted("nodes of the State revision run RISC Zero's programs, and none of SP1"));
    }
    guarded(|| {
        let context = SP1Context::builder().max_cycles(max_cycles).build();
        let mut executor = Executor::with_context(program(elf)?, SP1CoreOpts::default(), context);
        executor.write_vecs(&[input.onchain.to_vec(), input.offchain.to_vec()]);
        executor.run_fast().map_err(|error| match error {
            ExecutionError::HaltWithNonZeroExitCode(_) => ProgramError::new(error.to_string()),
            _ => ProgramError::halted(error.to_string()),
        })?;
        let cycles = executor.report.total_instruction_count();
        Ok(ProgramOutput::new(executor.state.public_values_stream).with_cycles(cycles))
    })
}

fn program(elf: &[u8]) -> Result<Program, ProgramError> {
    Program::from(elf).map_err(|error| ProgramError::halted(format!("the file is no program of SP1: {error}")))
}

/// Makes an answer of a panic: SP1 panics on files and programs that it does not expect.
fn guarded<T>(what: impl FnOnce() -> Result<T, ProgramError>) -> Result<T, ProgramError> {
    // Whatever was half done is dropped with the process.
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it says no more");
        Err(ProgramError::halted(format!("the virtual machine stopped: {text}")))
    })
}
