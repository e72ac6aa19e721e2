// Launch parameters and the work list, shared by every kernel.

// Words 0..4 are the same for all kernels: first workgroup of this dispatch, workgroups in it,
// elements of the whole output, and a zero that the compiler cannot know. The rest is the kernel's.
@group(0) @binding(0) var<uniform> params: array<vec4<u32>, 48>;

fn word(index: u32) -> u32 {
    return params[index >> 2u][index & 3u];
}

// Index of this workgroup in the work list, or OUTSIDE where the folded grid reaches past its end.
const OUTSIDE: u32 = 0xffffffffu;
fn group_index(id: vec3<u32>, grid: vec3<u32>) -> u32 {
    let local = id.x + id.y * grid.x;
    return select(OUTSIDE, word(0u) + local, local < word(1u));
}
