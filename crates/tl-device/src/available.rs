//! Memory that the operating system leaves this process, and the bound that decides it.
//!
//! There are several bounds, and the least decides: the memory of the machine without swapping, the limits of the
//! process's control group and of every group above it (both versions), and the limits of the process itself. Nothing
//! here allocates device memory; the allocator asks before it does.

use std::fmt;
use std::path::{Path, PathBuf};

/// An operating system bound on a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryBound {
    /// The machine's memory without swapping.
    Machine,
    /// The limit of the control group that the process is in, or of one above it.
    ControlGroup,
    /// The limit of the process's address space (`ulimit -v`), which includes mapped files.
    AddressSpace,
    /// The limit of the process's data (`ulimit -d`), which excludes mapped files.
    Data,
    /// A GPU's memory.
    Gpu,
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryBound::Machine => "the machine",
            MemoryBound::ControlGroup => "the control group",
            MemoryBound::AddressSpace => "the limit of the address space (ulimit -v)",
            MemoryBound::Data => "the limit of data (ulimit -d)",
            MemoryBound::Gpu => "the GPU",
        })
    }
}

/// Memory still available, and its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Available {
    /// Bytes beyond those already taken.
    pub bytes: u64,
    /// The bound that is reached first.
    pub bound: MemoryBound,
}

/// Memory that the operating system leaves this process: the least of its bounds. `None` if unknown (not Linux).
///
/// ```
/// use tl_device::{Device, DeviceOptions, Layout, Role, available_memory};
/// let mut options = DeviceOptions::default();
/// options.memory.limit_bytes = available_memory().map(|available| available.bytes as usize / 2);
/// let device = Device::cpu_with(&options);
/// assert!(device.take(&Layout::from(vec![8, 512]), Role::Activation).is_ok());
/// ```
pub fn available_memory() -> Option<Available> {
    System { root: PathBuf::from("/") }.available()
}

/// Whether tasks waited for memory in a tenth of the last ten seconds (Linux's pressure stall information); `false` if
/// unknown.
pub(crate) fn is_under_pressure() -> bool {
    let text = std::fs::read_to_string("/proc/pressure/memory").unwrap_or_default();
    let share = |line: &str| line.strip_prefix("some avg10=")?.split(' ').next()?.parse::<f64>().ok();
    text.lines().find_map(share).is_some_and(|percent| percent >= 10.0)
}

/// The kernel's files about memory.
struct System {
    /// `/`, or a folder with such files for tests.
    root: PathBuf,
}

impl System {
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    fn available(&self) -> Option<Available> {
        let bounds = [
            (MemoryBound::Machine, self.in_machine()),
            (MemoryBound::ControlGroup, self.in_groups()),
            (MemoryBound::AddressSpace, self.in_limit("Max address space", "VmSize:")),
            (MemoryBound::Data, self.in_limit("Max data size", "VmData:")),
        ];
        let known = bounds.into_iter().filter_map(|(bound, bytes)| Some(Available { bytes: bytes?, bound }));
        known.min_by_key(|available| available.bytes)
    }

    fn in_machine(&self) -> Option<u64> {
        kib_field(&self.read("proc/meminfo")?, "MemAvailable:")
    }

    /// A limit of the process minus its present use.
    fn in_limit(&self, limit: &str, used: &str) -> Option<u64> {
        let limits = self.read("proc/self/limits")?;
        // "unlimited" does not parse as a number.
        let most: u64 =
            limits.lines().find_map(|line| line.strip_prefix(limit))?.split_whitespace().next()?.parse().ok()?;
        Some(most.saturating_sub(kib_field(&self.read("proc/self/status")?, used)?))
    }

    /// The least memory left in the process's control groups, over the hierarchies with memory limits.
    fn in_groups(&self) -> Option<u64> {
        let (groups, mounts) = (self.read("proc/self/cgroup")?, self.read("proc/self/mountinfo")?);
        let of_mount = |mount: Mount<'_>| {
            let group = groups.lines().find_map(|line| mount.version.group(line))?;
            self.in_group_and_above(&mount, group)
        };
        mounts.lines().filter_map(Mount::parse).filter_map(of_mount).min()
    }

    fn in_group_and_above(&self, mount: &Mount<'_>, group: &str) -> Option<u64> {
        let top = self.root.join(mount.point.trim_start_matches('/'));
        // In a container the mount may begin below the root of the group's path, or outside of it.
        let below = group.strip_prefix(mount.root).unwrap_or("");
        let own = top.join(below.trim_start_matches('/'));
        own.ancestors()
            .take_while(|folder| folder.starts_with(&top))
            .filter_map(|folder| mount.version.left(folder))
            .min()
    }
}

/// A field of `/proc` in KiB, as bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A version of control groups.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The group's path in a line of `/proc/self/cgroup`: `0::/a/b` or `4:memory:/a/b`.
    fn group(self, line: &str) -> Option<&str> {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match self {
            Version::One => controllers.split(',').any(|name| name == "memory").then_some(path),
            Version::Two => (number == "0" && controllers.is_empty()).then_some(path),
        }
    }

    /// Memory left within the limit of the group in this folder, if it has one. Cached file pages count as free, since
    /// the kernel drops them when memory is short, as in `MemAvailable`.
    fn left(self, folder: &Path) -> Option<u64> {
        let (limit, used, cached) = match self {
            Version::One => {
                ("memory.limit_in_bytes", "memory.usage_in_bytes", ["total_inactive_file ", "total_active_file "])
            }
            Version::Two => ("memory.max", "memory.current", ["inactive_file ", "active_file "]),
        };
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let (limit, used) = (number(limit)?, number(used)?);
        let stat = read("memory.stat").unwrap_or_default();
        let field = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
            stat.lines().find_map(value).unwrap_or(0)
        };
        let cached: u64 = cached.into_iter().map(field).sum();
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    }
}

/// The mount point of a control group hierarchy with memory limits.
struct Mount<'a> {
    version: Version,
    /// The group visible at the mount point.
    root: &'a str,
    point: &'a str,
}

impl Mount<'_> {
    /// Parses a line of `/proc/self/mountinfo`: `35 31 0:32 ROOT POINT OPTIONS - cgroup cgroup rw,memory`.
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if options.split(',').any(|option| option == "memory") => Version::One,
            _ => return None,
        };
        Some(Mount { version, root: root.trim_end_matches('/'), point })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files that a kernel would show.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &str)]) -> Folder {
            let folder = Folder(std::env::temp_dir().join(format!("tl-available-{name}-{}", std::process::id())));
            for (path, text) in files {
                let path = folder.0.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            folder
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 900 kB\nMemAvailable:     500 kB\n");
    const STATUS: (&str, &str) = ("proc/self/status", "Name:\ttl\nVmSize:\t  100 kB\nVmData:\t   30 kB\n");
    const V2: (&str, &str) = ("proc/self/mountinfo", "9 1 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");

    #[test]
    fn the_least_bound_decides() {
        let check = |name: &str, files: &[(&str, &str)], expected: Option<(u64, MemoryBound)>| {
            let folder = Folder::new(name, files);
            let found = System { root: folder.0.clone() }.available();
            assert_eq!(found.map(|available| (available.bytes, available.bound)), expected, "{name}");
        };
        let machine = Some((500 << 10, MemoryBound::Machine));
        check("nothing", &[], None);
        check("machine", &[MEMINFO], machine);
        check("damaged", &[MEMINFO, ("proc/self/cgroup", "::\n0:x\n"), ("proc/self/mountinfo", "1 2\n - \n")], machine);

        // Limits of the process.
        let limits = |space: &str, data: &str| {
            format!(
                "Limit    Soft Hard Units\nMax data size   {data} unlimited bytes\nMax address space   {space} 9 bytes\n"
            )
        };
        let check_limits = |space: &str, data: &str, expected| {
            let limits = limits(space, data);
            check(&format!("limits-{space}-{data}"), &[MEMINFO, STATUS, ("proc/self/limits", &limits)], expected);
        };
        check_limits("unlimited", "unlimited", machine);
        check_limits("153600000", "unlimited", machine);
        check_limits("112400", "unlimited", Some((10_000, MemoryBound::AddressSpace)));
        check_limits("100", "unlimited", Some((0, MemoryBound::AddressSpace)));
        check_limits("112400", "31720", Some((1000, MemoryBound::Data)));

        // Groups: the process's own, and those above.
        let group = |name: &str, path: &str, files: &[(&str, &str)], expected| {
            let line = format!("3:cpu:/x\n0::{path}\n");
            let files = [&[MEMINFO, V2, ("proc/self/cgroup", line.as_str())], files].concat();
            check(name, &files, expected);
        };
        let limited = |bytes| Some((bytes, MemoryBound::ControlGroup));
        let own = ("sys/fs/cgroup/a/b/memory.max", "9000\n");
        let own_use = ("sys/fs/cgroup/a/b/memory.current", "2000\n");
        let above = ("sys/fs/cgroup/a/memory.max", "5000\n");
        let above_use = ("sys/fs/cgroup/a/memory.current", "4500\n");
        let stat = ("sys/fs/cgroup/a/memory.stat", "anon 7\ninactive_file 300\nactive_file 400\nfile 1\n");
        group("none", "/a/b", &[("sys/fs/cgroup/a/b/memory.max", "max\n"), own_use], machine);
        group("own", "/a/b", &[own, own_use], limited(7000));
        group("above", "/a/b", &[own, own_use, above, above_use], limited(500));
        group("cached", "/a/b", &[own, own_use, above, above_use, stat], limited(1200));
        group("beside", "/a/c", &[own, own_use], machine);
        group("root", "/", &[("sys/fs/cgroup/memory.max", "10"), ("sys/fs/cgroup/memory.current", "20")], limited(0));

        // The first version has a hierarchy for each kind of limit, here seen from inside a container.
        let mounts = "8 1 0:3 /docker/77 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      9 1 0:4 /docker/77 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let first = |name: &str, path: &str, expected| {
            let files = [
                MEMINFO,
                ("proc/self/mountinfo", mounts),
                ("proc/self/cgroup", path),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "8000"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000"),
                ("sys/fs/cgroup/memory/in/memory.limit_in_bytes", "9223372036854771712"),
                ("sys/fs/cgroup/memory/in/memory.usage_in_bytes", "500"),
                ("sys/fs/cgroup/memory/memory.stat", "inactive_file 5\ntotal_inactive_file 50\ntotal_active_file 60"),
            ];
            check(name, &files, expected);
        };
        first("v1-own", "4:memory:/docker/77\n1:cpu:/docker/77\n", limited(7110));
        first("v1-below", "4:cpuacct,memory:/docker/77/in\n", limited(7110));
        first("v1-outside", "4:memory:/elsewhere\n", limited(7110));
        first("v1-other", "4:memoryless:/docker/77\n", machine);
    }
}
