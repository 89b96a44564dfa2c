//! Methods that set something: plain names where a value is built up and then used up, `with_x` where it is kept.

use std::collections::{BTreeMap, BTreeSet};

use syn::{FnArg, ImplItem, Item, ReturnType, Type, Visibility};

use crate::source::Tree;

/// Types that end in being awaited, iterated or built: what sets them up has plain names.
const USED_UP: &[&str] = &["Future", "IntoFuture", "Stream"];

/// Types whose setters break the convention, and which do. Public methods that take `self` and return the type set it up.
pub fn faults(tree: &Tree) -> BTreeMap<String, String> {
    let mut setters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut used_up = BTreeSet::new();
    for file in tree.files.iter().filter(|file| !file.is_generated()) {
        for item in &file.code.items {
            let Item::Impl(item) = item else { continue };
            let Type::Path(of) = &*item.self_ty else { continue };
            let Some(of) = of.path.segments.last().map(|segment| segment.ident.to_string()) else { continue };
            if let Some((path, ..)) = &item.trait_ {
                if path.segments.last().is_some_and(|name| USED_UP.iter().any(|known| name.ident == known)) {
                    used_up.insert(of);
                }
                continue;
            }
            for method in &item.items {
                if let ImplItem::Fn(method) = method
                    && matches!(method.vis, Visibility::Public(_))
                    && sets(&method.sig, &of)
                {
                    setters.entry(of.clone()).or_default().insert(method.sig.ident.to_string());
                }
            }
        }
    }
    let mut faults = BTreeMap::new();
    for (name, setters) in setters {
        let is_used_up = name.ends_with("Builder") || used_up.contains(&name);
        let with = |setter: &&String| setter.starts_with("with");
        let wrong: Vec<_> = setters.iter().filter(|setter| is_used_up == with(setter)).collect();
        if !wrong.is_empty() {
            let rule = if is_used_up { "plain names" } else { "`with_`" };
            faults.insert(name, format!("{wrong:?} set it, which {rule} would say"));
        }
    }
    faults
}

/// Whether a method takes `self` and gives it back, or a result of it.
fn sets(signature: &syn::Signature, of: &str) -> bool {
    let by_value = matches!(signature.inputs.first(), Some(FnArg::Receiver(receiver)) if matches!(receiver.kind, syn::ReceiverKind::Value));
    let ReturnType::Type(_, returned) = &signature.output else { return false };
    by_value && signature.asyncness.is_none() && is_self(returned, of)
}

fn is_self(returned: &Type, of: &str) -> bool {
    let Type::Path(path) = returned else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Self" || last.ident == of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Vec<String> {
        faults(&Tree::of(&[("lib.rs", code)])).into_keys().collect()
    }

    #[test]
    fn setters_that_break_the_convention_are_found() {
        assert_eq!(found("pub struct A; impl A { pub fn x(self) -> Self { self } }"), ["A"]);
        assert_eq!(found("pub struct A; impl A { pub const fn x(mut self, x: u8) -> A { self } }"), ["A"]);
        assert_eq!(found("pub struct A; impl A { pub fn with_x(self) -> Self { self } }"), [""; 0]);
        assert_eq!(found("pub struct ABuilder; impl ABuilder { pub fn with_x(self) -> Self { self } }"), ["ABuilder"]);
        assert_eq!(found("pub struct ABuilder; impl ABuilder { pub fn x(self) -> Self { self } }"), [""; 0]);
        let awaited = "pub struct A; impl A { pub fn x(self) -> Self { self } } impl IntoFuture for A {}";
        assert_eq!(found(awaited), [""; 0]);
        let others =
            "pub struct A; impl A { pub fn x(&self) -> A { A } fn y(self) -> A { A } pub fn z(self) -> u8 { 1 } }";
        assert_eq!(found(others), [""; 0]);
    }
}
