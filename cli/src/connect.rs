//! The client that the options describe.

use std::time::Duration;

use infinityvm_sdk::{
    Client, Error, ErrorKind, Result, RetryPolicy, Revision, SignedJob, Until,
    client::ClientBuilder,
    transport::{GrpcTransport, RestTransport},
};

use crate::{
    chain,
    cli::Globals,
    text::{refused, unreadable},
};

/// Where nodes listen unless told otherwise.
const NODE: &str = "http://127.0.0.1:50051";

/// How long a node is tried for that was never reached.
pub const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// A client for the node, with the chain if one was named.
pub async fn builder(globals: &Globals) -> Result<ClientBuilder> {
    let url = globals.node.as_deref().unwrap_or(NODE);
    let headers = headers("--header", &globals.headers)?;
    macro_rules! transport {
        ($transport:ident) => {{
            let mut builder = $transport::builder(url).connect_timeout(FIRST_CONTACT / 2);
            for (name, value) in headers {
                builder = builder.header(name, value);
            }
            if globals.allow_plaintext {
                builder = builder.allow_plaintext();
            }
            Client::builder().transport(builder.build()?)
        }};
    }
    let mut builder = if globals.rest { transport!(RestTransport) } else { transport!(GrpcTransport) };
    if let Some(revision) = globals.revision {
        builder = builder.revision(revision);
    }
    if let Some(operator) = globals.operator {
        builder = builder.operator(operator);
    }
    if let Some(chain) = chain::of(globals).await? {
        builder = builder.chain(chain);
    }
    let mut retry = RetryPolicy::default().with_deadline(FIRST_CONTACT).with_first_contact(FIRST_CONTACT);
    if let Some(timeout) = globals.timeout {
        retry = retry.with_submit_deadline(timeout).with_first_contact(FIRST_CONTACT.min(timeout));
    }
    Ok(builder.retry(retry))
}

/// What an option says in the form `NAME: VALUE`, where the value may be `@FILE`, so that a token is not in the list of
/// processes.
pub fn headers(option: &str, texts: &[String]) -> Result<Vec<(String, String)>> {
    let one = |text: &String| {
        let (name, value) = text.split_once(':').ok_or_else(|| {
            refused(format!("{option} has no colon"))
                .with_hint("write it as NAME: VALUE, or as NAME: @FILE for one that is secret")
        })?;
        let value = value.trim();
        let value = match value.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?.trim().to_owned(),
            None => value.to_owned(),
        };
        Ok((name.trim().to_owned(), value))
    };
    texts.iter().map(one).collect()
}

/// The revision of a job that was signed, which is the client's: a node that says it speaks another is refused.
pub fn revision(globals: &Globals, job: &SignedJob) -> Result<Revision> {
    match globals.revision {
        Some(given) if given != job.revision() => {
            let what = format!("the job is signed for the {} revision, and --revision says {given}", job.revision());
            Err(Error::new(ErrorKind::WrongRevision, what)
                .with_hint("leave --revision out; if the node speaks the other one, sign the job anew for that"))
        }
        _ => Ok(job.revision()),
    }
}

/// Refuses to wait where no result could be believed, before anything is sent.
pub async fn require_operator(globals: &Globals, until: Until) -> Result<()> {
    let chain = chain::of(globals).await?;
    if let Some(chain) = &chain {
        // A contract that is no JobManager would be waited for to the end.
        chain.operator().await?;
    }
    let has_chain = chain.is_some();
    if !has_chain && matches!(until, Until::Finalized { .. }) {
        return Err(Error::new(ErrorKind::InvalidConfig, "only the chain says what is final, and none was named")
            .with_hint("give --rpc-url and --job-manager, or wait until executed or relayed"));
    }
    if has_chain || globals.operator.is_some() { Ok(()) } else { Err(no_operator()) }
}

/// The error of a result that nobody is known to have to sign.
pub fn no_operator() -> Error {
    Error::new(ErrorKind::InvalidConfig, "it is not known whose results are to be believed")
        .with_hint("give --operator with the address that your JobManager contract names, or --rpc-url and --job-manager to read it there")
}
