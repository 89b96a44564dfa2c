//! What orders are, and what becomes of each. Text only: the ledger counts with it.

/// Tasks that take orders.
pub const TASKS: u64 = 8;

/// What fails has this before the order's number.
const FAILS: &str = "fails ";

/// What fills the nonce of an order that failed has this before its number.
const NOTHING: &str = "nothing for ";

/// What is done for an order that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// What was meant runs under the same nonce.
    Replace,
    /// Nothing runs under the same nonce, and the order is told to have failed.
    Fill,
    /// The same runs under another nonce.
    Renumber,
}

/// The order of a task with a number.
pub fn id(task: u64, number: u64) -> String {
    format!("{task}-{number}")
}

/// The task of an order.
pub fn task_of(id: &str) -> u64 {
    id.split_once('-').and_then(|(task, _)| task.parse().ok()).expect("the order of a task")
}

/// Every seventh order fails at first.
pub fn fails(id: &str) -> bool {
    id.split_once('-').is_some_and(|(_, number)| number.parse::<u64>().is_ok_and(|number| number % 7 == 3))
}

/// What is asked of the program for an order.
pub fn input(id: &str) -> String {
    if fails(id) { format!("{FAILS}{id}") } else { id.to_owned() }
}

/// What takes the place of an input that failed.
pub fn other_input(failed: &str, after: After) -> String {
    let id = failing(failed).expect("it failed without having been told to");
    if after == After::Fill { format!("{NOTHING}{id}") } else { id.to_owned() }
}

/// The order that an input is to fail for.
pub fn failing(input: &str) -> Option<&str> {
    input.strip_prefix(FAILS)
}

/// The order that an input is for.
pub fn order_of(input: &str) -> &str {
    failing(input).or_else(|| input.strip_prefix(NOTHING)).unwrap_or(input)
}

/// What lands for an order; an order that is told to have failed has something, too, if a nonce has to be filled.
pub fn landing(id: &str, after: After) -> String {
    if fails(id) && after == After::Fill { format!("{NOTHING}{id}") } else { id.to_owned() }
}
