//! Rooms know of each other what the table says, and no more: imports run one way.

use crate::{
    graph::Graph,
    rooms::{BELOW, ONLY, Room, STRANGERS},
};

/// Every take that the table does not allow.
pub fn faults(graph: &Graph<'_>, rooms: &[Room]) -> Vec<String> {
    let mut faults = Vec::new();
    let files = &graph.tree.files;
    for edge in &graph.edges {
        let (from, to) = (&files[edge.from], &files[edge.to]);
        if from.room() == "lib" || from.room() == to.room() {
            continue;
        }
        let way = &*edge.by_way_of;
        let take = format!("{} takes {} from {}", from.path, edge.name, to.path);
        let Some(room) = rooms.iter().find(|room| room.name == from.room()) else {
            faults.push(format!("{take}: `{}` is no room", from.room()));
            continue;
        };
        if way != room.name && !room.knows.contains(&way) && !BELOW.contains(&way) {
            faults.push(format!("{take}: `{}` must not know `{way}`", room.name));
        }
        let strange = STRANGERS.iter().any(|(name, strangers)| {
            *name == room.name && strangers.iter().any(|stranger| to.path.starts_with(stranger))
        });
        let beside = ONLY.iter().any(|(name, folder, only)| {
            *name == room.name && to.path.starts_with(folder) && !to.path.starts_with(only)
        });
        if strange || beside {
            faults.push(format!("{take}: of that the two share nothing"));
        }
    }
    for room in rooms {
        if !files.iter().any(|file| file.room() == room.name) {
            faults.push(format!("`{}` is a room without files", room.name));
        }
    }
    for file in files {
        if file.room() != "lib" && !rooms.iter().any(|room| room.name == file.room()) {
            faults.push(format!("{}: `{}` is no room", file.path, file.room()));
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

/// Rows of ARCHITECTURE.md that do not say what the table says.
pub fn page_faults(page: &str, rooms: &[Room]) -> Vec<String> {
    let wrong = |room: &&Room| {
        let start = format!("| `{}` | ", room.name);
        let Some(row) = page.lines().find(|line| line.starts_with(&start)) else { return true };
        let knows = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names = knows.split(", ").map(|name| name.trim_matches('`').split("::").next().unwrap_or_default());
        names.filter(|name| *name != "nothing").ne(room.knows.iter().copied())
    };
    let told = |room: &Room| format!("ARCHITECTURE.md, `{}`: it should know {:?}", room.name, room.knows);
    rooms.iter().filter(wrong).map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Tree;

    const ROOMS: &[Room] = &[
        Room { name: "low", knows: &[] },
        Room { name: "high", knows: &["low"] },
        Room { name: "devnode", knows: &["wire", "job"] },
        Room { name: "wire", knows: &[] },
        Room { name: "job", knows: &[] },
    ];
    const BASE: [(&str, &str); 6] = [
        ("lib.rs", "mod low; mod high; mod devnode; mod wire; mod job; pub use high::High;"),
        ("low.rs", "pub struct Low;"),
        ("high.rs", "use crate::low::Low; pub struct High(Low);"),
        ("devnode.rs", "use crate::wire::generated::Message; use crate::job::Id; struct Node(Message, Id);"),
        ("wire/mod.rs", "pub mod generated; pub struct Wire;"),
        ("job/mod.rs", "pub mod abi; mod id; pub use id::Id;"),
    ];
    const REST: [(&str, &str); 3] = [
        ("wire/generated/mod.rs", "pub struct Message;"),
        ("job/abi.rs", "pub fn encode() {}"),
        ("job/id.rs", "pub struct Id;"),
    ];

    fn planted(path: &str, text: &str) -> Vec<String> {
        let mut files = [&BASE[..], &REST[..]].concat();
        files.retain(|file| file.0 != path);
        files.push((path, text));
        faults(&Graph::of(&Tree::of(&files)), ROOMS)
    }

    #[test]
    fn healthy_rooms_have_no_faults() {
        assert_eq!(planted("low.rs", BASE[1].1), [""; 0]);
    }

    #[test]
    fn a_room_that_knows_too_much_is_found_however_it_says_so() {
        for code in [
            "use crate::high::High;",
            "use crate::{high::{self}}; type A = high::High;",
            "fn f(_: crate::high::High) {}",
            "use crate::High;",
            "use super::high::*;",
            "fn f() { println!(\"{:?}\", crate::high::High); }",
            "fn f() { use crate::high::High; }",
            "mod inner { use super::super::high::High; }",
            "#[cfg(test)] mod tests {} use crate::high::High;",
        ] {
            let faults = planted("low.rs", &format!("pub struct Low; {code}"));
            let [fault] = &faults[..] else { panic!("{code}: {faults:?}") };
            assert!(fault.contains("`low` must not know `high`"), "{fault}");
        }
    }

    #[test]
    fn what_node_and_client_must_not_share_is_found() {
        for code in ["use crate::job::abi::encode;", "use crate::wire::Wire;", "fn f() { crate::job::abi::encode() }"] {
            let faults = planted("devnode.rs", code);
            assert!(faults.len() == 1 && faults[0].contains("share nothing"), "{code}: {faults:?}");
        }
    }

    #[test]
    fn files_without_a_room_and_rooms_without_files_are_found() {
        assert_eq!(planted("attic.rs", "struct Bat;"), ["attic.rs: `attic` is no room"]);
        let tree = Tree::of(&[("lib.rs", "mod low;"), ("low.rs", "")]);
        assert_eq!(faults(&Graph::of(&tree), &ROOMS[..2]), ["`high` is a room without files"]);
    }

    #[test]
    fn a_page_that_says_something_else_is_found() {
        let page = "| `low` | things | nothing |\n| `high` | more | `low` |\n";
        assert_eq!(page_faults(page, &ROOMS[..2]), [""; 0]);
        for page in [page.replace("nothing", "`high`"), page.replace("`low` |\n", "`low`, `high` |\n"), String::new()] {
            assert!(!page_faults(&page, &ROOMS[..2]).is_empty(), "{page}");
        }
    }
}
