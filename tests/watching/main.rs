//! Watching jobs where it is hard: nodes that restart, nodes that lie, a thousand clients that lose their node at once; and
//! what waits cost. `SWEEP=full` runs the long versions, `SEED=n` other random choices.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

use support::{answers, plain_client, scripted as rig};

mod costs;
mod herd;
mod histories;
mod learning;
mod liar;
mod restarts;
mod running;
mod runtimes;
mod tears;
