fn brain_pair(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn values_bf16(m: Matrix, i: u32) -> Values {
    let at = (m.codes >> 2u) + 4u * i;
    var values: Values;
    for (var j = 0u; j < 4u; j++) {
        let words = weights[at + j];
        values.v[2u * j] = vec4<f32>(brain_pair(words.x), brain_pair(words.y));
        values.v[2u * j + 1u] = vec4<f32>(brain_pair(words.z), brain_pair(words.w));
    }
    return values;
}
