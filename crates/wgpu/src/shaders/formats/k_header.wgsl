// Scale and min of one of the eight units that share a header of Q4_K and Q5_K: d and dmin, low halves of the scales,
// low halves of the mins, upper two bits of scales (first) and mins.
fn scale_and_min(header: vec4<u32>, unit: u32) -> vec2<f32> {
    let d = unpack2x16float(header.x);
    let scale = ((header.y >> (4u * unit)) & 15u) | (((header.w >> (2u * unit)) & 3u) << 4u);
    let min = ((header.z >> (4u * unit)) & 15u) | (((header.w >> (16u + 2u * unit)) & 3u) << 4u);
    return vec2<f32>(d.x * f32(scale), d.y * f32(min));
}
