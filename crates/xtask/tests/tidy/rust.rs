//! Rules for Rust files: sizes, module names, opening words, where unsafe may stand.

use crate::exemptions::{Exemption, FILES, FUNCTIONS, TABLES};
use crate::lexer::{closing_brace, code_only, line_of, word_offsets};
use crate::report;
use crate::tree::{files_with, read};

const FILE_LINES: usize = 500;
const FILE_LINES_HARD: usize = 1_000;
const FUNCTION_LINES: usize = 70;
/// Raised only on purpose: what does not fit needs a reason to exist. Tests count for nothing here.
const WORKSPACE_LINES: usize = 45_500;

/// Files and folders (ending with `/`) that may hold the word `unsafe`: the map, SIMD and the kernels over it, raw memory,
/// threads that write disjoint parts of it, the pool; promises to GPU drivers; the environment before there are threads; a
/// signal's handler.
const UNSAFE_PLACES: &[&str] = &[
    "crates/cli/src/lost_file.rs",
    "crates/gguf/src/source.rs",
    "crates/text/src/ascii_masks.rs",
    "crates/text/src/prefetch.rs",
    "crates/cpu/src/arch.rs",
    "crates/cpu/src/arch/",
    "crates/cpu/src/kernels.rs",
    "crates/cpu/src/kernels/",
    "crates/cpu/src/memory.rs",
    "crates/cpu/src/pass.rs",
    "crates/cpu/src/pass/",
    "crates/cpu/src/pool.rs",
    "crates/wgpu/src/device.rs",
    "crates/wgpu/src/heaps.rs",
    "crates/wgpu/src/shader.rs",
    "crates/wgpu/src/staging.rs",
    "crates/cli/src/environment.rs",
    // Allocators that count, for tests of what is allocated.
    "crates/cpu/tests/allocations.rs",
    "crates/gguf/tests/corpus/counting.rs",
];

#[test]
fn files_are_one_idea() {
    let tables: Vec<&str> = TABLES.iter().map(|(place, _)| *place).collect();
    let sizes: Vec<(String, usize)> = files_with("rs")
        .into_iter()
        .filter(|path| !is_test(path) && !tables.contains(&path.as_str()))
        .map(|path| {
            let lines = read(&path)[..production(&read(&path))].lines().count();
            (path, lines)
        })
        .collect();
    let mut complaints = over_limit(&sizes, FILE_LINES, FILES);
    for (path, lines) in sizes.iter().filter(|(_, lines)| *lines > FILE_LINES_HARD) {
        complaints.push(format!("{path}: {lines} lines; {FILE_LINES_HARD} is the end, whatever the reason"));
    }
    let all: usize = sizes.iter().map(|(_, lines)| lines).sum();
    if all > WORKSPACE_LINES {
        complaints.push(format!("{all} lines of Rust without tests, the budget is {WORKSPACE_LINES}"));
    }
    report(&complaints);
}

#[test]
fn functions_fit_a_screen() {
    let mut sizes = Vec::new();
    for path in files_with("rs").into_iter().filter(|path| !is_test(path)) {
        let source = read(&path);
        let code = code_only(&source[..production(&source)]);
        for at in word_offsets(&code, "fn") {
            if let Some((name, lines)) = function(&code, at) {
                sizes.push((format!("{path}::{name}"), lines));
            }
        }
    }
    assert!(sizes.len() > 100, "only {} functions found: the search is broken", sizes.len());
    report(&over_limit(&sizes, FUNCTION_LINES, FUNCTIONS));
}

#[test]
fn modules_are_named_and_introduced() {
    let mut complaints = Vec::new();
    for path in files_with("rs") {
        if path.ends_with("/mod.rs") {
            complaints.push(format!("{path}: name the file after its module, beside the folder"));
        }
        if !path.ends_with("/tests.rs") && !read(&path).starts_with("//!") {
            complaints.push(format!("{path}:1: open with `//!`: what the module is and what it never does"));
        }
    }
    report(&complaints);
}

#[test]
fn unsafe_stands_in_named_files() {
    let mut complaints = Vec::new();
    for path in files_with("rs") {
        let allowed =
            UNSAFE_PLACES.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place));
        if allowed {
            continue;
        }
        let code = code_only(&read(&path));
        complaints.extend(word_offsets(&code, "unsafe").map(|at| format!("{path}:{}: unsafe", line_of(&code, at))));
    }
    report(&complaints);
}

#[test]
fn only_one_file_of_text_knows_gguf() {
    let mut complaints = Vec::new();
    for path in files_with("rs") {
        if !path.starts_with("crates/text/src/") || path == "crates/text/src/from_gguf.rs" {
            continue;
        }
        let source = read(&path);
        let code = code_only(&source[..production(&source)]);
        complaints.extend(word_offsets(&code, "gguf::").map(|at| format!("{path}:{}: gguf", line_of(&code, at))));
    }
    report(&complaints);
}

#[test]
fn nothing_is_unfinished() {
    // In two halves, so that this list is not its own first find.
    let marks = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")];
    let macros = [concat!("todo", "!("), concat!("unimplemented", "!(")];
    let mut complaints = Vec::new();
    for path in files_with("rs") {
        let source = read(&path);
        for mark in marks.iter().chain(&macros) {
            complaints.extend(word_offsets(&source, mark).map(|at| format!("{path}:{}: {mark}", line_of(&source, at))));
        }
    }
    report(&complaints);
}

/// Files that only tests read: no size rule applies.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// Bytes of a source before the test module that is written out in it; `mod tests;` alone ends nothing.
fn production(source: &str) -> usize {
    let opening = "\n#[cfg(test)]\nmod ";
    let inline = |at: &usize| source[at + opening.len()..].lines().next().is_some_and(|line| line.ends_with('{'));
    source.match_indices(opening).map(|(at, _)| at).find(inline).unwrap_or(source.len())
}

/// Name and lines of the function whose `fn` is at `at`; none for a declaration or a function type.
fn function(code: &str, at: usize) -> Option<(&str, usize)> {
    let rest = code[at + 2..].trim_start();
    let name = &rest[..rest.find(|c: char| c != '_' && !c.is_alphanumeric())?];
    if name.is_empty() {
        return None;
    }
    let mut depth = 0_usize;
    for (offset, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => {
                return Some((name, line_of(code, closing_brace(code, offset)) - line_of(code, at) + 1));
            }
            _ => {}
        }
    }
    None
}

/// Complaints about places over the limit and exemptions that have had their day.
fn over_limit(sizes: &[(String, usize)], limit: usize, exemptions: &[Exemption]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (place, lines) in sizes.iter().filter(|(_, lines)| *lines > limit) {
        match exemptions.iter().find(|exemption| exemption.place == place) {
            None => complaints.push(format!("{place}: {lines} lines, the limit is {limit}")),
            Some(exemption) if *lines > exemption.lines => complaints
                .push(format!("{place}: grew to {lines} lines from {} ({})", exemption.lines, exemption.reason)),
            Some(_) => {}
        }
    }
    for exemption in exemptions {
        if !sizes.iter().any(|(place, lines)| place == exemption.place && *lines > limit) {
            complaints.push(format!("{}: needs no exemption any more, take it off the list", exemption.place));
        }
    }
    complaints
}

#[test]
fn a_long_place_is_found_and_a_stale_exemption_too() {
    let sizes = [("a.rs".to_owned(), 80), ("b.rs".to_owned(), 90), ("c.rs".to_owned(), 10)];
    let exemptions = [
        Exemption { place: "b.rs", lines: 85, reason: "one table" },
        Exemption { place: "c.rs", lines: 99, reason: "was long" },
    ];
    let complaints = over_limit(&sizes, 70, &exemptions);
    assert_eq!(complaints.len(), 3, "{complaints:?}");
}

#[test]
fn function_lengths_are_counted() {
    let code = "fn long(\n  a: [u8; 3],\n) -> u8\n{\n  { 1 }\n}\nfn declared();\n";
    assert_eq!(function(code, 0), Some(("long", 6)));
    assert_eq!(function(code, code.find("fn declared").expect("it is there")), None);
}

#[test]
fn only_a_test_module_with_a_body_ends_the_production_code() {
    let declared = "//! A.\n#[cfg(test)]\nmod tests;\nfn f() {}\n";
    assert_eq!(production(declared), declared.len());
    let written = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(&written[..production(written)], "fn f() {}\n");
}
