//! Holds the scoreboard's banks in one process: what is published is read, and what was tampered with is refused.

use std::cell::{Cell, RefCell};

use super::*;

/// Words that grow as they are written, as a file does.
#[derive(Debug, Default)]
struct Sheet {
    words: RefCell<std::collections::BTreeMap<usize, u64>>,
    /// So many more words can be written.
    room: Cell<usize>,
}

fn sheet() -> Publisher<Sheet> {
    Publisher::new(Sheet { words: RefCell::default(), room: Cell::new(usize::MAX) })
}

impl Store for Sheet {
    fn store(&self, at: usize, words: &[u64]) -> io::Result<()> {
        for (offset, word) in words.iter().enumerate() {
            let left = self.room.get().checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            self.room.set(left);
            self.words.borrow_mut().insert(at + offset, *word);
        }
        Ok(())
    }
}

impl Load for Sheet {
    fn load(&self, at: usize, words: &mut [u64]) -> io::Result<()> {
        let known = self.words.borrow();
        let end = known.last_key_value().map_or(0, |(last, _)| last + 1);
        if at + words.len() > end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (offset, word) in words.iter_mut().enumerate() {
            *word = known.get(&(at + offset)).copied().unwrap_or(0);
        }
        Ok(())
    }
}

#[test]
fn what_was_published_last_is_read_whatever_its_length() {
    let mut publisher = sheet();
    for length in [0, 1, 7, 8, 9, 400, 3] {
        let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        publisher.publish(&content).unwrap();
        assert_eq!(read(publisher.store()).unwrap(), content);
    }
}

#[test]
fn a_state_that_does_not_fit_leaves_the_one_before() {
    let mut publisher = sheet();
    publisher.publish(b"the first").unwrap();
    let refused = publisher.publish(&vec![0; CONTENT_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(refused, NotPublished::TooLong(length) if length == CONTENT_BYTES_MAX + 1));
    assert_eq!(read(publisher.store()).unwrap(), b"the first");
}

#[test]
fn a_full_disk_leaves_the_state_before_and_the_next_try_goes_on() {
    let mut publisher = sheet();
    publisher.publish(b"the first").unwrap();
    for room in 0..4 {
        publisher.store().room.set(room);
        assert!(matches!(publisher.publish(b"the second").unwrap_err(), NotPublished::Io(_)));
        assert_eq!(read(publisher.store()).unwrap(), b"the first", "with room for {room} words");
    }
    publisher.store().room.set(usize::MAX);
    publisher.publish(b"the third").unwrap();
    assert_eq!(read(publisher.store()).unwrap(), b"the third");
}

#[test]
fn after_a_truncation_the_next_state_is_whole_again() {
    let mut publisher = sheet();
    publisher.publish(b"the first").unwrap();
    publisher.store().words.borrow_mut().clear();
    assert!(matches!(read(publisher.store()).unwrap_err(), Unreadable::Short));
    publisher.publish(b"the second").unwrap();
    assert_eq!(read(publisher.store()).unwrap(), b"the second");
}

#[test]
fn another_version_is_refused_by_naming_both() {
    let mut publisher = sheet();
    publisher.publish(b"x").unwrap();
    publisher.store().words.borrow_mut().insert(1, VERSION + 8);
    let refused = read(publisher.store()).unwrap_err();
    assert!(matches!(refused, Unreadable::Version { theirs } if theirs == VERSION + 8));
    assert!(refused.to_string().contains("version 9") && refused.to_string().contains("reads 1"), "{refused}");
}

#[test]
fn every_single_word_that_is_another_is_noticed() {
    let mut publisher = sheet();
    publisher.publish(b"some state of thirty-one bytes.").unwrap();
    let places: Vec<usize> = publisher.store().words.borrow().keys().copied().collect();
    for place in places {
        for flip in [1, 1 << 40, u64::MAX] {
            *publisher.store().words.borrow_mut().get_mut(&place).unwrap() ^= flip;
            assert!(read(publisher.store()).is_err(), "word {place} ^ {flip:#x}");
            *publisher.store().words.borrow_mut().get_mut(&place).unwrap() ^= flip;
        }
    }
    assert!(read(publisher.store()).is_ok());
}

#[test]
fn a_length_beyond_the_limit_costs_nothing() {
    let mut publisher = sheet();
    publisher.publish(b"x").unwrap();
    publisher.store().words.borrow_mut().insert(bank_at(1) + 1, u64::MAX);
    assert!(matches!(read(publisher.store()).unwrap_err(), Unreadable::Damaged(_)));
}

/// Publishes something whenever its header is read.
struct Busy(RefCell<Publisher<Sheet>>, Cell<u32>);

impl Load for Busy {
    fn load(&self, at: usize, words: &mut [u64]) -> io::Result<()> {
        self.0.borrow().store().load(at, words)?;
        if at == 0 && self.1.get() > 0 {
            self.1.set(self.1.get() - 1);
            self.0.borrow_mut().publish(b"news").unwrap();
        }
        Ok(())
    }
}

#[test]
fn who_is_overtaken_begins_anew_but_not_for_ever() {
    let busy = Busy(RefCell::new(sheet()), Cell::new(5));
    busy.0.borrow_mut().publish(b"old").unwrap();
    assert_eq!(read(&busy).unwrap(), b"news");
    busy.1.set(u32::MAX);
    assert!(matches!(read(&busy).unwrap_err(), Unreadable::Restless));
}

#[test]
fn what_is_no_scoreboard_is_refused() {
    assert!(matches!(read(&&b""[..]).unwrap_err(), Unreadable::Short));
    assert!(matches!(read(&&[7; 4096][..]).unwrap_err(), Unreadable::Alien));
    let mut empty = [0; 64];
    empty[..8].copy_from_slice(b"ostlrbrd");
    empty[8] = 1;
    assert!(matches!(read(&&empty[..]).unwrap_err(), Unreadable::Damaged(_)));
    empty[16] = 2;
    assert!(matches!(read(&&empty[..]).unwrap_err(), Unreadable::Short));
}
