//! Shares words of memory between two processes, each of which writes its own part only.
//!
//! Shared memory is never a slice and never a struct: it is a row of atomic words, addressed by index, since the other
//! side may write any of them at any time. A value is copied out before it is looked at. Which side may write is in the
//! type: a [`OwnMemory`] is ours, a [`PeerMemory`] is mapped without the right to write.
//!
//! Two backings behave alike: a sealed memfd for processes, and the heap for tests, loom and miri, which know no mmap.

#[cfg(not(loom))]
use std::ffi::CStr;
#[cfg(not(loom))]
use std::io;
#[cfg(not(loom))]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

#[cfg(not(loom))]
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
#[cfg(not(loom))]
use nix::sys::memfd::{MFdFlags, memfd_create};
#[cfg(not(loom))]
use nix::sys::stat::{Mode, fchmod, fstat};

use crate::sync::{AtomicU64, Ordering};

/// Bytes of a word.
pub const WORD: usize = size_of::<u64>();

/// Memory that this side writes.
#[derive(Debug, Clone)]
pub struct OwnMemory(Arc<Words>);

/// Memory that the other side writes: whatever is read is a claim (I6).
#[derive(Debug, Clone)]
pub struct PeerMemory(Arc<Words>);

/// A row of atomic words and how it goes back where it came from.
#[derive(Debug)]
struct Words {
    first: NonNull<AtomicU64>,
    count: usize,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    Heap,
    #[cfg(not(loom))]
    Mapped,
}

// SAFETY: the words are atomics, which threads may share, and they stay where they are until the last owner drops them.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    fn heap(count: usize) -> Words {
        let words: Box<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let first = NonNull::new(Box::into_raw(words).cast()).expect("a box is never null");
        Words { first, count, backing: Backing::Heap }
    }

    /// # Panics
    /// When `at` is outside: indices come from our own layout, never from the other side.
    #[inline]
    fn get(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.count, "word {at} of a memory of {} words", self.count);
        // SAFETY: inside the row, as just asserted; the row lives as long as `self`.
        unsafe { self.first.add(at).as_ref() }
    }

    /// `N` neighbours from `at` on, with one look at the bounds.
    #[inline]
    fn row<const N: usize>(&self, at: usize) -> impl Iterator<Item = &AtomicU64> {
        assert!(at < self.count && N <= self.count - at, "words {at}+{N} of a memory of {} words", self.count);
        // SAFETY: as for `get`, for each of the N words.
        (0..N).map(move |offset| unsafe { self.first.add(at + offset).as_ref() })
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        match self.backing {
            Backing::Heap => {
                let words = std::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.count);
                // SAFETY: exactly what `heap` took apart, and nobody refers to it any more.
                drop(unsafe { Box::from_raw(words) });
            }
            #[cfg(not(loom))]
            Backing::Mapped => {
                // SAFETY: exactly what `map` got from mmap, and nobody refers to it any more.
                let answer = unsafe { libc::munmap(self.first.as_ptr().cast(), self.count * WORD) };
                assert_eq!(answer, 0, "munmap of our own mapping failed: {}", io::Error::last_os_error());
            }
        }
    }
}

/// The same `words` zeroes, seen from the side that writes and from the side that reads, in one process.
#[must_use]
pub fn on_the_heap(words: usize) -> (OwnMemory, PeerMemory) {
    let words = Arc::new(Words::heap(words));
    (OwnMemory(Arc::clone(&words)), PeerMemory(words))
}

impl OwnMemory {
    /// How many words there are.
    #[must_use]
    pub fn words(&self) -> usize {
        self.0.count
    }

    /// Stores one word.
    ///
    /// # Panics
    /// When `at` is outside.
    #[inline]
    pub fn store(&self, at: usize, value: u64, order: Ordering) {
        self.0.get(at).store(value, order);
    }

    /// Stores `N` neighbouring words, in no order: whoever publishes them orders them.
    ///
    /// # Panics
    /// When they are not all inside.
    #[inline]
    pub fn store_row<const N: usize>(&self, at: usize, values: &[u64; N]) {
        for (word, value) in self.0.row::<N>(at).zip(values) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    /// Copies one word out, which somebody else on this side may have written.
    ///
    /// # Panics
    /// When `at` is outside.
    #[inline]
    #[must_use]
    pub fn load(&self, at: usize, order: Ordering) -> u64 {
        self.0.get(at).load(order)
    }

    /// Makes one word `new` if it is `old`; whether it was. Orders everything.
    ///
    /// # Panics
    /// When `at` is outside.
    #[inline]
    #[must_use = "somebody else may have been faster"]
    pub fn exchange(&self, at: usize, old: u64, new: u64) -> bool {
        self.0.get(at).compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Counts one word up by one. Orders everything.
    ///
    /// # Panics
    /// When `at` is outside.
    #[inline]
    pub fn count(&self, at: usize) {
        self.0.get(at).fetch_add(1, Ordering::SeqCst);
    }

    /// Makes one word at least `value`.
    ///
    /// # Panics
    /// When `at` is outside.
    #[inline]
    pub fn raise(&self, at: usize, value: u64) {
        self.0.get(at).fetch_max(value, Ordering::SeqCst);
    }
}

impl PeerMemory {
    /// How many words there are.
    #[must_use]
    pub fn words(&self) -> usize {
        self.0.count
    }

    /// Copies one word out.
    ///
    /// # Panics
    /// When `at` is outside.
    #[inline]
    #[must_use]
    pub fn load(&self, at: usize, order: Ordering) -> u64 {
        self.0.get(at).load(order)
    }

    /// Copies `N` neighbouring words out, in no order.
    ///
    /// # Panics
    /// When they are not all inside.
    #[inline]
    #[must_use]
    pub fn load_row<const N: usize>(&self, at: usize) -> [u64; N] {
        let mut values = [0; N];
        for (word, value) in self.0.row::<N>(at).zip(&mut values) {
            *value = word.load(Ordering::Relaxed);
        }
        values
    }
}

// ── memfd ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// Makes a memfd of so many words, all zero, close-on-exec, mode 0600, that can neither shrink nor grow: whoever maps it
/// never meets SIGBUS for a page that is gone.
///
/// # Errors
/// As memfd_create(2), ftruncate(2), fchmod(2) and fcntl(F_ADD_SEALS): `EMFILE`, `ENFILE`, `ENOMEM`.
#[cfg(not(loom))]
pub fn sealed(name: &CStr, words: usize) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    nix::unistd::ftruncate(&fd, (words * WORD).try_into().map_err(io::Error::other)?)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(fd)
}

/// Opens a memfd once more, without the right to write: what the other side gets of memory that is ours.
///
/// # Errors
/// As open(2) of `/proc/self/fd/N`: `EMFILE`, `ENFILE`, `ENOENT` where `/proc` is not mounted.
#[cfg(not(loom))]
pub fn read_only(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

#[cfg(not(loom))]
impl OwnMemory {
    /// Maps a memfd for writing, all of it.
    ///
    /// # Errors
    /// As mmap(2); `EINVAL` when its size is not a whole number of words, or when it could still shrink.
    pub fn map(fd: impl AsFd) -> io::Result<OwnMemory> {
        map(fd.as_fd(), libc::PROT_READ | libc::PROT_WRITE).map(|words| OwnMemory(Arc::new(words)))
    }
}

#[cfg(not(loom))]
impl PeerMemory {
    /// Maps a memfd without the right to write, all of it.
    ///
    /// # Errors
    /// As [`OwnMemory::map`].
    pub fn map(fd: impl AsFd) -> io::Result<PeerMemory> {
        map(fd.as_fd(), libc::PROT_READ).map(|words| PeerMemory(Arc::new(words)))
    }
}

#[cfg(not(loom))]
fn map(fd: BorrowedFd<'_>, protection: libc::c_int) -> io::Result<Words> {
    let unfit = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS).map_err(|_| unfit("it is no memfd"))?;
    if seals & libc::F_SEAL_SHRINK == 0 {
        return Err(unfit("it is not sealed against shrinking"));
    }
    let bytes = usize::try_from(fstat(fd)?.st_size).unwrap_or(0);
    if bytes == 0 || !bytes.is_multiple_of(WORD) {
        return Err(unfit("its size is not a whole number of words"));
    }
    // SAFETY: a new shared mapping of a length that the file has and, being sealed, keeps. mmap picks the address.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let first = NonNull::new(base.cast()).expect("mmap does not place a mapping at 0");
    Ok(Words { first, count: bytes / WORD, backing: Backing::Mapped })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_stores_the_other_reads() {
        let (own, peer) = on_the_heap(8);
        own.store_row(5, &[1, 2, 3]);
        own.store(0, 9, Ordering::Relaxed);
        assert_eq!((peer.load_row::<3>(5), peer.load(0, Ordering::Relaxed)), ([1, 2, 3], 9));
    }

    #[test]
    #[should_panic(expected = "words 6+3 of a memory of 8 words")]
    fn a_row_that_sticks_out_is_our_bug() {
        let _row = on_the_heap(8).1.load_row::<3>(6);
    }

    #[test]
    #[cfg(not(miri))] // which has no memfd
    fn a_mapped_memory_is_shared_sealed_and_private_to_its_user() {
        let fd = sealed(c"ostler-test", 600).unwrap();
        let (own, peer) = (OwnMemory::map(&fd).unwrap(), PeerMemory::map(read_only(fd.as_fd()).unwrap()).unwrap());
        own.store(599, 7, Ordering::Relaxed);
        assert_eq!((peer.load(599, Ordering::Relaxed), own.words(), peer.words()), (7, 600, 600));
        assert_eq!(fstat(&fd).unwrap().st_mode & 0o7777, 0o600);
        assert_eq!(nix::unistd::ftruncate(&fd, 8), Err(nix::Error::EPERM), "it can shrink");
        assert_eq!(nix::unistd::ftruncate(&fd, 8192), Err(nix::Error::EPERM), "it can grow");
    }

    #[test]
    #[cfg(not(miri))] // which has no memfd
    fn a_read_only_descriptor_can_not_be_mapped_for_writing() {
        let fd = sealed(c"ostler-test", 1).unwrap();
        let refused = OwnMemory::map(read_only(fd.as_fd()).unwrap()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    #[cfg(not(miri))] // which has no memfd
    fn what_could_shrink_under_us_or_is_no_memfd_is_not_mapped() {
        let unsealed = memfd_create(c"ostler-test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        nix::unistd::ftruncate(&unsealed, 8).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        for (fd, why) in [(unsealed.as_fd(), "sealed"), (null.as_fd(), "memfd")] {
            assert!(PeerMemory::map(fd).unwrap_err().to_string().contains(why), "{why}");
        }
        assert!(PeerMemory::map(sealed(c"ostler-test", 0).unwrap()).unwrap_err().to_string().contains("words"));
    }
}
