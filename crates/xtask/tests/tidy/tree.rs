//! The files of the repository, as paths relative to its root. Build outputs and other ignored folders are left out.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root of the workspace exists")
}

/// All files, sorted, with `/` between the parts.
pub(crate) fn files() -> Vec<String> {
    let root = root();
    let ignored = ignored(&root);
    let mut found = Vec::new();
    walk(&root, "", &ignored, &mut found);
    found.sort();
    assert!(found.iter().any(|path| path == "Cargo.toml"), "the walk found no Cargo.toml");
    found
}

/// All files whose name ends with `.extension`.
pub(crate) fn files_with(extension: &str) -> Vec<String> {
    files().into_iter().filter(|path| self::extension(path) == Some(extension)).collect()
}

/// What stands after the last dot of the file's name.
pub(crate) fn extension(path: &str) -> Option<&str> {
    Path::new(path).extension().and_then(|extension| extension.to_str())
}

/// The text of a file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The size of a file in bytes.
pub(crate) fn bytes(path: &str) -> u64 {
    fs::metadata(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}")).len()
}

/// The folders that .gitignore names from the root on, such as `/target`.
fn ignored(root: &Path) -> Vec<String> {
    let rules = fs::read_to_string(root.join(".gitignore")).expect("the repository has a .gitignore");
    let mut ignored: Vec<String> = rules.lines().filter_map(|rule| rule.strip_prefix('/')).map(str::to_owned).collect();
    ignored.push(".git".to_owned());
    ignored
}

fn walk(root: &Path, folder: &str, ignored: &[String], found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder of the tree can be listed") {
        let entry = entry.expect("an entry of the tree can be read");
        let name = entry.file_name().into_string().expect("names in the tree are UTF-8");
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if ignored.contains(&path) {
            continue;
        }
        if entry.file_type().expect("an entry has a type").is_dir() {
            walk(root, &path, ignored, found);
        } else {
            found.push(path);
        }
    }
}
