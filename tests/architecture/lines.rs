//! Lines: of code, without comments and tests; and of documentation that are too long.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, LineColumn, TokenStream, TokenTree};
use quote::ToTokens;

use crate::source::{Source, Tree};

/// The most columns of a line of documentation.
pub const COLUMNS: usize = 120;

/// How many lines hold code that is compiled outside of tests.
pub fn code(source: &Source) -> usize {
    let mut lines = BTreeSet::new();
    mark(source.code.to_token_stream(), &mut lines);
    lines.len()
}

fn mark(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        // A comment of documentation is an attribute for the compiler.
        if matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#') {
            if matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!') {
                tokens.next();
            }
            if matches!(tokens.peek(), Some(TokenTree::Group(group)) if is_documentation(group)) {
                tokens.next();
                continue;
            }
        }
        let mut span = |from: LineColumn, to: LineColumn| lines.extend(from.line..=to.line);
        match token {
            TokenTree::Group(group) => {
                if group.delimiter() != Delimiter::None {
                    for span_of in [group.span_open(), group.span_close()] {
                        span(span_of.start(), span_of.end());
                    }
                }
                mark(group.stream(), lines);
            }
            other => span(other.span().start(), other.span().end()),
        }
    }
}

fn is_documentation(group: &proc_macro2::Group) -> bool {
    let mut inner = group.stream().into_iter();
    let is_doc = matches!(inner.next(), Some(TokenTree::Ident(name)) if name == "doc");
    is_doc && matches!(inner.next(), Some(TokenTree::Punct(punct)) if punct.as_char() == '=')
}

/// The numbers of the documentation's lines that are longer than [`COLUMNS`].
pub fn too_long(text: &str) -> Vec<usize> {
    let is_long = |line: &str| {
        let start = line.trim_start();
        (start.starts_with("///") || start.starts_with("//!")) && line.chars().count() > COLUMNS
    };
    (1..).zip(text.lines()).filter(|(_, line)| is_long(line)).map(|(number, _)| number).collect()
}

/// Files with too much code to be read in one go.
pub fn large(tree: &Tree, most: usize) -> Vec<String> {
    let files = tree.files.iter().filter(|file| !file.is_generated()).map(|file| (&file.path, code(file)));
    let large = files.filter(|(_, lines)| *lines > most);
    large.map(|(path, lines)| format!("{path} has {lines} lines of code: split it")).collect()
}

/// Rooms with more lines of documentation that are too long than they may have together.
pub fn documentation(tree: &Tree, allowances: &[(&[&str], usize)]) -> Vec<String> {
    let of = |rooms: &[&str]| {
        let files = tree.files.iter().filter(|file| !file.is_generated() && rooms.contains(&file.room()));
        let lines = files.flat_map(|file| too_long(&file.text).into_iter().map(|line| format!("{}:{line}", file.path)));
        lines.collect::<Vec<_>>()
    };
    let mut faults = Vec::new();
    for (rooms, most) in allowances {
        let long = of(rooms);
        if long.len() > *most {
            let (count, all) = (long.len(), long.join("\n    "));
            faults
                .push(format!("{rooms:?}: {count} lines of documentation are too long, more than {most}:\n    {all}"));
        }
    }
    let mut others: Vec<_> = tree.files.iter().map(Source::room).collect();
    others.dedup();
    others.retain(|room| !allowances.iter().any(|(rooms, _)| rooms.contains(room)));
    faults.extend(others.iter().flat_map(|room| of(&[room])).map(|line| format!("{line} is too long")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_counts() {
        let text = "//! Docs.\n\n/* a\n comment */\n#[derive(Debug)]\n/// Docs.\n#[doc = \"more\"]\npub struct A {\n    /// Docs.\n    \
                    b: u8, // why\n}\n\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n\nconst TEXT: &str = \"a\nb\n\";\n";
        // The attribute, three of the struct, three of the constant.
        assert_eq!(code(&Tree::of(&[("lib.rs", text)]).files[0]), 7);
    }

    #[test]
    fn a_file_with_much_code_is_found_and_one_with_much_else_is_not() {
        let code = "fn f() {}\n".repeat(11);
        let comments =
            "fn f() {}\n// c\n/// d\n\n".repeat(5) + "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n";
        let behind = "#[cfg(test)]\nmod tests;\n".to_owned() + &code;
        let tree = Tree::of(&[("lib.rs", &code), ("a.rs", &comments), ("b/mod.rs", &behind), ("c.rs", &code[10..])]);
        let found = large(&tree, 10);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("b/mod.rs has 11") && found[1].starts_with("lib.rs has 11"), "{found:?}");
    }

    #[test]
    fn long_lines_beyond_what_is_allowed_are_found() {
        let long = |start: &str| format!("{start} {}\nstruct A;\n", "\u{e9}".repeat(COLUMNS - start.len()));
        let fits = |start: &str| format!("{start} {}\nstruct A;\n", "\u{e9}".repeat(COLUMNS - start.len() - 1));
        let none = [fits("///"), fits("//!"), long("//")].concat().replace("struct A;\n//!", "//!");
        assert_eq!(too_long(&none), [0; 0]);
        assert_eq!(too_long(&(none + &long("    ///"))), [6]);
        let [docs, inner] = [long("///"), long("//!")];
        let tree = Tree::of(&[("lib.rs", &docs), ("a/mod.rs", &inner), ("a/b.rs", &docs), ("c.rs", "")]);
        assert_eq!(documentation(&tree, &[(&["lib", "c"], 1), (&["a"], 2)]), [""; 0]);
        assert_eq!(documentation(&tree, &[(&["lib"], 1), (&["a"], 1)]).len(), 1);
        assert_eq!(documentation(&tree, &[(&["lib", "a"], 3)]), [""; 0]);
        assert_eq!(documentation(&tree, &[(&["a"], 2)]), ["lib.rs:1 is too long"]);
    }
}
