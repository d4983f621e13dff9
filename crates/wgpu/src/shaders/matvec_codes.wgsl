// Sums of integer dot products over inputs as encode.wgsl writes them.

struct Act {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
    scales: vec4<f32>,
}

fn act(row: u32, i: u32) -> Act {
    let start = row * 5u * params.units;
    let first = start + 2u * i;
    let second = first + 2u * params.units;
    let scales = bitcast<vec4<f32>>(inputs[start + 4u * params.units + i]);
    return Act(inputs[first], inputs[first + 1u], inputs[second], inputs[second + 1u], scales);
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> f32 {
    return f32(
        dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w)
    );
}

fn dot_unit(w: Unit, x: Act) -> f32 {
    let low = fma(dot16(w.low, x.c), 1.0 / 254.0, dot16(w.low, x.a));
    let high = fma(dot16(w.high, x.d), 1.0 / 254.0, dot16(w.high, x.b));
    let codes = fma(w.scale.x, low, w.scale.y * high) * x.scales.x;
    return codes - fma(w.min.x, x.scales.y, w.min.y * x.scales.z);
}

fn accumulate(part: u32, row: u32, lane: u32, lanes: u32) -> array<f32, ROWS * BATCH> {
    let m = params.matrices[part];
    var found: array<f32, ROWS * BATCH>;
    // AHEAD units at a time, so that their loads are under way together; beyond the last unit the last one is read
    // again, and does not count.
    for (var first = lane; first < params.units; first += AHEAD * lanes) {
        var x: array<Act, AHEAD * BATCH>;
        var w: array<Unit, AHEAD * ROWS>;
        for (var u = 0u; u < AHEAD; u++) {
            let i = min(first + u * lanes, params.units - 1u);
            for (var b = 0u; b < BATCH; b++) {
                x[u * BATCH + b] = act(b, i);
            }
            for (var r = 0u; r < ROWS; r++) {
                w[u * ROWS + r] = unit_of(part, m, min(row + r, m.rows - 1u) * params.units + i);
            }
        }
        for (var u = 0u; u < AHEAD; u++) {
            let counts = first + u * lanes < params.units;
            for (var r = 0u; r < ROWS; r++) {
                for (var b = 0u; b < BATCH; b++) {
                    let sum = dot_unit(w[u * ROWS + r], x[u * BATCH + b]);
                    found[r * BATCH + b] += select(0.0, sum, counts);
                }
            }
        }
    }
    return found;
}
