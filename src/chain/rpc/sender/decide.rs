//! From what an RPC says of a transaction, and what a look by its hash finds, to the next step: decided without any
//! I/O.
//!
//! A text decides nothing, known or not: who says it may be one of several servers, and another have the transaction.
//! That a transaction cannot land any more is believed of the chain alone: it shows the account's nonce used, and none
//! of the transactions that were signed with it, at two looks in a row. Another account nonce is also used if the RPC's
//! pool shows a stranger's transaction under this one, and none of ours, at two looks. All else that is not good news
//! leaves the outcome open. A transaction under the same account nonce may always be sent again, as only one of them
//! can land.

/// What an RPC said when a transaction was sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It has it: now, or since before.
    Taken,
    /// The account's nonce was used in a block: by this transaction, or by another.
    NonceUsed,
    /// Another transaction of the account waits under the nonce.
    NonceHeld,
    /// A reason that has to do with the transaction, and not with another one.
    Refused,
    /// A text that is not known.
    Unclear,
    /// Nothing that could be read.
    Silent,
}

/// What a look by hash finds of the transactions that were signed with an account nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nobody has looked.
    Unasked,
    /// The look could not be made.
    Unread,
    /// One is in a block.
    Block,
    /// One is in the pool.
    Pool,
    /// None is there, and a block has the account's nonce.
    Used,
    /// None is there, no block has the account's nonce, and the pool shows another transaction under it.
    Held,
    /// None is there, and no block has the account's nonce.
    Free,
}

/// A look, and those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sought {
    pub found: Found,
    /// The look before has found the same.
    pub again: bool,
    /// Another look may be made.
    pub more_looks: bool,
}

/// What is done after a transaction was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is where it belongs.
    Done,
    /// Look by its hash.
    Look,
    /// Send it with its blobs in the other form. It has the same hash then.
    OtherForm,
    /// It cannot land under this nonce: sign it with another.
    AnotherNonce,
    /// It may land.
    Open,
    /// It cannot land, and no other nonce is tried.
    Rejected,
}

/// After the RPC has answered. `other_form`: its blobs were not sent in their second form yet. `more_nonces`: another
/// nonce may be tried.
pub(super) fn after(word: Word, sought: Sought, other_form: bool, more_nonces: bool) -> Next {
    let look_or = |next| if sought.more_looks { Next::Look } else { next };
    let next_nonce = |next| if more_nonces { Next::AnotherNonce } else { next };
    match (word, sought.found) {
        (Word::Taken, _) | (_, Found::Block | Found::Pool) => Next::Done,
        // Whoever waits for it looks by its hash, block by block.
        (Word::Silent, _) => Next::Open,
        (Word::Refused | Word::Unclear, _) if other_form => Next::OtherForm,
        (_, Found::Unasked) => Next::Look,
        (_, Found::Unread) => look_or(Next::Open),
        (_, Found::Used) if sought.again => next_nonce(Next::Rejected),
        (Word::NonceHeld, Found::Held) if sought.again => next_nonce(Next::Open),
        (_, Found::Used) | (Word::NonceHeld, Found::Held) => look_or(Next::Open),
        // The RPC's servers are not at one block.
        (Word::NonceUsed | Word::NonceHeld, Found::Free | Found::Held) => look_or(Next::Open),
        (Word::Refused | Word::Unclear, Found::Free | Found::Held) => Next::Open,
    }
}

/// What is done about a transaction that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    Wait,
    Look,
    /// Send the same bytes again.
    Resend,
    /// Sign it with the same nonce and higher fees.
    Raise,
    /// It cannot land any more.
    Gone,
}

/// While it is waited for. `resend`: it was not sent for a while. `raise`: it has waited so long that it is to be
/// priced again, and may be.
pub(super) fn meanwhile(sought: Sought, resend: bool, raise: bool) -> Care {
    match sought.found {
        Found::Unasked if resend || raise => Care::Look,
        Found::Unasked | Found::Unread | Found::Block => Care::Wait,
        Found::Used if sought.again => Care::Gone,
        Found::Used if sought.more_looks => Care::Look,
        Found::Used => Care::Wait,
        // It costs nothing, and nobody has to be asked for it.
        Found::Free if resend => Care::Resend,
        Found::Pool | Found::Free if raise => Care::Raise,
        // Of a stranger's transaction under the nonce a block decides.
        Found::Pool | Found::Free | Found::Held => Care::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [Word; 6] =
        [Word::Taken, Word::NonceUsed, Word::NonceHeld, Word::Refused, Word::Unclear, Word::Silent];
    const FOUND: [Found; 7] =
        [Found::Unasked, Found::Unread, Found::Block, Found::Pool, Found::Used, Found::Held, Found::Free];

    fn every(mut check: impl FnMut(Sought, bool, bool)) {
        for found in FOUND {
            for bits in 0..16 {
                let bit = |at: u32| bits >> at & 1 == 1;
                check(Sought { found, again: bit(0), more_looks: bit(1) }, bit(2), bit(3));
            }
        }
    }

    /// Rows: what was said. Columns: what was found. Each cell: at a first look, at one that agrees with it, and at the
    /// last one that does not; more nonces may be tried, and there are no blobs.
    #[test]
    fn the_table_of_answers() {
        let cell = |word, found| {
            [(false, true), (true, true), (false, false)].map(|(again, more_looks)| {
                match after(word, Sought { found, again, more_looks }, false, true) {
                    Next::Done => 'd',
                    Next::Look => 'l',
                    Next::OtherForm => 'f',
                    Next::AnotherNonce => 'n',
                    Next::Open => 'o',
                    Next::Rejected => 'r',
                }
            })
        };
        let table: Vec<String> = WORDS
            .iter()
            .map(|word| FOUND.map(|found| cell(*word, found).iter().collect::<String>()).join(" "))
            .collect();
        #[rustfmt::skip]
        assert_eq!(table, [
            // unasked unread block pool used held free
            "ddd ddd ddd ddd ddd ddd ddd", // taken
            "lll llo ddd ddd lno llo llo", // nonce used
            "lll llo ddd ddd lno lno llo", // nonce held
            "lll llo ddd ddd lno ooo ooo", // refused
            "lll llo ddd ddd lno ooo ooo", // unclear
            "ooo ooo ddd ddd ooo ooo ooo", // silent
        ]);
    }

    #[test]
    fn whatever_is_combined() {
        every(|sought, other_form, more_nonces| {
            for word in WORDS {
                let next = after(word, sought, other_form, more_nonces);
                let case = format!("{word:?} {sought:?} {other_form} {more_nonces}: {next:?}");
                // Nothing is signed with another nonce, and nothing called rejected, unless two looks have found the
                // nonce with another transaction. No text is enough for that.
                if matches!(next, Next::AnotherNonce | Next::Rejected) {
                    let held = sought.found == Found::Held && word == Word::NonceHeld && next == Next::AnotherNonce;
                    assert!(sought.again && (sought.found == Found::Used || held), "{case}");
                }
                if next == Next::AnotherNonce {
                    assert!(more_nonces, "{case}");
                }
                if matches!(sought.found, Found::Block | Found::Pool) {
                    assert_eq!(next, Next::Done, "{case}");
                }
                // It ends.
                if next == Next::Look && sought.found != Found::Unasked {
                    assert!(sought.more_looks, "{case}");
                }
                if next == Next::OtherForm {
                    assert!(other_form && matches!(word, Word::Refused | Word::Unclear), "{case}");
                }
            }
        });
    }

    #[test]
    fn the_table_of_care() {
        let mut table = Vec::new();
        every(|sought, resend, raise| {
            table.push((sought, resend, raise, meanwhile(sought, resend, raise)));
        });
        for (sought, resend, raise, care) in table {
            let wanted = match (sought.found, sought.again, sought.more_looks, resend, raise) {
                (Found::Unasked, _, _, false, false) => Care::Wait,
                (Found::Unasked, ..) => Care::Look,
                (Found::Unread | Found::Block, ..) => Care::Wait,
                (Found::Pool, _, _, _, raise) => {
                    if raise {
                        Care::Raise
                    } else {
                        Care::Wait
                    }
                }
                (Found::Used, true, ..) => Care::Gone,
                (Found::Used, false, true, ..) => Care::Look,
                (Found::Used, false, false, ..) => Care::Wait,
                (Found::Held, ..) => Care::Wait,
                (Found::Free, _, _, true, _) => Care::Resend,
                (Found::Free, _, _, false, true) => Care::Raise,
                (Found::Free, _, _, false, false) => Care::Wait,
            };
            assert_eq!(care, wanted, "{sought:?} {resend} {raise}");
        }
    }
}
