//! The `.npy` header (format versions 1 to 3), and the number types of arrays in files.

use crate::error::{Error, Result};
use std::path::Path;

/// How a number lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dtype {
    /// Float, signed, unsigned or boolean.
    pub kind: Kind,
    /// Bytes per number.
    pub size: usize,
    /// Most significant byte first.
    pub big_endian: bool,
}

/// Kinds of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IEEE 754 of 2, 4 or 8 bytes.
    Float,
    /// Two's complement of 1 to 8 bytes.
    Signed,
    /// Unsigned of 1 to 8 bytes.
    Unsigned,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// Reads NumPy's name, such as `<f4`; `None` for what is not taken (complex, strings, records).
    pub fn parse(name: &str) -> Option<Dtype> {
        let mut chars = name.chars();
        let order = chars.next()?;
        let kind = match chars.next()? {
            'f' => Kind::Float,
            'i' => Kind::Signed,
            'u' => Kind::Unsigned,
            'b' => Kind::Bool,
            _ => return None,
        };
        let size = match chars.as_str() {
            "1" => 1,
            "2" => 2,
            "4" => 4,
            "8" => 8,
            _ => return None,
        };
        let fits = match kind {
            Kind::Float => size > 1,
            Kind::Bool => size == 1,
            _ => true,
        };
        let big_endian = match order {
            '<' => false,
            '>' => true,
            '|' if size == 1 => false,
            '=' => cfg!(target_endian = "big"),
            _ => return None,
        };
        fits.then_some(Dtype {
            kind,
            size,
            big_endian,
        })
    }

    /// Whether the numbers are integers or booleans.
    pub fn integer(&self) -> bool {
        self.kind != Kind::Float
    }

    /// Appends the numbers in `bytes`, widened (64-bit integers are rounded to the nearest double).
    pub fn decode_f64(&self, bytes: &[u8], values: &mut Vec<f64>) {
        let each = bytes.chunks_exact(self.size);
        match (self.kind, self.size) {
            (Kind::Float, 2) => {
                values.extend(each.map(|b| half::f16::from_bits(self.bits(b) as u16).to_f64()))
            }
            (Kind::Float, 4) => {
                values.extend(each.map(|b| f64::from(f32::from_bits(self.bits(b) as u32))))
            }
            (Kind::Float, _) => values.extend(each.map(|b| f64::from_bits(self.bits(b)))),
            (Kind::Signed, _) => values.extend(each.map(|b| self.signed(b) as f64)),
            (Kind::Unsigned, _) => values.extend(each.map(|b| self.bits(b) as f64)),
            (Kind::Bool, _) => values.extend(each.map(|b| f64::from(b[0] != 0))),
        }
    }

    /// Appends the integers in `bytes`; `Err` holds the first number that is no integer of 64 bits.
    pub fn decode_i64(&self, bytes: &[u8], values: &mut Vec<i64>) -> Result<(), f64> {
        if self.kind == Kind::Float {
            let mut floats = Vec::with_capacity(bytes.len() / self.size);
            self.decode_f64(bytes, &mut floats);
            for value in floats {
                // Doubles up to 2^53 are exact integers; above, neighbours are lost.
                if value.fract() != 0.0 || value.abs() > 9_007_199_254_740_992.0 {
                    return Err(value);
                }
                values.push(value as i64);
            }
            return Ok(());
        }
        for b in bytes.chunks_exact(self.size) {
            values.push(match self.kind {
                Kind::Signed => self.signed(b),
                Kind::Bool => i64::from(b[0] != 0),
                _ => i64::try_from(self.bits(b)).map_err(|_| self.bits(b) as f64)?,
            });
        }
        Ok(())
    }

    fn bits(&self, bytes: &[u8]) -> u64 {
        let join = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
        match self.big_endian {
            true => bytes.iter().fold(0, join),
            false => bytes.iter().rev().fold(0, join),
        }
    }

    fn signed(&self, bytes: &[u8]) -> i64 {
        let unused = 64 - 8 * self.size as u32;
        ((self.bits(bytes) << unused) as i64) >> unused
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Float => "float",
            Kind::Signed => "int",
            Kind::Unsigned => "uint",
            Kind::Bool => return f.write_str("bool"),
        };
        write!(f, "{kind}{}", 8 * self.size)
    }
}

/// What a `.npy` file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Number type.
    pub dtype: Dtype,
    /// First axis fastest.
    pub fortran: bool,
    /// Extent per axis.
    pub shape: Vec<usize>,
    /// Where the numbers begin.
    pub offset: u64,
}

impl Header {
    /// Bytes of all numbers; `None` when that is beyond 64 bits.
    pub fn data_bytes(&self) -> Option<u64> {
        self.shape
            .iter()
            .try_fold(self.dtype.size as u64, |product, &extent| {
                product.checked_mul(u64::try_from(extent).ok()?)
            })
    }
}

/// The longest header taken: NumPy's own are below 64 KiB.
const LONGEST: usize = 1 << 20;

/// Reads the header at the front of a `.npy` stream.
///
/// # Errors
/// [`Error::File`] where it is no `.npy`, or holds records, strings or complex numbers; `path` is for messages.
pub fn read_header(path: &Path, reader: &mut impl std::io::Read) -> Result<Header> {
    let mut fixed = [0; 8];
    let truncated = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::file(path, "ends within its .npy header: the file is truncated")
        }
        _ => Error::io(path)(error),
    };
    reader.read_exact(&mut fixed).map_err(truncated)?;
    if &fixed[..6] != b"\x93NUMPY" {
        return Err(Error::file(
            path,
            "is not a .npy file (its first bytes are not \\x93NUMPY): write it with numpy.save",
        ));
    }
    let (length, before) = match fixed[6] {
        1 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length).map_err(truncated)?;
            (usize::from(u16::from_le_bytes(length)), 10)
        }
        2 | 3 => {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(truncated)?;
            (u32::from_le_bytes(length) as usize, 12)
        }
        version => {
            return Err(Error::file(
                path,
                format!(".npy format version {version} is not known (1, 2 and 3 are)"),
            ));
        }
    };
    if length > LONGEST {
        return Err(Error::file(
            path,
            format!(
                "claims a .npy header of {length} bytes, and the longest taken is {LONGEST}: the file is damaged"
            ),
        ));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(truncated)?;
    let text = String::from_utf8_lossy(&text);
    let (dtype, fortran, shape) = Parser::new(&text)
        .header()
        .map_err(|message| Error::file(path, message))?;
    Ok(Header {
        dtype,
        fortran,
        shape,
        offset: before + length as u64,
    })
}

/// A version 1 header for an array in C order, padded so that the numbers begin at a multiple of 64 bytes.
pub fn write_header(numpy_type: &str, shape: &[usize]) -> Vec<u8> {
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    let tuple = match extents.as_slice() {
        [one] => format!("({one},)"),
        _ => format!("({})", extents.join(", ")),
    };
    let mut text =
        format!("{{'descr': '{numpy_type}', 'fortran_order': False, 'shape': {tuple}, }}");
    let unpadded = 10 + text.len() + 1;
    text.extend(std::iter::repeat_n(
        ' ',
        unpadded.next_multiple_of(64) - unpadded,
    ));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    let length = u16::try_from(text.len()).expect("an array has few axes, so its header is short");
    header.extend(length.to_le_bytes());
    header.extend(text.as_bytes());
    header
}

/// Reads the Python dictionary in the header.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    fn header(mut self) -> Result<(Dtype, bool, Vec<usize>), String> {
        let (mut dtype, mut fortran, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.take('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => dtype = Some(self.dtype()?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return Err(format!("has the unknown key {key:?} in its .npy header")),
            }
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        match (dtype, fortran, shape) {
            (Some(dtype), Some(fortran), Some(shape)) => Ok((dtype, fortran, shape)),
            _ => Err("lacks descr, fortran_order or shape in its .npy header".into()),
        }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, what: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, what: char) -> Result<(), String> {
        if self.take(what) {
            return Ok(());
        }
        let near: String = self.rest.chars().take(20).collect();
        Err(format!(
            "has a damaged .npy header: {what:?} is missing before {near:?}"
        ))
    }

    fn string(&mut self) -> Result<&'a str, String> {
        self.skip();
        let quote = if self.rest.starts_with('"') {
            '"'
        } else {
            '\''
        };
        self.expect(quote)?;
        let (text, rest) = self
            .rest
            .split_once(quote)
            .ok_or("has a damaged .npy header: a string does not end")?;
        self.rest = rest;
        Ok(text)
    }

    fn dtype(&mut self) -> Result<Dtype, String> {
        self.skip();
        if self.rest.starts_with('[') {
            return Err(
                "holds records (a structured array): save its fields as plain arrays".into(),
            );
        }
        let name = self.string()?;
        Dtype::parse(name).ok_or_else(|| {
            format!(
                "holds numbers of type {name:?}, which are not taken: convert them with \
                 .astype('float32'), 'float64' or an integer type"
            )
        })
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.skip();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("has a damaged .npy header: fortran_order is neither True nor False".into())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.take(')') {
            self.skip();
            let end = self
                .rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            let extent = digits
                .parse()
                .map_err(|_| format!("has the impossible extent {digits:?} in its .npy header"))?;
            if shape.len() == 64 {
                return Err("has more than 64 axes in its .npy header".into());
            }
            shape.push(extent);
            // Python 2 wrote long integers as 3L.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Header> {
        read_header(Path::new("x.npy"), &mut &bytes[..])
    }

    proptest! {
        #[test]
        fn a_header_reads_back_as_written(
            shape in prop::collection::vec(0usize..1_000_000, 0..6),
            name in prop::sample::select(vec!["<f4", ">f8", "|u1", "<i8", "|b1", "<f2", ">u2"]),
        ) {
            let bytes = write_header(name, &shape);
            prop_assert_eq!(bytes.len() % 64, 0);
            let header = parse(&bytes).unwrap();
            prop_assert_eq!(header.shape, shape);
            prop_assert_eq!(Some(header.dtype), Dtype::parse(name));
            prop_assert_eq!(header.offset, bytes.len() as u64);
        }

        #[test]
        fn damaged_headers_give_errors_not_panics(
            cut in 0usize..128, at in 0usize..128, byte: u8,
        ) {
            let mut bytes = write_header("<f4", &[3, 4]);
            prop_assert!(parse(&bytes[..cut]).is_err());
            bytes[at] = byte;
            let _ = parse(&bytes);
            let _ = parse(&bytes[..cut]);
        }
    }

    #[test]
    fn headers_of_other_writers_are_read() {
        let with = |text: &str| {
            let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
            parse(&bytes)
        };
        let header = with(r#"{"descr":">i2","fortran_order":True,"shape":(3L,4L)}"#).unwrap();
        assert_eq!(
            (header.shape.as_slice(), header.fortran),
            (&[3, 4][..], true)
        );
        let scalar = with("{'shape': (), 'fortran_order': False, 'descr': '<f8'}\n").unwrap();
        assert_eq!(scalar.data_bytes(), Some(8));
        let records = with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}");
        assert!(records.unwrap_err().to_string().contains("records"));
        let complex = with("{'descr': '<c8', 'fortran_order': False, 'shape': (3,)}");
        assert!(complex.unwrap_err().to_string().contains("<c8"));
        let huge =
            with("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999,)}");
        assert_eq!(huge.unwrap().data_bytes(), None);
    }

    #[test]
    fn numbers_of_every_type_are_widened_exactly() {
        let read = |name: &str, bytes: &[u8]| {
            let mut values = Vec::new();
            Dtype::parse(name).unwrap().decode_f64(bytes, &mut values);
            values
        };
        assert_eq!(read("<f2", &[0x00, 0x3c, 0x00, 0xc0]), [1.0, -2.0]);
        assert_eq!(read(">f4", &1.5f32.to_be_bytes()), [1.5]);
        assert_eq!(read("<f8", &0.1f64.to_le_bytes()), [0.1]);
        assert_eq!(read("|i1", &[0xff, 0x7f]), [-1.0, 127.0]);
        assert_eq!(read(">i2", &[0xff, 0xfe]), [-2.0]);
        assert_eq!(read("<i8", &(-5i64).to_le_bytes()), [-5.0]);
        assert_eq!(read("<u4", &u32::MAX.to_le_bytes()), [u32::MAX as f64]);
        assert_eq!(read("|b1", &[0, 1]), [0.0, 1.0]);
        let mut values = Vec::new();
        let unsigned = Dtype::parse("<u8").unwrap();
        assert!(
            unsigned
                .decode_i64(&u64::MAX.to_le_bytes(), &mut values)
                .is_err()
        );
        let float = Dtype::parse("<f4").unwrap();
        assert_eq!(
            float.decode_i64(&0.5f32.to_le_bytes(), &mut values),
            Err(0.5)
        );
        let not_a_number = f32::NAN.to_le_bytes();
        assert!(float.decode_i64(&not_a_number, &mut values).is_err());
        assert_eq!(float.decode_i64(&3f32.to_le_bytes(), &mut values), Ok(()));
        assert_eq!(values, [3]);
    }
}
