//! The source tree: where it is, which packages it has and how they depend on each other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{failure::Failure, process};

/// A source tree. All paths in it are relative to its root and use `/`.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

/// A package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder; never empty, since the root is no package.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a package depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Only its tests and examples do.
    pub(crate) is_dev: bool,
}

impl Workspace {
    /// The tree that this program was built from. It is only ever run through cargo, which builds it first.
    pub(crate) fn here() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: manifest.parent().unwrap_or(manifest).to_owned() }
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub(crate) fn exists(&self, relative: &str) -> bool {
        self.path(relative).exists()
    }

    pub(crate) fn read(&self, relative: &str) -> Result<String, Failure> {
        let path = self.path(relative);
        fs::read_to_string(&path).map_err(Failure::file("read", path))
    }

    /// Writes a file, unless it says this already: an untouched file is not compiled again.
    pub(crate) fn write(&self, relative: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(relative);
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Failure::file("create", folder))?;
        }
        fs::write(&path, text).map_err(Failure::file("write", path))
    }

    /// Every file below a folder (`""`: the whole tree) whose name ends so, sorted. What cargo and git keep for themselves
    /// is left out.
    pub(crate) fn files(&self, folder: &str, ending: &str) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        self.collect(folder, ending, &mut found).map_err(Failure::file("list", self.path(folder)))?;
        found.sort();
        Ok(found)
    }

    /// The packages, sorted by folder, as cargo understands the manifests.
    pub(crate) fn packages(&self) -> Result<Vec<Package>, Failure> {
        #[derive(Deserialize)]
        struct Metadata {
            packages: Vec<Described>,
        }
        #[derive(Deserialize)]
        struct Described {
            name: String,
            manifest_path: PathBuf,
            dependencies: Vec<Wanted>,
        }
        #[derive(Deserialize)]
        struct Wanted {
            name: String,
            kind: Option<String>,
        }

        let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
        let answer = process::output(&process::cargo(), &arguments, &self.root)?;
        let metadata: Metadata = serde_json::from_str(&answer)
            .map_err(|source| Failure::Answer { command: "cargo metadata".to_owned(), source })?;
        let mut packages: Vec<_> = metadata
            .packages
            .into_iter()
            .map(|package| {
                let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
                let folder = folder.strip_prefix(&self.root).unwrap_or(folder).to_string_lossy().replace('\\', "/");
                let wanted = package.dependencies.into_iter();
                let dependencies = wanted
                    .map(|wanted| Dependency { name: wanted.name, is_dev: wanted.kind.as_deref() == Some("dev") })
                    .collect();
                Package { name: package.name, folder, dependencies }
            })
            .collect();
        packages.sort_by(|left, right| left.folder.cmp(&right.folder));
        Ok(packages)
    }

    fn collect(&self, folder: &str, ending: &str, found: &mut Vec<String>) -> io::Result<()> {
        for entry in fs::read_dir(self.path(folder))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() && !matches!(name.as_str(), "target" | ".git") {
                self.collect(&path, ending, found)?;
            } else if kind.is_file() && name.ends_with(ending) {
                found.push(path);
            }
        }
        Ok(())
    }
}
