// output[e] = f(inputs at e), f an expression compiled to `evaluate`; inputs are read with broadcasting strides.

@group(0) @binding(OUTPUT) var<storage, read_write> output: array<f32>;

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
        output[element] = evaluate(element);
    }
}
