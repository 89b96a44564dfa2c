//! The structure of the source: rooms that know few others, files without circles, one word for one thing, and sizes.
//! What it is held to is data, in `rooms.rs`. Each check is shown failing on a fault, beside it.
//!
//! `tests/count` prints the figures, of this source or of any commit's.

mod graph;
mod imports;
mod lines;
mod names;
mod public;
mod rooms;
mod setters;
mod shape;
mod source;
mod variants;

use std::{collections::BTreeMap, fmt::Display, fs, path::Path};

use graph::Graph;
use source::Tree;

#[track_caller]
fn none(faults: &[impl Display]) {
    let faults: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    assert!(faults.is_empty(), "{} faults:{}", faults.len(), faults.concat());
}

#[test]
fn imports_run_one_way() {
    none(&imports::faults(&Graph::of(&Tree::of_this_crate()), rooms::ROOMS));
}

#[test]
fn the_page_says_the_same() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("text");
    none(&imports::page_faults(&page, rooms::ROOMS));
}

#[test]
fn no_files_need_each_other() {
    let tree = Tree::of_this_crate();
    let graph = Graph::of(&tree);
    let circles = graph.circles();
    let excuses = |(files, _): &(&[&str], &str), circle: &[String]| {
        circle.iter().all(|path| files.iter().any(|file| path == file || file.ends_with('/') && path.starts_with(file)))
    };
    let unexcused = circles.iter().filter(|circle| !rooms::CIRCLES.iter().any(|known| excuses(known, circle)));
    none(&unexcused.map(|circle| graph.edges_within(circle).join("\n  ") + "\n").collect::<Vec<_>>());
    let unneeded = rooms::CIRCLES.iter().filter(|known| !circles.iter().any(|circle| excuses(known, circle)));
    none(&unneeded.map(|(files, _)| format!("{files:?} have no circle any more")).collect::<Vec<_>>());
}

/// What is found but not excused, and what is excused but not found.
fn but_for(found: BTreeMap<String, String>, excused: &[(&str, &str)]) -> Vec<String> {
    let excuse = |name: &str| excused.iter().any(|(known, _)| *known == name);
    let unneeded = |(name, _): &&(&str, &str)| !found.contains_key(*name);
    let mut faults: Vec<_> =
        excused.iter().filter(unneeded).map(|(name, _)| format!("{name} needs no excuse")).collect();
    faults.extend(found.iter().filter(|(name, _)| !excuse(name)).map(|(name, fault)| format!("{name}: {fault}")));
    faults
}

#[test]
fn one_word_is_one_thing() {
    none(&but_for(names::twice(&Tree::of_this_crate()), rooms::NAMES));
}

#[test]
fn methods_stand_in_the_room_of_their_type() {
    none(&but_for(shape::scattered(&Graph::of(&Tree::of_this_crate())), rooms::SCATTERED));
}

#[test]
fn setters_follow_one_convention() {
    none(&but_for(setters::faults(&Tree::of_this_crate()), rooms::SETTERS));
}

#[test]
fn variants_with_fields_can_grow() {
    none(&but_for(variants::closed(&Tree::of_this_crate()), rooms::VARIANTS));
}

#[test]
fn excuses_are_needed() {
    let found = || BTreeMap::from([("A".to_owned(), "wrong".to_owned())]);
    assert_eq!(but_for(found(), &[]), ["A: wrong"]);
    assert_eq!(but_for(found(), &[("A", "a reason")]), [""; 0]);
    assert_eq!(but_for(BTreeMap::new(), &[("A", "a reason")]), ["A needs no excuse"]);
}

#[test]
fn traits_have_more_than_one_implementor() {
    none(&shape::lonely_traits(&Tree::of_this_crate()));
}

#[test]
fn files_stay_readable() {
    none(&lines::large(&Tree::of_this_crate(), rooms::LINES));
}

#[test]
fn documentation_keeps_to_its_columns() {
    none(&lines::documentation(&Tree::of_this_crate(), rooms::LONG_LINES));
}

#[test]
fn the_public_interface_stays_small() {
    let count = public::count(&Tree::of_this_crate());
    assert!(count <= rooms::PUBLIC, "{count} public items, more than {}", rooms::PUBLIC);
}

/// What is beside the order book's server in its folder, and why it is not the server. A file that is not named here counts.
const BESIDE_THE_SERVER: &[(&str, &str)] = &[
    ("config.rs", "what the command line comes to: fields and their defaults"),
    ("faucet.rs", "gives test tokens away, on a test chain"),
    ("lib.rs", "the list of the files"),
    ("main.rs", "the command line, and what it starts"),
    ("maker.rs", "two bots that trade, for `--maker`"),
    ("page.rs", "hands out the page's files"),
    ("world.rs", "starts anvil, the contracts and a development node"),
];

#[test]
fn the_order_books_server_is_small() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clob/server/src"));
    let beside = |path: &str| BESIDE_THE_SERVER.iter().any(|(file, _)| *file == path);
    let (others, server): (Vec<_>, Vec<_>) = tree.files.iter().partition(|file| beside(&file.path));
    assert_eq!(others.len(), BESIDE_THE_SERVER.len(), "a file that is beside the server is not there");
    // With imports; without comments, empty lines and tests.
    let counts: Vec<_> = server.iter().map(|file| (&file.path, lines::code(file))).collect();
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    println!("{all}: {counts:?}");
    assert!(all < 500, "{all} lines: {counts:?}");
}

#[derive(Default)]
struct Figures {
    files: usize,
    /// Of code, without comments and tests.
    lines: usize,
    /// The most lines of one file.
    largest: usize,
    /// Lines of documentation that are too long.
    long: usize,
}

/// For `tests/count`, which says with `SOURCE` what is counted.
#[test]
fn figures() {
    let other = std::env::var_os("SOURCE");
    let tree = &other.map_or_else(Tree::of_this_crate, |source| Tree::read(Path::new(&source)));
    let mut rooms: BTreeMap<&str, Figures> = BTreeMap::new();
    for file in &tree.files {
        let code = lines::code(file);
        assert!(code > 0 || file.code.items.is_empty(), "{}", file.path);
        let room = rooms.entry(if file.is_generated() { "(generated)" } else { file.room() }).or_default();
        room.files += 1;
        room.lines += code;
        room.largest = room.largest.max(code);
        room.long += lines::too_long(&file.text).len();
    }
    println!("{:<12} {:>5} {:>6} {:>8} {:>10}", "room", "files", "lines", "largest", "long docs");
    let all = rooms.values().fold(Figures::default(), |all, room| Figures {
        files: all.files + room.files,
        lines: all.lines + room.lines,
        largest: all.largest.max(room.largest),
        long: all.long + room.long,
    });
    for (name, room) in rooms.iter().chain([(&"all", &all)]) {
        println!("{name:<12} {:>5} {:>6} {:>8} {:>10}", room.files, room.lines, room.largest, room.long);
    }
    let graph = Graph::of(tree);
    println!("documented public items: {}", public::count(tree));
    println!("names that two files declare for others: {}", names::twice(tree).len());
    println!("circles of files: {}", graph.circles().len());
}
