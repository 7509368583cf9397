//! Drives the real pool through random histories and checks the invariants after every step.
//!
//! A history is a seed: `SEED=17 cargo test -p ostler-pool --test simulator` replays one and prints what happens, and
//! `SEED=17 KEEP=3,5,9-20` only those of its happenings. Fake workers live on a virtual clock; they claim, serve, stop,
//! lie, hang up, die at any time, or refuse to die.

mod world;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use world::shrink::Keep;
use world::{ExtraRule, HAPPENINGS, Journal, Marks, World};

/// Histories in an ordinary run.
const HISTORIES: u64 = 10_000;
/// Histories under `OSTLER_LONG=1`.
const HISTORIES_LONG: u64 = 1_000_000;

/// A history that broke an invariant.
struct Broken {
    /// The happening at which it broke; `HAPPENINGS` for the stop.
    at: usize,
    /// What was said about it.
    why: String,
}

/// Runs the kept happenings of a history, then the stop.
fn run(seed: u64, keep: &Keep, journal: Journal, extra: Option<ExtraRule>) -> (World, Option<Broken>) {
    let mut world = World::new(seed, journal, extra);
    let at = Cell::new(0);
    let told = quietly(|| {
        for number in &keep.0 {
            at.set(*number);
            world.happen(*number);
        }
        at.set(HAPPENINGS);
        world.stop_and_wait();
    });
    let broken = told.err().map(|why| Broken { at: at.get(), why });
    (world, broken)
}

/// Runs it and gives back what a panic said, without printing it.
fn quietly(run: impl FnOnce()) -> Result<(), String> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let told = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    told.map_err(|said| match said.downcast::<String>() {
        Ok(text) => *text,
        Err(said) => {
            said.downcast_ref::<&str>().map_or_else(|| "a panic without words".to_owned(), |s| (*s).to_owned())
        }
    })
}

/// The same kind of mistake, whatever the numbers in it.
fn kind(why: &str) -> String {
    why.chars().take(60).filter(|c| !c.is_ascii_digit()).collect()
}

/// Shrinks a history that broke, and words it for whoever has to mend it.
fn shrink(seed: u64, broken: &Broken, extra: Option<ExtraRule>) -> (Keep, String) {
    let wanted = kind(&broken.why);
    let all = Keep::first((broken.at + 1).min(HAPPENINGS));
    let kept = all.shrink(|keep| {
        let (_, broken) = run(seed, keep, Journal::Off, extra);
        broken.is_some_and(|broken| kind(&broken.why) == wanted)
    });
    let (world, again) = run(seed, &kept, Journal::Kept, extra);
    let why = again.map_or_else(|| broken.why.clone(), |again| again.why);
    let journal = world.journal.join("\n");
    let report = format!("{journal}\n\n{why}\nbroken by seed {seed}: replay it with SEED={seed} KEEP={kept}");
    (kept, report)
}

/// Runs many histories on all CPUs. Answers what they reached.
fn campaign(histories: u64) -> Marks {
    let (next, marks, first) = (AtomicU64::new(0), Mutex::new(Marks::default()), Mutex::new(None));
    let all = Keep::first(HAPPENINGS);
    let work = || {
        let mut mine = Marks::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= histories {
                break;
            }
            let (world, broken) = run(seed, &all, Journal::Off, None);
            mine.add(&world.marks);
            if let Some(broken) = broken {
                next.store(histories, Ordering::Relaxed);
                first.lock().unwrap().get_or_insert((seed, broken));
            }
        }
        marks.lock().unwrap().add(&mine);
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    if let Some((seed, broken)) = first.into_inner().unwrap() {
        panic!("{}", shrink(seed, &broken, None).1);
    }
    marks.into_inner().unwrap()
}

#[test]
fn no_history_breaks_an_invariant() {
    if let Ok(seed) = std::env::var("SEED") {
        let keep =
            std::env::var("KEEP").map_or(Keep::first(HAPPENINGS), |keep| keep.parse().expect("KEEP is like 3,5,9-20"));
        let (_, broken) = run(seed.parse().expect("SEED is a number"), &keep, Journal::Printed, None);
        assert!(broken.is_none(), "{}", broken.map_or_else(String::new, |broken| broken.why));
        return;
    }
    let asked =
        std::env::var("OSTLER_HISTORIES").ok().map(|count| count.parse().expect("OSTLER_HISTORIES is a number"));
    let long = std::env::var_os("OSTLER_LONG").map(|_| HISTORIES_LONG);
    let reached = campaign(asked.or(long).unwrap_or(HISTORIES));
    println!("{reached:#?}");
    // Fewer are a sample, from which nothing can be missed.
    if asked.is_none() {
        reached.assert_all_reached();
    }
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    let all = Keep::first(HAPPENINGS);
    for seed in 0..50 {
        let [first, second] = [(); 2].map(|()| run(seed, &all, Journal::Kept, None).0.journal);
        assert_eq!(first, second, "I10: seed {seed}");
    }
}

/// A rule that histories do break, to see what becomes of one that does.
fn nobody_is_lost_once_a_worker_was_stuck(world: &World) {
    assert!(world.marks.stuck == 0 || world.marks.lost == 0, "a planted bug, at {}", world.now);
}

#[test]
fn a_history_that_breaks_a_rule_is_shrunk_to_what_it_takes_and_replays() {
    let rule: Option<ExtraRule> = Some(nobody_is_lost_once_a_worker_was_stuck);
    let all = Keep::first(HAPPENINGS);
    let during = |broken: &Broken| broken.at < HAPPENINGS;
    let (seed, broken) = (0..)
        .find_map(|seed| Some(seed).zip(run(seed, &all, Journal::Off, rule).1.filter(during)))
        .expect("seeds don't end");
    let (kept, report) = shrink(seed, &broken, rule);
    assert!(kept.0.len() < 20 && kept.0.len() < broken.at, "still {kept} of {}:\n{report}", broken.at);
    assert!(report.contains(&format!("SEED={seed} KEEP={kept}")) && report.contains("a planted bug"), "{report}");
    // What is printed replays exactly that, and nothing in it is needless.
    let read: Keep = kept.to_string().parse().unwrap();
    assert_eq!(read, kept);
    let breaks =
        |keep: &Keep| run(seed, keep, Journal::Off, rule).1.is_some_and(|broken| broken.why.contains("planted"));
    assert!(breaks(&kept));
    for left_out in 0..kept.0.len() {
        let mut fewer = kept.clone();
        fewer.0.remove(left_out);
        assert!(!breaks(&fewer), "{} is needless in {kept}", kept.0[left_out]);
    }
}

#[test]
fn what_is_kept_is_written_shortly_and_read_back() {
    let keep = Keep(vec![3, 5, 9, 10, 11, 12, 20]);
    assert_eq!(keep.to_string(), "3,5,9-12,20");
    assert_eq!("3,5,9-12,20".parse(), Ok(keep));
    assert_eq!("".parse(), Ok(Keep(vec![])));
    assert!("3,x".parse::<Keep>().is_err());
}
