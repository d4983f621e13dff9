// Writes the output of one row of the pass for one row of the matrix.
fn put(row: u32, output_row: u32, sum: f32) {
    let m = params.matrix;
    var value = sum;
    if (m.bias != NONE) {
        value += vectors[m.bias + output_row];
    }
    if (params.factor != 0.0) {
        value = params.factor * tanh(value / params.factor);
    }
    let at = row * params.output_width + m.output + output_row;
    if (MODE == ADD) {
        value += output[at];
    }
    if (MODE == GATE_SILU || MODE == GATE_GELU) {
        value *= activated(output[at]);
    }
    output[at] = value;
}
