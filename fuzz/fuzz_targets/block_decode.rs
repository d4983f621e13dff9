//! Any bytes as blocks of any format: they decode, and what they decode to encodes again, NaN and infinities included.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metallic_tensor::FORMATS;

const BLOCKS_MAX: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let row = &FORMATS[usize::from(*first) % FORMATS.len()];
    let Some(codec) = row.codec else {
        return;
    };
    let blocks = (bytes.len() / row.block_bytes).min(BLOCKS_MAX);
    let bytes = &bytes[..blocks * row.block_bytes];
    let mut values = vec![0.0; blocks * row.block_elements];
    (codec.decode)(bytes, &mut values);
    let mut again = vec![0; bytes.len()];
    (codec.encode)(&values, &mut again);
    // A block of finite numbers stays one.
    if values.iter().all(|value| value.is_finite() && value.abs() < 1e3) {
        let mut decoded = vec![0.0; values.len()];
        (codec.decode)(&again, &mut decoded);
        assert!(decoded.iter().all(|value| value.is_finite()), "{}", row.name);
    }
});
