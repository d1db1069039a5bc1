//! A limit on memory as a container has it: the system's own for sockets is in it. Only root can set one.

use std::fs;
use std::path::{Path, PathBuf};

/// A control group around one process, removed after it.
pub struct Cgroup {
    folder: PathBuf,
    limit_bytes: u64,
    version: Version,
}

#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

impl Cgroup {
    /// Puts a process into a group of its own; `None`, and a word about it, where that cannot be.
    pub fn around(pid: i32, limit_bytes: u64) -> Option<Cgroup> {
        let name = format!("captcha-attacks-{pid}");
        let one = Path::new("/sys/fs/cgroup/memory");
        let (folder, version) = match one.is_dir() {
            true => (one.join(name), Version::One),
            false => (Path::new("/sys/fs/cgroup").join(name), Version::Two),
        };
        let cgroup = Cgroup {
            folder,
            limit_bytes,
            version,
        };
        match cgroup.set_up(pid) {
            Ok(()) => Some(cgroup),
            Err(err) => {
                println!("without a limit on memory: {}: {err}", cgroup.folder.display());
                None
            }
        }
    }

    fn set_up(&self, pid: i32) -> std::io::Result<()> {
        fs::create_dir(&self.folder)?;
        let limits = match self.version {
            // Sockets count once they have a limit, and for themselves.
            Version::One => ["memory.kmem.tcp.limit_in_bytes", "memory.limit_in_bytes"].as_slice(),
            Version::Two => &["memory.max"],
        };
        for file in limits {
            fs::write(self.folder.join(file), self.limit_bytes.to_string())?;
        }
        fs::write(self.folder.join("cgroup.procs"), pid.to_string())
    }

    /// What was taken at most.
    pub fn found(&self) -> String {
        let megabytes = |file: &str| {
            let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
            text.trim().parse::<u64>().unwrap_or_default() as f64 / f64::from(1 << 20)
        };
        let limit = self.limit_bytes >> 20;
        match self.version {
            Version::One => format!(
                "of {limit} MiB at most {:.1} by the process and {:.1} by its sockets",
                megabytes("memory.max_usage_in_bytes"),
                megabytes("memory.kmem.tcp.max_usage_in_bytes"),
            ),
            Version::Two => format!("of {limit} MiB at most {:.1}", megabytes("memory.peak")),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The process goes first, and is here a moment longer: into the group around this one.
        let procs = self.folder.join("cgroup.procs");
        for pid in fs::read_to_string(procs).unwrap_or_default().lines() {
            let _ = fs::write(self.folder.with_file_name("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}
