//! The cases, each a public function: run them all with [`Suite`](super::Suite), or one of them in a test of its own.

mod answers;
mod calls;
mod jobs;
mod networks;

pub use self::{answers::*, calls::*, jobs::*, networks::*};
use super::case::Case;
use crate::rpc::Method;

macro_rules! cases {
    ($($name:ident $(needs $method:ident)?,)*) => {
        /// Every case, in the order in which the suite runs them. A test sees to it that none is missing.
        pub const ALL: &[Case] = &[$(Case {
            name: stringify!($name),
            needs: cases!(@needs $($method)?),
            run: |setup| Box::pin($name(setup)),
        }),*];
    };
    (@needs) => { None };
    (@needs $method:ident) => { Some(Method::$method) };
}

cases! {
    jobs_are_executed_relayed_and_verified,
    every_byte_arrives_as_it_was,
    empty_inputs_are_empty,
    large_inputs_and_outputs_arrive,
    numbers_are_exact,
    ordered_jobs_are_relayed_in_order,
    failed_jobs_say_why,
    the_record_repeats_what_was_signed,
    calls_at_once_are_not_mixed_up,
    programs_are_uploaded_once,
    pending_jobs_are_listed needs GetPendingJobs,
    programs_can_be_asked_for needs ContainsProgram,
    undeclared_calls_are_refused_before_any_io,
    unknown_jobs_are_not_found,
    refusals_keep_their_meaning,
    long_refusals_are_cut,
    a_taken_nonce_is_noticed,
    too_large_a_request_is_refused,
    garbage_is_no_answer,
    an_answer_of_another_job_is_no_answer,
    a_node_of_the_other_revision_is_noticed,
    a_node_that_is_gone_has_refused_nothing,
    a_lost_reply_is_never_called_unsent,
    a_call_reaches_the_node_once,
    a_dropped_read_leaves_the_transport_whole,
    a_restart_is_survived,
}
