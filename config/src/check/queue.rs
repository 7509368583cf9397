//! Checks `queue = { … }`.

use std::time::Duration;

use crate::checked::{Address, Farewell, Overflow, Queue};
use crate::combine;
use crate::limits::{QUEUE_LIMIT_MAX, REPLY_BYTES_MAX};
use crate::mistakes::{Fault, Mistake};
use crate::raw::RawTable;
use crate::value::{WordOrReply, choose};
use crate::words::Words;

/// The line of a pool that says nothing about it.
pub(crate) fn default_queue() -> Queue {
    Queue { limit: LIMIT, timeout: TIMEOUT, on_timeout: Farewell::Close, overflow: Overflow::Wait, per_uid: PER_UID }
}

pub(super) fn queue(table: &RawTable<'_>, listen: Option<&[Address]>, mistakes: &mut Vec<Mistake>) -> Queue {
    let limit = table.whole("limit", 1..=QUEUE_LIMIT_MAX, mistakes);
    let per_uid = table.whole("per_uid", 0..=QUEUE_LIMIT_MAX, mistakes);
    let timeout = table.duration("timeout", Duration::ZERO, mistakes);
    let on_timeout = table.word_or_reply("on_timeout", mistakes).understand(mistakes, |asked| match asked {
        WordOrReply::Word(word) => choose(word, CLOSE, &[]).map(|()| Farewell::Close),
        WordOrReply::Reply(text) => reply(text),
    });
    let overflow = table.word_or_reply("overflow", mistakes).understand(mistakes, |asked| match asked {
        WordOrReply::Word(word) => choose(word, WAIT_OR_CLOSE, &[]).map(|word| match word {
            OverflowWord::Wait => Overflow::Wait,
            OverflowWord::Close => Overflow::Shed(Farewell::Close),
        }),
        WordOrReply::Reply(text) => reply(text).map(Overflow::Shed),
    });
    if let (Some(typed), Some(timeout)) = (on_timeout.typed(), timeout.in_force(TIMEOUT))
        && let Some(fault) = combine::reply_has_deadline(timeout, &typed.value)
    {
        mistakes.push(typed.refuse(fault));
    }
    if let (Some(typed), Some(limit)) = (per_uid.typed(), limit.in_force(LIMIT)) {
        let of_users = listen.and_then(|listen| combine::has_users(typed.value, listen));
        let fault = combine::share_of_line(typed.value, limit).or(of_users);
        mistakes.extend(fault.map(|fault| typed.refuse(fault)));
    }
    Queue {
        limit: limit.value().unwrap_or(LIMIT),
        timeout: timeout.value().unwrap_or(TIMEOUT),
        on_timeout: on_timeout.value().unwrap_or(Farewell::Close),
        overflow: overflow.value().unwrap_or(Overflow::Wait),
        per_uid: per_uid.value().unwrap_or(PER_UID),
    }
}

fn reply(text: &str) -> Result<Farewell, Fault> {
    let bytes = text.len();
    if text.is_empty() {
        return Err(Fault::new("the reply is empty", "empty", "write \"close\" to say nothing"));
    }
    if bytes > REPLY_BYTES_MAX {
        let message = format!("the reply has {bytes} bytes, the limit is {REPLY_BYTES_MAX}");
        return Err(Fault::new(message, "too long", "shorten it"));
    }
    Ok(Farewell::Reply(text.to_owned()))
}

#[derive(Debug, Clone, Copy)]
enum OverflowWord {
    Wait,
    Close,
}

const CLOSE: Words<()> = &[("close", ())];
const WAIT_OR_CLOSE: Words<OverflowWord> = &[("wait", OverflowWord::Wait), ("close", OverflowWord::Close)];

const LIMIT: u32 = 4096;
const PER_UID: u32 = 0;
const TIMEOUT: Duration = Duration::from_secs(10);
