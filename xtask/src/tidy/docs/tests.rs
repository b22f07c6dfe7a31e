//! Catches documents that speak of what is gone, which is how documents go wrong.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;

use super::*;

struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { directory }
    }

    fn check(&self) -> Vec<String> {
        let package = Package { name: "tenantry-realm".into(), folder: "crates/realm".into(), dependencies: vec![] };
        let commands = BTreeSet::from(["demo".to_owned()]);
        let found = check(&Workspace::at(self.directory.path()), &[package], &commands).unwrap();
        found.iter().map(ToString::to_string).filter(|finding| !finding.ends_with("the file does not exist")).collect()
    }
}

#[test]
fn what_exists_is_accepted() {
    let tree = Tree::new(&[
        ("crates/realm/src/lib.rs", ""),
        ("docs/SUMMARY.md", "# Summary\n- [Settings](settings.md)\n- [More](more.md)"),
        (
            "docs/settings.md",
            "# S\n## One `setting`\n`crates/realm/src/lib.rs:12`, `settings.md`, [more](more.md#all)\n",
        ),
        ("docs/more.md", "# All\n[here](#all)\n{{#include ../SECURITY.md:keys}}\n{{#include ../SECURITY.md}}\n"),
        ("SECURITY.md", "<!-- ANCHOR: keys -->\n[contents](docs/SUMMARY.md)\n<!-- ANCHOR_END: keys -->\n"),
        (
            "README.md",
            "`crates/realm/`, `docs/<page>.md`, `crates/…`, `a/b`, `tenantry.toml`, [page](docs/settings.md#one-setting), \
             [web](https://example.com)\n```sh\ncargo xtask demo --postgres\ncat crates/gone\n```\n`cargo xtask <command>`",
        ),
        ("ARCHITECTURE.md", "# A\n## Code map\n- `crates/realm`: markers\n## Next\n- `crates/`"),
    ]);
    assert_eq!(tree.check(), [""; 0]);
}

#[test]
fn what_does_not_exist_is_named_with_its_line() {
    let tree = Tree::new(&[
        ("crates/realm/src/lib.rs", ""),
        ("docs/orphan.md", "`crates/gone/src/lib.rs`\n[x](missing.md)\n`missing.toml`\n`cargo xtask dmeo`"),
        ("ARCHITECTURE.md", "## Code map\n`crates/gone`\n"),
    ]);
    assert_eq!(
        tree.check(),
        [
            "ARCHITECTURE.md:2: `crates/gone` does not exist",
            "ARCHITECTURE.md:2: `crates/gone` is no crate; take it out of the code map",
            "ARCHITECTURE.md: the code map lacks `crates/realm`",
            "docs/orphan.md:1: `crates/gone/src/lib.rs` does not exist",
            "docs/orphan.md:3: `missing.toml` does not exist",
            "docs/orphan.md:4: `cargo xtask dmeo` is no command",
            "docs/orphan.md:2: the link to missing.md leads nowhere",
            "docs/orphan.md: no other document links to this page",
            "docs/orphan.md: docs/SUMMARY.md does not list this page",
        ]
    );
}

#[test]
fn a_link_that_leads_astray_is_named() {
    let tree = Tree::new(&[
        ("README.md", "# Top\n[a](docs/a.md#none) [b](docs/SUMMARY.md)"),
        ("docs/SUMMARY.md", "[a](a.md)"),
        (
            "docs/a.md",
            "# A\n[up](../README.md#top)\n[b](b.md#b) [self](#c)\n{{#include ../none.md}}\n{{#include ../README.md:x}}",
        ),
        ("docs/b.md", "# B\n"),
    ]);
    assert_eq!(
        tree.check(),
        [
            "README.md:2: docs/a.md has no heading #none",
            "docs/a.md:2: the link to ../README.md#top leads out of the book; name the file in backticks instead",
            "docs/a.md:3: docs/a.md has no heading #c",
            "docs/a.md:4: none.md, which is included here, does not exist",
            "docs/a.md:5: README.md has no part \"x\" between two marks",
            "docs/b.md: docs/SUMMARY.md does not list this page",
        ]
    );
}

#[test]
fn the_environment_example_names_settings_only_and_all_of_them() {
    let names: Vec<_> = SETTINGS.iter().map(|setting| format!("# {}=", setting.variable)).collect();
    let complete = names.join("\n").replace("# ", "#");
    assert_eq!(check_environment(&complete), []);
    let wrong = complete.replace("#ENCRYPTION_KEYS=", "ENCRYPTION_KEYZ=x");
    let found: Vec<_> = check_environment(&wrong).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("ENCRYPTION_KEYZ is no setting") && found[1].contains("ENCRYPTION_KEYS is not in"));
}
