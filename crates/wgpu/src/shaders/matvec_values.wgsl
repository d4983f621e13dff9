// Sums of products of numbers, for weights that are numbers and for devices without integer dot products.

fn accumulate(part: u32, row: u32, lane: u32, lanes: u32) -> array<f32, ROWS * BATCH> {
    let m = params.matrices[part];
    var found: array<f32, ROWS * BATCH>;
    for (var i = lane; i < params.units; i += lanes) {
        for (var r = 0u; r < ROWS; r++) {
            let w = numbers_of(part, m, min(row + r, m.rows - 1u) * params.units + i);
            for (var b = 0u; b < BATCH; b++) {
                let at = (b * params.units + i) * 8u;
                var sum = vec4<f32>(0.0);
                for (var j = 0u; j < 8u; j++) {
                    sum = fma(w.v[j], bitcast<vec4<f32>>(inputs[at + j]), sum);
                }
                found[r * BATCH + b] += (sum.x + sum.y) + (sum.z + sum.w);
            }
        }
    }
    return found;
}
