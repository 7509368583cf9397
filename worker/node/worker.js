'use strict';
// A worker of ostler in Node, written from docs/protocol.md. `serve((socket, ticket) => …)` calls the function for every connection;
// its end is reported when the socket has closed.

const fs = require('fs');
const net = require('net');
const door = require('./door.node');

const MAILBOX = 3;
const TICKET_BYTES = 40;
const LAYOUT = 0x6f73746c65720001n;
// Words of the two memories.
const [LAYOUT_AT, CAPACITY, WAITING] = [0, 1, 17];
const [HEARTBEAT, BEATS, PUBLISHED, RECORDS] = [0, 3, 16, 32];
const BEATS_ALWAYS = 2n;
const OUTCOME = { done: 0n, panicked: 1n, truncated: 2n };
const FRAME = { hello: 0, ready: 1, draining: 2, pong: 3 };
const HEARD = { welcome: 0, drain: 1, ping: 2 };
const RESERVE = 2;
const STARVED_MAX_MS = 1000;
const STARVED_RETRY_MS = 20;
const EXIT_UNFINISHED = 75;
const IGNORED = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGTTIN', 'SIGTTOU', 'SIGWINCH', 'SIGPWR'];

const now = () => process.hrtime.bigint(); // CLOCK_MONOTONIC

function descriptor(name) {
  const pairs = (process.env.OSTLER_FDS ?? '').split(',').map((pair) => pair.split(':'));
  const found = pairs.find(([key]) => key === name);
  if (process.env.OSTLER_PROTOCOL !== '1' || !found) {
    const command = ['node', ...process.argv.slice(1)].join(' ');
    console.error(`not started by ostler: try \`ostler run --listen unix:app.sock --concurrency 64 -- ${command}\``);
    process.exit(1);
  }
  return Number(found[1]);
}

// A frame's numbers: seven bits per byte, the lowest first.
function varints(bytes) {
  const numbers = [];
  let [number, shift] = [0n, 0n];
  for (const byte of bytes) {
    number |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte < 0x80) [number, shift] = (numbers.push(number), [0n, 0n]);
  }
  return numbers;
}

function readTicket(bytes) {
  if (bytes.length !== TICKET_BYTES || bytes.readUInt16LE(0) !== 1) throw new Error('a message that is no connection');
  const hasPeer = (bytes[3] & 1) === 1;
  return {
    id: bytes.readBigUInt64LE(8),
    listener: bytes.readUInt32LE(4),
    acceptedAt: bytes.readBigUInt64LE(16),
    peer: hasPeer ? { uid: bytes.readUInt32LE(24), gid: bytes.readUInt32LE(28), pid: bytes.readUInt32LE(32) } : null,
  };
}

class Worker {
  constructor(handler, options) {
    this.handler = handler;
    this.options = options;
    this.stage = 'serving'; // leaving: claims nothing more; orphaned: the supervisor is gone
    this.mailboxEnded = false;
    this.held = 0;
    this.concurrency = 0;
    this.reserve = [];
    this.control = door.own(descriptor('control'));
    this.doorbell = door.own(descriptor('doorbell'));
    this.region = new BigUint64Array(door.map(descriptor('region'), true));
    this.gauges = new BigUint64Array(door.map(descriptor('gauges'), false));
    if (this.gauges[LAYOUT_AT] !== LAYOUT) throw new Error('a layout that this worker does not know');
    this.written = 0n;
    this.mailbox = door.watch(door.own(MAILBOX), () => this.claim());
    this.channel = door.watch(this.control, () => this.hear());
    for (const signal of IGNORED) process.on(signal, () => {});
    process.on('SIGTERM', () => this.leave());
    door.listen(this.channel, true);
    this.say(FRAME.hello, [1, 4, ...Buffer.from('node')]);
  }

  say(kind, rest = []) {
    door.send(this.control, Buffer.from([1, kind, ...rest]));
  }

  hear() {
    const frame = door.receive(this.control, false);
    if (frame === null) return;
    const [version, kind, ...rest] = frame.bytes;
    if (frame.bytes.length === 0) this.orphan();
    else if (version !== 1) return;
    else if (kind === HEARD.welcome) this.begin(varints(rest));
    else if (kind === HEARD.ping) this.say(FRAME.pong, rest); // the nonce goes back as it came
    // Drain: the mailbox says it too.
  }

  begin([protocol, concurrency, drainTimeoutMs, heartbeatMs]) {
    if (protocol !== 1n) throw new Error(`the supervisor speaks protocol ${protocol}`);
    this.concurrency = Number(concurrency);
    this.drainTimeoutMs = Number(drainTimeoutMs);
    this.fillReserve();
    this.beat();
    if (heartbeatMs > 0n) {
      setInterval(() => this.beat(), Math.max(Number(heartbeatMs) / 4, 1));
      Atomics.store(this.region, BEATS, BEATS_ALWAYS);
    }
    if (this.stage === 'serving') this.say(FRAME.ready);
    this.goOn();
  }

  beat() {
    Atomics.store(this.region, HEARTBEAT, now());
  }

  // Listens to the mailbox while there is room, and leaves when nothing is left to do.
  goOn() {
    const claims = !this.mailboxEnded && this.stage !== 'leaving';
    door.listen(this.mailbox, claims && this.held < this.concurrency && !this.retry);
    if (!claims && this.held === 0) process.exit(0);
  }

  claim() {
    const connection = this.look();
    if (connection) {
      this.held += 1;
      this.open(connection);
    }
    this.fillReserve();
    this.goOn();
  }

  // First a copy of the descriptor, then the message: at its limit a process would get one without the other.
  look() {
    let seen = door.receive(MAILBOX, true);
    this.mailboxEnded = seen !== null && seen.bytes.length === 0;
    if (seen === null || this.mailboxEnded) return null;
    this.emptyReserve();
    if (seen.fd < 0) seen = door.receive(MAILBOX, true);
    if (seen === null) return null;
    if (seen.fd < 0) return this.starve();
    this.starvingSince = undefined;
    const taken = door.receive(MAILBOX, false);
    const same = taken !== null && taken.bytes.length > 0 && taken.bytes.equals(seen.bytes);
    if (!same) fs.closeSync(seen.fd); // the supervisor took that one back
    else if (taken.fd >= 0) fs.closeSync(taken.fd); // of the same connection one descriptor is enough
    if (taken === null || taken.bytes.length === 0) return null;
    const [fd, ticket] = [same ? seen.fd : taken.fd, readTicket(taken.bytes)];
    if (fd < 0) this.report(ticket.id, now(), OUTCOME.truncated);
    return fd < 0 ? null : { fd, ticket, claimedAt: now() };
  }

  starve() {
    this.starvingSince ??= Date.now();
    if (Date.now() - this.starvingSince > STARVED_MAX_MS) this.leave();
    this.retry = setTimeout(() => {
      this.retry = undefined;
      if (this.stage !== 'leaving') this.claim();
    }, STARVED_RETRY_MS);
    return null;
  }

  open({ fd, ticket, claimedAt }) {
    const socket = new net.Socket({ fd, ...this.options });
    let outcome = OUTCOME.done;
    socket.on('error', () => {}); // it says that the client has gone
    socket.on('close', () => {
      this.held -= 1;
      this.report(ticket.id, claimedAt, outcome);
      this.fillReserve();
      this.goOn();
    });
    try {
      this.handler(socket, ticket);
    } catch (problem) {
      console.error(`cannot finish conn=c${ticket.id}:`, problem);
      outcome = OUTCOME.panicked;
      socket.destroy();
    }
    socket.resume();
  }

  report(id, claimedAt, outcome) {
    const at = RECORDS + 4 * Number(this.written & (this.gauges[CAPACITY] - 1n));
    this.region.set([id, claimedAt, now(), outcome], at);
    this.written += 1n;
    Atomics.store(this.region, PUBLISHED, this.written); // sequentially consistent, as is the load: a full fence between them
    if (Atomics.load(this.gauges, WAITING) === 0n) return;
    try {
      fs.writeSync(this.doorbell, new Uint8Array(BigUint64Array.of(1n).buffer));
    } catch (problem) {
      if (problem.code !== 'EAGAIN') throw problem; // it is full of rings: somebody hears them
    }
  }

  leave() {
    if (this.stage !== 'serving') return;
    this.stage = 'leaving';
    this.say(FRAME.draining);
    door.endReading(MAILBOX);
    this.goOn();
  }

  orphan() {
    door.listen(this.channel, false);
    // A descriptor that is opened gets the lowest number that is free. First of all: a print into a broken pipe fails.
    for (const fd of [1, 2]) fs.closeSync(fd), fs.openSync('/dev/null', 'w');
    this.stage = 'orphaned';
    setTimeout(() => process.reallyExit(EXIT_UNFINISHED), this.drainTimeoutMs);
    this.goOn();
  }

  fillReserve() {
    try {
      while (this.reserve.length < RESERVE) this.reserve.push(fs.openSync('/dev/null', 'r'));
    } catch {
      // Nothing is left; the next connection that ends leaves something.
    }
  }

  emptyReserve() {
    for (const fd of this.reserve.splice(0)) fs.closeSync(fd);
  }
}

// `options` go to net.Socket.
exports.serve = (handler, options = {}) => new Worker(handler, options);
