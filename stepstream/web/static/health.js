// What the consumer is like: in the header, in the title and in the icon.

import { $, made, say } from "./elements.js";

const STALE_MS = 4000;
const IDLE_S = 30;
const ASK_MS = 15000;
const COLOURS = { good: "#15803d", idle: "#64748b", warn: "#a85b00", bad: "#c2232d", none: "#64748b" };
const MARKS = { good: "✓", idle: "✓", warn: "!", bad: "✗", none: "?" };
const TRACE = "M4 19h5l3-9 4 14 4-17 3 12h5";

const icon = (level) => `data:image/svg+xml,${encodeURIComponent(
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="${COLOURS[level]}"/><path d="${TRACE}" fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round"/></svg>`)}`;

// Rounded down, since each change is read aloud.
const roughly = (s) => (s < 60 ? `${s - (s % 10)} s` : s < 7200 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`);

export class Health {
  constructor() {
    this.group = "";
    this.heardMs = performance.now();
    this.refusal = null;
    this.isLost = false;
    setInterval(() => this.watch(), 1000);
    setInterval(() => this.askHidden(), ASK_MS);
  }

  // What the consumer says of itself; a consumer that gets nothing is not unwell, nor simply green.
  show(state, samples) {
    this.group = state.group ?? this.group;
    const newest = samples.at(-1)?.time;
    const came = samples.findLast((sample) => sample.readings > 0)?.time ?? samples[0]?.time;
    const idleS = newest - came;
    if (state.obstacles.length) this.set("bad", `not ready: ${state.obstacles.join(", ")}`, "not ready");
    else if (idleS >= IDLE_S) this.set("idle", `ready, but no reading has come for ${roughly(Math.round(idleS))}`, "no readings");
    else this.set("good", "ready", "ready");
  }

  set(level, words, short) {
    if ($("health").dataset.level !== level) $("icon").href = icon(level);
    $("health").dataset.level = level;
    say($("health"), words);
    document.title = `${MARKS[level]} ${short}${this.group ? ` · ${this.group}` : ""} · stepstream`;
  }

  heard() {
    this.heardMs = performance.now();
    this.refusal = null;
    if (!this.isLost) return;
    this.isLost = false;
    document.body.classList.remove("is-lost");
    $("lost").hidden = true;
  }

  refused(status, reason) {
    this.refusal = { reason, hasForm: status === 401 };
    this.lose();
  }

  // A stream is begun: it has some time.
  begin() {
    this.heardMs = performance.now();
  }

  watch() {
    if (!document.hidden && (this.isLost || performance.now() - this.heardMs >= STALE_MS)) this.lose();
  }

  lose() {
    const silentS = Math.round((performance.now() - this.heardMs) / 1000);
    const words = this.refusal?.reason ?? `Connection lost: nothing came for ${silentS < 10 ? "some seconds" : roughly(silentS)}. Trying again …`;
    this.isLost = true;
    this.set("none", "unknown: nothing comes from it", "no data");
    document.body.classList.add("is-lost");
    const banner = $("lost");
    banner.hidden = false;
    if (banner.dataset.words === words) return;
    banner.dataset.words = words;
    banner.replaceChildren(words, ...(this.refusal?.hasForm ? [" ", made("a", { href: "/performance" }, "Log in again")] : []));
  }

  // While the page is hidden there is no stream, and the title still says how the consumer is.
  async askHidden() {
    if (!document.hidden) return;
    try {
      const answer = await fetch("/readyz");
      const words = (await answer.text()).trim();
      if (document.hidden) this.set(answer.ok ? "good" : "bad", words, answer.ok ? "ready" : "not ready");
    } catch {
      if (document.hidden) this.set("none", "unknown: nothing comes from it", "no data");
    }
  }
}
