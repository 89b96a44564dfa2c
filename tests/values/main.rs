//! Values without any node: the nodes' own bytes, keys and signatures, results that are believed or not, and answers in JSON.

mod json;
mod signing;
mod vectors;
mod verification;
