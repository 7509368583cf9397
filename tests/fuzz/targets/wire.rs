//! Decodes arbitrary frames of a worker's control channel, in both directions.
//!
//! Holds: no panic; a frame that is understood is encoded within the limit, no longer than it came, and reads back as
//! the same message.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use ostler_shared::wire::{FRAME_MAX, ToSupervisor, ToWorker, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|frame: &[u8]| {
    survives::<ToSupervisor>(frame);
    survives::<ToWorker>(frame);
    if let Ok(message) = decode::<ToSupervisor>(frame) {
        // Limits that decoding alone does not hold; both ways lead on.
        let _bounded = message.checked();
    }
});

fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(frame: &[u8]) {
    let Ok(message) = decode::<T>(frame) else { return };
    let again = encode(&message).unwrap_or_else(|error| panic!("{message:?} was understood, and not said: {error}"));
    assert!(again.len() <= frame.len() && frame.len() <= FRAME_MAX, "{message:?} grew to {again:?}");
    assert_eq!(decode::<T>(&again).as_ref(), Ok(&message));
}
