// output[o + Σ_k index_k · into_k] = input[i + Σ_k index_k · from_k]: permute, slice, embed, concat, broadcast.

// Bits, not floats: indices are copied too, and NaN keep their payload.
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<u32>;

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
    if element >= word(ELEMENTS) {
        return;
    }
    // (from, into)
    let at = offsets(element);
    output[word(OUTPUT_START) + at.y] = input[word(INPUT_START) + at.x];
}
