//! The client that the options describe.

use std::time::Duration;

use infinityvm_sdk::{
    Client, Result, RetryPolicy,
    client::ClientBuilder,
    transport::{GrpcTransport, RestTransport},
};

use crate::{chain, cli::Globals, text::refused};

/// Where nodes listen unless told otherwise.
const NODE: &str = "http://127.0.0.1:50051";

/// How long a node is tried for that was never reached.
pub const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// A client for the node, with the chain if one was named.
pub async fn builder(globals: &Globals) -> Result<ClientBuilder> {
    let url = globals.node.as_deref().unwrap_or(NODE);
    let headers = globals.headers.iter().map(|header| header_of(header)).collect::<Result<Vec<_>>>()?;
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

/// `NAME: VALUE`, where the value may be `@FILE`, so that a token is not in the list of processes.
fn header_of(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once(':').ok_or_else(|| {
        refused("--header has no colon").with_hint("write it as NAME: VALUE, or as NAME: @FILE for one that is secret")
    })?;
    let value = value.trim();
    let value = match value.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| refused(format!("{path} cannot be read")).with_source(error))?
            .trim()
            .to_owned(),
        None => value.to_owned(),
    };
    Ok((name.trim().to_owned(), value))
}
