//! Finds out whether a library can be preloaded into a program, which is what makes an unmodified program a worker.
//!
//! A script is followed to its interpreter, as the kernel does. What can't be read or found is somebody else's concern: it is
//! refused when it is to be executed.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::getuid;

use crate::checked::Process;
use crate::mistakes::Fault;
use crate::program::find_program;

/// Scripts whose interpreter is a script and so on; the kernel gives up sooner.
const SCRIPTS_MAX: usize = 4;
/// Most of a file that is read for one of its tables.
const TABLE_MAX: usize = 1 << 16;
/// The kernel reads no more of a first line.
const FIRST_LINE_MAX: usize = 256;

/// Why a command can't be hosted by preloading, if it can't.
pub(crate) fn cannot_preload(command: &[OsString], process: &Process) -> Option<Fault> {
    let mut program = find_program(command.first()?, process)?;
    for _ in 0..SCRIPTS_MAX {
        match look(&program, process)? {
            Kind::Script(interpreter) => program = find_program(&interpreter, process)?,
            Kind::Loaded => return None,
            Kind::Unfit(why) => return Some(refused(&program, why)),
        }
    }
    None
}

fn refused(program: &Path, why: &str) -> Fault {
    let name = program.display();
    let remedy = "use a build that is dynamically linked with glibc and has neither such a bit nor capabilities \
                  (setcap -r takes them away); or let it accept by itself: handoff = \"listen\"";
    Fault::new(format!("{name} {why}, so that nothing can be preloaded into it"), "can't be preloaded", remedy)
}

enum Kind {
    /// Of this interpreter.
    Script(OsString),
    /// By the dynamic linker that we can use.
    Loaded,
    Unfit(&'static str),
}

fn look(program: &PathBuf, process: &Process) -> Option<Kind> {
    let file = File::open(program).ok()?;
    let start = read(&file, 0, FIRST_LINE_MAX);
    if let Some(line) = start.strip_prefix(b"#!") {
        return interpreter(line).map(Kind::Script);
    }
    if !start.starts_with(b"\x7fELF") {
        return None;
    }
    // Of a script neither the bits nor capabilities count (execve(2)).
    const SET_ID: u32 = 0o6000;
    if file.metadata().ok()?.permissions().mode() & SET_ID != 0 {
        return Some(Kind::Unfit("changes its user or group when it is executed"));
    }
    if !is_root(process) && raises_capabilities(&file) {
        return Some(Kind::Unfit("is given capabilities when it is executed"));
    }
    Some(elf(&file, &start))
}

/// Who is root gains nothing by a file's capabilities, so that a program of his is loaded like any other (capabilities(7)).
fn is_root(process: &Process) -> bool {
    process.user.as_ref().map_or_else(|| getuid().is_root(), |account| account.uid == 0)
}

/// Whether a file has capabilities that make the dynamic linker distrust who executes it (ld.so(8), "secure-execution mode"):
/// any that are permitted, or the flag that makes them effective. Those that can only be inherited give a worker nothing.
fn raises_capabilities(file: &File) -> bool {
    // The longest form (linux/capability.h: vfs_ns_cap_data): a word of revision and flags, two pairs of words, an owner.
    let mut attribute = [0; 24];
    let Ok(len) = rustix::fs::fgetxattr(file, CAPABILITIES, &mut attribute[..]) else { return false };
    let field = |at| number(&attribute[..len], at, 4);
    let (is_effective, permitted) = (field(0) & CAPABILITIES_ARE_EFFECTIVE != 0, field(4) | field(12));
    is_effective || permitted != 0
}

const CAPABILITIES: &CStr = c"security.capability";
const CAPABILITIES_ARE_EFFECTIVE: u64 = 1;

/// The interpreter that a script names; for env(1), what that looks for.
fn interpreter(line: &[u8]) -> Option<OsString> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let first = words.next()?;
    let is_env = Path::new(OsStr::from_bytes(first)).file_name() == Some(OsStr::new("env"));
    let found = if is_env { words.find(|word| word[0] != b'-' && !word.contains(&b'=')) } else { Some(first) };
    found.map(|word| OsStr::from_bytes(word).to_owned())
}

/// What the headers of an ELF file say (elf(5)).
fn elf(file: &File, start: &[u8]) -> Kind {
    const CLASS_64: u8 = 2;
    const INTERP: u64 = 3;
    const NOTE: u64 = 4;
    let field = |at: usize, len: usize| number(start, at, len);
    if start.get(4) != Some(&CLASS_64) || field(18, 2) != MACHINE {
        return Kind::Unfit("is built for another machine than ostler");
    }
    let (offset, size, count) = (field(32, 8), field(54, 2), field(56, 2));
    let headers = read(file, offset, usize::try_from(size * count).unwrap_or(0).min(TABLE_MAX));
    let mut loader = None;
    for header in headers.chunks_exact(usize::try_from(size).unwrap_or(1).max(1)) {
        let contents = || {
            let len = usize::try_from(number(header, 32, 8)).unwrap_or(0).min(TABLE_MAX);
            read(file, number(header, 8, 8), len)
        };
        match number(header, 0, 4) {
            INTERP => loader = Some(contents()),
            NOTE if has_note_of_go(&contents()) => {
                return Kind::Unfit("is written in Go, which makes its system calls by itself");
            }
            _ => {}
        }
    }
    match loader {
        None => Kind::Unfit("is statically linked"),
        Some(loader) if loader.windows(MUSL.len()).any(|part| part == MUSL) => {
            Kind::Unfit("is linked with musl, and ostler's library with glibc")
        }
        Some(_) => Kind::Loaded,
    }
}

const MUSL: &[u8] = b"ld-musl";
#[cfg(target_arch = "x86_64")]
const MACHINE: u64 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u64 = 183;

/// Go's linker says in a note of its own which build it was (`.note.go.buildid`).
fn has_note_of_go(mut notes: &[u8]) -> bool {
    const HEADER: usize = 12;
    const GO: &[u8] = b"Go\0\0";
    while notes.len() >= HEADER {
        let padded = |at| usize::try_from(number(notes, at, 4)).unwrap_or(usize::MAX).saturating_add(3) & !3;
        let (name, description) = (padded(0), padded(4));
        if notes.get(HEADER..).is_some_and(|rest| rest.starts_with(GO)) && name == GO.len() {
            return true;
        }
        let next = HEADER.saturating_add(name).saturating_add(description);
        notes = notes.get(next..).unwrap_or_default();
    }
    false
}

/// A little-endian number; 0 where there is none.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let field = bytes.get(at..at.saturating_add(len)).unwrap_or_default();
    field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// As much as there is.
fn read(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut have = 0;
    while let Ok(more @ 1..) = file.read_at(&mut bytes[have..], offset.saturating_add(have as u64)) {
        have += more;
    }
    bytes.truncate(have);
    bytes
}

#[cfg(test)]
mod tests {
    use rustix::fs::{XattrFlags, setxattr};
    use rustix::io::Errno;

    use super::*;
    use crate::checked::Account;

    /// An ELF file with these segments, as (type, contents).
    fn binary(machine: u16, segments: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0u8; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        let mut at = 64 + 56 * segments.len() as u64;
        for (kind, contents) in segments {
            let mut header = [0u8; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&at.to_le_bytes());
            header[32..40].copy_from_slice(&(contents.len() as u64).to_le_bytes());
            bytes.extend(header);
            at += contents.len() as u64;
        }
        segments.iter().for_each(|(_, contents)| bytes.extend(*contents));
        bytes
    }

    fn written(dir: &Path, name: &str, contents: &[u8], mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn why(path: &Path) -> Option<String> {
        cannot_preload(&[path.into()], &Process::inherited()).map(|fault| fault.message)
    }

    const HERE: u16 = MACHINE as u16;
    const GLIBC: (u32, &[u8]) = (3, b"/lib64/ld-linux-x86-64.so.2\0");
    const OTHER_NOTE: &[u8] = b"\x04\0\0\0\x05\0\0\0\x01\0\0\0GNU\0abcde\0\0\0";
    const GO_NOTE: &[u8] = b"\x04\0\0\0\x03\0\0\0\x04\0\0\0Go\0\0abc\0";

    #[test]
    fn each_program_that_can_not_be_preloaded_is_told_why() {
        let dir = tempfile::tempdir().unwrap();
        let notes = [OTHER_NOTE, GO_NOTE].concat();
        for (name, contents, mode, part) in [
            ("static", binary(HERE, &[(1, b"code")]), 0o755, Some("is statically linked")),
            ("musl", binary(HERE, &[(3, b"/lib/ld-musl-x86_64.so.1\0")]), 0o755, Some("musl")),
            ("go", binary(HERE, &[GLIBC, (4, &notes)]), 0o755, Some("written in Go")),
            ("setuid", binary(HERE, &[GLIBC]), 0o4755, Some("changes its user")),
            ("other", binary(8, &[GLIBC]), 0o755, Some("another machine")),
            ("good", binary(HERE, &[(4, OTHER_NOTE), GLIBC]), 0o755, None),
            ("cut", b"\x7fELF\x02".to_vec(), 0o755, Some("another machine")),
            ("text", b"just words".to_vec(), 0o755, None),
        ] {
            let found = why(&written(dir.path(), name, &contents, mode));
            assert_eq!(found.is_some(), part.is_some(), "{name}: {found:?}");
            assert!(part.is_none_or(|part| found.as_ref().unwrap().contains(part)), "{name}: {found:?}");
        }
        assert_eq!(why(Path::new("/bin/sh")), None);
        assert_eq!(why(&dir.path().join("absent")), None);
    }

    /// The attribute that gives a program these capabilities (revision 2 of linux/capability.h).
    fn give_capabilities(path: &Path, flags: u32, permitted: u32, inheritable: u32) -> Result<(), Errno> {
        let words = [0x0200_0000 | flags, permitted, inheritable, 0, 0];
        let attribute: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        setxattr(path, CAPABILITIES, &attribute, XattrFlags::empty())
    }

    fn process_of(uid: u32) -> Process {
        Process { user: Some(Account { uid, entry: None }), ..Process::inherited() }
    }

    #[test]
    fn a_program_with_capabilities_can_be_preloaded_for_root_alone() {
        const BIND: u32 = 1 << 10; // CAP_NET_BIND_SERVICE
        const STRANGER: u32 = 54_321;
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), "able", &binary(HERE, &[GLIBC]), 0o755);
        let why = |uid| cannot_preload(&[path.clone().into()], &process_of(uid)).map(|fault| fault.message);
        assert_eq!(why(STRANGER), None, "it has none yet");
        for (flags, permitted, inheritable, raises) in
            [(1, BIND, 0, true), (0, BIND, 0, true), (1, 0, BIND, true), (0, 0, BIND, false), (0, 0, 0, false)]
        {
            let given = give_capabilities(&path, flags, permitted, inheritable);
            if !getuid().is_root() {
                // Only a privileged process gives capabilities away.
                assert_eq!(given, Err(Errno::PERM));
                continue;
            }
            assert_eq!(given, Ok(()));
            let shown = why(STRANGER);
            assert_eq!(shown.is_some(), raises, "{flags} {permitted} {inheritable}: {shown:?}");
            assert!(shown.is_none_or(|shown| shown.contains("is given capabilities when it is executed")));
            assert_eq!(why(0), None, "the dynamic linker trusts root");
        }
    }

    #[test]
    fn a_script_is_judged_by_its_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let fixed = written(dir.path(), "fixed", &binary(HERE, &[]), 0o755);
        let script = |name: &str, line: &str| written(dir.path(), name, line.as_bytes(), 0o755);
        let first = script("first", &format!("#! {} -x\nwords", fixed.display()));
        let second = script("second", &format!("#!{}", first.display()));
        for path in [&first, &second, &script("env", &format!("#!/usr/bin/env -S A=1 {} -x\n", fixed.display()))] {
            assert!(why(path).unwrap().contains(&format!("{} is statically linked", fixed.display())), "{path:?}");
        }
        assert_eq!(why(&script("shell", "#!/bin/sh\n")), None);
        assert_eq!(why(&script("found", "#!/usr/bin/env sh\n")), None);
        let itself = dir.path().join("itself");
        assert_eq!(why(&script("itself", &format!("#!{}", itself.display()))), None, "that ends");
    }
}
