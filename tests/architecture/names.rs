//! One word, one thing: names of types that leave their file, and in which files they are declared.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, Visibility};

use crate::source::Tree;

/// The files that declare each name, of names that more than one file declares for others.
pub fn twice(tree: &Tree) -> BTreeMap<String, String> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in tree.files.iter().filter(|file| !file.is_generated()) {
        types(&file.code.items, &mut |name, leaves| {
            if leaves {
                names.entry(name).or_default().insert(file.path.clone());
            }
        });
    }
    names.retain(|_, files| files.len() > 1);
    names.into_iter().map(|(name, files)| (name, format!("declared for others in {files:?}"))).collect()
}

/// The types of a file, and whether each is visible outside its own module.
fn types(items: &[Item], found: &mut impl FnMut(String, bool)) {
    for item in items {
        let (name, visibility) = match item {
            Item::Enum(item) => (&item.ident, &item.vis),
            Item::Struct(item) => (&item.ident, &item.vis),
            Item::Trait(item) => (&item.ident, &item.vis),
            Item::Type(item) => (&item.ident, &item.vis),
            Item::Union(item) => (&item.ident, &item.vis),
            Item::Mod(item) => {
                if let Some((_, items)) = &item.content {
                    types(items, found);
                }
                continue;
            }
            _ => continue,
        };
        found(name.to_string(), !matches!(visibility, Visibility::Inherited));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(first: &str, second: &str) -> Vec<String> {
        let tree = Tree::of(&[("lib.rs", "mod a; mod b;"), ("a.rs", first), ("b.rs", second)]);
        twice(&tree).into_keys().collect()
    }

    #[test]
    fn a_name_for_two_things_is_found() {
        for first in [
            "pub struct Twice;",
            "pub(crate) enum Twice {}",
            "pub(super) trait Twice {}",
            "pub(in crate::a) type Twice = u8;",
            "mod inner { pub(super) union Twice { a: u8 } }",
            "#[cfg(test)] mod tests {} pub struct Twice;",
        ] {
            assert_eq!(names(first, "pub(super) struct Twice;"), ["Twice"], "{first}");
        }
    }

    #[test]
    fn other_names_are_not() {
        for first in ["struct Once;", "pub struct Other;", "#[cfg(test)] pub struct Once;", "pub fn once() {}"] {
            assert_eq!(names(first, "pub struct Once;"), [""; 0], "{first}");
        }
        assert_eq!(names("pub struct A; mod inner { pub struct A; }", ""), [""; 0]);
    }
}
