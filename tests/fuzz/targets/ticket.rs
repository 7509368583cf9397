//! Reads arbitrary bytes as a ticket.
//!
//! Holds: no panic; no other length is taken; a ticket that is understood survives its way through bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_shared::Ticket;
use ostler_shared::ticket::TICKET_LEN;

fuzz_target!(|bytes: &[u8]| {
    let Ok(ticket) = Ticket::from_bytes(bytes) else { return };
    assert_eq!(bytes.len(), TICKET_LEN);
    let again = ticket.to_bytes();
    assert_eq!(Ticket::from_bytes(&again), Ok(ticket));
    // What this build does not know (reserved bytes, further flags, a peer without the flag) is not carried on; the rest is.
    assert_eq!((&again[..3], &again[4..24]), (&bytes[..3], &bytes[4..24]));
});
