//! What both front ends do alike, asked over REST.
#![allow(clippy::duplicate_mod, reason = "the same behaviours, once by each front end")]

use crate::rig::{AnyRig, Rest};

pub type Rig = AnyRig<Rest>;

#[path = "checks.rs"]
mod checks;
#[path = "faults.rs"]
mod faults;
#[path = "lanes.rs"]
mod lanes;
#[path = "programs.rs"]
mod programs;
#[path = "resubmission.rs"]
mod resubmission;
#[path = "state.rs"]
mod state;
#[path = "vectors.rs"]
mod vectors;
