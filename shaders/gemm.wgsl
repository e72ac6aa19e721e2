// output[b, m, n] (+)= Σ_k left[b, m, k] · right[b, n, k] (· second[n, k]): every product of two or three tensors.

// b, m, n and k are groups of axes with strides of their own in each tensor (0: repeated), so that one
// kernel serves batched products, convolutions (right is read at t·stride + k·dilation) and the outer
// products of the contraction (second = a', output strides scatter into the tile).
// A workgroup computes BATCHES tiles of TILE_M × TILE_N, a thread 4 × 4 of them.

@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<f32>;
@group(0) @binding(3) var<storage, read> second: array<f32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

const ROWS: u32 = BATCHES * TILE_M;
const COLUMNS: u32 = BATCHES * TILE_N;
// One more than a power of two: threads that store along k would all meet in one bank.
const LEFT_STEP: u32 = ROWS + 1u;
const RIGHT_STEP: u32 = COLUMNS + 1u;
// Threads along m and n within one tile.
const ACROSS_M: u32 = TILE_M / 4u;
const ACROSS_N: u32 = TILE_N / 4u;
// Terms summed in one register before it joins the second level.
const CHUNK: u32 = 256u;

var<workgroup> left_tile: array<f32, DEPTH * LEFT_STEP>;
var<workgroup> right_tile: array<f32, DEPTH * RIGHT_STEP>;
// Offsets of the tile's rows, columns and present steps; (left), (right, second), (left, right, second).
var<workgroup> row_at: array<u32, ROWS>;
var<workgroup> column_at: array<vec2<u32>, COLUMNS>;
var<workgroup> step_at: array<vec3<u32>, DEPTH>;

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
    let extent_m = word(8u);
    let extent_n = word(9u);
    let batches = word(12u);
    let tiles_m = word(14u);
    let tiles_n = word(15u);
    let first_n = (group % tiles_n) * TILE_N;
    let first_m = ((group / tiles_n) % tiles_m) * TILE_M;
    let first_batch = (group / tiles_n / tiles_m) * BATCHES;

    for (var e = thread; e < ROWS; e += THREADS) {
        let batch = first_batch + e / TILE_M;
        let m = first_m + e % TILE_M;
        let inside = batch < batches && m < extent_m;
        row_at[e] = select(OUTSIDE, word(4u) + batch_offsets(batch).x + m_offsets(m).x, inside);
    }
    for (var e = thread; e < COLUMNS; e += THREADS) {
        let batch = first_batch + e / TILE_N;
        let n = first_n + e % TILE_N;
        let inside = batch < batches && n < extent_n;
        let at = batch_offsets(batch).yz + n_offsets(n).yz + vec2<u32>(word(5u), word(6u));
        column_at[e] = select(vec2<u32>(OUTSIDE), at, inside);
    }

    // Neighbouring threads load along the axis that is contiguous in memory.
    let left_along_k = (word(136u) & 1u) != 0u;
    let right_along_k = (word(136u) & 2u) != 0u;
    let tile = thread / (ACROSS_M * ACROSS_N);
    let thread_m = (thread / ACROSS_N) % ACROSS_M;
    let thread_n = thread % ACROSS_N;
    let read_m = tile * TILE_M + thread_m;
    let read_n = tile * TILE_N + thread_n;

    var total0 = vec4<f32>();
    var total1 = vec4<f32>();
    var total2 = vec4<f32>();
    var total3 = vec4<f32>();
    let k_end = word(11u);
    for (var chunk = word(10u); chunk < k_end; chunk += CHUNK) {
        let chunk_end = min(chunk + CHUNK, k_end);
        var sum0 = vec4<f32>();
        var sum1 = vec4<f32>();
        var sum2 = vec4<f32>();
        var sum3 = vec4<f32>();
        for (var k = chunk; k < chunk_end; k += DEPTH) {
            let depth = min(DEPTH, chunk_end - k);
            if thread < depth {
                step_at[thread] = k_offsets(k + thread).xyz;
            }
            workgroupBarrier();
            for (var e = thread; e < ROWS * DEPTH; e += THREADS) {
                let row = select(e % ROWS, e / DEPTH, left_along_k);
                let step = select(e / ROWS, e % DEPTH, left_along_k);
                let at = row_at[row];
                var value = 0.0;
                if at != OUTSIDE && step < depth {
                    value = left[at + step_at[step].x];
                }
                left_tile[step * LEFT_STEP + row] = value;
            }
            for (var e = thread; e < COLUMNS * DEPTH; e += THREADS) {
                let column = select(e % COLUMNS, e / DEPTH, right_along_k);
                let step = select(e / COLUMNS, e % DEPTH, right_along_k);
                let at = column_at[column];
                var value = 0.0;
                if at.x != OUTSIDE && step < depth {
                    value = right[at.x + step_at[step].y];
                    if PAIR {
                        value *= second[at.y + step_at[step].z];
                    }
                }
                right_tile[step * RIGHT_STEP + column] = value;
            }
            workgroupBarrier();
            for (var step = 0u; step < depth; step += 1u) {
                let l = step * LEFT_STEP + read_m;
                let r = step * RIGHT_STEP + read_n;
                let b = vec4<f32>(
                    right_tile[r],
                    right_tile[r + ACROSS_N],
                    right_tile[r + 2u * ACROSS_N],
                    right_tile[r + 3u * ACROSS_N],
                );
                sum0 += left_tile[l] * b;
                sum1 += left_tile[l + ACROSS_M] * b;
                sum2 += left_tile[l + 2u * ACROSS_M] * b;
                sum3 += left_tile[l + 3u * ACROSS_M] * b;
            }
        }
        total0 += sum0;
        total1 += sum1;
        total2 += sum2;
        total3 += sum3;
    }

    let batch = first_batch + tile;
    if batch < batches {
        let base = word(7u) + batch_offsets(batch).w;
        let m = first_m + thread_m;
        let n = first_n + thread_n;
        store(base, m, n, total0);
        store(base, m + ACROSS_M, n, total1);
        store(base, m + 2u * ACROSS_M, n, total2);
        store(base, m + 3u * ACROSS_M, n, total3);
    }
}

fn store(base: u32, m: u32, n: u32, values: vec4<f32>) {
    if m >= word(8u) {
        return;
    }
    let at = base + m_offsets(m).w;
    store_one(at, n, values.x);
    store_one(at, n + ACROSS_N, values.y);
    store_one(at, n + 2u * ACROSS_N, values.z);
    store_one(at, n + 3u * ACROSS_N, values.w);
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
