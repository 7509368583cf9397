//! Holds what is published: its bytes, its limits, and that no bytes make a reader panic.

use proptest::prelude::*;

use super::*;

fn supervisor() -> Supervisor {
    Supervisor {
        version: "1.2.3".into(),
        pid: 300,
        process_start: Some(7),
        state: "running".into(),
        started_at_ns: 1,
        published_at_ns: 2,
        published_at_unix_ms: 3,
        turns: Turns { count: 4, busy_ns: 5, last_ns: 6, longest_ns: 7 },
        log_lines_dropped: 8,
        deaths: 9,
        reloads_ok: 10,
        reloads_undone: 11,
    }
}

fn content() -> Content {
    Content { supervisor: supervisor(), pools: Vec::new(), reloads: Vec::new(), deaths: Vec::new() }
}

fn reload(verdict: &str) -> Reload {
    Reload { at_ns: 5, outcome: "ok".into(), verdict: verdict.into() }
}

fn death(number: u64, last_word: &str) -> Death {
    Death {
        at_unix_ms: 1,
        worker: "web/0.1".into(),
        id: number,
        pid: 12,
        code: None,
        signal: Some(9),
        cause: Some("silent".into()),
        lost: 0,
        age_ns: 1,
        last_word: Some(last_word.into()),
    }
}

/// If this fails, the version has to be another one, and docs/scoreboard.md too.
#[test]
fn the_bytes_of_a_state_are_these() {
    let mut golden = vec![5];
    golden.extend(b"1.2.3");
    golden.extend([0xac, 0x02, 1, 7, 7]);
    golden.extend(b"running");
    golden.extend([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 0, 0]);
    assert_eq!(content().encode(), golden);
    assert_eq!(Content::decode(&golden), Ok(content()));
}

#[test]
fn of_reloads_and_deaths_the_last_are_kept_and_texts_are_cut() {
    let mut long = content();
    long.reloads = (0..20).map(|number| reload(&format!("{number}{}", "x".repeat(TEXT_BYTES_MAX)))).collect();
    long.deaths = (0..40).map(|number| death(number, &"ä".repeat(REASON_BYTES_MAX))).collect();
    long.cut();
    assert_eq!((long.reloads.len(), long.deaths.len()), (RELOADS_MAX, DEATHS_MAX));
    assert!(long.reloads[0].verdict.starts_with("12x") && long.reloads[0].verdict.ends_with('…'));
    assert_eq!(long.reloads[0].verdict.len(), TEXT_BYTES_MAX);
    assert_eq!(long.deaths[0].id, 24);
    let word = long.deaths[0].last_word.as_deref().unwrap();
    assert!(word.len() <= REASON_BYTES_MAX && word.ends_with("ä…"), "{word}");
    assert_eq!(Content::decode(&long.encode()), Ok(long));
}

#[test]
fn what_follows_a_content_is_no_content() {
    let mut bytes = content().encode();
    bytes.push(0);
    assert_eq!(Content::decode(&bytes), Err(BadContent));
    bytes.truncate(bytes.len() - 2);
    assert_eq!(Content::decode(&bytes), Err(BadContent));
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Content::decode(&bytes);
    }
}
