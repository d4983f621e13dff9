// ggml's Q8_0: the step of a block whose largest magnitude is `peak`, and codes rounded to nearest, halves away from zero.

fn step_of(peak: f32) -> f32 {
    return peak / 127.0;
}

fn codes_of(values: vec4<f32>, peak: f32) -> u32 {
    let inverse = select(0.0, 127.0 / peak, peak > 0.0);
    let scaled = values * inverse;
    return pack4xI8(vec4<i32>(trunc(scaled + sign(scaled) * 0.5)));
}
