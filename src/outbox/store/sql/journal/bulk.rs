//! Inserts of many rows at once.

use std::sync::LazyLock;

use crate::outbox::store::sql::session::{Fetched, SqlSession, Value};

/// How many rows one statement inserts. Few different ones, as a connection keeps each prepared.
const SIZES: [usize; 4] = [256, 64, 8, 1];

/// The texts that insert rows into a table, of each size.
pub(super) struct RowTexts {
    columns: usize,
    /// With numbers before the parameters, and without.
    numbered: Vec<String>,
    plain: Vec<String>,
}

impl RowTexts {
    /// `head`: all before the values, of so many columns.
    fn new(head: &str, columns: usize) -> Self {
        let text = |rows: usize, parameter: &dyn Fn(usize) -> String| {
            let row = |row: usize| {
                let values: Vec<_> = (1..=columns).map(|column| parameter(row * columns + column)).collect();
                format!("({})", values.join(","))
            };
            format!("{head} VALUES {}", (0..rows).map(row).collect::<Vec<_>>().join(","))
        };
        Self {
            columns,
            numbered: SIZES.map(|rows| text(rows, &|number| format!("${number}"))).to_vec(),
            plain: SIZES.map(|rows| text(rows, &|_| "?".to_owned())).to_vec(),
        }
    }

    /// Inserts these rows, whose values stand one after another.
    pub(super) async fn insert(&'static self, conn: &mut dyn SqlSession, values: Vec<Value>) -> Fetched<()> {
        // SQLite finds a parameter that has a name by going through all of them.
        let texts = if conn.dialect().numbers_parameters { &self.numbered } else { &self.plain };
        let mut values = values.into_iter();
        for (text, rows) in texts.iter().zip(SIZES) {
            while values.len() >= rows * self.columns {
                conn.change(text, values.by_ref().take(rows * self.columns).collect()).await?;
            }
        }
        Ok(())
    }
}

/// Entries that are no logs of the chain.
pub(super) static REQUESTS: LazyLock<RowTexts> = LazyLock::new(|| {
    let head = "INSERT INTO ivm_app_entries (lane, place, at, request, outcome, answer, root)";
    RowTexts::new(head, 7)
});

pub(super) static ENTRIES: LazyLock<RowTexts> = LazyLock::new(|| {
    let head = "INSERT INTO ivm_app_entries (lane, place, at, block, log_index, request, outcome, answer, root)";
    RowTexts::new(head, 9)
});

pub(super) static KEYS: LazyLock<RowTexts> =
    LazyLock::new(|| RowTexts::new("INSERT INTO ivm_app_keys (lane, key, digest, place, at)", 5));
