// Norms and rotates query and key heads in place, and stores keys and values. One workgroup for each head of each row:
// query heads, key heads, value heads. `store` comes from store_halves.wgsl or store_codes.wgsl.

@group(0) @binding(3) var<storage, read_write> qkv: array<f32>;

const THREADS: u32 = 64u;

var<workgroup> head: array<f32, WIDTH>;
// What is stored.
var<workgroup> turned: array<f32, WIDTH>;
var<workgroup> parts: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row = workgroup.y;
    let index = workgroup.x;
    let start = row * STRIDE + index * WIDTH;
    let position = position_of(row);
    let is_value = index >= HEADS + KV_HEADS;
    let norm = select(select(KEY_NORM, QUERY_NORM, index < HEADS), NONE, is_value);
    let epsilon = select(KEY_EPSILON, QUERY_EPSILON, index < HEADS);
    var square = 0.0;
    for (var i = thread; i < WIDTH; i += THREADS) {
        let v = qkv[start + i];
        head[i] = v;
        square = fma(v, v, square);
    }
    let part = subgroupAdd(square);
    if (lane == 0u) {
        parts[subgroup] = part;
    }
    workgroupBarrier();
    if (norm != NONE) {
        var sum = 0.0;
        for (var i = 0u; i < subgroups; i++) {
            sum += parts[i];
        }
        let factor = inverseSqrt(sum / f32(WIDTH) + epsilon);
        for (var i = thread; i < WIDTH; i += THREADS) {
            head[i] *= factor * vectors[norm + i];
        }
    }
    workgroupBarrier();
    for (var half = thread; half < WIDTH / 2u; half += THREADS) {
        var pair = vec2<f32>(head[2u * half], head[2u * half + 1u]);
        if (!is_value) {
            for (var k = 0u; k < 2u; k++) {
                let element = 2u * half + k;
                if (element < 2u * PAIRS) {
                    pair[k] = rotated(element, head[element], head[partner(element)], position);
                }
                qkv[start + element] = pair[k];
            }
        }
        turned[2u * half] = pair.x;
        turned[2u * half + 1u] = pair.y;
    }
    workgroupBarrier();
    if (index >= HEADS) {
        let kv_head = select(index - HEADS, index - HEADS - KV_HEADS, is_value);
        store(page_start(row, position, kv_head), is_value, thread);
    }
}
