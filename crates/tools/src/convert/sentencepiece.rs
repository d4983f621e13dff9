//! `tokenizer.model`: a SentencePiece model, as far as a vocabulary needs it.
//!
//! The file is a protocol buffer (`sentencepiece_model.proto`): field 1 repeats a piece with text (1), score (2) and type
//! (3); field 2 has the trainer's settings with the kind of model (3); field 3 those of the normaliser with
//! `add_dummy_prefix` (3). Other fields are passed over.

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) text: Vec<u8>,
    pub(super) score: f32,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte: GGUF's numbers too.
    pub(super) kind: u64,
}

/// A vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    pub(super) pieces: Vec<Piece>,
    /// Whether it merges pairs by score (2, BPE) rather than maximising a sum of scores (1, Unigram).
    pub(super) merges: bool,
    /// Whether a space goes in front of every text.
    pub(super) space_prefix: bool,
}

impl Model {
    /// Reads a whole file; none where it is damaged.
    pub(super) fn parse(bytes: &[u8]) -> Option<Model> {
        let mut model = Model { pieces: Vec::new(), merges: false, space_prefix: true };
        let mut fields = Fields(bytes);
        while !fields.0.is_empty() {
            match fields.next()? {
                (1, Field::Bytes(bytes)) => model.pieces.push(piece(bytes)?),
                (2, Field::Bytes(bytes)) => {
                    let mut settings = Fields(bytes);
                    while !settings.0.is_empty() {
                        if let (3, Field::Number(kind)) = settings.next()? {
                            model.merges = kind == 2;
                        }
                    }
                }
                (3, Field::Bytes(bytes)) => {
                    let mut settings = Fields(bytes);
                    while !settings.0.is_empty() {
                        if let (3, Field::Number(flag)) = settings.next()? {
                            model.space_prefix = flag != 0;
                        }
                    }
                }
                _ => {}
            }
        }
        Some(model).filter(|model| !model.pieces.is_empty())
    }
}

fn piece(bytes: &[u8]) -> Option<Piece> {
    let mut piece = Piece { text: Vec::new(), score: 0.0, kind: 1 };
    let mut fields = Fields(bytes);
    while !fields.0.is_empty() {
        match fields.next()? {
            (1, Field::Bytes(text)) => piece.text = text.to_vec(),
            (2, Field::Word(score)) => piece.score = f32::from_bits(score),
            (3, Field::Number(kind)) => piece.kind = kind,
            _ => {}
        }
    }
    Some(piece).filter(|piece| (1..=6).contains(&piece.kind) && piece.score.is_finite())
}

enum Field<'a> {
    Number(u64),
    Word(u32),
    Long,
    Bytes(&'a [u8]),
}

/// The fields of a message, from front to back.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Long
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Word(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pieces by hand: "a" with score -1.5, and the unknown one; then trainer and normaliser.
    const FILE: &[u8] = &[
        0x0a, 0x08, 0x0a, 0x01, b'a', 0x15, 0x00, 0x00, 0xc0, 0xbf, //
        0x0a, 0x07, 0x0a, 0x03, b'u', b'n', b'k', 0x18, 0x02, //
        0x12, 0x02, 0x18, 0x02, //
        0x1a, 0x02, 0x18, 0x00,
    ];

    #[test]
    fn pieces_and_settings_are_read() {
        let model = Model::parse(FILE).unwrap();
        assert_eq!(model.pieces[0], Piece { text: b"a".to_vec(), score: -1.5, kind: 1 });
        assert_eq!(model.pieces[1], Piece { text: b"unk".to_vec(), score: 0.0, kind: 2 });
        assert!(model.merges && !model.space_prefix);
    }

    #[test]
    fn a_file_cut_inside_a_field_is_damaged() {
        let whole = [10, 19, 23, FILE.len()];
        for end in (1..FILE.len()).filter(|end| !whole.contains(end)) {
            assert_eq!(Model::parse(&FILE[..end]), None, "{end}");
        }
        assert_eq!(Model::parse(&[0xff; 32]), None);
        assert_eq!(Model::parse(&[]), None);
    }
}
