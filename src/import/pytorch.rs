//! Files of `torch.save`, which are not read: they hold programs (pickles), not arrays. They are known by their first bytes.

use crate::error::{Error, Result};
use std::path::Path;

/// Bytes of a file that [`refuse`] looks at, at most.
pub(crate) const LOOKED_AT: usize = 4096;

/// Whether a file begins as `torch.save` writes one: a zip archive whose first member is a pickle, or, before torch 1.6,
/// a pickle with torch's magic number.
fn is_pytorch(front: &[u8]) -> bool {
    let front = &front[..front.len().min(LOOKED_AT)];
    let holds = |name: &[u8]| front.windows(name.len()).any(|bytes| bytes == name);
    front.starts_with(b"PK") && (holds(b"/data.pkl") || holds(b"/constants.pkl"))
        || front.starts_with(&[0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46])
}

/// Refuses a file that begins as one of PyTorch, with what to write in its place.
///
/// # Errors
/// [`Error::File`] where `front`, the first bytes of the file at `path`, is of PyTorch.
pub(crate) fn refuse(path: &Path, front: &[u8], cure: &str) -> Result<()> {
    match is_pytorch(front) {
        true => Err(Error::file(
            path,
            format!("is a file of torch.save, which is not read: {cure}"),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytorch_files_are_known_by_their_first_bytes() {
        let zip =
            b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\x12\0model/data.pkl";
        let old = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20];
        for front in [&zip[..], &old[..]] {
            let error = refuse(Path::new("m.pt"), front, "save arrays").unwrap_err();
            assert!(error.to_string().contains("torch.save"), "{error}");
        }
        for front in [&b"PK\x03\x04 x.npy"[..], b"\x93NUMPY", b"\x80\x02}", b""] {
            assert!(refuse(Path::new("x"), front, "").is_ok());
        }
    }
}
