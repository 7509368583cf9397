//! Plays the supervisor: makes the channels, starts one worker, hands connections out and takes them back.
//!
//! Every wait is for a fact, and fails the test at [`DEADLINE`].

use std::cell::RefCell;
use std::fs;
use std::io::{self, PipeReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::RwLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::env::{self, FDS, LISTEN_FDS, MAILBOX_FD, POOL, PROTOCOL, WORKER};
use ostler_shared::packet::{self, Claim, Take, Wait, claim, hand_off, recv_frame, send_frame};
use ostler_shared::region::{Gate, Shared, SupervisorSide};
use ostler_shared::ring::Capacity;
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::sys::fd::duplicate;
use ostler_shared::ticket::{Family, Peer, Ticket};
use ostler_shared::wire::{self, FRAME_MAX, Marks, ToSupervisor, ToWorker, Welcome};
use ostler_shared::{ConnId, wire::Hello};
use ostler_worker::Stream;

use crate::programs::PROGRAM;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// Above every number that the worker shall find its descriptors under.
const OUT_OF_THE_WAY: RawFd = 16;
/// Tests hand over far more than a real supervisor would.
const RING_RECORDS: u32 = 8192;

/// How a worker is set up.
pub(crate) struct Setup {
    pub(crate) concurrency: u32,
    pub(crate) drain_timeout_ms: u64,
    pub(crate) heartbeat_ms: u64,
    pub(crate) marks: Marks,
    pub(crate) nofile: Option<u64>,
    /// What it accepts from by itself; with none, connections come in its mailbox.
    pub(crate) listeners: Vec<OwnedFd>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            concurrency: 1,
            drain_timeout_ms: 30_000,
            heartbeat_ms: 0,
            marks: Marks::Unread,
            nofile: None,
            listeners: Vec::new(),
        }
    }
}

pub(crate) struct Fake {
    pub(crate) mailbox: OwnedFd,
    /// The duplicate of the worker's end, for recalls.
    pub(crate) kept: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) memory: RefCell<SupervisorSide>,
    /// Readable when the worker has rung.
    pub(crate) doorbell: EventFd,
    pub(crate) process: Process,
    handed: u64,
}

/// A worker's process, killed at the end of its test.
pub(crate) struct Process {
    child: Child,
    lifeline: PipeReader,
    pub(crate) stderr: Option<ChildStderr>,
}

/// Read-held while a served end is open here, write-held while a process is started.
pub(crate) static FORKS: RwLock<()> = RwLock::new(());

impl Fake {
    /// Starts a program of this test binary and sees it through Hello, Welcome and Ready.
    pub(crate) fn start(program: &str, setup: &Setup) -> Fake {
        let mut fake = Fake::spawn_named(program, setup);
        fake.welcome(setup);
        fake
    }

    /// Starts a program of this test binary.
    pub(crate) fn spawn_named(program: &str, setup: &Setup) -> Fake {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["a_worker_program", "--exact", "--nocapture", "--test-threads=1"]).env(PROGRAM, program);
        Fake::spawn(command, setup)
    }

    pub(crate) fn start_example(name: &str, setup: &Setup) -> Fake {
        let mut fake = Fake::spawn(Command::new(example(name)), setup);
        fake.welcome(setup);
        fake
    }

    pub(crate) fn spawn(mut command: Command, setup: &Setup) -> Fake {
        let (mailbox, theirs) = packet::pair().unwrap();
        shutdown(mailbox.as_raw_fd(), Shutdown::Read).unwrap();
        let (control, their_control) = packet::pair().unwrap();
        let Shared { side, region, gauges } = Shared::create(Capacity::at_least(RING_RECORDS).unwrap()).unwrap();
        let doorbell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
        let (lifeline, held) = io::pipe().unwrap();
        let others = [their_control.as_fd(), region.as_fd(), gauges.as_fd(), doorbell.as_fd()];
        let in_order: Vec<_> = if setup.listeners.is_empty() {
            command.env(FDS, env::fds() + ",later:9");
            [theirs.as_fd()].into_iter().chain(others).collect()
        } else {
            side.set_gate(Gate::Open);
            let count = RawFd::try_from(setup.listeners.len()).unwrap();
            command.env(FDS, env::fds_behind_listeners(MAILBOX_FD + count)).env(LISTEN_FDS, count.to_string());
            setup.listeners.iter().map(AsFd::as_fd).chain(others).chain([theirs.as_fd()]).collect()
        };
        // Last comes the line whose end proves its death.
        let numbered = (MAILBOX_FD..).zip(in_order.into_iter().chain([held.as_fd()]));
        let given = numbered.map(|(number, fd)| (duplicate(fd, OUT_OF_THE_WAY).unwrap(), number)).collect();
        command.env(PROTOCOL, "1").env(POOL, "web").env(WORKER, "3.7");
        // Nobody reads what it prints before its end, and the traces of a few panics would fill the pipe.
        command.env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        inherit(&mut command, given, setup.nofile);
        // std forks for this, and until the exec the child has a copy of every descriptor of this process: a connection
        // that another test holds at that instant would not end when its worker closes it.
        let forking = FORKS.write();
        let mut child = command.spawn().unwrap();
        drop(forking);
        drop(command); // and the descriptors that it gave
        let stderr = child.stderr.take();
        drop(their_control);
        let process = Process { child, lifeline, stderr };
        Fake { mailbox, kept: theirs, control, memory: RefCell::new(side), doorbell, process, handed: 0 }
    }

    fn welcome(&mut self, setup: &Setup) {
        self.hear_hello();
        self.answer_hello(setup);
    }

    pub(crate) fn hear_hello(&self) {
        assert!(matches!(self.hear(), ToSupervisor::Hello(Hello { protocol: 1, .. })));
    }

    /// Says Welcome, and hears that it is ready.
    pub(crate) fn answer_hello(&self, setup: &Setup) {
        self.tell(&ToWorker::Welcome(Welcome {
            protocol: 1,
            concurrency: setup.concurrency,
            drain_timeout_ms: setup.drain_timeout_ms,
            heartbeat_ms: setup.heartbeat_ms,
            marks: setup.marks,
        }));
        assert_eq!(self.hear(), ToSupervisor::Ready);
    }

    /// Hands over one end of a new pair and returns the client's end. Ids count from 0.
    pub(crate) fn connect(&mut self) -> UnixStream {
        let _nobody_forks = FORKS.read();
        let (client, served) = UnixStream::pair().unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        self.hand_over(served.as_fd(), Family::Unix, Some(Peer { uid: 1, gid: 2, pid: 3 }));
        client
    }

    /// As [`Fake::connect`], over TCP if the family says so.
    pub(crate) fn connect_over(&mut self, family: Family) -> Stream {
        match family {
            Family::Unix => Stream::Unix(self.connect()),
            Family::V4 | Family::V6 => Stream::Tcp(self.connect_by_tcp()),
        }
    }

    fn connect_by_tcp(&mut self) -> TcpStream {
        let _nobody_forks = FORKS.read();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let (served, _) = listener.accept().unwrap();
        self.hand_over(served.as_fd(), Family::V4, None);
        client
    }

    pub(crate) fn hand_over(&mut self, connection: BorrowedFd<'_>, family: Family, peer: Option<Peer>) {
        let conn = ConnId(self.handed);
        let ticket = Ticket { conn, listener: 0, family, accepted_at_ns: monotonic_ns(), peer };
        while let Err(error) = hand_off(self.mailbox.as_fd(), connection, &ticket) {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
            wait_for(self.mailbox.as_fd(), PollFlags::POLLOUT);
        }
        self.handed += 1;
    }

    pub(crate) fn tell(&self, message: &ToWorker) {
        send_frame(self.control.as_fd(), &wire::encode(message).unwrap()).unwrap();
    }

    /// The next frame, which must come.
    pub(crate) fn hear(&self) -> ToSupervisor {
        wait_for(self.control.as_fd(), PollFlags::POLLIN);
        self.hear_now().expect("the worker has closed its control channel")
    }

    /// The next frame if it has come; `None` too when the worker has closed its end.
    pub(crate) fn hear_now(&self) -> Option<ToSupervisor> {
        let mut buffer = [0; FRAME_MAX + 1];
        match recv_frame(self.control.as_fd(), &mut buffer, Wait::Not) {
            Ok(0) => None,
            Ok(len) => Some(wire::decode(&buffer[..len]).unwrap()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot hear the worker: {error}"),
        }
    }

    pub(crate) fn hear_completion(&self) -> (u64, Outcome) {
        loop {
            if let Some(completion) = self.completion_now() {
                return completion;
            }
            wait_for(self.doorbell.as_fd(), PollFlags::POLLIN);
            self.doorbell.read().unwrap();
        }
    }

    /// The next completion if there is one.
    pub(crate) fn completion_now(&self) -> Option<(u64, Outcome)> {
        let ring = &mut self.memory.borrow_mut().completions;
        ring.look().unwrap();
        let record = ring.take()?;
        ring.release();
        let Completion { conn, outcome, claimed_at_ns, done_at_ns } = Completion::from_words(record).unwrap();
        assert!(claimed_at_ns <= done_at_ns && done_at_ns <= monotonic_ns());
        Some((conn.0, outcome))
    }

    /// As a drain begins: no connection will follow.
    pub(crate) fn drain(&self) {
        self.tell(&ToWorker::Drain);
        shutdown(self.mailbox.as_raw_fd(), Shutdown::Write).unwrap();
    }

    /// Takes back what the worker has not claimed.
    pub(crate) fn recall(&self) -> Vec<u64> {
        let mut recalled = Vec::new();
        loop {
            match claim(self.kept.as_fd(), Wait::Not, Take::Message).unwrap() {
                Claim::Connection(_, ticket) => recalled.push(ticket.conn.0),
                Claim::Truncated(ticket) => panic!("{ticket:?} came without its connection"),
                Claim::Empty | Claim::End => return recalled,
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.pid()), signal).unwrap();
    }

    /// Everything that a supervisor holds is closed when it dies, the log pipes included.
    pub(crate) fn die(self) -> Process {
        let Fake { mut process, .. } = self;
        process.stderr = None;
        process.child.stdout = None;
        process
    }
}

impl Process {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Waits for the death, which the end of the lifeline proves.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        wait_for(self.lifeline.as_fd(), PollFlags::POLLIN);
        assert_eq!(self.lifeline.read(&mut [0; 1]).unwrap(), 0);
        self.child.wait().unwrap()
    }

    pub(crate) fn last_words(&mut self) -> String {
        let mut words = String::new();
        self.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        words
    }

    /// What a descriptor of the worker leads to.
    pub(crate) fn descriptor(&self, fd: RawFd) -> PathBuf {
        fs::read_link(format!("/proc/{}/fd/{fd}", self.pid())).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _may_be_dead = self.child.kill();
        let _may_be_reaped = self.child.wait();
    }
}

/// Waits until something that gives no notice has become true.
pub(crate) fn until(fact: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not true in time: {fact}");
        thread::yield_now();
    }
}

pub(crate) fn wait_for(fd: BorrowedFd<'_>, readiness: PollFlags) {
    let timeout = PollTimeout::try_from(DEADLINE).unwrap();
    let ready = poll(&mut [PollFd::new(fd, readiness)], timeout).unwrap();
    assert_eq!(ready, 1, "nothing happened in time");
}

/// Says `word` and expects `answer`.
pub(crate) fn exchange(mut client: &UnixStream, word: &str, answer: &str) {
    client.write_all(word.as_bytes()).unwrap();
    expect(client, answer);
}

pub(crate) fn expect(mut client: &UnixStream, answer: &str) {
    let mut heard = vec![0; answer.len()];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), answer);
}

pub(crate) fn expect_end(mut client: &UnixStream) {
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the connection is still open");
}

/// Where cargo has put an example: `target/PROFILE/examples`, while tests are in `target/PROFILE/deps`.
pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

/// Lays out the descriptors of a worker and its limit.
fn inherit(command: &mut Command, given: Vec<(OwnedFd, RawFd)>, nofile: Option<u64>) {
    let hard = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
    let lay_out = move || {
        for (fd, number) in &given {
            // SAFETY: dup2 takes two numbers and touches no memory; nothing owns the low ones between fork and exec.
            #[allow(unsafe_code)]
            let copied = unsafe { libc::dup2(fd.as_raw_fd(), *number) };
            if copied == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        nofile.map_or(Ok(()), |nofile| Ok(setrlimit(Resource::RLIMIT_NOFILE, nofile, hard)?))
    };
    // SAFETY: the closure makes system calls only, which are async-signal-safe, and allocates nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(lay_out);
    }
}
