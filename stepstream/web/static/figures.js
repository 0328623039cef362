// Tiles: a figure, what it was in the last minutes, and what happened meanwhile.

import { made, madeSvg } from "./elements.js";
import { axisEnd, bytes, clock, count, duration, rate, share, text } from "./formats.js";

const SHOWN_S = 300;
const SHORTEST_S = 60;
const HEIGHT = 44;
const MINUTE_S = 60;

const late = (s) => (s.lag_s > 60 ? "bad" : s.lag_s > 10 ? "warn" : "");
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

// What they show: the value, a line below it, from where on it is a worry. Charts with the same
// `scale` have the same one; `least` is the shortest axis.
const FIGURES = [
  { name: "Readings", key: "readings", format: rate, more: (s, t) => `${text(count, t.readings)} so far` },
  { name: "Events", key: "events", format: rate, more: (s, t) => `${text(count, t.events)} so far` },
  { name: "Lag", key: "lag", format: count, unit: "messages", more: (s) => (s.lag ? "are waiting" : "nothing is waiting"), worry: late },
  { name: "Lag time", key: "lag_s", format: duration, more: (s, t) => `worst of ${t.partitions.length} partitions`, worry: late },
  { name: "End to end", key: "broker_p50", second: "broker_p95", scale: "delay", format: duration, more: (s) => `95 %: ${text(duration, s.broker_p95)}, from the sensor ${text(duration, s.reading_p50)}` },
  { name: "Inference", key: "inference", second: "inference_p95", scale: "delay", format: duration, more: (s) => `95 %: ${text(duration, s.inference_p95)}, for ${text(count, s.batch)} messages` },
  { name: "Commit", key: "commit", second: "commit_p95", scale: "delay", format: duration, more: (s) => `95 %: ${text(duration, s.commit_p95)}` },
  { name: "Commits", key: "commits", format: rate, more: (s, t) => `${text(count, s.outbox)} records wait, ${text(count, t.aborts)} of ${text(count, t.commits + t.aborts)} aborted`, worry: (s) => (s.aborts > 0 ? "warn" : "") },
  { name: "CPU", key: "cpu", least: 1, format: share, unit: "of a core", more: (s) => `loop ${text(share, s.busy)} busy` },
  { name: "Memory", key: "memory", format: bytes, more: (s, t) => (t.memory_limit ? `of ${text(bytes, t.memory_limit)}` : "no limit is set"), worry: (s, t) => (t.memory_limit && s.memory > 0.9 * t.memory_limit ? "bad" : "") },
  { name: "Devices", key: "devices", format: count, more: (s) => `${text(rate, s.late)} late readings` },
  { name: "Dead letters", key: "dead_letters", format: rate, more: (s, t) => `${text(count, sum(t.dead_letters))} so far`, worry: (s) => (s.dead_letters > 0 ? "warn" : "") },
];

class Tile {
  constructor(figure, figures) {
    this.figure = figure;
    this.figures = figures;
    this.value = made("p", { class: "value" }, "–");
    this.more = made("p", { class: "more" });
    this.top = made("span", { class: "top" });
    this.from = made("span");
    this.to = made("span");
    this.svg = madeSvg("svg", { preserveAspectRatio: "none", tabindex: "0", role: "img" });
    this.grid = madeSvg("path", { class: "grid" });
    this.marks = madeSvg("path", { class: "marks" });
    this.area = madeSvg("path", { class: "area" });
    this.second = madeSvg("path", { class: "trend second" });
    this.trend = madeSvg("path", { class: "trend" });
    this.cursor = madeSvg("path", { class: "cursor" });
    this.svg.append(this.grid, this.marks, this.area, this.second, this.trend, this.cursor);
    this.element = made("article", { class: "figure" }, made("h2", {}, figure.name), this.value, this.more,
      made("div", { class: "chart" }, this.top, this.svg), made("p", { class: "axis", "aria-hidden": "true" }, this.from, this.to));
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      figures.point(figures.spanS * (1 - (event.clientX - box.left) / box.width));
    });
    this.svg.addEventListener("pointerleave", () => figures.point(null));
    this.svg.addEventListener("blur", () => figures.point(null));
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: 1, ArrowRight: -1, PageUp: 30, PageDown: -30 }[event.key];
      if (event.key === "Escape") figures.point(null);
      if (!step) return;
      event.preventDefault();
      figures.point((figures.agoS ?? 0) + step);
    });
  }

  // The largest value in the chart.
  get most() {
    const { key, second } = this.figure;
    return Math.max(0, ...this.figures.samples.map((s) => Math.max(s[key] ?? 0, second ? (s[second] ?? 0) : 0)));
  }

  draw({ samples, state, end, spanS, pointed, marks }, top) {
    const { name, key, second, format, unit, more, worry } = this.figure;
    const sample = pointed ?? samples.at(-1);
    const value = sample[key];
    const [figure, suffix] = value === null ? ["–", ""] : format(value);
    this.value.replaceChildren(figure, made("small", {}, `${suffix}${suffix && unit ? " " : ""}${unit ?? ""}`));
    this.more.textContent = pointed ? `${Math.round(end - sample.time)} s ago` : more(sample, state);
    this.element.dataset.level = worry?.(sample, state) ?? "";
    this.svg.setAttribute("aria-label", `${name}: ${text(format, value)}${unit ? ` ${unit}` : ""}; since ${clock(end - spanS)}, up to ${text(format, top)}`);
    this.svg.setAttribute("viewBox", `0 0 ${spanS} ${HEIGHT}`);
    this.top.textContent = text(format, top);
    this.from.textContent = clock(end - spanS);
    this.to.textContent = clock(end);
    const x = (time) => (spanS - (end - time)).toFixed(1);
    const upright = (times) => times.map((time) => `M${x(time)},0V${HEIGHT}`).join("");
    const path = (name_) => {
      let line = "";
      let before = null;
      for (const s of samples) {
        const known = s[name_] !== null && s[name_] !== undefined;
        if (known) line += `${before !== null && s.time - before < 5 ? "L" : "M"}${x(s.time)},${(HEIGHT - 1 - ((HEIGHT - 3) * s[name_]) / top).toFixed(1)}`;
        before = known ? s.time : null;
      }
      return line;
    };
    const line = path(key);
    const isWhole = line.lastIndexOf("M") === 0 && samples.every((s) => s[key] !== null);
    const minutes = [];
    for (let at = Math.ceil((end - spanS) / MINUTE_S) * MINUTE_S; at < end; at += MINUTE_S) minutes.push(at);
    this.grid.setAttribute("d", upright(minutes));
    this.marks.setAttribute("d", upright(marks.filter((at) => at > end - spanS && at <= end)));
    this.trend.setAttribute("d", line);
    this.second.setAttribute("d", second ? path(second) : "");
    this.area.setAttribute("d", isWhole ? `${line}V${HEIGHT}H${x(samples[0].time)}Z` : "");
    this.cursor.setAttribute("d", pointed ? upright([sample.time]) : "");
  }
}

export class Figures {
  constructor(place) {
    this.samples = [];
    this.state = null;
    this.marks = [];
    this.agoS = null;
    this.tiles = FIGURES.map((figure) => new Tile(figure, this));
    place.append(...this.tiles.map((tile) => tile.element));
  }

  take(samples, state) {
    const since = (samples.at(-1) ?? this.samples.at(-1))?.time - SHOWN_S;
    this.samples = [...this.samples, ...samples].filter((sample) => sample.time > since);
    if (Object.keys(state).length) this.state = state;
  }

  // Of all charts; a short history fills them, too.
  get spanS() {
    const { samples } = this;
    return samples.length ? Math.max(SHORTEST_S, samples.at(-1).time - samples[0].time) : SHOWN_S;
  }

  // All charts have the same time, so all show the same moment.
  point(agoS) {
    const oldest = this.samples.length ? this.samples.at(-1).time - this.samples[0].time : 0;
    this.agoS = agoS === null ? null : Math.min(oldest, Math.max(0, agoS));
    this.draw();
  }

  draw() {
    const { samples, state, agoS, marks, spanS } = this;
    if (!samples.length || !state?.model) return;
    const end = samples.at(-1).time;
    const pointed = agoS === null ? null : samples.findLast((sample) => sample.time <= end - agoS + 0.5) ?? samples[0];
    const tops = new Map();
    for (const tile of this.tiles) {
      const { scale, least, name } = tile.figure;
      tops.set(scale ?? name, Math.max(tops.get(scale ?? name) ?? least ?? 0, tile.most));
    }
    for (const tile of this.tiles) {
      const { scale, name, format } = tile.figure;
      const most = tops.get(scale ?? name);
      // 2^20 is the round number of bytes.
      const unit = format === bytes ? 2 ** 20 : 1;
      tile.draw({ samples, state, end, spanS, pointed, marks }, unit * axisEnd(most / unit));
    }
  }
}
