//! A network that loses, delays and changes what passes through it: the proxy that does so, and the client behind it.

mod clients;
mod proxy;
