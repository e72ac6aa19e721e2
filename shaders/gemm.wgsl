// output[b, m, n] (+)= Σ_k left[b, m, k] · right[b, n, k] (· second[b, n, k]): every product of two or three tensors.

// b, m, n and k are groups of axes with strides of their own in each tensor (0: repeated), so that one kernel serves
// batched products, convolutions (right is read at t·stride + k·dilation) and the outer products of the contraction
// (b = (o, o'), m = i, n = i', second = P[o, o'], or m = (o, o'), n = (i, i'), second = a'; output strides scatter).
// A workgroup computes BATCHES tiles of TILE_M × TILE_N, a thread PARTS_M × PARTS_N fragments of 4 × 4 of them.
//
// The generator (`src/tensor/gpu/kernel/product.rs`) sets the constants and aliases, keeps or drops what lies between
// `//@if NAME` and `//@end`, and puts in what `//@insert NAME` stands for: names for every fragment, since arrays of
// accumulators are kept in memory by some compilers.

@group(0) @binding(1) var<storage, read> left: array<LEFT>;
@group(0) @binding(2) var<storage, read> right: array<RIGHT>;
@group(0) @binding(3) var<storage, read> second: array<SECOND>;
@group(0) @binding(4) var<storage, read_write> output: array<OUTPUT>;
//@if COMPENSATED
// What the sums in output have lost.
@group(0) @binding(5) var<storage, read_write> lost: array<OUTPUT>;
//@end

// Rows and columns are handled in fours.
const ROWS: u32 = BATCHES * TILE_M / 4u;
const COLUMNS: u32 = BATCHES * TILE_N / 4u;
// One more: threads that store along k would all meet in one bank.
const LEFT_STEP: u32 = ROWS + 1u;
const RIGHT_STEP: u32 = COLUMNS + 1u;
// Threads along m and n within one tile.
const ACROSS_M: u32 = TILE_M / 4u / PARTS_M;
const ACROSS_N: u32 = TILE_N / 4u / PARTS_N;
// Steps between two looks at the table of steps; terms summed in one register before it joins the second level.
const CHUNK: u32 = 256u;

var<workgroup> left_tile: array<vec4<f32>, DEPTH * LEFT_STEP>;
var<workgroup> right_tile: array<vec4<f32>, DEPTH * RIGHT_STEP>;
// Offsets of the tile's rows and columns: of four, or of the first of four.
var<workgroup> left_at: array<LEFT_AT, ROWS>;
var<workgroup> right_at: array<RIGHT_AT, COLUMNS>;
//@if SECOND
var<workgroup> second_at: array<SECOND_AT, COLUMNS>;
//@end
//@if TABLE
// Offsets of a chunk's steps in (left, right, second).
var<workgroup> step_at: array<vec4<u32>, CHUNK>;
//@end

// Rows and columns past the end read the last one there is: what comes of it is never stored.
fn left_offset(batch: u32, m: u32) -> u32 {
    return word(LEFT_START) + batch_offsets(batch).x + m_offsets(min(m, word(M_EXTENT) - 1u)).x;
}
fn right_offsets(batch: u32, n: u32) -> vec2<u32> {
    let at = batch_offsets(batch).yz + n_offsets(min(n, word(N_EXTENT) - 1u)).yz;
    return at + vec2<u32>(word(RIGHT_START), word(SECOND_START));
}

//@if MIRRORED
// (row, column), row ≤ column, of an index that counts the columns of a triangle one after another.
fn triangle(index: u32) -> vec2<u32> {
    var column = u32((sqrt(8.0 * f32(index) + 1.0) - 1.0) * 0.5);
    // The root is rounded.
    while column * (column + 1u) / 2u > index {
        column -= 1u;
    }
    while (column + 1u) * (column + 2u) / 2u <= index {
        column += 1u;
    }
    return vec2<u32>(index - column * (column + 1u) / 2u, column);
}
//@end

// Outputs (o, o') of a batch, and its index over all of them.
fn batch_pair(batch: u32) -> vec2<u32> {
    let within = min(batch, word(BATCH_EXTENT) - 1u);
//@if SYMMETRIC_BATCHES
    return triangle(within);
//@else
    return vec2<u32>(0u, within);
//@end
}
fn batch_index(pair: vec2<u32>) -> u32 {
    return pair.x * word(OUTPUTS) + pair.y;
}

// Offset of a step in each tensor.
//@if TABLE
fn steps(step: u32, chunk: u32) -> vec4<u32> {
    return step_at[step - chunk];
}
//@else
fn steps(step: u32, chunk: u32) -> vec4<u32> {
    return k_offsets(step);
}
//@end

//@insert LOADS

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
    let place = group % word(TILES);
    let behind = group / word(TILES);
    let first_batch = (behind % word(BATCH_GROUPS)) * BATCHES;
    let split = behind / word(BATCH_GROUPS);
//@if MIRRORED
    let corner = triangle(place);
//@else
    let corner = vec2<u32>(place / word(TILES_ALONG_N), place % word(TILES_ALONG_N));
//@end
    let first_m = corner.x * TILE_M;
    let first_n = corner.y * TILE_N;

    for (var e = thread; e < ROWS; e += THREADS) {
        let batch = batch_index(batch_pair(first_batch + e / (TILE_M / 4u)));
        let m = first_m + e % (TILE_M / 4u) * 4u;
//@insert LEFT_ROWS
    }
    for (var e = thread; e < COLUMNS; e += THREADS) {
        let batch = batch_index(batch_pair(first_batch + e / (TILE_N / 4u)));
        let n = first_n + e % (TILE_N / 4u) * 4u;
//@insert RIGHT_COLUMNS
    }
    workgroupBarrier();

    let which = thread / (ACROSS_M * ACROSS_N);
    let thread_m = (thread / ACROSS_N) % ACROSS_M;
    let thread_n = thread % ACROSS_N;
    let read_m = which * (TILE_M / 4u) + thread_m;
    let read_n = which * (TILE_N / 4u) + thread_n;

//@insert SUMS
    let k_begin = word(K_FROM) + split * word(SPLIT_STEPS);
    let k_end = min(k_begin + word(SPLIT_STEPS), word(K_TO));
    for (var chunk = k_begin; chunk < k_end; chunk += CHUNK) {
        let end = min(chunk + CHUNK, k_end);
//@if TABLE
        for (var e = thread; e < end - chunk; e += THREADS) {
            step_at[e] = k_offsets(chunk + e);
        }
        workgroupBarrier();
//@end
//@if AHEAD
//@insert FETCH_FIRST
//@end
        for (var k = chunk; k < end; k += DEPTH) {
//@if AHEAD
//@insert PUT
            workgroupBarrier();
            // The next tile is on its way while this one is multiplied.
            if k + DEPTH < end {
//@insert FETCH_NEXT
            }
//@else
//@insert FETCH_PUT
            workgroupBarrier();
//@end
            var l = read_m;
            var r = read_n;
            for (var step = 0u; step < DEPTH; step += UNROLL) {
//@insert MULTIPLY
                l += UNROLL * LEFT_STEP;
                r += UNROLL * RIGHT_STEP;
            }
            workgroupBarrier();
        }
//@insert TOTAL
    }

    let batch = first_batch + which;
    if batch < word(BATCH_EXTENT) {
        let pair = batch_pair(batch);
        let at = batch_index(pair);
        let base = word(OUTPUT_START) + split * word(SPLIT_STRIDE) + batch_offsets(at).w;
//@if SYMMETRIC_BATCHES
        let mirrored = word(OUTPUT_START) + batch_mirror(at);
//@end
//@insert STORE
    }
}

// What becomes of an element, given what is added to it.
fn updated(at: u32, value: OUTPUT) -> OUTPUT {
    if word(ADD) == 0u {
        return value;
    }
    let old = output[at];
//@if COMPENSATED
    // TwoSum (Knuth), then the sum and all that was lost, renormalised: output stays the rounded value of both.
    let sum = opaque(old + value);
    let part = opaque(sum - old);
    let error = opaque(old - opaque(sum - part)) + opaque(value - part);
    let tail = lost[at] + error;
    let high = opaque(sum + tail);
    // What is infinite stays so, also beside it.
    lost[at] = finite(opaque(tail - opaque(high - sum)), high);
    return finite(high, sum);
//@else
    return old + value;
//@end
}
//@if COMPENSATED
// x, through a zero that the compiler cannot know: compilers that reassociate drop the error otherwise (GPU-NOTES, B5).
fn opaque(x: OUTPUT) -> OUTPUT {
    return bitcast<OUTPUT>(bitcast<OUTPUT_BITS>(x) ^ OUTPUT_BITS(word(HIDDEN_ZERO)));
}
// x where y is finite; otherwise y.
fn finite(x: OUTPUT, y: OUTPUT) -> OUTPUT {
    let special = (bitcast<OUTPUT_BITS>(y) & OUTPUT_BITS(0x7f800000u)) == OUTPUT_BITS(0x7f800000u);
    return select(x, y, special);
}
//@end

// Adds rows m.., columns n.. of a block to their places; returns what is there then.
fn add_block(base: u32, m: u32, n: u32, block: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        add_row(base, m, n, block[0]),
        add_row(base, m + 1u, n, block[1]),
        add_row(base, m + 2u, n, block[2]),
        add_row(base, m + 3u, n, block[3]),
    );
}
fn add_row(base: u32, m: u32, n: u32, values: vec4<f32>) -> vec4<f32> {
    if m >= word(M_EXTENT) || n >= word(N_EXTENT) {
        return values;
    }
    let row = base + m_offsets(m).w;
//@if WIDE
    let at = (row + n_offsets(n).w) >> 2u;
    let value = updated(at, values);
    output[at] = value;
    return value;
//@else
    return vec4<f32>(
        add_one(row, n, values.x),
        add_one(row, n + 1u, values.y),
        add_one(row, n + 2u, values.z),
        add_one(row, n + 3u, values.w),
    );
//@end
}
//@if !WIDE
fn add_one(row: u32, n: u32, value: f32) -> f32 {
    if n >= word(N_EXTENT) {
        return value;
    }
    let at = row + n_offsets(n).w;
    let result = updated(at, value);
    output[at] = result;
    return result;
}
//@end

//@if MIRRORED
// Writes a block to other places: as it lies, or with rows and columns exchanged.
fn put_block(base: u32, m: u32, n: u32, block: mat4x4<f32>) {
    for (var j = 0u; j < 4u; j += 1u) {
        if m + j < word(M_EXTENT) && n < word(N_EXTENT) {
            put_run(base + m_offsets(m + j).w, n, block[j], true);
        }
    }
}
fn put_mirror(base: u32, m: u32, n: u32, block: mat4x4<f32>) {
    let turned = transpose(block);
    for (var j = 0u; j < 4u; j += 1u) {
        if n + j < word(N_EXTENT) && m < word(M_EXTENT) {
            put_run(base + n_mirror(n + j), m, turned[j], false);
        }
    }
}
fn put_run(row: u32, first: u32, values: vec4<f32>, plain: bool) {
//@if WIDE
    let at = select(m_mirror(first), n_offsets(first).w, plain);
    output[(row + at) >> 2u] = values;
//@else
    let most = select(word(M_EXTENT), word(N_EXTENT), plain);
    for (var j = 0u; j < 4u; j += 1u) {
        if first + j < most {
            let at = select(m_mirror(first + j), n_offsets(first + j).w, plain);
            output[row + at] = values[j];
        }
    }
//@end
}
//@end
