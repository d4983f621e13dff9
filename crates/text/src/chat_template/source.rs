//! Template source as published, made into source that the engine runs safely.
//!
//! Two rewrites, both blind to everything but block tags:
//!
//! - `{% generation %}` … `{% endgeneration %}`, which marks the assistant's tokens for training, becomes a block that
//!   is always rendered.
//! - The value of every `{% set … = … %}` passes through a filter. Assignment is the only way in which a loop can
//!   build a value deeper than the template is written, and a deep value overflows the stack when it is dropped.
//!
//! It judges no syntax: a tag it cannot read is left for the engine to complain about.

/// The filter around the value of `{% set name = value %}`.
pub(super) const ASSIGNED: &str = "metallic_assigned";
/// The filter around the value of `{% set namespace.name = value %}`.
pub(super) const ASSIGNED_MEMBER: &str = "metallic_assigned_member";

/// Rewritten source that still knows where each of its bytes came from.
pub(super) struct Source {
    pub(super) text: String,
    original: String,
    /// (offset in `text`, offset in `original`) from where on the two run in step, both ascending.
    anchors: Vec<(usize, usize)>,
}

impl Source {
    pub(super) fn new(original: &str) -> Self {
        let mut rewriter = Rewriter {
            rest: Scanner { text: original, offset: 0 },
            output: String::with_capacity(original.len() + 256),
            copied: 0,
            anchors: vec![(0, 0)],
        };
        rewriter.run();
        rewriter.copy_up_to(original.len());
        Self { text: rewriter.output, original: original.to_owned(), anchors: rewriter.anchors }
    }

    pub(super) fn original(&self) -> &str {
        &self.original
    }

    /// Line and column, both from 1 and the column in characters, in the source as published.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let next = self.anchors.partition_point(|&(rewritten, _)| rewritten <= offset);
        let (rewritten, original) = self.anchors[next.saturating_sub(1)];
        let limit = self.anchors.get(next).map_or(self.original.len(), |&(_, original)| original);
        let mut end = (original + offset.saturating_sub(rewritten)).min(limit);
        while !self.original.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.original[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

struct Rewriter<'a> {
    rest: Scanner<'a>,
    output: String,
    copied: usize,
    anchors: Vec<(usize, usize)>,
}

impl Rewriter<'_> {
    fn run(&mut self) {
        while let Some(open) = self.rest.find_open() {
            match open {
                "{#" => self.rest.skip_past("#}"),
                "{{" => {
                    self.rest.skip_expression("}}");
                }
                _ => self.block(),
            }
        }
    }

    /// The scanner stands behind `{%`.
    fn block(&mut self) {
        self.rest.skip_whitespace_control();
        let start = self.rest.offset;
        let name = self.rest.identifier();
        match name {
            "raw" => self.rest.skip_raw(),
            "generation" => self.replace(start, "if true"),
            "endgeneration" => self.replace(start, "endif"),
            "set" => self.set(),
            _ => {
                self.rest.skip_expression("%}");
            }
        }
    }

    fn replace(&mut self, start: usize, by: &str) {
        let end = self.rest.offset;
        self.copy_up_to(start);
        self.insert(by);
        self.copied = end;
        self.anchors.push((self.output.len(), end));
        self.rest.skip_expression("%}");
    }

    fn set(&mut self) {
        let target_start = self.rest.offset;
        let Tag { assignment: Some(equals), content_end } = self.rest.skip_expression("%}") else {
            return;
        };
        let target = &self.rest.text[target_start..equals];
        let filter = if target.contains('.') { ASSIGNED_MEMBER } else { ASSIGNED };
        self.copy_up_to(equals + 1);
        self.insert("(");
        self.copy_up_to(content_end);
        self.insert(&format!(")|{filter} "));
    }

    fn copy_up_to(&mut self, end: usize) {
        self.output.push_str(&self.rest.text[self.copied..end]);
        self.copied = end;
    }

    fn insert(&mut self, text: &str) {
        self.output.push_str(text);
        self.anchors.push((self.output.len(), self.copied));
    }
}

struct Scanner<'a> {
    text: &'a str,
    offset: usize,
}

/// What `skip_expression` saw.
struct Tag {
    /// The offset of the first `=` outside brackets and strings.
    assignment: Option<usize>,
    /// The offset of the closing delimiter or the whitespace control before it.
    content_end: usize,
}

impl<'a> Scanner<'a> {
    fn remaining(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.offset..]
    }

    /// Moves behind the next `{{`, `{%` or `{#`.
    fn find_open(&mut self) -> Option<&'a str> {
        let found =
            self.remaining().windows(2).position(|pair| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#'))?;
        let start = self.offset + found;
        self.offset = start + 2;
        Some(&self.text[start..start + 2])
    }

    fn skip_past(&mut self, end: &str) {
        self.offset = match self.text[self.offset..].find(end) {
            Some(found) => self.offset + found + end.len(),
            None => self.text.len(),
        };
    }

    fn skip_whitespace_control(&mut self) {
        if matches!(self.remaining().first(), Some(b'-' | b'+')) {
            self.offset += 1;
        }
        let spaces = self.remaining().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.offset += spaces;
    }

    fn identifier(&mut self) -> &'a str {
        let start = self.offset;
        let letters = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        self.offset += self.remaining().iter().take_while(letters).count();
        &self.text[start..self.offset]
    }

    fn skip_raw(&mut self) {
        self.skip_past("%}");
        while self.offset < self.text.len() {
            self.skip_past("{%");
            self.skip_whitespace_control();
            if self.identifier() == "endraw" {
                self.skip_past("%}");
                return;
            }
        }
    }

    /// Moves behind the `close` that ends this tag: not one inside a string or a bracket.
    fn skip_expression(&mut self, close: &str) -> Tag {
        let mut tag = Tag { assignment: None, content_end: self.text.len() };
        let mut depth = 0_usize;
        while let Some(&byte) = self.remaining().first() {
            match byte {
                b'\'' | b'"' => {
                    self.skip_string(byte);
                    continue;
                }
                _ if depth == 0 && self.remaining().starts_with(close.as_bytes()) => {
                    tag.content_end = self.offset;
                    let before = &self.text.as_bytes()[..self.offset];
                    if matches!(before.last(), Some(b'-' | b'+')) {
                        tag.content_end -= 1;
                    }
                    self.offset += close.len();
                    return tag;
                }
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                b'=' if depth == 0 && tag.assignment.is_none() => tag.assignment = Some(self.offset),
                _ => {}
            }
            self.offset += 1;
        }
        tag
    }

    fn skip_string(&mut self, quote: u8) {
        self.offset += 1;
        while let Some(&byte) = self.remaining().first() {
            let step = if byte == b'\\' { 2 } else { 1 };
            self.offset = (self.offset + step).min(self.text.len());
            if byte == quote {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn only_block_tags_are_rewritten() {
        let untouched = [
            "plain {% if a == 'x' %}{% set b %}text{% endset %}{% endif %}",
            "{# {% set a = 1 %} #}{{ '{% set a = 1 %}' }}{{ {'a': {'b': 1}} }}",
            "{% raw %}{% set a = 1 %}{% endraw %}",
            "{% set a | replace('=', '') %}x{% endset %}",
            "{% set a",
            "{{ 'open",
            "{% set a = 'é\\",
        ];
        for text in &untouched[..6] {
            assert_eq!(Source::new(text).text, *text);
        }
        assert!(Source::new(untouched[6]).text.starts_with("{% set a =( 'é\\"));
    }

    #[test]
    fn assignments_and_generation_blocks_are_wrapped() {
        assert_eq!(
            Source::new("{%- set a = b if '%}' == c else [1] -%}x").text,
            "{%- set a =( b if '%}' == c else [1] )|metallic_assigned -%}x"
        );
        assert_eq!(Source::new("{% set ns.a=(1) %}").text, "{% set ns.a=((1) )|metallic_assigned_member %}");
        assert_eq!(Source::new("{%- generation -%}x{% endgeneration %}").text, "{%- if true -%}x{% endif %}");
    }

    #[test]
    fn positions_are_those_of_the_published_source() {
        let original = "é{% set a = 1 %}\n{% generation %}{{ oops }}";
        let source = Source::new(original);
        for needle in ["a = 1", "{{ oops", "oops"] {
            let offset = source.text.find(&needle[..1.max(needle.find(" =").unwrap_or(needle.len()))]).unwrap();
            let before = &original[..original.find(needle).unwrap()];
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            assert_eq!(source.position(offset), (before.matches('\n').count() + 1, column), "{needle}");
        }
        assert_eq!(source.position(usize::MAX), (2, original.lines().last().unwrap().chars().count() + 1));
    }
}
