// output[kept, chunk] = Σ input[kept, reduced] over one chunk of CHUNK reduced positions.

// The host repeats this until one chunk is left, so that long sums are cut at fixed places.
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

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
    let chunks = word(CHUNKS);
    let base = word(INPUT_START) + kept_offset(element / chunks);
    let start = (element % chunks) * CHUNK;
    let stop = min(start + CHUNK, word(TERMS));
    var sum = 0.0;
    for (var position = start; position < stop; position += 1u) {
        sum += input[base + reduced_offset(position)];
    }
    output[element] = sum;
}
