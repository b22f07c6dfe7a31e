//! A page of the documentation, read for what can be run or looked up in it. Knows as much of Markdown as these pages use.

use std::{collections::BTreeSet, path::Path};

/// The root of the source tree.
pub(super) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A page, or a section of one.
pub(super) struct Page {
    path: String,
    text: String,
}

impl Page {
    pub(super) fn read(path: &str) -> Self {
        Self { path: path.to_owned(), text: std::fs::read_to_string(root().join(path)).unwrap() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What stands under a heading of the second level.
    pub(super) fn section(&self, heading: &str) -> Self {
        let parts: Vec<&str> = self.text.split("\n## ").collect();
        let section = parts.iter().find(|part| part.lines().next() == Some(heading));
        let section = section.unwrap_or_else(|| panic!("{} has no section {heading:?}", self.path));
        Self { path: self.path.clone(), text: (*section).to_owned() }
    }

    /// The blocks with exactly this info string.
    pub(super) fn blocks(&self, info: &str) -> Vec<String> {
        let mut blocks: Vec<String> = Vec::new();
        let mut open: Option<bool> = None;
        for line in self.text.lines() {
            match (open, line.strip_prefix("```")) {
                (None, Some(found)) => {
                    open = Some(found == info);
                    if found == info {
                        blocks.push(String::new());
                    }
                }
                (Some(_), Some(_)) => open = None,
                (Some(true), None) => {
                    let block = blocks.last_mut().unwrap();
                    block.push_str(line);
                    block.push('\n');
                }
                (_, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.path);
        blocks
    }

    /// The info string of every block, in order.
    pub(super) fn infos(&self) -> Vec<String> {
        let fences = self.text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        fences.step_by(2).map(str::to_owned).collect()
    }

    /// The variables that the first block for reading only exports: what the reader has to put in.
    pub(super) fn reader_sets(&self) -> BTreeSet<String> {
        let blocks = self.blocks("sh no-run");
        let exports = blocks[0].lines().filter_map(|line| line.strip_prefix("export "));
        let words = exports.flat_map(|line| line.split_whitespace().take_while(|word| *word != "#"));
        words.filter_map(|word| Some(word.split_once('=')?.0.to_owned())).collect()
    }
}
