// Tables that are asked for now and then, while the page is seen.

import { $, cell, fill, made, number, pill, say } from "./elements.js";
import { clock, duration, plural, rate, text, whole } from "./formats.js";

const DOUBTS = {
  "accel-in-g": "acceleration in g?",
  "accel-too-large": "acceleration too large",
  "no-gravity": "gravity taken out?",
  "gyro-in-degrees": "rotation in degrees?",
};
const ORDERS = { busiest: "Busiest", quiet: "Quiet", delayed: "Delayed", units: "Wrong units" };
const NOTES = {
  busiest: () => "By readings a second, over ten seconds.",
  quiet: (t) => `Nothing came for over ${t.quiet_s} s. A device that fell silent is remembered here for a while.`,
  delayed: (t) => `The newest reading of the last message was over ${t.delayed_s} s old when it came.`,
  units: () => "Several looks at the signal say so, which takes a few seconds, with thousands of devices minutes.",
};

// Asks again when `key` changes, but not sooner than `leastMs` after the last time, and after `mostMs`.
class Panel {
  constructor(name, leastMs, mostMs) {
    this.name = name;
    this.leastMs = leastMs;
    this.mostMs = mostMs;
    this.reset();
  }

  reset() {
    this.askedMs = -Infinity;
    this.key = undefined;
  }

  query() {
    return "";
  }

  async turn(key) {
    const passedMs = performance.now() - this.askedMs;
    if (this.isAsking || passedMs < (key === this.key ? this.mostMs : this.leastMs)) return;
    this.isAsking = true;
    this.askedMs = performance.now();
    const query = this.query();
    try {
      const answer = await fetch(`/performance/${this.name}${query}`);
      const found = await answer.json();
      if (query !== this.query()) this.reset();
      else if (answer.ok) {
        this.key = key;
        this.show(found);
      } else this.fail(`${found.detail}.`);
    } catch {
      // The page says that the connection is lost.
    } finally {
      this.isAsking = false;
    }
  }

  fail(why) {
    say($(`${this.name}-note`), why);
  }
}

export class Devices extends Panel {
  constructor(watch) {
    super("devices", 0, 5000);
    this.watch = watch;
    this.order = "busiest";
    this.buttons = Object.entries(ORDERS).map(([order, words]) => {
      const button = made("button", { type: "button", "aria-pressed": order === this.order }, words);
      button.addEventListener("click", () => this.choose(order));
      return [order, button];
    });
    $("orders").append(...this.buttons.map(([, button]) => button));
    $("filter").addEventListener("input", () => this.reset());
  }

  query() {
    return `?${new URLSearchParams({ order: this.order, prefix: $("filter").value })}`;
  }

  choose(order) {
    this.order = order;
    for (const [name, button] of this.buttons) button.setAttribute("aria-pressed", name === order);
    this.reset();
    this.turn();
  }

  show(table) {
    const { counts } = table;
    for (const [order, button] of this.buttons) {
      button.textContent = ORDERS[order] + (order === "busiest" ? "" : ` ${whole(counts[order])}`);
    }
    const shown = this.order === "quiet" ? table.devices.filter((d) => d.quiet_s > table.quiet_s)
      : this.order === "delayed" ? table.devices.filter((d) => d.delay_s > table.delayed_s) : table.devices;
    const more = (this.order === "busiest" ? counts.all : counts[this.order]) - shown.length;
    fill($("devices-rows"), shown.map((d) => this.row(d)), "none");
    say($("devices-note"), `${NOTES[this.order](table)} ${more > 0 ? `The first ${shown.length} are shown, ${whole(more)} more are not.` : ""}`.trim());
  }

  row(device) {
    const choose = made("button", { type: "button", class: "link" }, device.device_id);
    choose.addEventListener("click", () => this.watch(device.device_id, device.topic));
    const where = `${device.topic}-${device.partition}${device.worker === undefined ? "" : `, worker ${device.worker}`}`;
    return made("tr", {}, made("th", { scope: "row" }, choose), cell(where), number(text(rate, device.rate)),
      number(text(duration, device.quiet_s)), number(text(duration, device.delay_s)), number(whole(device.steps)),
      cell(DOUBTS[device.doubt] ?? ""));
  }
}

export class Group extends Panel {
  constructor() {
    super("group", 2000, 15000);
  }

  // Which members are these consumers themselves, and what their worker is.
  own(consumers) {
    this.consumers = new Map(consumers.map((one) => [one.member_id, one]));
  }

  show({ state, members, count }) {
    const hosts = new Set(members.filter((m) => this.consumers.has(m.member_id)).map((m) => m.host));
    fill($("group-rows"), members.map((m) => {
      const own = this.consumers.get(m.member_id);
      const whose = !own ? "" : own.worker === undefined ? " (this one)" : ` (worker ${own.worker})`;
      // On the same host, a peer has another port, which nobody tells.
      const isLinked = !own && m.host && !hosts.has(m.host);
      const url = `${location.protocol}//${m.host.includes(":") ? `[${m.host}]` : m.host}:${location.port || (location.protocol === "https:" ? 443 : 80)}/performance`;
      const host = isLinked ? made("a", { href: url, rel: "noreferrer" }, m.host) : m.host;
      return made("tr", own ? { class: "own" } : {}, made("th", { scope: "row" }, m.name + whose), cell(host), number(whole(m.count)), cell(m.partitions || "none"));
    }), "no member");
    say($("group-note"), `${plural(count, "member")}, ${state.replaceAll("_", " ")}.${count > members.length ? ` The first ${members.length} are shown.` : ""}`);
  }
}

export class Letters extends Panel {
  constructor() {
    super("dead-letters", 2000, 60000);
  }

  show({ letters, topic }) {
    fill($("samples-rows"), letters.map((l) =>
      made("tr", {},
        made("th", { scope: "row" }, l.code), cell(clock(l.time, { second: "2-digit" })), cell(`${l.topic}-${l.partition}`),
        number(String(l.offset)), cell(l.key ?? "no key", { class: "wrap" }), cell(l.detail, { class: "wrap" }),
        cell(l.value === null ? "no value" : made("code", {}, l.value + (l.bytes > 200 ? ` … ${whole(l.bytes)} bytes` : "")), { class: "wrap" }))), "none since this consumer started");
    $("replay").hidden = !letters.length;
    if (!letters.length) return;
    const codes = [...new Set(letters.map((l) => l.code))].sort();
    const since = new Date(1000 * Math.floor(Math.min(...letters.map((l) => l.seen)))).toISOString().replace(".000Z", "Z");
    say($("replay-command"), `stepstream replay-dead-letters --dry-run --code ${codes.join()} --since ${since}`);
    say($("dead-letters-note"), `The last three of each reason. All of them are in the topic ${topic}.`);
  }
}

const LANES = { rebalance: "rebalances", hold: "holds", state: "readiness", warning: "warnings", error: "errors" };
const LEVELS = { rebalance: "none", hold: "bad", state: "none", warning: "warn", error: "bad" };
const SHOWN_S = 3600;

export class Timeline extends Panel {
  constructor(figures) {
    super("timeline", 2000, 60000);
    this.figures = figures;
  }

  show({ now, entries }) {
    this.figures.marks = entries.filter((e) => e.kind !== "state").flatMap((e) => [e.time, e.last]);
    fill($("timeline-rows"), entries.map((e) =>
      made("tr", {},
        cell(clock(e.last, { second: "2-digit" })), cell(pill(LEVELS[e.kind], e.kind)),
        cell(e.text + (e.count > 1 ? ` (${whole(e.count)} times since ${clock(e.time, { second: "2-digit" })})` : ""), { class: "wrap" }),
        cell(e.worker === undefined ? "" : `worker ${e.worker}`))), "nothing yet");
    this.draw(now, entries.filter((e) => e.last > now - SHOWN_S));
    say($("timeline-note"), "");
  }

  // A lane for each kind: when each entry was first and last.
  draw(now, entries) {
    const lanes = Object.keys(LANES);
    const place = $("timeline-lanes");
    place.replaceChildren(...lanes.map((kind) => {
      const own = entries.filter((e) => e.kind === kind);
      const lane = made("div", { class: "lane" });
      for (const e of own) {
        const dot = made("span", { "data-level": LEVELS[kind], title: `${clock(e.last, { second: "2-digit" })} ${e.text}` });
        const from = Math.max(0, 1 - (now - e.time) / SHOWN_S);
        dot.style.left = `${100 * from}%`;
        dot.style.width = `calc(${100 * (1 - (now - e.last) / SHOWN_S - from)}% + 7px)`;
        lane.append(dot);
      }
      return made("div", { class: "row" }, made("span", { class: "name" }, LANES[kind]), lane, made("span", { class: "sum" }, String(own.length)));
    }));
    const ticks = made("div", { class: "lane ticks" });
    for (let at = Math.ceil((now - SHOWN_S) / 900) * 900; at <= now; at += 900) {
      const tick = made("span", {}, clock(at));
      tick.style.left = `${100 * (1 - (now - at) / SHOWN_S)}%`;
      ticks.append(tick);
    }
    place.append(made("div", { class: "row", "aria-hidden": "true" }, made("span", { class: "name" }), ticks, made("span", { class: "sum" })));
  }
}
