// Launch parameters and the work list, shared by every kernel.

// Every parameter has a constant from Rust (`src/tensor/gpu/params.rs`): the number of its first word.
@group(0) @binding(0) var<uniform> params: array<vec4<u32>, PARAM_VECTORS>;

fn word(index: u32) -> u32 {
    return params[index >> 2u][index & 3u];
}

// Index of this workgroup in the work list, or OUTSIDE where the folded grid reaches past its end.
const OUTSIDE: u32 = 0xffffffffu;
fn group_index(id: vec3<u32>, grid: vec3<u32>) -> u32 {
    let local = id.x + id.y * grid.x;
    return select(OUTSIDE, word(FIRST_GROUP) + local, local < word(GROUPS));
}
