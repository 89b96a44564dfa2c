//! The shape of types: methods stand in the room of their type, and a trait of the crate's own has more than one implementor.

use std::collections::BTreeMap;

use syn::{
    GenericParam, Type, Visibility,
    visit::{self, Visit},
};

use crate::{graph::Graph, source::Tree};

/// Types with inherent methods in another room than their own, and which.
pub fn scattered(graph: &Graph<'_>) -> BTreeMap<String, String> {
    let mut faults = BTreeMap::new();
    for (number, file) in graph.tree.files.iter().enumerate() {
        let mut impls = Impls::default();
        impls.visit_file(&file.code);
        for name in impls.inherent {
            let foreign = graph.edges.iter().find(|edge| edge.from == number && edge.name == name);
            if let Some(home) = foreign.map(|edge| &graph.tree.files[edge.to])
                && home.room() != file.room()
            {
                faults.insert(name, format!("{} holds methods of what {} declares", file.path, home.path));
            }
        }
    }
    faults
}

/// Traits that are not public and that one type implements: a function or the type itself would do. An impl for all types
/// that have something is an extension of them, and counts as many.
pub fn lonely_traits(tree: &Tree) -> Vec<String> {
    let mut all = BTreeMap::new();
    let mut implementors: BTreeMap<String, usize> = BTreeMap::new();
    for file in tree.files.iter().filter(|file| !file.is_generated()) {
        let mut impls = Impls::default();
        impls.visit_file(&file.code);
        all.extend(impls.private.into_iter().map(|name| (name, &file.path)));
        for (name, is_blanket) in impls.implemented {
            *implementors.entry(name).or_default() += if is_blanket { 2 } else { 1 };
        }
    }
    let few = |name: &String| implementors.get(name).copied().unwrap_or(0) < 2;
    let lonely = all.iter().filter(|(name, _)| few(name));
    lonely.map(|(name, path)| format!("{path}: the trait {name} has no two implementors")).collect()
}

#[derive(Default)]
struct Impls {
    /// Types with methods of their own here.
    inherent: Vec<String>,
    /// Traits that are implemented here, and whether for a type parameter.
    implemented: Vec<(String, bool)>,
    /// Traits that are declared here and not `pub`.
    private: Vec<String>,
}

impl<'ast> Visit<'ast> for Impls {
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let Type::Path(of) = &*item.self_ty else { return };
        let Some(name) = of.path.segments.last().map(|segment| segment.ident.to_string()) else { return };
        match &item.trait_ {
            Some((path, ..)) => {
                let is_parameter = |parameter: &GenericParam| match parameter {
                    GenericParam::Type(parameter) => parameter.ident == name,
                    _ => false,
                };
                let is_blanket = item.generics.params.iter().any(is_parameter);
                self.implemented.extend(path.segments.last().map(|segment| (segment.ident.to_string(), is_blanket)));
            }
            None => self.inherent.push(name),
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if !matches!(item.vis, Visibility::Public(_)) {
            self.private.push(item.ident.to_string());
        }
        visit::visit_item_trait(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_far_from_their_type_are_found() {
        let files = |far: &'static str| {
            Tree::of(&[
                ("lib.rs", "mod a; mod b;"),
                ("a/mod.rs", "mod c; pub struct A;"),
                ("a/c.rs", far),
                ("b.rs", far),
            ])
        };
        let tree = files("use crate::a::A; impl A { fn f(&self) {} }");
        let found = scattered(&Graph::of(&tree));
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("A".into(), "b.rs holds methods of what a/mod.rs declares".into())]
        );
        let tree = files("use crate::a::A; impl Clone for A { fn clone(&self) -> A { A } }");
        assert!(scattered(&Graph::of(&tree)).is_empty());
    }

    #[test]
    fn traits_with_one_implementor_are_found() {
        let lonely = |code| lonely_traits(&Tree::of(&[("lib.rs", code)])).len();
        assert_eq!(lonely("pub(crate) trait A {} struct B; impl A for B {}"), 1);
        assert_eq!(lonely("trait A {}"), 1);
        assert_eq!(
            lonely("trait A {} struct B; impl A for B {} #[cfg(test)] mod tests { impl super::A for u8 {} }"),
            1
        );
        assert_eq!(lonely("trait A {} struct B; impl A for B {} impl A for u8 {}"), 0);
        assert_eq!(lonely("trait A {} impl<T: Clone> A for T {}"), 0);
        assert_eq!(lonely("pub trait A {} struct B; impl A for B {}"), 0);
    }
}
