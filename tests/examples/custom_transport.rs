//! The example of a transport of one's own does what it says: it passes the conformance suite, and it counts.

use infinityvm_sdk::Revision;

use super::{example, printed};

#[test]
fn it_passes_the_suite_and_counts() {
    let text = printed(&example("custom_transport").output().expect("runs"));
    assert_eq!(text.matches(" cases passed, 0 failed").count(), Revision::ALL.len(), "{text}");
    assert!(text.lines().any(|line| line.starts_with("SubmitJob: ") && line.contains(" bytes out, ")), "{text}");
}
