// How many turns a loop makes before the device's compiler ends it, and that it computes until then.
@group(0) @binding(1) var<storage, read_write> output: array<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x > 0u {
        return;
    }
    var value = 1u;
    var turns = 0u;
    // A sequence that no compiler knows the end of.
    while turns < word(TURNS) {
        value = value * 1664525u + 1013904223u;
        turns += 1u;
    }
    output[0] = turns;
    output[1] = value;
}
