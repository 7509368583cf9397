//! Tells whether the kernel killed a process for want of memory, as far as its counters tell.
//!
//! A death does not say so itself: to its parent it is a SIGKILL like any other. But the kernel counts such kills in the victim's
//! memory group, and counts before it kills (oom_kill.c: "raise event before sending signal: task reaper must see this").
//! So when somebody else's SIGKILL ended a worker and the count of our group has risen since we last looked, that was it.
//! Without a group there is the count of the whole machine: when that has not risen it was not the kernel, and when
//! it has, nobody knows whose death it counted.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The counters are a few lines; those of the machine some 6 KiB.
const TEXT_MAX: usize = 32 * 1024;
/// The line that counts, in all three files.
const COUNT: &str = "oom_kill ";

/// Whether the kernel killed for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutOfMemory {
    Yes,
    No,
    Unknown,
}

/// Whose kills a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those of our own memory group and, with version 2, of the groups in it.
    Group,
    /// All.
    Machine,
}

/// A counter of such kills, kept open so that there is no lack of descriptors when it is needed.
#[derive(Debug)]
pub(crate) struct KillCounter {
    file: Option<(File, Reach)>,
    /// Kills that are accounted for.
    seen: u64,
}

impl KillCounter {
    /// The one that says most about the processes that we start.
    pub(crate) fn find() -> KillCounter {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = of_groups(&own).into_iter().map(|path| (path, Reach::Group));
        KillCounter::first_of(group.chain([(PathBuf::from("/proc/vmstat"), Reach::Machine)]))
    }

    fn first_of(mut candidates: impl Iterator<Item = (PathBuf, Reach)>) -> KillCounter {
        let file = candidates.find_map(|(path, reach)| {
            let file = File::open(path).ok()?;
            count(&file).map(|_| (file, reach))
        });
        let mut counter = KillCounter { file, seen: 0 };
        counter.forget();
        counter
    }

    /// About one death by a SIGKILL that was not ours. Each kill explains one death.
    pub(crate) fn explains_a_death(&mut self) -> OutOfMemory {
        let Some((file, reach)) = &self.file else { return OutOfMemory::Unknown };
        match (count(file), reach) {
            (None, _) => OutOfMemory::Unknown,
            (Some(count), _) if count <= self.seen => OutOfMemory::No,
            (Some(_), Reach::Machine) => OutOfMemory::Unknown,
            (Some(_), Reach::Group) => {
                self.seen += 1;
                OutOfMemory::Yes
            }
        }
    }

    /// What was counted until now explains no later death.
    pub(crate) fn forget(&mut self) {
        self.seen = self.file.as_ref().and_then(|(file, _)| count(file)).unwrap_or(self.seen);
    }
}

/// Where the counter of the group that `/proc/self/cgroup` names may be (cgroups(7)). In a container the path is often
/// that of the host, and the group itself is what is mounted.
fn of_groups(own: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.events"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.oom_control")
            }
            _ => continue,
        };
        found.extend([format!("{mount}{path}/{name}"), format!("{mount}/{name}")].map(PathBuf::from));
    }
    found
}

fn count(file: &File) -> Option<u64> {
    let mut text = [0; TEXT_MAX];
    let mut length = 0;
    while length < TEXT_MAX {
        match file.read_at(&mut text[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    let text = std::str::from_utf8(&text[..length]).ok()?;
    text.lines().find_map(|line| line.strip_prefix(COUNT))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(reach: Reach) -> (tempfile::TempDir, PathBuf, KillCounter) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.events");
        fs::write(&path, "low 0\noom 3\noom_kill 7\noom_group_kill 0\n").unwrap();
        let absent = (dir.path().join("absent"), Reach::Group);
        let counter = KillCounter::first_of([absent, (path.clone(), reach)].into_iter());
        (dir, path, counter)
    }

    #[test]
    fn kills_of_the_past_explain_nothing_and_each_new_one_explains_one_death() {
        let (_dir, path, mut counter) = counter(Reach::Group);
        assert_eq!(counter.explains_a_death(), OutOfMemory::No);
        fs::write(&path, "oom_kill 9\n").unwrap();
        let told: Vec<OutOfMemory> = (0..3).map(|_| counter.explains_a_death()).collect();
        assert_eq!(told, [OutOfMemory::Yes, OutOfMemory::Yes, OutOfMemory::No]);
        fs::write(&path, "oom_kill 12\n").unwrap();
        counter.forget();
        assert_eq!(counter.explains_a_death(), OutOfMemory::No);
    }

    #[test]
    fn a_kill_somewhere_on_the_machine_may_have_been_anybodys() {
        let (_dir, path, mut counter) = counter(Reach::Machine);
        assert_eq!(counter.explains_a_death(), OutOfMemory::No);
        fs::write(&path, "nr_free_pages 3\noom_kill 8\n").unwrap();
        assert_eq!(counter.explains_a_death(), OutOfMemory::Unknown);
    }

    #[test]
    fn without_a_counter_nothing_is_known() {
        let mut counter = KillCounter::first_of([(PathBuf::from("/nowhere"), Reach::Group)].into_iter());
        assert_eq!(counter.explains_a_death(), OutOfMemory::Unknown);
        let (_dir, path, mut counter) = self::counter(Reach::Group);
        fs::write(&path, "").unwrap();
        assert_eq!(counter.explains_a_death(), OutOfMemory::Unknown);
    }

    #[test]
    fn the_groups_of_both_versions_are_looked_for() {
        let path = |text: &str| of_groups(text).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            path("0::/system.slice/ostler.service\n"),
            ["/sys/fs/cgroup/system.slice/ostler.service/memory.events", "/sys/fs/cgroup/memory.events"]
        );
        assert_eq!(
            path("9:name=systemd:/\n4:cpu,memory:/a:b\nnonsense\n"),
            ["/sys/fs/cgroup/memory/a:b/memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control"]
        );
    }
}
