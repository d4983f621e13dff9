//! Rules for all files: names, sizes, blanks at line ends, words of one machine, links that lead somewhere.

use std::path::Path;

use crate::exemptions::BLOBS;
use crate::report;
use crate::tree::{bytes, extension, files, files_with, read, root};

const BLOB_BYTES: u64 = 256 * 1024;

/// Text: every rule of this file applies.
const TEXT: &[&str] = &["rs", "toml", "md", "sh", "py", "cpp", "jinja", "json", "jsonl", "txt", "yml", "lock", "wgsl"];
/// Data: only the size rule applies.
const DATA: &[&str] = &["gguf", "safetensors", "bin", "f32", "inp", "out", "gz"];
/// Files without an extension.
const BARE: &[&str] = &[".gitignore", ".gitattributes", "LICENSE-MIT", "LICENSE-APACHE", "SHA256SUMS", ".ci/run"];

#[test]
fn files_are_of_known_kinds_and_small() {
    let mut complaints = Vec::new();
    for path in files() {
        let known = match extension(&path) {
            Some(extension) => TEXT.contains(&extension) || DATA.contains(&extension),
            None => BARE.iter().any(|name| path == *name || path.ends_with(&format!("/{name}"))),
        };
        if !known {
            complaints.push(format!("{path}: a kind of file that the tree does not have yet"));
        }
        let size = bytes(&path);
        let listed = BLOBS.iter().any(|(blob, _)| *blob == path);
        if size > BLOB_BYTES && !listed {
            complaints.push(format!("{path}: {size} bytes, the limit is {BLOB_BYTES}"));
        }
        if size <= BLOB_BYTES && listed {
            complaints.push(format!("{path}: needs no exemption any more, take it off the list"));
        }
    }
    report(&complaints);
}

#[test]
fn lines_end_without_blanks() {
    let mut complaints = Vec::new();
    for path in ours() {
        let text = read(&path);
        for (index, line) in text.split('\n').enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                complaints.push(format!("{path}:{}: blank at the end of the line", index + 1));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            complaints.push(format!("{path}: no line break at the end of the file"));
        }
    }
    report(&complaints);
}

#[test]
fn no_path_of_one_machine() {
    // In two halves, so that this list is not its own first find.
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tm", "p/")];
    let mut complaints = Vec::new();
    for path in ours() {
        for (index, line) in read(&path).lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                complaints.push(format!("{path}:{}: {word}", index + 1));
            }
        }
    }
    report(&complaints);
}

#[test]
fn links_lead_somewhere() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for path in files_with("md") {
        let folder = root().join(Path::new(&path).parent().expect("a file has a folder"));
        for (index, line) in read(&path).lines().enumerate() {
            for target in links(line) {
                seen += 1;
                let file = target.split('#').next().unwrap_or_default();
                if !file.is_empty() && !folder.join(file).exists() {
                    complaints.push(format!("{path}:{}: {target} does not exist", index + 1));
                }
            }
        }
    }
    assert!(seen > 5, "only {seen} links found: the search is broken");
    report(&complaints);
}

#[test]
fn the_map_names_what_exists() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for (index, line) in read("ARCHITECTURE.md").lines().enumerate() {
        for place in line.split('`').skip(1).step_by(2).filter(|word| is_path(word)) {
            seen += 1;
            let (folder, rest) = place.split_once('/').expect("a path has a slash");
            let places = [place.to_owned(), format!("crates/{place}"), format!("crates/{folder}/src/{rest}.rs")];
            if !places.iter().any(|place| root().join(place).exists()) {
                complaints.push(format!("ARCHITECTURE.md:{}: {place} does not exist", index + 1));
            }
        }
    }
    assert!(seen > 10, "only {seen} paths found: the search is broken");
    report(&complaints);
}

#[test]
fn crates_introduce_themselves() {
    let manifests = files().into_iter().filter(|path| path.starts_with("crates/") && path.ends_with("/Cargo.toml"));
    let complaints: Vec<String> = manifests
        .map(|manifest| manifest.replace("Cargo.toml", "README.md"))
        .filter(|readme| !root().join(readme).exists())
        .map(|readme| format!("{readme}: missing; five lines on what the crate is"))
        .collect();
    report(&complaints);
}

/// Text that people write here. Data that other programs made, and licence texts, stay as they are.
fn ours() -> Vec<String> {
    let text = |path: &String| extension(path).is_none_or(|extension| TEXT.contains(&extension));
    let foreign = |path: &String| {
        let blob = BLOBS.iter().any(|(blob, _)| blob == path);
        blob || path.ends_with(".lock") || path.contains("/perplexity/") || path.starts_with("LICENSE")
    };
    files().into_iter().filter(|path| text(path) && !foreign(path)).collect()
}

/// Whether a quoted word of the map is a path, and not a phrase or a pattern such as `crates/NAME`.
fn is_path(word: &str) -> bool {
    word.contains('/') && !word.contains("NAME") && !word.contains(char::is_whitespace)
}

/// Targets of `[text](target)` in a line that are paths and not addresses.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

#[test]
fn links_are_found() {
    assert_eq!(links("see [a](b.md#c), [d](https://e.org) and [f](g/h.rs)"), ["b.md#c", "g/h.rs"]);
}
