//! The public methods that reach a tenant's rows, read from the sources: one without a row in the matrix fails a test.
//!
//! The scan knows as much of Rust as it needs: it blanks comments and literals, so that no brace or keyword in them counts, finds
//! `impl` blocks and traits by their header, and takes the functions that stand directly in them.

use std::{collections::BTreeSet, path::Path};

use super::methods::{METHODS, WITHOUT_A_ROW};

/// The crates that offer a way to a tenant's rows, and the types that are the way.
const CRATES: [&str; 2] = ["crates/repository/src", "crates/data-source/src"];
const TYPES: [&str; 9] = [
    "Repository",
    "TenantDb",
    "TenantLease",
    "TenantTransaction",
    "UnitOfWork",
    "ScopedSelect",
    "ScopedInsert",
    "ScopedUpdate",
    "ScopedDelete",
];
const TRAITS: [&str; 2] = ["TenantHandle", "RepositoryExt"];

/// Traits whose functions everyone knows, or nobody outside can call.
const KNOWN_TRAITS: [&str; 6] = ["Clone", "Copy", "Debug", "Drop", "Handle", "RepositoryExt"];

/// Catches a method that was added to a repository or a handle, and that nobody has thought about.
#[test]
fn every_public_method_has_a_row() {
    let found = public_methods();
    assert!(found.contains("Repository::find_by_id") && found.contains("TenantDb::write_log"), "{found:#?}");
    assert_eq!(unaccounted(&found, &listed()), Vec::<String>::new());
}

/// The test above can fail: a row that is taken away is missed, and so is a method that is added in whatever form.
#[test]
fn a_method_without_a_row_is_named() {
    let found = public_methods();
    let mut listed = listed();
    listed.remove("Repository::bulk_delete_where");
    assert_eq!(unaccounted(&found, &listed), ["Repository::bulk_delete_where has no row"]);
    listed.insert("Repository::bulk_delete_where");
    listed.insert("Repository::gone");
    assert_eq!(unaccounted(&found, &listed), ["Repository::gone is in the matrix and not in the sources"]);

    let source = r##"
        /* impl Repository<'_, E, H> { pub fn in_a_comment() {} */
        // impl Repository<'_, E, H> { pub fn in_another() {}
        const TEXT: &str = "impl Repository { pub fn in_a_text() {} }"; const BRACE: char = '{'; const RAW: &str = r#"}" {"#;
        impl<'h, E: TenantEntity, H> Repository<'h, E, H>
        where
            H: Into<Vec<fn() -> u8>>,
        {
            pub async fn one(&self) { fn pub_inner() {} struct X; impl X { pub fn inner(&self) {} } }
            pub(crate) fn hidden(&self) {}
            fn private(&self) {}
            #[must_use] pub const fn two<T>(self) -> &'static str where T: Copy { "}" }
            pub
            fn three(&self) {}
        }
        impl<E> other::Extension for super::Repository<'_, E, ()> { fn four(&self) {} }
        impl<E> Clone for Repository<'_, E, ()> { fn clone(&self) -> Self { *self } }
        impl Other { pub fn elsewhere(&self) {} }
        pub trait TenantHandle: Sized { fn five(&self) -> Repository<'_, (), Self> { todo() } fn six(&self); }
        fn free() -> impl Fn(Repository<'static, (), ()>) { |_| {} }
    "##;
    let expected = ["one", "two", "three", "four"].map(|method| format!("Repository::{method}"));
    let expected: BTreeSet<_> =
        expected.into_iter().chain(["five", "six"].map(|it| format!("TenantHandle::{it}"))).collect();
    assert_eq!(methods_in(source), expected);
}

fn listed() -> BTreeSet<&'static str> {
    METHODS.iter().map(|row| row.name).chain(WITHOUT_A_ROW.iter().map(|(name, _)| *name)).collect()
}

fn unaccounted(found: &BTreeSet<String>, listed: &BTreeSet<&str>) -> Vec<String> {
    let missing = found.iter().filter(|name| !listed.contains(name.as_str()));
    let gone = listed.iter().filter(|name| !found.contains(**name));
    missing
        .map(|name| format!("{name} has no row"))
        .chain(gone.map(|name| format!("{name} is in the matrix and not in the sources")))
        .collect()
}

fn public_methods() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    CRATES.iter().flat_map(|sources| files(&root.join(sources))).flat_map(|source| methods_in(&source)).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("tests.rs") {
            found.push(std::fs::read_to_string(&path).unwrap());
        }
    }
    found
}

/// The public methods of the types and traits above, as `Type::method`.
fn methods_in(source: &str) -> BTreeSet<String> {
    let tokens = tokens(&blanked(source));
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let item = matches!(tokens[at].as_str(), "impl" | "trait");
        // `impl` in a type stands behind something; an item begins or follows one that ended, or a visibility.
        let begins = at == 0 || matches!(tokens[at - 1].as_str(), "}" | ";" | "{" | "]" | "pub" | "unsafe" | ")");
        let Some(body) = (at..tokens.len()).find(|&next| matches!(tokens[next].as_str(), "{" | ";")) else { break };
        if !item || !begins || tokens[body] == ";" {
            at += 1;
            continue;
        }
        if let Some((name, all_public)) = subject(&tokens[at..body]) {
            found.extend(
                functions(&tokens[body + 1..], all_public).iter().map(|function| format!("{name}::{function}")),
            );
        }
        at = body + 1;
    }
    found
}

/// Whose methods stand in a block with this header, and whether all of them are public.
fn subject(header: &[String]) -> Option<(String, bool)> {
    let mut depth = 0_i32;
    // Everything outside angle brackets, up to `where` or the bounds of a trait.
    let mut outer = Vec::new();
    for (at, token) in header.iter().enumerate().skip(1) {
        match token.as_str() {
            "<" => depth += 1,
            ">" if header[at - 1] != "-" => depth -= 1,
            "where" if depth == 0 => break,
            _ if depth == 0 => outer.push(token.as_str()),
            _ => {}
        }
    }
    let last_name = |path: &[&str]| path.iter().rev().find(|token| is_name(token)).map(|name| (*name).to_owned());
    if header.first().is_some_and(|keyword| keyword == "trait") {
        let name = outer.first()?;
        return TRAITS.contains(name).then(|| ((*name).to_owned(), true));
    }
    let split = outer.iter().position(|token| *token == "for");
    let name = last_name(split.map_or(&outer[..], |split| &outer[split + 1..]))?;
    let of_known_trait =
        split.and_then(|split| last_name(&outer[..split])).is_some_and(|of| KNOWN_TRAITS.contains(&of.as_str()));
    (TYPES.contains(&name.as_str()) && !of_known_trait).then_some((name, split.is_some()))
}

/// The functions that stand directly in a block, from behind its opening brace.
fn functions(tokens: &[String], all_public: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut public = false;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" if depth == 0 => break,
            "}" | ")" | "]" => {
                depth -= 1;
                public &= depth != 0 || token == ")";
            }
            ";" if depth == 0 => public = false,
            "pub" if depth == 0 => public = tokens.get(at + 1).is_some_and(|next| next != "("),
            "fn" if depth == 0 && (public || all_public) => {
                found.extend(tokens.get(at + 1).cloned());
                public = false;
            }
            _ => {}
        }
    }
    found
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, and every other character for itself.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_name = false;
    for c in source.chars() {
        let part_of_name = c.is_alphanumeric() || c == '_';
        match tokens.last_mut() {
            Some(name) if part_of_name && in_name => name.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.to_string()),
        }
        in_name = part_of_name;
    }
    tokens
}

/// The source with its comments, texts and characters gone.
fn blanked(source: &str) -> String {
    let mut blanked = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| text(rest, blanked.chars().next_back())).or_else(|| character(rest));
        match skipped {
            Some(_) => blanked.push(' '),
            None => blanked.push(first),
        }
        rest = &rest[skipped.unwrap_or(first.len_utf8())..];
    }
    blanked
}

/// The length of the comment that the source begins with; blocks nest.
fn comment(source: &str) -> Option<usize> {
    if source.starts_with("//") {
        return Some(source.find('\n').unwrap_or(source.len()));
    }
    source.starts_with("/*").then(|| {
        let (mut depth, mut at) = (0, 0);
        loop {
            let rest = &source[at..];
            if rest.starts_with("/*") {
                depth += 1;
                at += 2;
            } else if rest.starts_with("*/") {
                depth -= 1;
                at += 2;
            } else {
                at += rest.chars().next().map_or(0, char::len_utf8);
            }
            if depth == 0 || at >= source.len() {
                return at;
            }
        }
    })
}

/// The length of the text that the source begins with, raw or not.
fn text(source: &str, before: Option<char>) -> Option<usize> {
    let raw = source.strip_prefix('r').filter(|_| !before.is_some_and(|c| c.is_alphanumeric() || c == '_'));
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(inner) = raw[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            return inner.find(&end).map(|at| 1 + hashes + 1 + at + end.len());
        }
    }
    let inner = source.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            '"' if !escaped => return Some(at + 2),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    None
}

/// The length of the character that the source begins with; a lifetime is none.
fn character(source: &str) -> Option<usize> {
    let inner = source.strip_prefix('\'')?;
    let mut chars = inner.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        return inner[2..].find('\'').map(|at| at + 4);
    }
    let (at, quote) = chars.next()?;
    (quote == '\'').then_some(at + 2)
}
