const THREADS: u32 = 256u;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    choose(thread);
}
