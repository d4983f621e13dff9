//! Tidy: the rules of STYLE.md and ARCHITECTURE.md that no compiler checks. Every test reads the working tree and
//! reports all places at once, as `path:line: what is wrong`. None needs a network.

mod arrows;
mod exemptions;
mod lexer;
mod prose;
mod rust;
mod tree;

/// Fails with every complaint, one a line.
fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} places:\n{}", complaints.len(), complaints.join("\n"));
}
