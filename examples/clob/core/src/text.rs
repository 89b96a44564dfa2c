//! Numbers as text: what reads JSON may have no exact integers of that size.

use core::fmt::Display;

use serde::Serializer;

pub(crate) fn text<S: Serializer>(number: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
