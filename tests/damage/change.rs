//! Changes of a file that know nothing of its format, but what formats have in common: numbers in binary and in text,
//! brackets, lines, ends.

use crate::random::Random;

/// Numbers that no file should say.
const HOSTILE: &[u64] = &[
    0,
    1,
    2,
    255,
    256,
    65_535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 60,
    (1 << 61) - 1,
    (1 << 62) + 1,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Words that stand in text where a number or a word stood.
const WORDS: &[&str] = &[
    "-1",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "1e400",
    "0.5",
    "99999999999999999999",
    "[0,0]",
    "\"..\"",
    "NaN",
];

fn hostile(random: &mut Random) -> u64 {
    HOSTILE[random.below(HOSTILE.len())]
}

/// A piece of the bytes.
fn piece(bytes: &[u8], random: &mut Random, most: usize) -> std::ops::Range<usize> {
    let start = random.below(bytes.len() + 1);
    let length = random.below(most.min(bytes.len() - start) + 1);
    start..start + length
}

/// The number in text that is found first from a place on.
fn number(bytes: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let start = from + bytes[from..].iter().position(digit)?;
    let length = bytes[start..].iter().position(|byte| !digit(byte));
    Some(start..length.map_or(bytes.len(), |length| start + length))
}

/// One change; binary ones leave out what `text` needs to stay text.
fn once(bytes: &mut Vec<u8>, random: &mut Random, text: bool) {
    let at = random.below(bytes.len());
    let kind = match text {
        true => 4 + random.below(8),
        false => random.below(12),
    };
    match kind {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = [1 << random.below(8) ^ *byte, 0, 0xff, 0x80][random.below(4)];
            }
        }
        2 | 3 => {
            let wide = hostile(random);
            let width = [2, 4, 8][random.below(3)];
            let little = wide.to_le_bytes();
            let mut word = little[..width].to_vec();
            if random.below(3) == 0 {
                word.reverse();
            }
            for (byte, new) in bytes.iter_mut().skip(at).zip(word) {
                *byte = new;
            }
        }
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(piece(bytes, random, 40))),
        6 => {
            let copy = bytes[piece(bytes, random, 60)].to_vec();
            for _ in 0..=random.below(3) {
                bytes.splice(at..at, copy.iter().copied());
            }
        }
        7 => {
            let nest = ["[", "{\"a\":", "(", " ", "\n", "\u{fffd}"][random.below(6)];
            let new = nest.repeat(1 << random.below(9));
            bytes.splice(at..at, new.bytes());
        }
        8 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = b"[]{}(),:'\"\\ \n.0a"[random.below(16)];
            }
        }
        9 => {
            let word = WORDS[random.below(WORDS.len())].bytes();
            if let Some(found) = number(bytes, at) {
                bytes.splice(found, word);
            }
        }
        _ => {
            let value = match random.below(2) {
                0 => random.below(12) as u64,
                _ => hostile(random),
            };
            if let Some(found) = number(bytes, at) {
                bytes.splice(found, value.to_string().bytes());
            }
        }
    }
}

/// A copy with a few changes.
pub fn changed(seed: &[u8], random: &mut Random, text: bool) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        once(&mut bytes, random, text);
    }
    bytes
}
