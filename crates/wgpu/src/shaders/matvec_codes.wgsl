// Sums of integer dot products over inputs as encode.wgsl writes them.

// Room for eight rows of codes, or of numbers; then sums of squares of parts of each row.
struct Inputs {
    planes: array<array<vec4<u32>, UNITS>, 64>,
    sums: array<vec4<f32>>,
}

struct Act {
    first: array<vec4<u32>, 2>,
    second: array<vec4<u32>, 2>,
    steps: vec4<f32>,
    sums: vec4<f32>,
}

fn act(row: u32, i: u32) -> Act {
    let first = 6u * row;
    return Act(
        array<vec4<u32>, 2>(inputs.planes[first][i], inputs.planes[first + 1u][i]),
        array<vec4<u32>, 2>(inputs.planes[first + 2u][i], inputs.planes[first + 3u][i]),
        bitcast<vec4<f32>>(inputs.planes[first + 4u][i]),
        bitcast<vec4<f32>>(inputs.planes[first + 5u][i]),
    );
}

// 254 times a block's dot product in steps: at most 254 · 8 · 127² and a little, which is less than 2^26.
fn dot8(w: vec2<u32>, first: vec2<u32>, second: vec2<u32>) -> f32 {
    let whole = dot4I8Packed(w.x, first.x) + dot4I8Packed(w.y, first.y);
    return f32(254 * whole + dot4I8Packed(w.x, second.x) + dot4I8Packed(w.y, second.y));
}

fn dot_unit(w: Unit, x: Act) -> f32 {
    let low = vec2<f32>(
        dot8(w.low.xy, x.first[0].xy, x.second[0].xy),
        dot8(w.low.zw, x.first[0].zw, x.second[0].zw),
    );
    let high = vec2<f32>(
        dot8(w.high.xy, x.first[1].xy, x.second[1].xy),
        dot8(w.high.zw, x.first[1].zw, x.second[1].zw),
    );
    let codes = fma(vec2<f32>(w.scale.x), low * x.steps.xy, w.scale.y * high * x.steps.zw);
    let sum = (codes.x + codes.y) * (1.0 / 254.0);
    if (!MINS) {
        return sum;
    }
    return sum - fma(w.min.x, x.sums.x + x.sums.y, w.min.y * (x.sums.z + x.sums.w));
}

// Sums of rows `row` to `row + ROWS` of each of PARTS matrices, (part, row, row of the pass), over the units of lane `lane`
// of `lanes`.
fn accumulate(part: u32, row: u32, lane: u32, lanes: u32) -> array<f32, PARTS * ROWS * BATCH> {
    var found: array<f32, PARTS * ROWS * BATCH>;
    // AHEAD units at a time, so that their loads are under way together; beyond the last unit the last one is read
    // again, and does not count.
    for (var first = 0u; first < UNITS; first += AHEAD * lanes) {
        var w: array<Unit, AHEAD * PARTS * ROWS>;
        for (var u = 0u; u < AHEAD; u++) {
            let i = min(first + u * lanes + lane, UNITS - 1u);
            for (var p = 0u; p < PARTS; p++) {
                let m = matrix_of(part + p);
                for (var r = 0u; r < ROWS; r++) {
                    w[(u * PARTS + p) * ROWS + r] = unit_of(part + p, m, min(row + r, m.rows - 1u) * UNITS + i);
                }
            }
        }
        for (var u = 0u; u < AHEAD; u++) {
            let i = min(first + u * lanes + lane, UNITS - 1u);
            let counts = first + u * lanes + lane < UNITS;
            for (var b = 0u; b < BATCH; b++) {
                let x = act(b, i);
                for (var k = 0u; k < PARTS * ROWS; k++) {
                    found[k * BATCH + b] += select(0.0, dot_unit(w[u * PARTS * ROWS + k], x), counts);
                }
            }
        }
    }
    return found;
}
