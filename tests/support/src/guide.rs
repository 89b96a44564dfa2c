//! The guide's page on what a client shows of itself.

pub fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/guide/seeing_what_happens.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The rows of the table whose head begins with this, as their cells.
pub fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let rows = page.split(head).nth(1).unwrap_or_else(|| panic!("no table {head}"));
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |cell: &str| cell.trim().replace('`', "");
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}
