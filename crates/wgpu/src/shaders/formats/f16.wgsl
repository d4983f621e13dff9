fn values_f16(m: Matrix, i: u32) -> Values {
    let at = (m.codes >> 2u) + 4u * i;
    var values: Values;
    for (var j = 0u; j < 4u; j++) {
        let words = weights[at + j];
        values.v[2u * j] = vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
        values.v[2u * j + 1u] = vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w));
    }
    return values;
}
