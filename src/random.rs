//! Random numbers from a counter: the same on every machine, whatever is drawn before or beside them.
//!
//! Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x32-10).

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Ten rounds of Philox4x32.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let wide = |k: usize, x: u32| u64::from(MULTIPLIERS[k]) * u64::from(x);
        let (a, b) = (wide(0, counter[0]), wide(1, counter[2]));
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A stream of numbers that seed, stream and draw alone decide.
///
/// ```
/// use hessblock::loss::Draws;
/// let numbers = |draw| { let mut d = Draws::new(7, 3, draw); [d.uniform(), d.normal()] };
/// assert_eq!(numbers(0), numbers(0));
/// assert_ne!(numbers(0), numbers(1));
/// ```
#[derive(Clone, Debug)]
pub struct Draws {
    key: [u32; 2],
    /// Block, draw, and the stream's two halves.
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
    /// Box–Muller makes normals in pairs.
    spare: Option<f64>,
}

impl Draws {
    /// The numbers of draw `draw` of stream `stream` (a sample, a layer).
    pub fn new(seed: u64, stream: u64, draw: u32) -> Draws {
        Draws {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, draw, stream as u32, (stream >> 32) as u32],
            block: [0; 4],
            used: 4,
            spare: None,
        }
    }

    fn next(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), of 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (u64::from(self.next()), u64::from(self.next()));
        ((high << 21) ^ (low >> 11)) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 − u is in (0, 1]: its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }

    /// +1 or −1 with equal probability (Rademacher).
    pub fn sign(&mut self) -> f64 {
        if self.next() & 1 == 0 { 1.0 } else { -1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of Random123's `kat_vectors`.
    #[test]
    fn philox_gives_the_known_answers() {
        let all = u32::MAX;
        let known = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [all; 4],
                [all; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in known {
            assert_eq!(philox(counter, key), answer);
        }
    }

    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        let mut draws = Draws::new(1, 2, 3);
        let count = 200_000;
        let mut moments = [0.0; 5];
        for _ in 0..count {
            let (u, n, s) = (draws.uniform(), draws.normal(), draws.sign());
            assert!((0.0..1.0).contains(&u));
            for (m, v) in moments.iter_mut().zip([u, u * u, n, n * n, s]) {
                *m += v / f64::from(count);
            }
        }
        for (m, v) in moments.iter().zip([0.5, 1.0 / 3.0, 0.0, 1.0, 0.0]) {
            assert!((m - v).abs() < 0.01, "{moments:?}");
        }
    }
}
