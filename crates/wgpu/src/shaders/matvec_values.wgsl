// Sums of products of numbers, for weights that are numbers and for devices without integer dot products.

// Room for eight rows of numbers; then sums of squares of parts of each row.
struct Inputs {
    quads: array<vec4<f32>, 64u * UNITS>,
    sums: array<vec4<f32>>,
}

// Sums of rows `row` to `row + ROWS` of each of PARTS matrices, (part, row, row of the pass), over the units of lane `lane`
// of `lanes`.
fn accumulate(part: u32, row: u32, lane: u32, lanes: u32) -> array<f32, PARTS * ROWS * BATCH> {
    var found: array<f32, PARTS * ROWS * BATCH>;
    for (var i = lane; i < UNITS; i += lanes) {
        for (var p = 0u; p < PARTS; p++) {
            let m = matrix_of(part + p);
            for (var r = 0u; r < ROWS; r++) {
                let w = numbers_of(part + p, m, min(row + r, m.rows - 1u) * UNITS + i);
                for (var b = 0u; b < BATCH; b++) {
                    let at = (b * UNITS + i) * 8u;
                    var sum = vec4<f32>(0.0);
                    for (var j = 0u; j < 8u; j++) {
                        sum = fma(w.v[j], inputs.quads[at + j], sum);
                    }
                    found[(p * ROWS + r) * BATCH + b] += (sum.x + sum.y) + (sum.z + sum.w);
                }
            }
        }
    }
    return found;
}
