//! How a [`SignedJob`] is written down: its documentation has the format.

use alloy_primitives::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{RelayStrategy, Revision, SignedJob};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    revision: Revision,
    request: Bytes,
    signature: Bytes,
    offchain_input: Bytes,
    // Always written, though one of them is empty: binary formats such as bincode and postcard cannot leave a field
    // out.
    state: Bytes,
    relay: RelayStrategy,
}

impl Serialize for SignedJob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored {
            version: VERSION,
            revision: self.revision(),
            request: self.request().clone(),
            signature: self.signature().clone(),
            offchain_input: self.offchain_input().clone(),
            state: self.state().clone(),
            relay: self.relay_strategy(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SignedJob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        if stored.version != VERSION {
            return Err(D::Error::custom(format_args!(
                "signed job of version {}; this release of infinityvm-sdk reads version {VERSION}",
                stored.version
            )));
        }
        Self::from_parts(
            stored.revision,
            stored.request,
            stored.signature,
            stored.offchain_input,
            stored.state,
            stored.relay,
        )
        .map_err(D::Error::custom)
    }
}
