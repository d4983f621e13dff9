// Makes the inputs of a product from a row of f32 that `source_at` gives, by one workgroup.
//
// Constants: OUTPUT (codes, floats or halves), NORM (0: none, 1: multiply with the norm's weights and leave the sum of
// squares for the product, 2: normalise), KEEP (also write the row as f32); WIDTH of a row, UNITS of a prepared row,
// NORM_START of the norm's weights in `vectors`, EPSILON, STRIDE (elements of a row of the source), SUMS and SUM_COUNT: the
// word of `coded` where sums of squares (codes, floats) or scales of rows (halves) start, and how many a row has.

const NOTHING: u32 = 0u;
const CODES: u32 = 1u;
const FLOATS: u32 = 2u;
const HALVES: u32 = 3u;

const NORM_WEIGHTS: u32 = 1u;
const NORM_WHOLE: u32 = 2u;

@group(0) @binding(3) var<storage, read_write> coded: array<u32>;
@group(0) @binding(4) var<storage, read_write> kept: array<f32>;

const THREADS: u32 = 256u;

var<workgroup> parts: array<f32, THREADS>;
var<workgroup> peaks: array<f32, THREADS>;

// An element of a row, after the norm's weights; zero beyond its width.
fn element_of(row: u32, at: u32) -> f32 {
    if (at >= WIDTH) {
        return 0.0;
    }
    let value = source_at(row * STRIDE + at);
    if (NORM != 0u) {
        return value * vectors[NORM_START + at];
    }
    return value;
}

// The row's sum of squares before the norm's weights, and its largest magnitude after them.
fn survey(row: u32, thread: u32, subgroup: u32, lane: u32, subgroups: u32) -> vec2<f32> {
    var sum = 0.0;
    var peak = 0.0;
    for (var at = thread; at < WIDTH; at += THREADS) {
        let v = source_at(row * STRIDE + at);
        sum = fma(v, v, sum);
        if (NORM != 0u) {
            peak = max(peak, abs(v * vectors[NORM_START + at]));
        } else {
            peak = max(peak, abs(v));
        }
    }
    let part = subgroupAdd(sum);
    let largest = subgroupMax(peak);
    if (lane == 0u) {
        parts[subgroup] = part;
        peaks[subgroup] = largest;
    }
    workgroupBarrier();
    var both = vec2<f32>(0.0);
    for (var i = 0u; i < subgroups; i++) {
        both = vec2<f32>(both.x + parts[i], max(both.y, peaks[i]));
    }
    return both;
}

// Every thread of the workgroup must come here; with ACROSS, `thread` counts along subgroups. The row becomes row `index` of
// the inputs.
fn prepare_row(row: u32, index: u32, thread: u32, subgroup: u32, lane: u32, subgroups: u32) {
    var factor = 1.0;
    var scale = 1.0;
    if (NORM != 0u || OUTPUT == HALVES) {
        let both = survey(row, thread, subgroup, lane, subgroups);
        if (NORM == NORM_WHOLE) {
            factor = inverseSqrt(both.x / f32(WIDTH) + EPSILON);
        }
        if (NORM == NORM_WEIGHTS) {
            for (var i = thread; i < SUM_COUNT; i += THREADS) {
                coded[SUMS + index * SUM_COUNT + i] = bitcast<u32>(select(0.0, both.x, i == 0u));
            }
        }
        if (OUTPUT == HALVES) {
            // Halves hold at most 65504; a row whose largest element is 256 has 16 bits below it.
            scale = select(1.0, both.y * factor / 256.0, both.y > 0.0);
            if (thread == 0u) {
                coded[SUMS + index] = bitcast<u32>(scale);
            }
        }
    }
    if (OUTPUT == CODES) {
        for (var base = 0u; base < 32u * UNITS; base += THREADS) {
            let at = base + thread;
            let value = element_of(row, at) * factor;
            keep(index, at, value);
            encode(thread, value, at < 32u * UNITS, index, at / BLOCK, UNITS);
        }
        return;
    }
    for (var quad = thread; quad < 8u * UNITS; quad += THREADS) {
        var v: vec4<f32>;
        for (var k = 0u; k < 4u; k++) {
            v[k] = element_of(row, 4u * quad + k) * factor;
            keep(index, 4u * quad + k, v[k]);
        }
        write_quad(8u * UNITS * index + quad, v, scale);
    }
}

fn keep(index: u32, at: u32, value: f32) {
    if (KEEP && at < WIDTH) {
        kept[index * WIDTH + at] = value;
    }
}

fn write_quad(at: u32, v: vec4<f32>, scale: f32) {
    if (OUTPUT == FLOATS) {
        let words = bitcast<vec4<u32>>(v);
        for (var k = 0u; k < 4u; k++) {
            coded[4u * at + k] = words[k];
        }
    }
    if (OUTPUT == HALVES) {
        coded[2u * at] = pack2x16float(v.xy / scale);
        coded[2u * at + 1u] = pack2x16float(v.zw / scale);
    }
}
