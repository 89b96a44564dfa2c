//! Execution: runs programs, signs their results, writes the rows, and hands the results to the relay.

use std::sync::Arc;

use alloy_primitives::Bytes;

use super::{
    abi::ResultWithMetadata,
    node::NodeCore,
    program::{ProgramEnd, ProgramError, ProgramOutput},
    record::{EXECUTION_ERROR, Finished, MISSING_ELF, MISSING_PROGRAM, Record, Submission},
};
use crate::job::Revision;

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
        let (output, why) = match known {
            None => (Err(self.missing_program()), "the node does not know the program".to_owned()),
            Some(None) => {
                (Err(EXECUTION_ERROR), "the program was uploaded without anything that could run it".to_owned())
            }
            Some(Some(program)) => {
                self.update(|world| *world.stats.executions.entry(job.id).or_default() += 1);
                match program.run(&job, self.revision).await {
                    Some(ran) => self.judge(ran, job.request.max_cycles),
                    // This revision's executor reports it like the cycle limit.
                    None if self.revision == Revision::State => {
                        (Err(EXECUTION_ERROR), "the program panicked".to_owned())
                    }
                    // The worker has died with the job: nobody will ever report on it.
                    None => return,
                }
            }
        };
        self.update(|world| match why.is_empty() {
            true => drop(world.stats.execution_errors.remove(&job.id)),
            false => drop(world.stats.execution_errors.insert(job.id, why)),
        });
        self.finish(job, life, output).await;
    }

    fn missing_program(&self) -> &'static str {
        match self.revision {
            Revision::State => MISSING_ELF,
            _ => MISSING_PROGRAM,
        }
    }

    /// What the node makes of a program's end, and why the output is not the program's, if it is not.
    fn judge(
        &self,
        ran: Result<ProgramOutput, ProgramError>,
        max_cycles: u64,
    ) -> (Result<Bytes, &'static str>, String) {
        match ran.and_then(|output| output.within(max_cycles)) {
            Ok(output) => (Ok(output.bytes), String::new()),
            // A State node does not look at the exit code, and what was written until then is lost.
            Err(error) if self.revision == Revision::State && error.end() == ProgramEnd::Exit => {
                (Ok(Bytes::new()), error.to_string())
            }
            Err(error) => (Err(EXECUTION_ERROR), error.to_string()),
        }
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
