fn values_f32(m: Matrix, i: u32) -> Values {
    let at = (m.codes >> 2u) + 8u * i;
    var values: Values;
    for (var j = 0u; j < 8u; j++) {
        values.v[j] = bitcast<vec4<f32>>(weights[at + j]);
    }
    return values;
}
