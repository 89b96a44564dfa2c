//! What a diagnosis or a preflight says, as tests expect it. Variants with fields may grow, so nobody but the crate makes them.

use std::fmt;

use infinityvm_sdk::{Cause, FindingKind, JobStatus};

/// A cause, a kind of finding or a status with its facts, as `Debug` prints it. [`facts`](crate::facts!) makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct Facts(String);

impl Facts {
    #[must_use]
    pub fn new(name: &str, fields: &[(&str, String)]) -> Self {
        let fields: Vec<_> = fields.iter().map(|(field, value)| format!("{field}: {value}")).collect();
        Self(format!("{name} {{ {} }}", fields.join(", ")))
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! compared {
    ($($name:ty),*) => {$(
        impl From<$name> for Facts {
            fn from(of: $name) -> Self {
                Self(format!("{of:?}"))
            }
        }

        impl PartialEq<Facts> for $name {
            fn eq(&self, other: &Facts) -> bool {
                format!("{self:?}") == other.0
            }
        }
    )*};
}

compared!(Cause, FindingKind, JobStatus);

/// A variant and all of its fields, to be compared with what was said: `facts!(NonceGap { first: 1, last: 3 })`.
#[macro_export]
macro_rules! facts {
    ($name:ident { $($field:ident $(: $value:expr)?),* $(,)? }) => {
        $crate::facts::Facts::new(stringify!($name), &[$((stringify!($field), $crate::facts!(@ $field $($value)?))),*])
    };
    (@ $field:ident) => { format!("{:?}", $field) };
    (@ $field:ident $value:expr) => { format!("{:?}", $value) };
}
