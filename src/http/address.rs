//! The address of a node, or of a chain's RPC: what it may hold, and whether plain text may go there.

use std::net::IpAddr;

use http::Uri;

use super::settings::invalid;
use crate::error::Result;

/// What the addresses of a kind of peer may hold.
pub(crate) struct AddressForm {
    /// The type whose builder this is for.
    pub(crate) builder: &'static str,
    /// The address, as users are told to give it.
    pub(crate) hint: &'static str,
    pub(crate) schemes: &'static [&'static str],
    pub(crate) paths: bool,
    /// Keys of RPC services stand there.
    pub(crate) queries: bool,
}

/// The URL of a node, or of an RPC. Messages do not repeat it: it may hold a password.
pub(crate) fn parse(url: &str, form: &AddressForm) -> Result<Uri> {
    let AddressForm { builder, hint, .. } = form;
    let fail = |what: String| invalid(what, format!("give the address as {hint}"));
    let uri: Uri = url.parse().map_err(|error| fail("not a URL".to_owned()).with_source(error))?;
    let Some(authority) = uri.authority() else {
        return Err(fail("the URL has no scheme or no host".to_owned()));
    };
    match uri.scheme_str() {
        Some(scheme) if form.schemes.contains(&scheme) => {}
        Some(other) => return Err(fail(format!("the scheme {other} is not one of {}", form.schemes.join(", ")))),
        None => return Err(fail("the URL has no scheme".to_owned())),
    }
    if authority.as_str().contains('@') {
        let hint = format!("send them with {builder}::builder(url).header(name, value)");
        return Err(fail("the URL holds credentials".to_owned()).with_hint(hint));
    }
    if authority.host().is_empty() {
        return Err(fail("the URL has no host".to_owned()));
    }
    // An empty or too large port is no parse error, it merely is not there.
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(fail("the URL's port is not one".to_owned()));
    }
    if !form.paths && !matches!(uri.path(), "" | "/") {
        return Err(fail("the URL has a path".to_owned()));
    }
    if (!form.queries && uri.query().is_some()) || url.contains('#') {
        return Err(fail("the URL has a query or a fragment".to_owned()));
    }
    Ok(uri)
}

/// Refuses plain text, unless it stays on this machine.
pub(crate) fn check_plaintext(host: &str, hint: impl FnOnce() -> String) -> Result<()> {
    if is_loopback(host) { Ok(()) } else { Err(invalid(format!("plain text to {host}"), hint())) }
}

/// Whether traffic to the host stays on this machine. Only what certainly does: no names are looked up.
fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}
