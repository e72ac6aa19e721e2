//! Images of pixels: enlarged, encoded as PNG, and as text.

use crate::error::{Error, Result};

/// The error of a figure that cannot be drawn.
pub(super) fn undrawn(error: impl std::fmt::Display) -> Error {
    Error::Value(format!("the figure cannot be drawn: {error}"))
}

/// Pixels of red, green and blue, row by row.
#[derive(Clone)]
pub(crate) struct Raster {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<u8>,
}

impl Raster {
    /// Every pixel as a square of `scale` pixels: the size, and the pixels.
    pub(super) fn enlarged(&self, scale: usize) -> ((u32, u32), Vec<u8>) {
        let size = ((self.width * scale) as u32, (self.height * scale) as u32);
        if scale == 1 {
            return (size, self.pixels.clone());
        }
        let mut pixels = Vec::with_capacity(self.pixels.len() * scale * scale);
        for row in self.pixels.chunks_exact((self.width * 3).max(1)) {
            let start = pixels.len();
            for pixel in row.chunks_exact(3) {
                for _ in 0..scale {
                    pixels.extend_from_slice(pixel);
                }
            }
            let end = pixels.len();
            for _ in 1..scale {
                pixels.extend_from_within(start..end);
            }
        }
        (size, pixels)
    }

    /// As a PNG file.
    pub(super) fn png(&self) -> Result<Vec<u8>> {
        encode((self.width as u32, self.height as u32), &self.pixels)
    }
}

/// A PNG file of pixels of red, green and blue; with a palette where there are few colours, which takes a third.
pub(super) fn encode(size: (u32, u32), pixels: &[u8]) -> Result<Vec<u8>> {
    // Which is smaller depends on the figure: filters suit smooth shades, none suits maps of entries.
    let plain = encode_by(png::Filter::NoFilter, size, pixels)?;
    let adaptive = encode_by(png::Filter::Adaptive, size, pixels)?;
    Ok(if plain.len() <= adaptive.len() {
        plain
    } else {
        adaptive
    })
}

fn encode_by(filter: png::Filter, size: (u32, u32), pixels: &[u8]) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.0, size.1);
    encoder.set_compression(png::Compression::High);
    let indexed = indexed(pixels);
    match &indexed {
        Some((palette, _)) => {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(palette.concat());
        }
        None => encoder.set_color(png::ColorType::Rgb),
    }
    encoder.set_filter(filter);
    let data = indexed.as_ref().map_or(pixels, |(_, indices)| indices);
    let mut writer = encoder.write_header().map_err(undrawn)?;
    writer.write_image_data(data).map_err(undrawn)?;
    writer.finish().map_err(undrawn)?;
    Ok(file)
}

/// A palette, ascending, and every pixel's place in it; `None` where there are more colours than a palette takes.
fn indexed(pixels: &[u8]) -> Option<(Vec<[u8; 3]>, Vec<u8>)> {
    const MOST: usize = 256;
    let mut places = std::collections::BTreeMap::new();
    for pixel in pixels.chunks_exact(3) {
        places.insert([pixel[0], pixel[1], pixel[2]], 0);
        if places.len() > MOST {
            return None;
        }
    }
    for (place, index) in places.values_mut().zip(0..=u8::MAX) {
        *place = index;
    }
    let indices = pixels.chunks_exact(3);
    let indices = indices.map(|pixel| places[&[pixel[0], pixel[1], pixel[2]]]);
    let indices = indices.collect();
    Some((places.into_keys().collect(), indices))
}

/// Bytes as text (RFC 4648, with padding).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |k: usize| u32::from(three.get(k).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for k in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * k)) as usize & 63];
            text.push(if k <= three.len() { letter.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a PNG to red, green and blue.
    fn decoded(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn an_image_of_few_or_many_colours_decodes_to_its_pixels() {
        for colours in [2_usize, 256, 257, 4000] {
            let (width, height) = (67, 61);
            let pixels: Vec<u8> = (0..width * height)
                .flat_map(|k| [(k % colours % 251) as u8, (k % colours / 251) as u8, 7])
                .collect();
            let raster = Raster {
                width,
                height,
                pixels: pixels.clone(),
            };
            let file = raster.png().unwrap();
            assert_eq!(decoded(&file), (67, 61, pixels), "{colours}");
        }
    }

    #[test]
    fn an_enlarged_image_has_squares() {
        let raster = Raster {
            width: 2,
            height: 1,
            pixels: vec![1, 2, 3, 4, 5, 6],
        };
        let row = [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6];
        assert_eq!(raster.enlarged(2), ((4, 2), [row, row].concat()));
    }

    #[test]
    fn bytes_are_written_as_in_the_standard() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (bytes, text) in examples {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
