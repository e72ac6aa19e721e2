// Entries by number, output[s, d, b, k, a] = input[s, d, b, indices[s, k], a], and the transpose of that.

// The transpose needs no atomics: `chain` links every row of the output to the first entry of the list that
// names it, and every entry to the next that names the same row; `put` sums along these links, in that order.
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> indices: array<f32>;
@group(0) @binding(2) var<storage, read> links: array<u32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@group(0) @binding(3) var<storage, read_write> made: array<u32>;

// Terms summed in one register before it joins the second level.
const CHUNK: u32 = 64u;

fn element_of(id: vec3<u32>, grid: vec3<u32>, thread: u32) -> u32 {
    let group = group_index(id, grid);
    let element = group * THREADS + thread;
    return select(element, OUTSIDE, group == OUTSIDE || element >= word(ELEMENTS));
}

// Sample and entry of an output element, and the input at its direction and at the axes before and after, where
// sample and entry are 0.
struct Place {
    sample: u32,
    entry: u32,
    input: u32,
}
fn place_of(element: u32) -> Place {
    let after = word(AFTER);
    let entry = (element / after) % word(ENTRIES);
    let lead = element / after / word(ENTRIES);
    let direction = (lead / word(BEFORE)) % word(DIRECTIONS);
    let input = word(INPUT_START) + direction * word(DIRECTION_STEP) + (lead % word(BEFORE)) * word(INPUT_ENTRIES) * after + element % after;
    return Place(lead / word(BEFORE) / word(DIRECTIONS), entry, input);
}

@compute @workgroup_size(THREADS)
fn take(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let element = element_of(id, grid, thread);
    if element == OUTSIDE {
        return;
    }
    let at = place_of(element);
    let index = indices[word(LIST_START) + at.sample * word(LIST_STEP) + at.entry];
    var value = 0.0;
    // NaN is outside too.
    if index >= 0.0 && index < f32(word(INPUT_ENTRIES)) {
        value = input[at.input + at.sample * word(SAMPLE_STEP) + u32(index) * word(AFTER)];
    }
    output[element] = value;
}

@compute @workgroup_size(THREADS)
fn chain(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let element = element_of(id, grid, thread);
    if element == OUTSIDE {
        return;
    }
    let count = word(COUNT);
    let links_per_sample = count + word(ENTRIES);
    let list = word(LIST_START) + (element / links_per_sample) * word(LIST_STEP);
    // Entries of the list come first, rows of the output behind them.
    let node = element % links_per_sample;
    let is_entry = node < count;
    var wanted = f32(word(FIRST_ROW) + node - count);
    if is_entry {
        wanted = indices[list + node];
    }
    var k = select(0u, node + 1u, is_entry);
    for (; k < count; k += 1u) {
        if indices[list + k] == wanted {
            break;
        }
    }
    made[element] = select(OUTSIDE, k, k < count);
}

@compute @workgroup_size(THREADS)
fn put(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let element = element_of(id, grid, thread);
    if element == OUTSIDE {
        return;
    }
    let at = place_of(element);
    var total = 0.0;
    var sum = 0.0;
    var terms = 0u;
    for (var sample = at.sample; sample < at.sample + word(SUMMED); sample += 1u) {
        let list = word(LIST_START) + sample * word(LIST_STEP);
        let source = at.input + sample * word(SAMPLE_STEP);
        var k = links[list + word(COUNT) + at.entry];
        while k != OUTSIDE {
            sum += input[source + k * word(AFTER)];
            terms += 1u;
            if terms == CHUNK {
                total += sum;
                sum = 0.0;
                terms = 0u;
            }
            k = links[list + k];
        }
    }
    total += sum;
    let place = word(OUTPUT_START) + element;
    if word(ADD) != 0u {
        output[place] += total;
    } else {
        output[place] = total;
    }
}
