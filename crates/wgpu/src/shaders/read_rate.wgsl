// Reads a buffer as fast as plain loads do: threads take neighbouring vectors, eight of them under way at a time.
//
// Constant: VECTORS of the buffer, a multiple of 8 · THREADS · workgroups.

@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;

const THREADS: u32 = 256u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let stride = THREADS * workgroups.x;
    var sum = vec4<u32>(0u);
    for (var first = id.x; first < VECTORS; first += 8u * stride) {
        for (var k = 0u; k < 8u; k++) {
            sum ^= source[first + k * stride];
        }
    }
    // The sums must be of use, or nothing would be read.
    sums[id.x] = sum.x ^ sum.y ^ sum.z ^ sum.w;
}
