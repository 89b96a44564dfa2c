//! What a web page does with jobs: makes an account, signs a job, writes requests for a REST gateway, and verifies what
//! comes back. JavaScript calls it with one text and gets one text, both JSON.

use infinityvm_sdk::{
    Error, ErrorKind, LocalSigner, OffchainJobRequest, ProgramId, Revision, SignedJob,
    primitives::{Address, SolValue, U256},
};
use serde_json::{Value, json};

const REVISION: Revision = Revision::Relay;

fn new_account() -> Result<Value, Error> {
    Ok(json!(LocalSigner::random()?.address()))
}

fn sign(key: &str, consumer: Address, program: &str, nonce: u64, number: u64) -> Result<SignedJob, Error> {
    let signer = LocalSigner::from_hex(key)?;
    let job = OffchainJobRequest::builder(consumer, program.parse::<ProgramId>()?)
        .max_cycles(32_000_000)
        .onchain_input(U256::from(number).abi_encode())
        .build()?;
    let unsigned = job.prepare(REVISION, nonce)?;
    let signature = signer.sign_message_sync(unsigned.signing_bytes());
    unsigned.with_signature(signature.to_vec().into())
}

#[cfg(feature = "wire")]
mod codec {
    use infinityvm_sdk::{JobStatus, Wire, rpc::Encoding, verify};

    use super::*;

    const WIRE: fn() -> Wire = || Wire::new(REVISION, Encoding::Json);

    /// The bodies of `submit_job` and `get_result`.
    pub fn requests(job: &SignedJob) -> Result<Value, Error> {
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        let wire = WIRE();
        Ok(json!([text(&wire.submit_job(job)?.to_bytes()), text(&wire.get_result(job.id()).to_bytes())]))
    }

    /// The number in a verified result; null while there is none.
    pub fn result(job: &SignedJob, operator: Address, answer: String) -> Result<Value, Error> {
        let record = WIRE().get_result_response(&answer.into_bytes().into())?;
        match record.status() {
            JobStatus::Pending => Ok(Value::Null),
            _ => Ok(json!(verify(job, &record, operator)?.decode::<U256>()?)),
        }
    }
}

fn call(arguments: &Value) -> Result<Value, Error> {
    let bad = || Error::new(ErrorKind::InvalidInput, "not a call of this module");
    let text = |at: usize| arguments[at].as_str().ok_or_else(bad);
    let number = |at: usize| arguments[at].as_u64().ok_or_else(bad);
    let address = |at: usize| text(at)?.parse::<Address>().map_err(|_| bad());
    #[cfg(feature = "wire")]
    let job = |at: usize| serde_json::from_value::<SignedJob>(arguments[at].clone()).map_err(|_| bad());
    match text(0)? {
        "new_account" => new_account(),
        "sign" => Ok(json!(sign(text(1)?, address(2)?, text(3)?, number(4)?, number(5)?)?)),
        #[cfg(feature = "wire")]
        "requests" => codec::requests(&job(1)?),
        #[cfg(feature = "wire")]
        "result" => codec::result(&job(1)?, address(2)?, text(3)?.to_owned()),
        _ => Err(bad()),
    }
}

/// Memory for a text of JavaScript's.
#[unsafe(no_mangle)]
pub extern "C" fn reserve(len: usize) -> *mut u8 {
    Box::leak(vec![0; len].into_boxed_slice()).as_mut_ptr()
}

/// Takes a text that was written to reserved memory. Returns where the answer is, as address and length in one number.
///
/// # Safety
/// `text` and `len` are those of one call of `reserve`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn answer(text: *mut u8, len: usize) -> u64 {
    let text = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(text, len)) };
    let answer = match call(&serde_json::from_slice(&text).unwrap_or_default()) {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": error.report().to_string() }),
    };
    let answer = Box::leak(answer.to_string().into_bytes().into_boxed_slice());
    (answer.as_ptr() as u64) << 32 | answer.len() as u64
}

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    fn random(bytes: *mut u8, len: usize);
}

/// getrandom's backend of our own, for hosts without wasm-bindgen: `--cfg getrandom_backend="custom"`.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(bytes: *mut u8, len: usize) -> Result<(), getrandom::Error> {
    unsafe { random(bytes, len) };
    Ok(())
}
