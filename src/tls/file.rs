//! Files of certificates, keys and passwords: small, regular, and read without waiting for what is in their place.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Bytes of a file: as many as a Kubernetes Secret may have.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Reads a file whole. Opening does not wait: a pipe without a writer would hold its reader for ever.
///
/// # Errors
/// It cannot be opened or read, or is not a regular file, or is larger than [`FILE_BYTES_MAX`].
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a device may do something.
    check(&fs::metadata(path)?)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // And after it: something else may have taken its place.
    check(&file.metadata()?)?;
    read_whole(file)
}

fn read_whole(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more, so that a file that grows is noticed.
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    check_size(bytes.len() as u64)?;
    Ok(bytes)
}

fn check(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let name = match () {
        () if kind.is_file() => return check_size(found.len()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    let reason = format!("not a regular file but {name}");
    Err(io::Error::other(reason))
}

fn check_size(bytes: u64) -> io::Result<()> {
    match bytes <= FILE_BYTES_MAX as u64 {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{bytes} bytes, and at most {FILE_BYTES_MAX} are read"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn refusal(path: &Path) -> String {
        read_file(path).unwrap_err().to_string()
    }

    #[test]
    fn other_kinds_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, name) in [
            (folder.path(), "a folder"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            assert_eq!(refusal(path), format!("not a regular file but {name}"));
        }
        assert!(refusal(&folder.path().join("nothing")).starts_with("No such file"));
    }

    #[test]
    fn a_file_has_its_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = vec![b'x'; FILE_BYTES_MAX];
        fs::write(file.path(), &bytes).unwrap();
        assert_eq!(read_file(file.path()).unwrap(), bytes);
        file.as_file().set_len(FILE_BYTES_MAX as u64 + 1).unwrap();
        assert_eq!(refusal(file.path()), "1048577 bytes, and at most 1048576 are read");
        // Its size is not known before it is read.
        assert!(!read_file(Path::new("/proc/self/stat")).unwrap().is_empty());
    }
}
