//! What the kernel counts for this process.
//!
//! It changes nothing.
//!
//! Invariants: sizes are bytes.

use std::fs;
use std::io;

use super::order::Memory;

/// Resident memory of this process.
pub(super) fn memory() -> io::Result<Memory> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(Memory {
        resident_bytes: field(&status, "VmRSS:")? << 10,
        anonymous_bytes: field(&status, "RssAnon:")? << 10,
    })
}

/// Bytes that this process has made the device read.
pub(super) fn device_bytes_read() -> io::Result<u64> {
    field(&fs::read_to_string("/proc/self/io")?, "read_bytes:")
}

fn field(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory() {
        let memory = memory().unwrap();
        assert!(memory.resident_bytes > memory.anonymous_bytes && memory.anonymous_bytes > 0);
        device_bytes_read().unwrap();
        assert!(field("x: 3 kB\n", "y:").is_err());
    }
}
