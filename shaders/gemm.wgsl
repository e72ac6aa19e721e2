// output[b, m, n] (+)= Σ_k left[b, m, k] · right[b, n, k] (· second[n, k]): every product of two or three tensors.

// b, m, n and k are groups of axes with strides of their own in each tensor (0: repeated), so that one
// kernel serves batched products, convolutions (right is read at t·stride + k·dilation) and the outer
// products of the contraction (second = a', output strides scatter into the tile).
// A workgroup computes BATCHES tiles of TILE_M × TILE_N, a thread 4 × 4 of them.

@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<f32>;
@group(0) @binding(3) var<storage, read> second: array<f32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

// Rows and columns are handled in fours.
const ROWS: u32 = BATCHES * TILE_M / 4u;
const COLUMNS: u32 = BATCHES * TILE_N / 4u;
// One more: threads that store along k would all meet in one bank.
const LEFT_STEP: u32 = ROWS + 1u;
const RIGHT_STEP: u32 = COLUMNS + 1u;
// Threads along m and n within one tile.
const ACROSS_M: u32 = TILE_M / 4u;
const ACROSS_N: u32 = TILE_N / 4u;
// Terms summed in one register before it joins the second level.
const CHUNK: u32 = 256u;

var<workgroup> left_tile: array<vec4<f32>, DEPTH * LEFT_STEP>;
var<workgroup> right_tile: array<vec4<f32>, DEPTH * RIGHT_STEP>;
// Offsets of the tile's rows and columns, and of the present steps in (left, right, second).
var<workgroup> left_at: array<vec4<u32>, ROWS>;
var<workgroup> right_at: array<vec4<u32>, COLUMNS>;
var<workgroup> second_at: array<vec4<u32>, COLUMNS>;
var<workgroup> step_at: array<vec3<u32>, DEPTH>;

// Rows and columns past the end read the last one there is: what comes of it is never stored.
fn left_offset(batch: u32, m: u32) -> u32 {
    return word(4u) + batch_offsets(min(batch, word(12u) - 1u)).x + m_offsets(min(m, word(8u) - 1u)).x;
}
fn right_offsets(batch: u32, n: u32) -> vec2<u32> {
    let at = batch_offsets(min(batch, word(12u) - 1u)).yz + n_offsets(min(n, word(9u) - 1u)).yz;
    return at + vec2<u32>(word(5u), word(6u));
}

// sum + a bᵀ
fn add_outer(sum: mat4x4<f32>, a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(sum[0] + a.x * b, sum[1] + a.y * b, sum[2] + a.z * b, sum[3] + a.w * b);
}

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
    let tiles_m = word(14u);
    let tiles_n = word(15u);
    let first_n = (group % tiles_n) * TILE_N;
    let first_m = ((group / tiles_n) % tiles_m) * TILE_M;
    let first_batch = (group / tiles_n / tiles_m) * BATCHES;

    for (var e = thread; e < ROWS; e += THREADS) {
        let batch = first_batch + e / ACROSS_M;
        let m = first_m + e % ACROSS_M * 4u;
        left_at[e] = vec4<u32>(
            left_offset(batch, m),
            left_offset(batch, m + 1u),
            left_offset(batch, m + 2u),
            left_offset(batch, m + 3u),
        );
    }
    for (var e = thread; e < COLUMNS; e += THREADS) {
        let batch = first_batch + e / ACROSS_N;
        let n = first_n + e % ACROSS_N * 4u;
        let at0 = right_offsets(batch, n);
        let at1 = right_offsets(batch, n + 1u);
        let at2 = right_offsets(batch, n + 2u);
        let at3 = right_offsets(batch, n + 3u);
        right_at[e] = vec4<u32>(at0.x, at1.x, at2.x, at3.x);
        second_at[e] = vec4<u32>(at0.y, at1.y, at2.y, at3.y);
    }

    // Neighbouring threads load along the axis that is contiguous in memory.
    let left_along_k = (word(136u) & 1u) != 0u;
    let right_along_k = (word(136u) & 2u) != 0u;
    let tile = thread / (ACROSS_M * ACROSS_N);
    let thread_m = (thread / ACROSS_N) % ACROSS_M;
    let thread_n = thread % ACROSS_N;
    let read_m = tile * ACROSS_M + thread_m;
    let read_n = tile * ACROSS_N + thread_n;

    var total = mat4x4<f32>();
    let k_end = word(11u);
    for (var chunk = word(10u); chunk < k_end; chunk += CHUNK) {
        let chunk_end = min(chunk + CHUNK, k_end);
        var sum = mat4x4<f32>();
        for (var k = chunk; k < chunk_end; k += DEPTH) {
            let depth = min(DEPTH, chunk_end - k);
            if thread < depth {
                step_at[thread] = k_offsets(k + thread).xyz;
            }
            workgroupBarrier();
            for (var e = thread; e < ROWS * DEPTH; e += THREADS) {
                let row = select(e % ROWS, e / DEPTH, left_along_k);
                let step = select(e / ROWS, e % DEPTH, left_along_k);
                if step < depth {
                    let at = left_at[row] + step_at[step].x;
                    left_tile[step * LEFT_STEP + row] = vec4<f32>(left[at.x], left[at.y], left[at.z], left[at.w]);
                }
            }
            for (var e = thread; e < COLUMNS * DEPTH; e += THREADS) {
                let column = select(e % COLUMNS, e / DEPTH, right_along_k);
                let step = select(e / COLUMNS, e % DEPTH, right_along_k);
                if step < depth {
                    let at = right_at[column] + step_at[step].y;
                    var value = vec4<f32>(right[at.x], right[at.y], right[at.z], right[at.w]);
                    if PAIR {
                        let also = second_at[column] + step_at[step].z;
                        value *= vec4<f32>(second[also.x], second[also.y], second[also.z], second[also.w]);
                    }
                    right_tile[step * RIGHT_STEP + column] = value;
                }
            }
            workgroupBarrier();
            var l = read_m;
            var r = read_n;
            if depth == DEPTH {
                // Four at a time: loop overhead is half of the time on some compilers.
                for (var step = 0u; step < DEPTH; step += 4u) {
                    sum = add_outer(sum, left_tile[l], right_tile[r]);
                    sum = add_outer(sum, left_tile[l + LEFT_STEP], right_tile[r + RIGHT_STEP]);
                    sum = add_outer(sum, left_tile[l + 2u * LEFT_STEP], right_tile[r + 2u * RIGHT_STEP]);
                    sum = add_outer(sum, left_tile[l + 3u * LEFT_STEP], right_tile[r + 3u * RIGHT_STEP]);
                    l += 4u * LEFT_STEP;
                    r += 4u * RIGHT_STEP;
                }
            } else {
                for (var step = 0u; step < depth; step += 1u) {
                    sum = add_outer(sum, left_tile[l], right_tile[r]);
                    l += LEFT_STEP;
                    r += RIGHT_STEP;
                }
            }
        }
        total += sum;
    }

    let batch = first_batch + tile;
    if batch < word(12u) {
        let base = word(7u) + batch_offsets(batch).w;
        let m = first_m + thread_m * 4u;
        let n = first_n + thread_n * 4u;
        store(base, m, n, total[0]);
        store(base, m + 1u, n, total[1]);
        store(base, m + 2u, n, total[2]);
        store(base, m + 3u, n, total[3]);
    }
}

fn store(base: u32, m: u32, n: u32, values: vec4<f32>) {
    if m >= word(8u) {
        return;
    }
    let at = base + m_offsets(m).w;
    store_one(at, n, values.x);
    store_one(at, n + 1u, values.y);
    store_one(at, n + 2u, values.z);
    store_one(at, n + 3u, values.w);
}

fn store_one(base: u32, n: u32, value: f32) {
    if n >= word(9u) {
        return;
    }
    let at = base + n_offsets(n).w;
    if word(13u) != 0u {
        output[at] += value;
    } else {
        output[at] = value;
    }
}
