//! Templates that do not keep to the protocol: `hostile_template MODE`.
//!
//! All say that they have loaded. Asked for a worker, `liar` names the supervisor, `own` itself, `stranger` a child that is not the
//! supervisor's, `mute` says nothing, `stray` refuses what nobody asked for,
//! `unfit` refuses, `flood` announces
//! workers that nobody asked for without end. The control channel is on standard input, where `programs::hostile_template` puts it.

use std::error::Error;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use ostler_shared::packet::{Wait, recv_frame, send_frame};
use ostler_shared::wire::{self, FRAME_MAX, Hello, NoFork, PROTOCOL, ToSupervisor, ToWorker};
use ostler_tests::programs::edge;

fn main() -> ExitCode {
    edge(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mode = std::env::args().nth(1).ok_or("usage: hostile_template MODE")?;
    let control = std::io::stdin();
    let say = |message: &ToSupervisor| -> Result<(), Box<dyn Error>> {
        Ok(send_frame(control.as_fd(), &wire::encode(message)?)?)
    };
    say(&ToSupervisor::Template(Hello { protocol: PROTOCOL, library: "hostile".to_owned() }))?;
    say(&ToSupervisor::Loaded)?;
    let mut child = None;
    loop {
        let mut buffer = [0; FRAME_MAX + 1];
        let len = recv_frame(control.as_fd(), &mut buffer, Wait::Block)?;
        if len == 0 {
            return Ok(());
        }
        let request = match wire::decode(&buffer[..len])? {
            ToWorker::Fork(fork) => fork.request,
            ToWorker::Drain => return Ok(()),
            ToWorker::Welcome(_) | ToWorker::Ping { .. } => continue,
        };
        match mode.as_str() {
            "liar" => say(&ToSupervisor::Forked { request, pid: std::os::unix::process::parent_id() })?,
            "own" => say(&ToSupervisor::Forked { request, pid: std::process::id() })?,
            "stranger" => {
                let pid = child.insert(Command::new("sleep").arg("60").spawn()?).id();
                say(&ToSupervisor::Forked { request, pid })?;
            }
            "mute" => {}
            "stray" => {
                let (request, text) = (request + 1_000_000, "no".to_owned());
                say(&ToSupervisor::NotForked { request, why: NoFork::Shortage, text })?;
            }
            "unfit" => {
                let text = "it has 7 threads\n\x1b[31m".to_owned();
                say(&ToSupervisor::NotForked { request, why: NoFork::Unfit, text })?;
            }
            "flood" => {
                for request in 1_000_000.. {
                    if say(&ToSupervisor::Forked { request, pid: 1 }).is_err() {
                        std::thread::yield_now();
                    }
                }
            }
            _ => return Err(format!("unknown mode {mode}").into()),
        }
    }
}
