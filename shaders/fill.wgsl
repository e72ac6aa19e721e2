// output[e] = value, for every element e.

@group(0) @binding(1) var<storage, read_write> output: array<u32>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = group_index(id, grid);
    if group == OUTSIDE {
        return;
    }
    let element = group * THREADS + thread;
    if element < word(ELEMENTS) {
        output[word(OUTPUT_START) + element] = word(VALUE);
    }
}
