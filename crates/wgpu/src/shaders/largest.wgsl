// The largest of what a workgroup's threads have found, of equal ones the lower token.

var<workgroup> values: array<f32, THREADS>;
var<workgroup> tokens: array<u32, THREADS>;

// Keeps the better of two of the workgroup's finds.
fn merge(into: u32, other: u32) {
    let a = values[into];
    let b = values[other];
    if (b > a || (b == a && tokens[other] < tokens[into])) {
        values[into] = b;
        tokens[into] = tokens[other];
    }
}

// Leaves it in `values` and `tokens`, first. Every thread of the workgroup must come here.
fn find_largest(thread: u32, value: f32, token: u32) {
    values[thread] = value;
    tokens[thread] = token;
    workgroupBarrier();
    for (var width = THREADS / 2u; width > 0u; width >>= 1u) {
        if (thread < width) {
            merge(thread, thread + width);
        }
        workgroupBarrier();
    }
}
