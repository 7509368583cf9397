//! Remembers which descriptor of this process is which claimed connection, to notice when the last one is closed.
//!
//! A word per number, in memory that costs nothing until it is used. Forked children have a copy, which is right: they have
//! copies of the descriptors. A child by vfork shares it with its parent and must not touch it, which is why whoever changes
//! something asks first whose memory this is ([`Post::me`]).
//!
//! Closes that go around us leave a number behind that leads elsewhere or nowhere. Who waits for connections looks for such
//! numbers, at most once a second ([`tend`]).

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use ostler_shared::claims::{Claim, Escape};
use ostler_shared::completion::Outcome;

use crate::originals::aside;
use crate::post::{Identity, Post, now_ns, post};

/// Numbers from here on are never given to a connection: a claim answers EMFILE instead.
pub(crate) const NUMBERS: usize = 1 << 17;
/// Most places of a table: concurrency and prefetch at their limits, rounded up.
const PLACES: usize = 1 << 17;
/// How often numbers are looked at.
const TEND_EVERY_NS: u64 = 1_000_000_000;

/// The claim behind each number, as a word; 0: none.
static CLAIMS: [AtomicU64; NUMBERS] = [const { AtomicU64::new(0) }; NUMBERS];
/// The inode of each connection, once it was looked at; 0 before.
static INODES: [AtomicU64; NUMBERS] = [const { AtomicU64::new(0) }; NUMBERS];
/// How many numbers of this process lead to the connection of each place.
static COPIES: [AtomicU32; PLACES] = [const { AtomicU32::new(0) }; PLACES];
/// One more than the highest number that was ever a connection.
static BOUND: AtomicUsize = AtomicUsize::new(0);
static TENDED_AT_NS: AtomicU64 = AtomicU64::new(0);

fn slot(fd: RawFd) -> Option<usize> {
    usize::try_from(fd).ok().filter(|number| *number < NUMBERS)
}

/// Whether a number is that of a claimed connection, as far as we know.
pub(crate) fn is_connection(fd: RawFd) -> bool {
    slot(fd).is_some_and(|number| CLAIMS[number].load(Ordering::Relaxed) != 0)
}

/// A connection was claimed and is known by this number. `false` when it can't be remembered.
pub(crate) fn track(post: &Post, fd: RawFd, claim: Claim) -> bool {
    let (Some(number), Some(word)) = (slot(fd), claim.to_word()) else { return false };
    let Some(copies) = COPIES.get(claim.place()) else { return false };
    copies.store(1, Ordering::Relaxed);
    put(post, number, word);
    true
}

/// Whatever had this number before was closed without our noticing.
fn put(post: &Post, number: usize, word: u64) {
    INODES[number].store(0, Ordering::Relaxed);
    let before = CLAIMS[number].swap(word, Ordering::AcqRel);
    BOUND.fetch_max(number + 1, Ordering::Relaxed);
    if before != 0 {
        post.claimant.note_escape(Escape::Unseen);
    }
    finish(post, Claim::of_word(before));
}

/// A number is about to be closed, or taken over: what it stood for. It must go to [`finish`] when that is done, or back by
/// [`restore`].
pub(crate) fn forget(fd: RawFd) -> Option<Claim> {
    let number = slot(fd)?;
    if CLAIMS[number].load(Ordering::Relaxed) == 0 {
        return None; // all that most closes cost
    }
    post()?.me()?;
    Claim::of_word(CLAIMS[number].swap(0, Ordering::AcqRel))
}

/// It was not closed after all.
pub(crate) fn restore(fd: RawFd, claim: Option<Claim>) {
    if let (Some(number), Some(word)) = (slot(fd), claim.and_then(Claim::to_word)) {
        CLAIMS[number].store(word, Ordering::Release);
    }
}

/// A number that stood for this claim is closed.
pub(crate) fn finish(post: &Post, claim: Option<Claim>) {
    let Some(claim) = claim else { return };
    let last = COPIES.get(claim.place()).is_some_and(|copies| copies.fetch_sub(1, Ordering::AcqRel) == 1);
    if let Some(me) = post.me().filter(|_| last) {
        post.ring_if(post.claimant.release(claim, me, now_ns(), Outcome::Done));
    }
}

/// The same file got another number.
pub(crate) fn copied(from: RawFd, to: RawFd) {
    let (Some(from), Some(to)) = (slot(from), slot(to)) else { return };
    let word = CLAIMS[from].load(Ordering::Acquire);
    let (Some(claim), Some(post)) = (Claim::of_word(word), post()) else { return };
    if post.me().is_none() {
        // A child that shares our memory makes it a descriptor of the program that it is about to execute.
        post.claimant.note_escape(Escape::Cloned);
    } else if from != to {
        COPIES[claim.place()].fetch_add(1, Ordering::AcqRel);
        put(post, to, word);
    }
}

/// Notes that connections of this process get to another one by a way on which we can't follow them, if it holds any.
pub(crate) fn escape_all(escape: Escape) {
    if let (Some(_), Some(post)) = (numbers().next(), post()) {
        post.claimant.note_escape(escape);
    }
}

/// The same of one descriptor, if it is a connection.
pub(crate) fn escape(fd: RawFd, escape: Escape) {
    if let (true, Some(post)) = (is_connection(fd), post()) {
        post.claimant.note_escape(escape);
    }
}

fn stays_open_after_exec(number: usize) -> bool {
    let fd = RawFd::try_from(number).unwrap_or(-1);
    // SAFETY: ints only.
    let flags = unsafe { crate::originals::fcntl(fd, libc::F_GETFD, 0) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// Each connection that a program executed by this process would have, once for each number.
pub(crate) fn held_after_exec(mut what: impl FnMut(Claim)) {
    numbers().filter(|(number, _)| stays_open_after_exec(*number)).for_each(|(_, claim)| what(claim));
}

/// The claims of all numbers from `first` to `last`, forgotten.
pub(crate) fn forget_range(first: usize, last: usize) -> impl Iterator<Item = Claim> {
    let bound = BOUND.load(Ordering::Relaxed);
    (first..last.saturating_add(1).min(bound)).filter_map(|number| forget(RawFd::try_from(number).ok()?))
}

/// Everything that this process holds, each number for itself.
fn numbers() -> impl Iterator<Item = (usize, Claim)> {
    let bound = BOUND.load(Ordering::Relaxed);
    (0..bound).filter_map(|number| Some((number, Claim::of_word(CLAIMS[number].load(Ordering::Acquire))?)))
}

/// Does something with each connection that this process holds, once for each number: it must do no harm to do it again.
pub(crate) fn held(mut what: impl FnMut(Claim)) {
    numbers().for_each(|(_, claim)| what(claim));
}

/// The same with something that is found out only if there is one.
pub(crate) fn held_first<T: Copy>(find: impl FnOnce() -> Option<T>, what: impl Fn(Claim, T)) {
    let mut held = numbers().peekable();
    if held.peek().is_some()
        && let Some(found) = find()
    {
        held.for_each(|(_, claim)| what(claim, found));
    }
}

/// Does something with each connection that no descriptor of this process leads to after an exec.
pub(crate) fn held_until_exec(what: impl Fn(Claim)) {
    held(|claim| {
        if !numbers().any(|(number, other)| other == claim && stays_open_after_exec(number)) {
            what(claim);
        }
    });
}

/// Looks whether connections were closed in ways that we don't see.
pub(crate) fn tend(post: &Post, now_ns: u64) {
    let before = TENDED_AT_NS.load(Ordering::Relaxed);
    let is_due = now_ns.wrapping_sub(before) >= TEND_EVERY_NS;
    if is_due
        && post.me().is_some()
        && TENDED_AT_NS.compare_exchange(before, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        aside(|| (0..BOUND.load(Ordering::Relaxed)).for_each(|number| tend_one(post, number)));
    }
}

fn tend_one(post: &Post, number: usize) {
    let word = CLAIMS[number].load(Ordering::Acquire);
    if word == 0 {
        return;
    }
    let known = INODES[number].load(Ordering::Relaxed);
    let found = RawFd::try_from(number).ok().and_then(Identity::of).map_or(0, Identity::inode);
    let is_there = found != 0 && (known == 0 || known == found);
    // The word names this claim and no other, so that whoever closes it meanwhile, or claims anew, is not taken for it.
    if !is_there {
        if CLAIMS[number].compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            post.claimant.note_escape(Escape::Unseen);
            finish(post, Claim::of_word(word));
        }
    } else if known == 0 {
        INODES[number].store(found, Ordering::Relaxed);
    }
}
