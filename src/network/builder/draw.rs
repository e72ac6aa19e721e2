//! Random numbers from a counter: the same on every machine.

/// A number in [0, 1) from a counter: the finalizer of SplitMix64 over seed, stream and position.
pub(super) fn uniform(seed: u64, stream: u64, position: u64) -> f64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let start = mix(mix(seed.wrapping_add(STEP)).wrapping_add(stream.wrapping_mul(STEP)));
    let bits = mix(start.wrapping_add(position.wrapping_add(1).wrapping_mul(STEP)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
