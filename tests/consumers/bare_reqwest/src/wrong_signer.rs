//! Gives a client a signer of alloy as it is, without the adapter.

fn main() {
    let signer = alloy_signer_local::PrivateKeySigner::random();
    let _ = infinityvm_sdk::Client::builder().signer(signer);
}
