//! Reads scoreboards that somebody else has made: whole files, and contents alone.
//!
//! Holds: no panic; nothing longer than its limit is copied out; a content that is understood is written again no longer than
//! it came, and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_shared::scoreboard::banks::read;
use ostler_shared::scoreboard::{CONTENT_BYTES_MAX, Content};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(content) = read(&bytes) {
        assert!(content.len() <= CONTENT_BYTES_MAX);
        survives(&content);
    }
    survives(bytes);
});

fn survives(bytes: &[u8]) {
    let Ok(mut content) = Content::decode(bytes) else { return };
    let again = content.encode();
    assert!(again.len() <= bytes.len(), "{content:?} grew to {again:?}");
    assert_eq!(Content::decode(&again).as_ref(), Ok(&content));
    content.cut();
    assert!(content.encode().len() <= again.len());
}
