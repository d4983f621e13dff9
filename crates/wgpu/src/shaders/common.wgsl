// Bindings and types that every product with a weight matrix shares.

// Where a matrix lies in `weights`, and what of the output it makes. Starts are counted in 32-bit words.
struct Matrix {
    codes: u32,
    high: u32,
    scales: u32,
    supers: u32,
    // Rows of this part of the matrix.
    rows: u32,
    // Element of an output row that the part's first row makes.
    output: u32,
    // Start of the bias in `vectors`, or NONE.
    bias: u32,
    // First workgroup that works on this part.
    group: u32,
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> vectors: array<f32>;

fn word_at(index: u32) -> u32 {
    return weights[index >> 2u][index & 3u];
}

// Thirty-two weights: value = scale · code − min, with a scale and a min for each half.
struct Unit {
    // Four 8-bit codes to a word, in order.
    low: vec4<u32>,
    high: vec4<u32>,
    scale: vec2<f32>,
    min: vec2<f32>,
}

// Element `index` of half-precision numbers that start at word `start` of `weights`.
fn half_at(start: u32, index: u32) -> f32 {
    let pair = unpack2x16float(word_at(start + (index >> 1u)));
    return select(pair.x, pair.y, (index & 1u) == 1u);
}

// The low and the high halves of bytes, each as a byte.
fn low_nibbles(bytes: vec4<u32>) -> vec4<u32> {
    return bytes & vec4<u32>(0x0f0f0f0fu);
}

fn high_nibbles(bytes: vec4<u32>) -> vec4<u32> {
    return (bytes >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
}

// Bit 8j + f of `bits` as bit `to` of byte j of word f: words 0 to 3 and words 4 to 7.
fn spread_bits_low(bits: u32, to: u32) -> vec4<u32> {
    return ((vec4<u32>(bits) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(0x01010101u)) << vec4<u32>(to);
}

fn spread_bits_high(bits: u32, to: u32) -> vec4<u32> {
    return ((vec4<u32>(bits) >> vec4<u32>(4u, 5u, 6u, 7u)) & vec4<u32>(0x01010101u)) << vec4<u32>(to);
}

// Bits 8j + 2f of `pairs` as the low two bits of byte j of word f.
fn spread_pairs(pairs: u32) -> vec4<u32> {
    return (vec4<u32>(pairs) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(0x03030303u);
}

// Thirty-two weights as numbers.
struct Values {
    v: array<vec4<f32>, 8>,
}

fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(word));
}

fn values_of(unit: Unit) -> Values {
    let low_scale = vec4<f32>(unit.scale.x);
    let high_scale = vec4<f32>(unit.scale.y);
    let low_min = vec4<f32>(-unit.min.x);
    let high_min = vec4<f32>(-unit.min.y);
    return Values(array<vec4<f32>, 8>(
        fma(low_scale, signed_bytes(unit.low.x), low_min),
        fma(low_scale, signed_bytes(unit.low.y), low_min),
        fma(low_scale, signed_bytes(unit.low.z), low_min),
        fma(low_scale, signed_bytes(unit.low.w), low_min),
        fma(high_scale, signed_bytes(unit.high.x), high_min),
        fma(high_scale, signed_bytes(unit.high.y), high_min),
        fma(high_scale, signed_bytes(unit.high.z), high_min),
        fma(high_scale, signed_bytes(unit.high.w), high_min),
    ));
}
