//! The public interface, counted: documented `pub` items.

use syn::{Attribute, ImplItem, Item, Visibility};

use crate::source::{Tree, attributes};

/// Modules, types, traits, constants, functions and methods that are `pub` and have documentation. Fields, variants and the
/// items of traits belong to what they are in, and are not counted; nor are re-exports, which would count twice.
pub fn count(tree: &Tree) -> usize {
    tree.files.iter().filter(|file| !file.is_generated()).map(|file| items(&file.code.items)).sum()
}

fn items(list: &[Item]) -> usize {
    list.iter().map(one).sum()
}

fn one(item: &Item) -> usize {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        Item::Mod(item) => {
            let inside = item.content.as_ref().map_or(0, |(_, inside)| items(inside));
            return inside + usize::from(counts(&item.vis, &item.attrs));
        }
        Item::Impl(item) if item.trait_.is_none() => {
            let counts = |item: &&ImplItem| match item {
                ImplItem::Const(item) => counts(&item.vis, &item.attrs),
                ImplItem::Fn(item) => counts(&item.vis, &item.attrs),
                _ => false,
            };
            return item.items.iter().filter(counts).count();
        }
        _ => return 0,
    };
    usize::from(counts(visibility, attributes(item)))
}

fn counts(visibility: &Visibility, attributes: &[Attribute]) -> bool {
    matches!(visibility, Visibility::Public(_)) && attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
}

#[test]
fn what_users_see_is_counted_once() {
    let tree = Tree::of(&[
        ("lib.rs", "/// D.\npub mod a; mod b; pub use b::B;"),
        (
            "a.rs",
            "/// D.\npub struct A { /// D.\npub f: u8 } impl A { /// D.\npub fn m(&self) {} /// D.\nfn p(&self) {} }",
        ),
        ("b.rs", "/// D.\npub enum B { /// D.\nC } impl Clone for B { /// D.\nfn clone(&self) -> B { B::C } }"),
        ("c.rs", "/// D.\npub(crate) struct C; pub fn bare() {} #[cfg(test)] mod tests { /// D.\npub fn t() {} }"),
    ]);
    assert_eq!(count(&tree), 4, "the module, A, its method, B");
}
