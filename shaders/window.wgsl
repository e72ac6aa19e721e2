// Windows over up to three axes: sum and its transpose, maximum, gather and its transpose (scatter).

// Transposes are written as gathers over the windows that may cover an input position, so that no
// atomics are needed and sums have one order. Taps TAPS_FROM..TAPS_TO of the kernel are handled by one dispatch.
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@group(0) @binding(3) var<storage, read_write> found: array<u32>;

// Constants from Rust: TRANSPOSED reads windows and writes input positions, CHOSEN takes only the windows
// that chose the position.

// Terms summed in one register before it joins the second level.
const CHUNK: u32 = 256u;

fn three(at: u32) -> vec3<u32> {
    return vec3<u32>(word(at), word(at + 1u), word(at + 2u));
}
fn flat(position: vec3<u32>, extents: vec3<u32>) -> u32 {
    return (position.x * extents.y + position.y) * extents.z + position.z;
}
fn unflat(index: u32, extents: vec3<u32>) -> vec3<u32> {
    return vec3<u32>(index / extents.z / extents.y, (index / extents.z) % extents.y, index % extents.z);
}
fn next(tap: vec3<u32>, kernel: vec3<u32>) -> vec3<u32> {
    var t = tap;
    t.z += 1u;
    if t.z == kernel.z {
        t.z = 0u;
        t.y += 1u;
        if t.y == kernel.y {
            t.y = 0u;
            t.x += 1u;
        }
    }
    return t;
}

// Where the leading axes (samples, directions, rest) of an output element lie in input and chosen.
struct Lead {
    input: u32,
    chosen: u32,
    position: vec3<u32>,
}
fn lead_of(element: u32, extents: vec3<u32>) -> Lead {
    let positions = extents.x * extents.y * extents.z;
    let lead = unflat(element / positions, three(LEAD));
    let i = lead * three(INPUT_STEPS);
    let c = lead * three(CHOSEN_STEPS);
    return Lead(word(INPUT_START) + i.x + i.y + i.z, word(CHOSEN_START) + c.x + c.y + c.z, unflat(element % positions, extents));
}

// Input position of a tap of the window at `place`, or OUTSIDE.
fn input_at(place: vec3<u32>, tap: vec3<u32>) -> u32 {
    let at = vec3<i32>(place * three(STRIDE) + tap * three(DILATION)) - vec3<i32>(three(PADDING));
    let extents = three(COVERED);
    let inside = all(at >= vec3<i32>()) && all(at < vec3<i32>(extents));
    return select(OUTSIDE, flat(vec3<u32>(max(at, vec3<i32>())), extents), inside);
}

// The window whose tap covers the input position `place`, or OUTSIDE.
fn window_at(place: vec3<u32>, tap: vec3<u32>) -> u32 {
    let at = vec3<i32>(place + three(PADDING)) - vec3<i32>(tap * three(DILATION));
    let reach = vec3<u32>(max(at, vec3<i32>()));
    let stride = three(STRIDE);
    let window = reach / stride;
    let extents = three(WINDOWS);
    let covered = all(at >= vec3<i32>()) && all(window * stride == reach) && all(window < extents);
    return select(OUTSIDE, flat(window, extents), covered);
}

// What a tap reads for the output element at `place`.
fn read_at(place: vec3<u32>, tap: vec3<u32>) -> u32 {
    if TRANSPOSED {
        return window_at(place, tap);
    }
    return input_at(place, tap);
}

fn element_of(id: vec3<u32>, grid: vec3<u32>, thread: u32) -> u32 {
    let group = group_index(id, grid);
    let element = group * THREADS + thread;
    return select(element, OUTSIDE, group == OUTSIDE || element >= word(ELEMENTS));
}

fn put(element: u32, value: f32) {
    if word(ADD) != 0u {
        output[element] += value;
    } else {
        output[element] = value;
    }
}

// The sum over a window, and its transposes over all windows (spread) or those that chose (scatter).
@compute @workgroup_size(THREADS)
fn window_sum(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let element = element_of(id, grid, thread);
    if element == OUTSIDE {
        return;
    }
    let extents = three(select(WINDOWS, COVERED, TRANSPOSED));
    let at = lead_of(element, extents);
    let own = flat(at.position, extents);
    let kernel = three(KERNEL);
    var tap = unflat(word(TAPS_FROM), kernel);
    var total = 0.0;
    for (var chunk = word(TAPS_FROM); chunk < word(TAPS_TO); chunk += CHUNK) {
        var sum = 0.0;
        for (var k = chunk; k < min(chunk + CHUNK, word(TAPS_TO)); k += 1u) {
            let position = read_at(at.position, tap);
            if position != OUTSIDE {
                if !CHOSEN || chosen[at.chosen + position] == own {
                    sum += input[at.input + position];
                }
            }
            tap = next(tap, kernel);
        }
        total += sum;
    }
    put(element, total);
}

@compute @workgroup_size(THREADS)
fn gather(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let element = element_of(id, grid, thread);
    if element == OUTSIDE {
        return;
    }
    let at = lead_of(element, three(WINDOWS));
    let position = chosen[at.chosen + flat(at.position, three(WINDOWS))];
    var value = 0.0;
    if position != OUTSIDE {
        value = input[at.input + position];
    }
    output[element] = value;
}

// The first maximum; a NaN counts as the largest, the last of them wins as in PyTorch. Padding is never chosen.
@compute @workgroup_size(THREADS)
fn max_pool_indices(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let element = element_of(id, grid, thread);
    if element == OUTSIDE {
        return;
    }
    let at = lead_of(element, three(WINDOWS));
    let kernel = three(KERNEL);
    var tap = unflat(word(TAPS_FROM), kernel);
    var best = OUTSIDE;
    var largest = 0.0;
    if word(TAPS_FROM) > 0u {
        best = found[element];
        if best != OUTSIDE {
            largest = input[at.input + best];
        }
    }
    for (var k = word(TAPS_FROM); k < word(TAPS_TO); k += 1u) {
        let position = input_at(at.position, tap);
        if position != OUTSIDE {
            let value = input[at.input + position];
            if best == OUTSIDE || is_nan(value) || (value > largest && !is_nan(largest)) {
                best = position;
                largest = value;
            }
        }
        tap = next(tap, kernel);
    }
    found[element] = best;
}
