//! Execution: runs programs, signs their results, writes the rows, and hands the results to the relay.

use std::sync::Arc;

use alloy_primitives::Bytes;

use super::{
    abi::ResultWithMetadata,
    node::NodeCore,
    program::{Program, ProgramInput},
    record::{Finished, Record, Submission},
};
use crate::job::Revision;

const EXECUTION_ERROR: &str = "execution_error";

impl NodeCore {
    /// Starts a task that ends with the life of the node it began in.
    pub(super) fn spawn(&self, life: u64, task: impl Future<Output = ()> + Send + 'static) {
        let mut lives = self.life.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                // First, or a gate that is opened right after a restart would let the dead pass.
                biased;
                _ = lives.wait_for(|now| *now != life) => {}
                () = task => {}
            }
        });
    }

    pub(super) fn execute(self: &Arc<Self>, job: Submission, life: u64) {
        self.spawn(life, Arc::clone(self).run(job, life));
    }

    async fn run(self: Arc<Self>, job: Submission, life: u64) {
        let gate = self.lock().faults.execution_gate.clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let known = self.lock().known.get(&job.request.program_id).cloned();
        let output = match known {
            None => Err(match self.revision {
                Revision::State => "missing_elf",
                _ => "missing_program",
            }),
            Some(None) => Err(EXECUTION_ERROR),
            Some(Some(program)) => {
                self.update(|world| *world.stats.executions.entry(job.id).or_default() += 1);
                match run_program(program, &job, self.revision).await {
                    Some(output) => output,
                    // This revision's executor reports it like the cycle limit.
                    None if self.revision == Revision::State => Err(EXECUTION_ERROR),
                    // The worker has died with the job: nobody will ever report on it.
                    None => return,
                }
            }
        };
        self.finish(job, life, output).await;
    }

    async fn finish(&self, mut job: Submission, life: u64, output: Result<Bytes, &'static str>) {
        let mut blobs = None;
        if let (Ok(_), Some(real)) = (&output, &self.real)
            && let Some(built) = real.blobs(&job).await
        {
            job.blob_hashes = built.hashes().to_vec();
            blobs = Some(built);
        }
        let output = output.map(|output| {
            let result = ResultWithMetadata::new(&job.request, output, job.blob_hashes.clone()).encode(self.revision);
            let operator_signature = self.operator.sign(&result);
            (result, operator_signature)
        });
        self.update(|world| {
            if world.life != life {
                return;
            }
            let (consumer, nonce) = (job.request.consumer, job.request.nonce);
            let lane = world.lanes.get_mut(&consumer);
            match output {
                Err(reason) => {
                    world.records.insert(job.id, Record::failed(&job, reason));
                    if let Some(lane) = lane {
                        lane.pending.remove(&nonce);
                    }
                }
                Ok((result, operator_signature)) => {
                    world.results += 1;
                    let finished = Finished { serial: world.results, job, result, operator_signature, blobs };
                    world.records.insert(finished.job.id, finished.done());
                    match lane {
                        Some(lane) if lane.dead => {}
                        Some(lane) if finished.job.ordered => {
                            lane.ready.insert(nonce, finished);
                        }
                        _ => world.unordered.push(finished),
                    }
                }
            }
        });
    }
}

/// `None` where the program panicked.
async fn run_program(program: Program, job: &Submission, revision: Revision) -> Option<Result<Bytes, &'static str>> {
    let (request, offchain, state) = (job.request.clone(), job.offchain_input.clone(), job.state.clone());
    let ran = tokio::task::spawn_blocking(move || {
        let input = ProgramInput { onchain: &request.onchain_input, offchain: &offchain, state: &state, revision };
        match program(input) {
            Ok(output) if output.cycles <= request.max_cycles => Ok(output.bytes),
            // A State node does not look at the exit code, and what was written until then is lost.
            Err(_) if revision == Revision::State => Ok(Bytes::new()),
            Ok(_) | Err(_) => Err(EXECUTION_ERROR),
        }
    });
    ran.await.ok()
}
