// Draws what /live.json says, once per second. Texts come from programs: they are set as text, never as HTML.
"use strict";

// A request stands out that takes so many times what nearly all of its pool's take, and not before a second.
const LONG_TIMES = 10, LONG_S = 1;
const ASK_EVERY_MS = 1000, PATIENCE_MS = 5000, WORKERS_SHOWN_MAX = 256;
const GRADES = { ready: "good", ok: "good", running: "good", reloading: "warn", degraded: "warn", starting: "warn", paused: "warn",
  draining: "warn", leaving: "warn", stopping: "warn" };

// As Linux counts them on the machines that ostler runs on.
const SIGNALS = { 1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
  11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS" };

function make(tag, attributes, ...children) {
  const element = tag === "svg" || tag === "path" ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const grade = (state) => GRADES[state] ?? "bad";
const number = (value) => value === null || value === undefined ? "–" : value.toLocaleString("en");
const signalled = (end) => end.signal ? SIGNALS[end.signal] ?? `signal ${end.signal}` : `exit code ${end.code}`;
const several = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

function length(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]])
    if (seconds >= size) return `${Math.floor(seconds / size)}${unit}`;
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)}s`;
}

function ms(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(1)}\u00a0s` : `${value < 10 ? value.toFixed(1) : Math.round(value)}\u00a0ms`;
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  return value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(1)} GiB` : `${(value / 2 ** 20).toFixed(1)} MiB`;
}

// A line is broken where nothing was measured.
function path(values, top, kind) {
  let drawn = "", isDown = false;
  values.forEach((value, at) => {
    if (value === null) { isDown = false; return; }
    const x = (at / Math.max(values.length - 1, 1)) * 300, y = 98 - (value / top) * 94;
    drawn += `${isDown ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    if (!isDown) drawn += "h0.1";
    isDown = true;
  });
  return make("path", { class: kind, d: drawn });
}

function chart(title, samples, which, seconds) {
  const [median, tail] = ["p50", "p99"].map((quantile) => samples.map((sample) => sample[`${which}_${quantile}_ms`]));
  const known = tail.filter((value) => value !== null), top = Math.max(...known, 0.1);
  if (!known.length)
    return make("figure", {}, make("h3", {}, title), make("p", { class: "faint" }, `nothing in the last ${length(samples.length * seconds)}`));
  const now = `${ms(median.at(-1))}, p99 ${ms(tail.at(-1))}`;
  const label = `${title}, last ${length(samples.length * seconds)}: now ${now}, at most ${ms(top)}`;
  const drawing = make("svg", { viewBox: "0 0 300 100", preserveAspectRatio: "none", role: "img", "aria-label": label },
    path(median, top, "median"), path(tail, top, "tail"));
  return make("figure", {}, make("h3", {}, title), drawing,
    make("figcaption", { class: "faint" }, `last ${length(samples.length * seconds)}, top ${ms(top)} · `,
      make("span", { class: "median" }, `p50 ${ms(median.at(-1))}`), " ", make("span", { class: "tail" }, `p99 ${ms(tail.at(-1))}`)));
}

function figures(pool) {
  const shed = Object.values(pool.shed).reduce((sum, count) => sum + count, 0);
  const pairs = [["accepted", pool.accepted], ["done", pool.done], ["lost", pool.lost], ["shed", shed], ["waiting", pool.waiting],
    ["claimed", pool.claimed], ["in line", pool.queue.length, pool.queue.limit]];
  return make("dl", { class: "figures" }, ...pairs.map(([name, value, limit]) => {
    const isBad = (name === "lost" && value > 0) || (limit && value >= limit);
    const text = limit ? `${number(value)} / ${number(limit)}` : number(value);
    return make("div", {}, make("dt", {}, name), make("dd", isBad ? { class: "bad" } : {}, text));
  }));
}

function workers(pool) {
  const heads = ["worker", "state", "held", "conn", "request", "done", "age", "memory", "restarts", "pid", "last exit, words"];
  const rows = pool.workers.slice(0, WORKERS_SHOWN_MAX).map((worker) => {
    const last = [worker.last_exit && signalled(worker.last_exit), worker.says].filter(Boolean).join(" · ");
    const held = worker.claimed === null ? "–" : `${worker.claimed + (worker.waiting ?? 0)} / ${worker.capacity}`;
    const cells = [`${worker.slot}.${worker.generation}`, worker.state, held, length(worker.connection_s), length(worker.request_s), number(worker.done),
      length(worker.age_s), bytes(worker.rss_bytes), number(worker.restarts), worker.pid ?? "–", last];
    const usual_s = (pool.service_ms.p99 ?? Infinity) / 1000, isLong = worker.request_s > Math.max(LONG_TIMES * usual_s, LONG_S);
    const classes = { 1: grade(worker.state), 4: isLong ? "bad" : "" };
    return make("tr", {}, ...cells.map((cell, at) => make("td", classes[at] ? { class: classes[at] } : {}, String(cell))));
  });
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows));
  const rest = pool.workers.length - rows.length;
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Workers of ${pool.name}` }, table,
    rest > 0 ? make("p", { class: "faint" }, `and ${number(rest)} more`) : "");
}

function pool(about, live) {
  const samples = live.history[about.name] ?? [], seconds = live.sampled_every_s;
  const head = make("header", {}, make("h2", {}, about.name), make("span", { class: `state ${grade(about.state)}` }, about.state),
    make("span", { class: "faint" }, `generation ${about.generation} · ${about.handoff} · ${about.listeners.join(" ")}`));
  const charts = samples.length ? make("div", { class: "charts" }, chart("Waiting time", samples, "waited", seconds),
    chart("Service time", samples, "served", seconds)) : "";
  return make("article", { class: "pool" }, head, figures(about), charts, workers(about));
}

// What is wrong, each thing once: a reload is undone for several pools at a time.
function troubles(live) {
  const found = [], undone = new Map();
  if (live.presence !== "running") found.push(`the supervisor is ${live.presence}`);
  live.status.pools.forEach((about, at) => {
    const { stuck } = about, { first_waits_s } = live.pools[at], missing = about.workers.filter((worker) => worker.state === "backoff");
    const last = missing.find((worker) => worker.last_exit)?.last_exit, why = last ? ` (${signalled(last)})` : "";
    if (about.state === "failed") found.push(`${about.name}: given up: ${several(missing.length, "worker")} missing${why}`);
    else if (about.state === "paused") found.push(`${about.name}: paused, ${number(about.waiting)} wait`);
    else if (missing.length) found.push(`${about.name}: ${several(missing.length, "worker")} of ${about.target} in backoff${why}`);
    if (stuck) found.push(`${about.name}: ${several(stuck, "worker")} stuck, and handed nothing for the time being`);
    if (about.queue.length) found.push(`${about.name}: ${number(about.queue.length)} in the line, the first for ${length(first_waits_s)}`);
    const { last: outcome, reason } = about.reload;
    if (outcome === "undone") undone.set(reason, [...(undone.get(reason) ?? []), about.name]);
  });
  for (const [reason, names] of undone) found.push(`${names.join(", ")}: the last reload was undone: ${reason}`);
  return found;
}

function events(id, items, none, show) {
  const shown = items.map((item) => make("li", {}, ...show(item)));
  document.getElementById(id).replaceChildren(...(shown.length ? shown : [make("li", { class: "faint" }, none)]));
}

function draw(live) {
  const status = live.status, state = live.presence === "running" ? status.state : live.presence, wrong = troubles(live);
  document.title = `${wrong.length ? `(${wrong.length}) ` : ""}${state} · ostler`;
  const age = status.age_s > 2 ? ` · nothing new for ${length(status.age_s)}` : "";
  say(state, grade(state), `${status.version} · pid ${status.pid} · up ${length(status.uptime_s)}${age}`);
  document.getElementById("troubles").replaceChildren(...wrong.map((trouble) => make("li", { class: "bad" }, trouble)));
  // Who has scrolled a table or stands on it stays there.
  const places = [...document.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box === document.activeElement]);
  document.getElementById("pools").replaceChildren(...status.pools.map((about) => pool(about, live)));
  document.querySelectorAll(".scroll").forEach((box, at) => {
    const [left, isActive] = places[at] ?? [0, false];
    box.scrollLeft = left;
    if (isActive) box.focus({ preventScroll: true });
  });
  events("reloads", live.reloads, "none since the start", (reload) => [
    make("span", { class: `state ${grade(reload.outcome)}` }, reload.outcome), ` ${length(reload.ago_s)} ago: ${reload.verdict}`]);
  events("deaths", live.deaths, "none since the start", (death) => [
    make("strong", {}, death.worker), ` ${new Date(death.at_unix_ms).toLocaleTimeString()}: ${signalled(death)} after ` +
    `${length(death.age_s)}${death.cause ? `, ${death.cause}` : ""}${death.lost ? `, ${death.lost} lost with it` : ""} `,
    death.last_word ? make("code", {}, death.last_word) : ""]);
}

// The state is read out when it changes; what changes each second is not.
function say(state, kind, about) {
  const shown = document.getElementById("state");
  if (shown.textContent !== state) shown.textContent = state;
  shown.className = kind;
  document.getElementById("about").textContent = about;
}

// Whoever is about to copy something keeps what he has marked.
const isMarked = () => !document.getSelection().isCollapsed;

async function ask() {
  try {
    const answer = await fetch("/live.json", { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const live = await answer.json();
    if (!isMarked()) draw(live);
  } catch (error) {
    say("no answer", "bad", error.message);
  }
  // Nobody looks at a hidden page.
  if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
  setTimeout(ask, ASK_EVERY_MS);
}

ask();
