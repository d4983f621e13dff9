//! Which crate may see which. The table is the map of ARCHITECTURE.md; a crate that is not in it fails the test.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::report;
use crate::tree::{read, root};

/// Normal dependencies that a crate may have among ours.
const ARROWS: &[(&str, &[&str])] = &[
    ("metallic-tensor", &[]),
    ("metallic-gguf", &["metallic-tensor"]),
    ("metallic-text", &["metallic-gguf"]),
    ("metallic-program", &["metallic-tensor"]),
    ("metallic-models", &["metallic-gguf", "metallic-program", "metallic-tensor"]),
    ("metallic-cpu", &["metallic-tensor", "metallic-program"]),
    ("metallic-wgpu", &["metallic-tensor", "metallic-program"]),
    ("metallic-session", &["metallic-models", "metallic-program"]),
    ("metallic-tools", &["metallic-tensor", "metallic-gguf", "metallic-text", "metallic-models"]),
    ("metallic-conformance", &["metallic-tensor", "metallic-program"]),
    (
        "metallic",
        &[
            "metallic-tensor",
            "metallic-gguf",
            "metallic-text",
            "metallic-program",
            "metallic-models",
            "metallic-cpu",
            "metallic-wgpu",
            "metallic-session",
            "metallic-tools",
            "metallic-conformance",
        ],
    ),
    ("metallic-cli", &["metallic"]),
    ("metallic-testkit", &["metallic-tensor", "metallic-gguf", "metallic-program", "metallic-conformance"]),
    ("metallic-xtask", &[]),
];

/// Crates that are fit for a binary only: libraries have typed errors and read no flags.
const BINARY_ONLY: &[&str] = &["anyhow", "clap", "comfy-table", "ctrlc", "indicatif", "rustyline"];

#[test]
fn crates_see_only_what_the_map_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let metadata = metadata();
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(targets) = allowed.get(package.name.as_str()) else {
            complaints.push(format!("{}: not on the map; add it here and to ARCHITECTURE.md", package.name));
            continue;
        };
        for name in normal(package).filter(|name| allowed.contains_key(name)) {
            if !targets.contains(&name) {
                complaints.push(format!("{} must not depend on {name}", package.name));
            }
        }
    }
    for (name, _) in ARROWS {
        if !metadata.workspace_packages().iter().any(|package| package.name.as_str() == *name) {
            complaints.push(format!("{name}: on the map but not in the workspace"));
        }
    }
    report(&complaints);
}

#[test]
fn libraries_have_no_taste_of_the_binary() {
    let metadata = metadata();
    let libraries = metadata.workspace_packages().into_iter().filter(|package| package.name.as_str() != "metallic-cli");
    let complaints: Vec<String> = libraries
        .flat_map(|package| {
            let found = normal(package).filter(|name| BINARY_ONLY.contains(name));
            found.map(|name| format!("{} must not depend on {name}", package.name)).collect::<Vec<_>>()
        })
        .collect();
    report(&complaints);
}

#[test]
fn no_crate_is_published_by_accident() {
    let metadata = metadata();
    let open = metadata.workspace_packages().into_iter().filter(|package| package.publish != Some(Vec::new()));
    report(&open.map(|package| format!("{}: publish is not false", package.name)).collect::<Vec<_>>());
}

#[test]
fn every_dependency_has_its_sentence() {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("[workspace.dependencies]").expect("the workspace lists its dependencies");
    let table = rest.split("\n[").next().expect("a split has a first part");
    let lines: Vec<&str> = table.lines().filter(|line| line.contains(" = ") && !line.contains("path = ")).collect();
    assert!(lines.len() > 5, "only {} dependencies found: the search is broken", lines.len());
    let silent = lines.into_iter().filter(|line| !line.contains('#'));
    report(&silent.map(|line| format!("Cargo.toml: no reason beside `{line}`")).collect::<Vec<_>>());
}

fn normal(package: &Package) -> impl Iterator<Item = &str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.as_str())
}

/// The workspace alone: resolving other crates could need a network.
fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata reads the workspace")
}
