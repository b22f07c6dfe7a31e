//! Who depends on whom. The edges that may exist are listed; every other one is a finding, because a boundary that is
//! crossed once, for convenience, is no boundary.

use super::Finding;
use crate::{
    failure::Failure,
    workspace::{Package, Workspace},
};

/// For each package of the workspace, the packages of the workspace it may know.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tenantry-realm", &[]),
    ("tenantry-credential", &[]),
    ("tenantry-connection", &["tenantry-credential"]),
    ("tenantry-migrations", &[]),
    ("tenantry-app-db", &["tenantry-realm", "tenantry-connection"]),
    ("tenantry-data-source", &["tenantry-realm", "tenantry-credential", "tenantry-connection", "tenantry-app-db"]),
    ("tenantry-repository", &["tenantry-realm", "tenantry-data-source"]),
    ("tenantry-axum", &["tenantry-app-db", "tenantry-connection", "tenantry-data-source", "tenantry-repository"]),
    ("tenantry-entities", &["tenantry-realm"]),
    ("tenantry-transfer", &["tenantry-realm", "tenantry-connection", "tenantry-app-db", "tenantry-migrations"]),
    (
        "tenantry",
        &[
            "tenantry-app-db",
            "tenantry-connection",
            "tenantry-credential",
            "tenantry-data-source",
            "tenantry-entities",
            "tenantry-migrations",
            "tenantry-realm",
            "tenantry-repository",
            "tenantry-transfer",
        ],
    ),
    // Reads arguments and shows reports: the facade is all it knows.
    ("tenantry-cli", &["tenantry"]),
    // Applications use it in their tests; it has what they have, and a server.
    ("tenantry-testing", &["tenantry", TEST_SUPPORT]),
    // An application: what it needs is in the facade, or the facade is wrong.
    ("bookings", &["tenantry", "tenantry-cli"]),
    ("reference-api", &["tenantry", "tenantry-axum"]),
    (TEST_SUPPORT, &["tenantry-migrations"]),
    // An application and its measurements: it has what an application has, and a server.
    ("tenantry-bench", &["tenantry", TEST_SUPPORT]),
    ("xtask", &["tenantry", "tenantry-cli", "tenantry-migrations", TEST_SUPPORT]),
    // The scenarios look at the system from every side.
    (SCENARIOS, &[]),
];
const TEST_SUPPORT: &str = "tenantry-test-support";
const SCENARIOS: &str = "tenantry-tests";

pub(super) fn check(workspace: &Workspace, packages: &[Package]) -> Result<Vec<Finding>, Failure> {
    let mut findings = edges(packages);
    for package in packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let text = workspace.read(&manifest)?;
        findings.extend(declared_once(&manifest, &text));
    }
    Ok(findings)
}

fn edges(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            let message =
                format!("{} is a new package; say what it may depend on in tidy's list of edges", package.name);
            findings.push(Finding::in_file(&manifest, message));
            continue;
        };
        let ours =
            package.dependencies.iter().filter(|wanted| packages.iter().any(|package| package.name == wanted.name));
        for dependency in ours {
            // A crate's own tests may start a server; nothing that ships can come to depend on it that way.
            let for_tests = dependency.name == TEST_SUPPORT && dependency.is_dev;
            if package.name != SCENARIOS && !for_tests && !allowed.contains(&dependency.name.as_str()) {
                let (from, to) = (&package.name, &dependency.name);
                let message =
                    format!("{from} must not know {to}; move the code, or add the edge to tidy's list with a reason");
                findings.push(Finding::in_file(&manifest, message));
            }
        }
    }
    for (name, _) in ALLOWED {
        if packages.iter().all(|package| package.name != *name) {
            findings.push(Finding::in_file(
                "Cargo.toml",
                format!("tidy's list of edges names {name}, which is no package"),
            ));
        }
    }
    findings
}

/// Versions and lints stand in the workspace's manifest, once.
fn declared_once(manifest: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut section = "";
    let mut inherits_lints = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
        } else if section == "[lints]" && line.replace(' ', "") == "workspace=true" {
            inherits_lints = true;
        } else if section.ends_with("dependencies]") && !line.is_empty() && !line.starts_with('#') {
            let inherited = line.contains(".workspace = true") || line.contains("workspace = true");
            if !inherited {
                let message =
                    "a dependency is declared in the workspace's Cargo.toml and inherited with `.workspace = true`";
                findings.push(Finding::at(manifest, index, message));
            }
        }
    }
    if !inherits_lints {
        findings.push(Finding::in_file(
            manifest,
            "the workspace's lints are not inherited; add `[lints] workspace = true`",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, is_dev)| Dependency { name: (*name).to_owned(), is_dev: *is_dev })
            .collect();
        Package { name: name.to_owned(), folder: format!("crates/{name}"), dependencies }
    }

    fn workspace_with(changed: Package) -> Vec<Package> {
        let others = ALLOWED.iter().filter(|(name, _)| *name != changed.name).map(|(name, _)| package(name, &[]));
        others.chain([changed.clone()]).collect()
    }

    #[test]
    fn a_forbidden_edge_is_named() {
        let found =
            edges(&workspace_with(package("tenantry-repository", &[("serde", false), ("tenantry-app-db", false)])));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.starts_with("tenantry-repository must not know tenantry-app-db"), "{found:?}");
    }

    #[test]
    fn only_tests_may_start_servers() {
        assert!(edges(&workspace_with(package("tenantry-connection", &[(TEST_SUPPORT, true)]))).is_empty());
        assert_eq!(edges(&workspace_with(package("tenantry-connection", &[(TEST_SUPPORT, false)]))).len(), 1);
    }

    #[test]
    fn a_new_package_and_a_gone_one_are_found() {
        let mut packages = workspace_with(package("tenantry-surprise", &[]));
        packages.retain(|package| package.name != "tenantry-realm");
        let found: Vec<_> = edges(&packages).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("tenantry-surprise is a new package"), "{found:?}");
        assert!(found[1].contains("names tenantry-realm, which is no package"), "{found:?}");
    }

    #[test]
    fn a_version_outside_the_workspace_manifest_is_found() {
        let text = "[package]\nname = \"a\"\nversion.workspace = true\n[lints]\nworkspace = true\n[dependencies]\nserde = \"1\"\nurl.workspace = true\n";
        let found = declared_once("crates/a/Cargo.toml", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, Some(7));
        assert_eq!(declared_once("Cargo.toml", "[package]\n").len(), 1, "lints are not inherited");
    }
}
