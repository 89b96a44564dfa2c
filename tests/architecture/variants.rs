//! Variants of public enums that have named fields: each may get another, so nobody outside the crate makes them or names all.

use std::collections::BTreeMap;

use syn::{Attribute, Fields, Item, Visibility};

use crate::source::Tree;

/// Variants with named fields that could not get another.
pub fn closed(tree: &Tree) -> BTreeMap<String, String> {
    let mut faults = BTreeMap::new();
    for file in tree.files.iter().filter(|file| !file.is_generated()) {
        for item in &file.code.items {
            let Item::Enum(item) = item else { continue };
            if !matches!(item.vis, Visibility::Public(_)) {
                continue;
            }
            let closed = item.variants.iter().filter(|variant| {
                matches!(variant.fields, Fields::Named(_)) && !variant.attrs.iter().any(is_non_exhaustive)
            });
            faults.extend(closed.map(|variant| {
                (format!("{}::{}", item.ident, variant.ident), format!("in {} cannot get another field", file.path))
            }));
        }
    }
    faults
}

fn is_non_exhaustive(attribute: &Attribute) -> bool {
    attribute.path().is_ident("non_exhaustive")
}

#[test]
fn variants_that_cannot_grow_are_found() {
    let found = |code: &str| closed(&Tree::of(&[("lib.rs", code)])).into_keys().collect::<Vec<_>>();
    assert_eq!(found("pub enum A { B { c: u8 }, D, E(u8), #[non_exhaustive] F { g: u8 } }"), ["A::B"]);
    assert_eq!(found("enum A { B { c: u8 } } pub(crate) enum C { D { e: u8 } }"), [""; 0]);
}
