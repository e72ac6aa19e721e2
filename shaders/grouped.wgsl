// Convolutions of few channels per group and their transposes: each output element is one sum of products.

// A place of the output has terms along each spatial axis. Term j reads `placed` at start + j·step, if that lies
// inside, and `other` at first + j·skip. What lies inside is a range of j, found before the loops:
//
//               place     terms     placed, start                   step          other, first  skip
// conv          output    taps      place·stride - padding          dilation      0             1
// conv_weights  tap       outputs   place·dilation - padding        stride        0             1
// conv_inputs   input     taps      place + padding - k0·dilation   -dilation     k0            stride
//
// The last (TRANSPOSED) in units of the stride for `placed`, and step and skip without their common divisor: k0 is the
// first tap that meets a window's position there. One dispatch handles the terms between two corners of a box whose
// axes are two summed over beside the spatial ones (samples and batch, or channels of the group), and z, y, x.
@group(0) @binding(1) var<storage, read> placed: array<f32>;
@group(0) @binding(2) var<storage, read> other: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

// Constants from Rust: TRANSPOSED; UNIT, every step and skip has length 1; and lead_offsets, where an
// output element's axes before the spatial ones lie in placed and other.

// Terms summed in one register before it joins the second level.
const CHUNK: u32 = 256u;

fn three(at: u32) -> vec3<u32> {
    return vec3<u32>(word(at), word(at + 1u), word(at + 2u));
}
fn unflat(index: u32, extents: vec3<u32>) -> vec3<u32> {
    let row = index / extents.z;
    let plane = row / extents.y;
    return vec3<u32>(plane, row - plane * extents.y, index - row * extents.z);
}
// Steps of one along each axis, in elements.
fn pitches(extents: vec3<u32>) -> vec3<i32> {
    return vec3<i32>(i32(extents.y * extents.z), i32(extents.z), 1);
}
// Quotient by a step or skip, rounded up, and rounded down.
fn over(length: vec3<u32>, step: vec3<u32>) -> vec3<u32> {
    if UNIT {
        return length;
    }
    return (length + step - 1u) / step;
}
fn within(length: vec3<u32>, step: vec3<u32>) -> vec3<u32> {
    if UNIT {
        return length;
    }
    return length / step;
}

// Terms begin..end of a place.
struct Terms {
    start: vec3<i32>,
    step: vec3<i32>,
    first: vec3<u32>,
    skip: vec3<u32>,
    begin: vec3<u32>,
    end: vec3<u32>,
}

fn terms_of(place: vec3<u32>) -> Terms {
    let extents = vec3<i32>(three(PLACED));
    let step = three(STEP);
    let padding = three(PADDING);
    var terms: Terms;
    if TRANSPOSED {
        let skip = three(SKIP);
        let divisor = three(DIVISOR);
        let reach = place + padding;
        var first = vec3<u32>();
        var start = vec3<i32>(reach);
        if !UNIT {
            // k0·step = reach / divisor modulo skip.
            first = (reach / divisor % skip) * three(INVERSE) % skip;
            start = (start - vec3<i32>(first * step * divisor)) / vec3<i32>(skip * divisor);
        }
        let past = vec3<u32>(max(start - extents, vec3<i32>()));
        terms.begin = select(within(past, step) + 1u, vec3<u32>(), start < extents);
        let taps = three(OTHER);
        let fitting = over(taps - min(first, taps), skip);
        terms.end = min(fitting, within(vec3<u32>(max(start, vec3<i32>())), step) + 1u);
        var none = start < vec3<i32>();
        if !UNIT {
            none = none | (reach % divisor != vec3<u32>());
        }
        terms.end = select(terms.end, vec3<u32>(), none);
        terms.start = start;
        terms.step = -vec3<i32>(step);
        terms.first = first;
        terms.skip = skip;
    } else {
        let start = vec3<i32>(place * three(PLACE_STEP)) - vec3<i32>(padding);
        terms.begin = over(vec3<u32>(max(-start, vec3<i32>())), step);
        terms.end = over(vec3<u32>(max(extents - start, vec3<i32>())), step);
        terms.start = start;
        terms.step = vec3<i32>(step);
        terms.first = vec3<u32>();
        terms.skip = vec3<u32>(1u);
    }
    terms.begin = max(terms.begin, three(FROM + 2u));
    terms.end = min(terms.end, three(TO + 2u));
    return terms;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = group_index(id, grid);
    let element = group * THREADS + thread;
    if group == OUTSIDE || element >= word(ELEMENTS) {
        return;
    }
    let places = three(PLACES);
    let positions = places.x * places.y * places.z;
    let lead = element / positions;
    let terms = terms_of(unflat(element - lead * positions, places));
    // In elements from here on; the first read of a sum may lie outside where no term is read.
    let base = vec2<i32>(lead_offsets(lead)) + vec2<i32>(i32(word(PLACED_START)), i32(word(OTHER_START)));
    let pitch = pitches(three(PLACED));
    let step = terms.step * pitch;
    let other_pitch = pitches(three(OTHER));
    let skip = vec3<i32>(terms.skip) * other_pitch;
    let start = terms.start * pitch + vec3<i32>(terms.begin) * step;
    let first = vec3<i32>(terms.first) * other_pitch + vec3<i32>(terms.begin) * skip;
    let origin = base + vec2<i32>(start.x + start.y + start.z, first.x + first.y + first.z);
    let outer = vec2<i32>(i32(word(SUMMED)), i32(word(SUMMED + 1u)));
    let inner = vec2<i32>(i32(word(SUMMED + 2u)), i32(word(SUMMED + 3u)));
    let run = max(terms.end.z, terms.begin.z) - terms.begin.z;
    var total = 0.0;
    var sum = 0.0;
    var count = 0u;
    for (var a = word(FROM); a < word(TO); a += 1u) {
        for (var b = word(FROM + 1u); b < word(TO + 1u); b += 1u) {
            var plane = origin + i32(a) * outer + i32(b) * inner;
            for (var z = terms.begin.x; z < terms.end.x; z += 1u) {
                var row = plane;
                for (var y = terms.begin.y; y < terms.end.y; y += 1u) {
                    var at = row;
                    for (var x = 0u; x < run; x += 1u) {
                        sum += placed[at.x] * other[at.y];
                        at += vec2<i32>(step.z, skip.z);
                    }
                    count += run;
                    if count >= CHUNK {
                        total += sum;
                        sum = 0.0;
                        count = 0u;
                    }
                    row += vec2<i32>(step.y, skip.y);
                }
                plane += vec2<i32>(step.x, skip.x);
            }
        }
    }
    total += sum;
    if word(ADD) != 0u {
        output[element] += total;
    } else {
        output[element] = total;
    }
}
