//! What import and sink both need of the file system: positioned reads and writes, free space, hashes, files that are written
//! whole, files that are watched while they are read, and the `.npy` header.
//!
//! The folders above an output are made when it begins ([`folders`]).
//!
//! Only regular files are read, so that nothing waits for a pipe's other end; and nothing is written through a link.
//!
//! May use the operating system; must not know of networks, data sets or Hessians.

pub mod cache;
pub mod folders;
pub mod hash;
pub mod npy;
pub mod watch;
pub mod whole;
pub(crate) mod writes;
pub mod writing;

pub use writes::WriteFaults;

use crate::error::{Error, Result};
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Opens a regular file for reading; with its length.
///
/// # Errors
/// [`Error::Io`] with the path; [`Error::File`] for a folder, a pipe, a socket or a device, which is not opened.
pub fn open(path: &Path) -> Result<(File, u64)> {
    // Looked at before it is opened: opening a pipe waits for whoever writes to it, opening a device may do anything.
    check_regular(path, &std::fs::metadata(path).map_err(Error::io(path))?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    // It may have become a pipe since.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        flag(rustix::fs::OFlags::NONBLOCK),
    );
    let file = options.open(path).map_err(Error::io(path))?;
    let meta = file.metadata().map_err(Error::io(path))?;
    check_regular(path, &meta)?;
    Ok((file, meta.len()))
}

/// Reads all of a regular file.
///
/// # Errors
/// As [`open`]; [`Error::Io`] where memory does not hold it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let (mut file, length) = open(path)?;
    let mut bytes = Vec::new();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    crate::memory::try_reserve(&mut bytes, length)
        .map_err(|_| Error::io(path)(std::io::ErrorKind::OutOfMemory.into()))?;
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// Reads all of a regular file that holds text.
///
/// # Errors
/// As [`read`]; [`Error::Io`] where it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| {
        Error::io(path)(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "is not text in UTF-8",
        ))
    })
}

fn check_regular(path: &Path, meta: &Metadata) -> Result<()> {
    match meta.is_file() {
        true => Ok(()),
        false => Err(Error::file(
            path,
            format!(
                "is {}, not a file: save what it gives to a file",
                kind(meta.file_type())
            ),
        )),
    }
}

/// The kind of a file, in words.
fn kind(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() {
        return "a folder";
    }
    if kind.is_symlink() {
        return "a link";
    }
    "something else"
}

/// A flag of `open` as the standard library takes it.
#[cfg(unix)]
fn flag(flags: rustix::fs::OFlags) -> i32 {
    flags.bits() as i32
}

/// Opens a file to write to, that may be there: never one that the name is only a link to, nor anything but a regular file.
///
/// # Errors
/// [`Error::Io`] with the path; [`Error::File`] for a link, a pipe, a socket, a device or a folder.
pub fn open_to_write(path: &Path, options: &OpenOptions) -> Result<File> {
    let mut options = options.clone();
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = flag(OFlags::NOFOLLOW | OFlags::NONBLOCK);
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    }
    #[cfg(windows)]
    {
        /// FILE_FLAG_OPEN_REPARSE_POINT: a link is opened itself.
        const LINK_ITSELF: u32 = 0x0020_0000;
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, LINK_ITSELF);
    }
    let refused = |meta: Metadata| {
        let kind = kind(meta.file_type());
        let why = format!(
            "is {kind}, not a file, and what is written there would go elsewhere: remove it, or choose another name"
        );
        Error::file(path, why)
    };
    // Looked at first, as above.
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => return Err(refused(meta)),
        _ => {}
    }
    let file = options.open(path).map_err(Error::io(path))?;
    let meta = file.metadata().map_err(Error::io(path))?;
    match meta.is_file() {
        true => Ok(file),
        false => Err(refused(meta)),
    }
}

/// Reads `buffer.len()` bytes at an offset, without moving a shared cursor.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset);
    #[cfg(windows)]
    {
        let (mut buffer, mut offset) = (buffer, offset);
        while !buffer.is_empty() {
            let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[read..];
            offset += read as u64;
        }
        return Ok(());
    }
}

/// Writes all bytes at an offset, without moving a shared cursor.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let (mut bytes, mut offset) = (bytes, offset);
        while !bytes.is_empty() {
            let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
            offset += written as u64;
        }
        return Ok(());
    }
}

/// Bytes that may still be written in that folder, or, if it is not made yet, in the nearest one above it; `None` where the
/// system does not say.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(folders::nearest(folder)).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

/// Lets this process have so many files open beside a few hundred others, as far as the system lets it.
pub fn allow_open_files(count: usize) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        let wanted = (count as u64).saturating_add(512);
        if limit.current.is_some_and(|current| current < wanted) {
            limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
            // Where it is refused, opening says so.
            let _ = setrlimit(Resource::Nofile, limit);
        }
    }
    #[cfg(not(unix))]
    let _ = count;
}

/// Whether files can be made in that folder, as far as the system tells.
pub fn is_writable(folder: &Path) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::Access;
        // Without the second, names in the folder cannot be reached.
        rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        true
    }
}

/// Makes a rename in that folder last through a power failure, where the system offers it.
pub fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(Error::io(folder))?;
    let _ = folder;
    Ok(())
}

/// Whether something has that name, if only a link that leads nowhere.
pub fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// The folder that holds `path`: `.` for a bare name.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// `path` with a suffix added to its last name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}
