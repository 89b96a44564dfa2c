//! Which file takes what from which: `use` declarations and paths, followed through re-exports to the file that declares.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Item, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::source::Tree;

/// One file takes a name from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    /// What is taken; `*` for all.
    pub name: String,
    /// The room that it is taken from: one may hand on what another declares.
    pub by_way_of: String,
}

/// What the files of a tree take from each other.
pub struct Graph<'a> {
    pub tree: &'a Tree,
    pub edges: BTreeSet<Edge>,
    modules: HashMap<Vec<String>, Module>,
}

#[derive(Default)]
struct Module {
    file: usize,
    declared: BTreeSet<String>,
    /// Name here, and the path it stands for as it is written.
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// The names of it that are handed on.
    exported: BTreeSet<String>,
}

/// What a path from the root means.
enum Target {
    Module(Vec<String>),
    Item { file: usize, name: String },
}

impl<'a> Graph<'a> {
    pub fn of(tree: &'a Tree) -> Self {
        let mut graph = Self { tree, edges: BTreeSet::new(), modules: HashMap::new() };
        for (file, source) in tree.files.iter().enumerate() {
            graph.declare(file, &source.module, &source.code.items);
        }
        for (file, source) in tree.files.iter().enumerate() {
            let mut reader = Reader { module: source.module.clone(), uses: Vec::new(), paths: Vec::new() };
            reader.visit_file(&source.code);
            for taken in reader.uses {
                graph.take(file, taken);
            }
            for (module, path) in reader.paths {
                if let Some(path) = graph.absolute(&module, &path) {
                    graph.name(file, &path);
                }
            }
        }
        graph
    }

    fn declare(&mut self, file: usize, module: &[String], items: &[Item]) {
        let mut own = Module { file, ..Module::default() };
        for item in items {
            let name = match item {
                Item::Const(item) => &item.ident,
                Item::Enum(item) => &item.ident,
                Item::Fn(item) => &item.sig.ident,
                Item::Static(item) => &item.ident,
                Item::Struct(item) => &item.ident,
                Item::Trait(item) => &item.ident,
                Item::Type(item) => &item.ident,
                Item::Union(item) => &item.ident,
                Item::Macro(item) if item.ident.is_some() => item.ident.as_ref().expect("just seen"),
                Item::Use(item) => {
                    for leaf in leaves(item) {
                        if leaf.is_exported {
                            own.exported.insert(leaf.name.clone());
                        }
                        match leaf.name.as_str() {
                            "*" => own.globs.push(leaf.path),
                            _ => drop(own.imports.insert(leaf.name, leaf.path)),
                        }
                    }
                    continue;
                }
                Item::Mod(item) => {
                    if let Some((_, items)) = &item.content {
                        self.declare(file, &[module, &[item.ident.to_string()]].concat(), items);
                    }
                    continue;
                }
                _ => continue,
            };
            own.declared.insert(name.to_string());
        }
        self.modules.insert(module.to_vec(), own);
    }

    /// The path from the root, if it leads into the crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?;
        let below = |module: &[String]| Some([module, &path[1..]].concat());
        match first.as_str() {
            "crate" | "$crate" => below(&[]),
            "self" => below(module),
            "super" => {
                let mut module = module;
                let mut rest = path;
                while rest.first().is_some_and(|part| part == "super") {
                    (module, rest) = (module.split_last()?.1, &rest[1..]);
                }
                Some([module, rest].concat())
            }
            name => {
                let child = [module, &[name.to_owned()]].concat();
                if self.modules.contains_key(&child) {
                    return below(&child);
                }
                let own = self.modules.get(module)?;
                match own.imports.get(name) {
                    // An import of its own name would go round for ever.
                    Some(import) if import.first() != Some(first) => below(&self.absolute(module, import)?),
                    Some(_) => None,
                    None if own.declared.contains(name) => Some([module, path].concat()),
                    // Brought by `use …::*`. A small letter may be a variable's.
                    None if name.starts_with(char::is_uppercase) => own.globs.iter().find_map(|glob| {
                        let path = [&self.absolute(module, glob)?, path].concat();
                        matches!(self.resolve(&path, 0)?, Target::Item { .. }).then_some(path)
                    }),
                    None => None,
                }
            }
        }
    }

    fn resolve(&self, path: &[String], depth: usize) -> Option<Target> {
        let mut module = Vec::new();
        for (at, part) in path.iter().enumerate() {
            let here = self.modules.get(&module)?;
            let child = [&module[..], std::slice::from_ref(part)].concat();
            let is_last = at + 1 == path.len();
            if self.modules.contains_key(&child) && !(is_last && here.declared.contains(part)) {
                module = child;
                continue;
            }
            return self.find(&module, part, &path[at + 1..], depth);
        }
        Some(Target::Module(module))
    }

    /// A name in a module: declared there, or brought there by an import.
    fn find(&self, module: &[String], name: &str, rest: &[String], depth: usize) -> Option<Target> {
        // Two modules may import everything of each other.
        if depth > 8 {
            return None;
        }
        let own = self.modules.get(module)?;
        if own.declared.contains(name) {
            return Some(Target::Item { file: own.file, name: name.to_owned() });
        }
        if let Some(import) = own.imports.get(name) {
            let path = [&self.absolute(module, import)?, rest].concat();
            return self.resolve(&path, depth + 1);
        }
        own.globs.iter().find_map(|glob| {
            let path = [&self.absolute(module, glob)?[..], &[name.to_owned()], rest].concat();
            self.resolve(&path, depth + 1)
        })
    }

    /// A `use` declaration's leaf.
    fn take(&mut self, file: usize, taken: Use) {
        let Some(path) = self.absolute(&taken.module, &taken.path) else { return };
        // What a parent hands on of its children is no edge, nor is what it then does with it.
        if taken.is_exported && path.starts_with(&taken.module) {
            return;
        }
        if taken.name == "*" {
            if let Some(Target::Module(module)) = self.resolve(&path, 0) {
                self.edge(file, &path, self.modules[&module].file, "*".into());
            }
        } else {
            self.name(file, &path);
        }
    }

    fn name(&mut self, file: usize, path: &[String]) {
        if let Some(Target::Item { file: to, name }) = self.resolve(path, 0) {
            self.edge(file, path, to, name);
        }
    }

    fn edge(&mut self, from: usize, path: &[String], to: usize, name: String) {
        let files = &self.tree.files;
        let own = &self.modules[&files[from].module];
        let handed_on = files[to].module.starts_with(&files[from].module) && own.exported.contains(&name);
        // A type beside its builder: each must know the other.
        let built = name.strip_suffix("Builder").is_some_and(|built| own.declared.contains(built));
        if from != to && !handed_on && !built {
            // The crate's root hands on what all may have.
            let is_room = path.len() > 1 && self.modules.contains_key(&path[..1]);
            let by_way_of = if is_room { path[0].clone() } else { files[to].room().to_owned() };
            self.edges.insert(Edge { from, to, name, by_way_of });
        }
    }

    /// Files that need each other, in circles: those that reach one another.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let count = self.tree.files.len();
        let mut next = vec![BTreeSet::new(); count];
        for edge in &self.edges {
            next[edge.from].insert(edge.to);
        }
        let reach = |from: usize| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from];
            while let Some(file) = open.pop() {
                open.extend(next[file].iter().copied().filter(|to| seen.insert(*to)));
            }
            seen
        };
        let reached: Vec<_> = (0..count).map(reach).collect();
        let mut circles = BTreeSet::new();
        for file in 0..count {
            let circle: Vec<_> = (0..count)
                .filter(|other| reached[file].contains(other) && reached[*other].contains(&file))
                .map(|other| self.tree.files[other].path.clone())
                .collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    /// What makes a circle one: its edges, in words.
    pub fn edges_within(&self, circle: &[String]) -> Vec<String> {
        let path = |file: usize| &self.tree.files[file].path;
        let within =
            self.edges.iter().filter(|edge| circle.contains(path(edge.from)) && circle.contains(path(edge.to)));
        within.map(|edge| format!("{} takes {} from {}", path(edge.from), edge.name, path(edge.to))).collect()
    }
}

/// A leaf of a `use` declaration.
struct Use {
    module: Vec<String>,
    path: Vec<String>,
    name: String,
    is_exported: bool,
}

fn leaves(item: &ItemUse) -> Vec<Use> {
    fn walk(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                walk(&tree.tree, path, found);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, path, found)),
            UseTree::Glob(_) => found.push((path.clone(), "*".into())),
            UseTree::Name(name) if name.ident == "self" => {
                found.push((path.clone(), path.last().cloned().unwrap_or_default()));
            }
            UseTree::Name(name) => {
                found.push(([&path[..], &[name.ident.to_string()]].concat(), name.ident.to_string()));
            }
            UseTree::Rename(name) => {
                let whole =
                    if name.ident == "self" { path.clone() } else { [&path[..], &[name.ident.to_string()]].concat() };
                found.push((whole, name.rename.to_string()));
            }
        }
    }
    let mut found = Vec::new();
    if item.leading_colon.is_none() {
        walk(&item.tree, &mut Vec::new(), &mut found);
    }
    let is_exported = !matches!(item.vis, Visibility::Inherited);
    let leaf = |(path, name)| Use { module: Vec::new(), path, name, is_exported };
    found.into_iter().map(leaf).collect()
}

/// Reads what one file names.
struct Reader {
    module: Vec<String>,
    uses: Vec<Use>,
    paths: Vec<(Vec<String>, Vec<String>)>,
}

impl Reader {
    fn path(&mut self, path: Vec<String>) {
        self.paths.push((self.module.clone(), path));
    }

    /// Paths in what a macro is given: names with `::` between them.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.path(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.path(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.path(path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let module = &self.module;
        self.uses.extend(leaves(item).into_iter().map(|leaf| Use { module: module.clone(), ..leaf }));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.path(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        Graph::of(&Tree::of(files)).circles()
    }

    #[test]
    fn circles_of_files_are_found_however_files_name_each_other() {
        for (a, b) in [
            ("use super::b::B; pub struct A(B);", "use super::a::A; pub struct B(Box<A>);"),
            ("pub struct A(super::b::B);", "use crate::x::{a}; pub struct B(Box<a::A>);"),
            ("use super::*; pub struct A(B);", "pub struct B; fn f() { use crate::A; A; }"),
            ("pub struct A(crate::x::B);", "pub struct B; macro_rules! m { () => { $crate::x::a::A } }"),
            ("pub struct A; fn f() { matches!(0, super::b::N) }", "pub const N: u8 = 0; use super::A as Other;"),
            ("#[cfg(test)] mod tests {} use super::b::B; pub struct A(B);", "use super::a::A; pub struct B(Box<A>);"),
        ] {
            let files = [("lib.rs", "mod x; use x::A;"), ("x/mod.rs", "mod a; mod b; pub use self::{a::A, b::B};")];
            let found = circles(&[files[0], files[1], ("x/a.rs", a), ("x/b.rs", b)]);
            let [circle] = &found[..] else { panic!("{a} {b}: {found:?}") };
            assert!(circle.contains(&"x/a.rs".to_owned()) && circle.contains(&"x/b.rs".to_owned()), "{circle:?}");
        }
    }

    #[test]
    fn longer_circles_and_those_of_parent_and_child_are_found() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "use crate::c::C; pub struct B(C);"),
            ("c.rs", "pub struct C; use crate::a::A;"),
            ("d.rs", "use crate::a::A;"),
        ]);
        assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
        let child = ("a/b.rs", "use super::A; pub fn f(_: A) {}");
        let found = circles(&[("lib.rs", "mod a;"), ("a/mod.rs", "mod b; pub struct A; fn g() { b::f(A) }"), child]);
        assert_eq!(found, [["a/b.rs", "a/mod.rs"]]);
    }

    #[test]
    fn parents_that_hand_on_and_builders_are_no_circles() {
        let found = circles(&[
            ("lib.rs", "mod a; mod tests;"),
            (
                "a/mod.rs",
                "mod b; mod c; pub use b::{AB, ABuilder}; pub struct A; impl A { fn b() -> AB { AB::new() } }",
            ),
            ("a/b.rs", "use super::A; pub struct AB(A); pub struct ABuilder(A);"),
            ("a/c.rs", "pub struct C; impl C { fn builder() -> CBuilder { CBuilder } } use super::d::CBuilder;"),
            ("a/d.rs", "pub struct CBuilder; impl CBuilder { fn build(self) -> super::c::C { super::c::C } }"),
            ("a/e.rs", "use super::e::own; pub fn own() {} #[cfg(test)] use super::A;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
