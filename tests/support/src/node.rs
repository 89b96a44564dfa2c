//! A node in memory that says of each job what it is told to say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use infinityvm_sdk::{Result, SignedJob, primitives::B256, rpc::Method};

use crate::{
    answers::{self, DONE, FAILED, PENDING, RELAYED, Row, Signed},
    scripted::{Scripted, at_once, down, not_found},
};

/// What the node says of a job.
#[derive(Clone, Debug)]
pub enum Says {
    NotFound,
    Pending,
    Done(Signed),
    Relayed(Signed, B256),
    Failed(&'static str),
    /// Another job under the nonce.
    Foreign,
    /// A result that proves nothing.
    Unproven,
    Down,
}

impl Says {
    pub fn ends(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Foreign | Self::Unproven)
    }
}

#[derive(Default)]
struct Inside {
    says: BTreeMap<Vec<u8>, (SignedJob, Says)>,
    sent: BTreeMap<Vec<u8>, usize>,
}

#[derive(Clone, Default)]
pub struct Node(Arc<Mutex<Inside>>);

impl Node {
    pub fn say(&self, job: &SignedJob, says: Says) {
        self.0.lock().unwrap().says.insert(job.id().as_bytes().to_vec(), (job.clone(), says));
    }

    /// How often the job was sent again.
    pub fn sent(&self, job: &SignedJob) -> usize {
        self.0.lock().unwrap().sent.get(job.id().as_bytes().as_slice()).copied().unwrap_or(0)
    }

    pub fn scripted(&self, has_list: bool) -> Scripted {
        let node = self.clone();
        Scripted::new(has_list, move |method, body| at_once(node.answer(method, body)))
    }

    fn answer(&self, method: Method, body: &[u8]) -> Result<bytes::Bytes, infinityvm_sdk::rpc::CallError> {
        let mut inside = self.0.lock().unwrap();
        match method {
            Method::SubmitJob => {
                let (request, _) = answers::submitted(body);
                let (id, job, says) = {
                    let mut all = inside.says.iter();
                    let (id, (job, says)) = all.find(|(_, (job, _))| *job.request() == request).unwrap();
                    (id.clone(), job.clone(), says.clone())
                };
                *inside.sent.entry(id.clone()).or_default() += 1;
                if matches!(says, Says::Down) { Err(down()) } else { Ok(answers::taken(job.id().as_bytes())) }
            }
            Method::GetPendingJobs => {
                if inside.says.values().any(|(_, says)| matches!(says, Says::Down)) {
                    return Err(down());
                }
                let open = |says: &Says| matches!(says, Says::Pending | Says::Done(_));
                let open = inside.says.values().filter(|(_, says)| open(says)).map(|(job, _)| job.nonce());
                Ok(answers::pending_jobs(open))
            }
            _ => match inside.says.get(&answers::asked_for(body)) {
                None => Err(not_found()),
                Some((job, says)) => record(job, says),
            },
        }
    }
}

fn record(job: &SignedJob, says: &Says) -> Result<bytes::Bytes, infinityvm_sdk::rpc::CallError> {
    let row = |status| Row::of(job, status);
    Ok(match says {
        Says::NotFound => return Err(not_found()),
        Says::Down => return Err(down()),
        Says::Pending => row(PENDING),
        Says::Done(signed) => row(DONE).with(signed),
        Says::Relayed(signed, tx) => Row { tx: tx.to_vec(), ..row(RELAYED).with(signed) },
        Says::Failed(reason) => Row { reason: Some((*reason).to_owned()), ..row(FAILED) },
        Says::Foreign => Row { onchain_input: b"another".to_vec(), ..row(PENDING) },
        Says::Unproven => row(DONE).with(&Signed { result: vec![1].into(), signature: vec![27; 65].into() }),
    }
    .encode())
}
