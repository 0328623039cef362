// Steps a minute and walks of one device in its last hour: read once, then as they are published.

import { pathOf } from "./api.js";
import { $, made, madeSvg, number, say } from "./elements.js";
import { clock, plural, whole } from "./formats.js";

const SHOWN_MIN = 60;
const MINUTE_S = 60;
const READ_AGAIN_MS = 60000;
const DRAW_MS = 5000;
const HEIGHT = 132;
const LEFT = 30;
const BASE = 112;
const TOP_STEPS = 130;

const startOf = (minute) => Date.parse(minute.minute) / 1000;
const lasted = (seconds) => (seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`);
// The steps of a minute that a device lived twice, because its clock was set back, are added.
const added = (one, other) => {
  if (!one) return other;
  const steps = one.steps + other.steps;
  return { ...other, steps, cadence: steps / (one.steps / one.cadence + other.steps / other.cadence) };
};
const setting = (name) => `${name} are not published. Set STEPSTREAM_TOPICS__${name.toUpperCase()} to the name of a topic, and create it with stepstream topics.`;

export class Activity {
  constructor() {
    this.device = null;
    this.topic = "";
    this.aheadS = 0;
    this.clear();
    setInterval(() => this.draw(), DRAW_MS);
    addEventListener("resize", () => this.draw());
  }

  clear() {
    this.minutes = new Map();
    this.walks = new Map();
    this.open = { minute: null, walk: null };
    this.isPublished = { minutes: true, walks: true };
    this.isWhole = true;
    this.trouble = "";
    this.arrived = null;
    this.isRead = false;
    this.readMs = null;
    clearTimeout(this.again);
  }

  watch(device, topic) {
    this.clear();
    this.device = device;
    this.topic = topic;
    $("activity").hidden = false;
    this.draw();
  }

  // What was published before, and what is open; a stream says when it begins, perhaps of another consumer.
  async read() {
    const sinceMs = this.readMs === null ? Infinity : performance.now() - this.readMs;
    if (sinceMs < READ_AGAIN_MS) {
      this.readLater(READ_AGAIN_MS - sinceMs);
      return;
    }
    this.readMs = performance.now();
    const arrived = [];
    this.arrived = arrived;
    const paths = ["activity", "devices"].map((kind) => pathOf(kind, this.device, this.topic));
    let answers;
    try {
      const asked = await Promise.all(paths.map((path) => fetch(path)));
      answers = await Promise.all(asked.map(async (answer) => [answer, await answer.json()]));
    } catch {
      // The page says that the connection is lost.
      if (arrived === this.arrived) this.readLater(READ_AGAIN_MS);
      return;
    }
    // Another device, or that of another topic, is watched now.
    if (arrived !== this.arrived) return;
    this.arrived = null;
    const [[activity, found], [known, open]] = answers;
    if (known.ok) this.takeOpen(open);
    this.trouble = activity.ok ? "" : found.detail;
    if (activity.ok) {
      this.isRead = true;
      this.aheadS = found.now - Date.now() / 1000;
      this.isWhole = found.is_whole;
      this.isPublished = { minutes: found.minutes !== null, walks: found.walks !== null };
      // What has come since is later.
      for (const { minutes, walks } of [found, ...arrived]) this.keep(minutes ?? [], walks ?? []);
    } else {
      this.readMs = null;
      this.readLater(1000 * Number(activity.headers.get("retry-after") ?? READ_AGAIN_MS / 1000));
    }
    this.draw();
  }

  readLater(afterMs) {
    clearTimeout(this.again);
    this.again = setTimeout(() => this.read(), afterMs);
  }

  take(data) {
    if (data.open_minute !== undefined) this.takeOpen(data);
    if (!data.minutes.length && !data.walks.length) return;
    this.arrived?.push(data);
    this.keep(data.minutes, data.walks);
    this.draw();
  }

  // Of records with one name, the latest counts.
  keep(minutes, walks) {
    for (const minute of minutes) this.minutes.set(minute.minute_id, minute);
    for (const walk of walks) this.walks.set(walk.walk_id, walk);
  }

  takeOpen({ open_minute: minute, open_walk: walk }) {
    const before = this.open;
    this.open = { minute, walk };
    if (before.minute?.steps !== minute?.steps || before.walk?.steps !== walk?.steps) this.draw();
  }

  draw() {
    if (this.device === null) return;
    const now = Date.now() / 1000 + this.aheadS;
    const last = Math.floor(now / MINUTE_S) * MINUTE_S;
    const first = last - (SHOWN_MIN - 1) * MINUTE_S;
    this.forget(first);
    const named = new Map(this.minutes);
    const { minute } = this.open;
    const openAt = minute ? startOf(minute) : null;
    if (minute) named.set(minute.minute_id, minute);
    const shown = new Map();
    for (const one of named.values()) shown.set(startOf(one), added(shown.get(startOf(one)), one));
    const bars = [...shown].filter(([at]) => at >= first && at <= last).sort(([a], [b]) => a - b);
    this.drawMinutes(bars, first, last, openAt);
    this.drawWalks(now - SHOWN_MIN * MINUTE_S);
  }

  // What has left the picture.
  forget(first) {
    for (const [name, minute] of this.minutes) if (startOf(minute) < first) this.minutes.delete(name);
    for (const [name, walk] of this.walks) if (walk.ended_at < first) this.walks.delete(name);
  }

  drawMinutes(bars, first, last, openAt) {
    const chart = $("minutes");
    const width = chart.clientWidth || 600;
    const top = Math.max(TOP_STEPS, ...bars.map(([, { steps }]) => steps));
    const slot = (width - LEFT) / SHOWN_MIN;
    const x = (at) => LEFT + ((at - first) / MINUTE_S) * slot;
    const y = (steps) => BASE - ((BASE - 6) * steps) / top;
    const lines = [0, 60, 120].flatMap((steps) => [
      madeSvg("line", { x1: LEFT, x2: width, y1: y(steps), y2: y(steps) }),
      madeSvg("text", { x: LEFT - 6, y: y(steps) + 4, "text-anchor": "end" }, String(steps)),
    ]);
    const times = [];
    for (let at = Math.ceil(first / 900) * 900; at <= last; at += 900) {
      const place = Math.min(Math.max(x(at), LEFT + 14), width - 15);
      times.push(madeSvg("line", { x1: x(at), x2: x(at), y1: BASE, y2: BASE + 4 }), madeSvg("text", { x: place, y: BASE + 16, "text-anchor": "middle" }, clock(at)));
    }
    const drawn = bars.map(([at, { steps, cadence }]) =>
      madeSvg("rect",
        { class: at === openAt ? "open" : "", x: x(at) + slot * 0.1, y: y(steps), width: slot * 0.8, height: BASE - y(steps), rx: Math.min(2, slot / 5) },
        madeSvg("title", {}, `${clock(at)}: ${plural(steps, "step")}, ${whole(cadence)} a minute of walking${at === openAt ? ", so far" : ""}`)));
    chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    chart.replaceChildren(...lines, ...times, ...drawn);
    const total = bars.reduce((sum, [, { steps }]) => sum + steps, 0);
    const words = bars.length ? `${plural(total, "step")} in ${plural(bars.length, "minute")} of the last hour.` : "No step in the last hour.";
    chart.toggleAttribute("hidden", !this.isPublished.minutes);
    this.say("minutes", words);
    chart.setAttribute("aria-label", `Steps a minute of ${this.device}: ${words}`);
  }

  drawWalks(since) {
    const { walk } = this.open;
    const shown = new Map(this.walks);
    if (walk) shown.set(walk.walk_id, walk);
    const walks = [...shown.values()].filter((one) => one.ended_at >= since).sort((a, b) => b.started_at - a.started_at);
    $("walks").replaceChildren(...walks.map((one) =>
      made("tr", one === walk ? { class: "open" } : {},
        made("td", {}, clock(one.started_at, { second: "2-digit" })),
        number(lasted(one.ended_at - one.started_at)),
        number(whole(one.steps)),
        number(whole(one.cadence)),
        made("td", {}, one === walk ? "so far" : ""))));
    $("walks-table").hidden = !walks.length;
    this.say("walks", walks.length ? `${plural(walks.length, "walk")} in the last hour.` : "No walk in the last hour.");
  }

  say(name, words) {
    let text = words;
    if (!this.isPublished[name]) text = setting(name[0].toUpperCase() + name.slice(1));
    else if (this.trouble) text = `${words} Earlier ones can't be read: ${this.trouble}.`;
    else if (!this.isRead) text = "Reading the last hour …";
    else if (!this.isWhole) text = `${words} Earlier ones are left out: too many devices share the partition.`;
    say($(`${name}-note`), text);
  }
}
