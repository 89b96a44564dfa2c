//! The crate's source as a tree of files: parsed, and without what is compiled for tests only.

use std::{fs, path::Path};

use syn::{
    Attribute, ImplItem, Item, Meta,
    visit_mut::{self, VisitMut},
};

/// One file.
pub struct Source {
    /// Below `src`: `client/mod.rs`.
    pub path: String,
    /// What it is as a module: `["client"]`; nothing for `lib.rs`.
    pub module: Vec<String>,
    pub text: String,
    pub code: syn::File,
}

impl Source {
    /// The folder of `src` that it is in, or its own name: `client`, `error`, `lib`.
    pub fn room(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    pub fn is_generated(&self) -> bool {
        self.path.contains("generated/") && !self.path.ends_with("mod.rs")
    }
}

/// All files of a crate.
pub struct Tree {
    pub files: Vec<Source>,
}

impl Tree {
    /// The crate's own.
    pub fn of_this_crate() -> Self {
        Self::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
    }

    pub fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        collect(root, root, &mut files);
        Self::parse(files)
    }

    /// A crate made up by a test: paths and texts.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self::parse(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn parse(mut files: Vec<(String, String)>) -> Self {
        files.sort();
        let mut dropped = Vec::new();
        let mut sources = Vec::new();
        for (path, text) in files {
            let module = module(&path);
            let mut code = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
            for item in &code.items {
                if let Item::Mod(item) = item
                    && item.content.is_none()
                    && is_test(&item.attrs)
                {
                    dropped.push([&module[..], &[item.ident.to_string()]].concat());
                }
            }
            WithoutTests.visit_file_mut(&mut code);
            sources.push(Source { path, module, text, code });
        }
        sources.retain(|source| !dropped.iter().any(|dropped| source.module.starts_with(dropped)));
        Self { files: sources }
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            let below = path.strip_prefix(root).expect("below the root");
            found.push((below.to_str().expect("text").replace('\\', "/"), text));
        }
    }
}

fn module(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// `#[cfg(test)]`, alone or with more.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test ,")
        }
        _ => false,
    })
}

struct WithoutTests;

impl VisitMut for WithoutTests {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| !is_test(attributes(item)));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, item: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut item.content {
            items.retain(|item| !is_test(attributes(item)));
        }
        visit_mut::visit_item_mod_mut(self, item);
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        item.items.retain(|item| match item {
            ImplItem::Const(item) => !is_test(&item.attrs),
            ImplItem::Fn(item) => !is_test(&item.attrs),
            ImplItem::Type(item) => !is_test(&item.attrs),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, item);
    }
}

pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn code_behind_a_module_of_tests_is_read() {
    let tree = Tree::of(&[
        ("lib.rs", "mod a;"),
        (
            "a/mod.rs",
            "#[cfg(test)]\nmod tests;\nmod b;\npub struct Behind;\n#[cfg(test)]\nmod more { struct Dropped; }",
        ),
        ("a/tests.rs", "struct Dropped;"),
        ("a/tests/deeper.rs", "struct Dropped;"),
        ("a/b.rs", "#[cfg(all(test, unix))]\nfn dropped() {}\nimpl A { #[cfg(test)] fn dropped() {} fn kept() {} }"),
    ]);
    let paths: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a/b.rs", "a/mod.rs", "lib.rs"]);
    let code = |file: usize| quote::ToTokens::to_token_stream(&tree.files[file].code).to_string();
    assert!(code(1).contains("Behind") && !code(1).contains("Dropped"));
    assert!(code(0).contains("kept") && !code(0).contains("dropped"));
}
