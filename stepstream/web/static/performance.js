// The live page: two streams of server-sent events, drawn with SVG and one canvas.

import { Activity } from "./activity.js";
import { $, made, madeSvg } from "./elements.js";

const HISTORY = 300;
const SHORTEST = 60;
const STALE_MS = 4000;
const RETRY_MS = 2000;
const SHOWN_S = 10;
const FRAME_MS = 30;
const LANES = 42;

// Figures: number and unit of a value, as short as it can be read.

const digits = (value, most) => {
  const size = Math.abs(value);
  const places = size >= 100 || size === 0 ? 0 : size >= 10 ? Math.min(1, most) : most;
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
};
const count = (value) => {
  if (value >= 1e6) return [digits(value / 1e6, 2), "M"];
  if (value >= 1e5) return [digits(value / 1e3, 0), "k"];
  return [Math.round(value).toLocaleString("en"), ""];
};
const rate = (value) => {
  const [number, unit] = value > 0 && value < 10 ? [digits(value, 1), ""] : count(value);
  return [number, `${unit}/s`];
};
const duration = (value) => {
  if (value === 0) return ["0", "s"];
  if (value < 0.001) return [digits(value * 1e6, 0), "µs"];
  if (value < 1) return [digits(value * 1e3, 1), "ms"];
  if (value < 120) return [digits(value, 1), "s"];
  if (value < 7200) return [digits(value / 60, 0), "min"];
  if (value < 172800) return [digits(value / 3600, 1), "h"];
  return [digits(value / 86400, 1), "d"];
};
const bytes = (value) => {
  if (value >= 1 << 30) return [digits(value / 2 ** 30, 2), "GiB"];
  return [digits(value / 2 ** 20, 0), "MiB"];
};
const share = (value) => [digits(value * 100, 0), "%"];
const text = (format, value) => (value === null || value === undefined ? "–" : format(value).filter(Boolean).join("\u202f"));

const late = (s) => (s.lag_s > 60 ? "bad" : s.lag_s > 10 ? "warn" : "");

// What the tiles show: the value, a line below it, what is drawn, and from where on it is a worry.

const FIGURES = [
  { name: "Readings", key: "readings", format: rate, more: (s, t) => `${text(count, t.readings)} so far` },
  { name: "Events", key: "events", format: rate, more: (s, t) => `${text(count, t.events)} so far` },
  { name: "Lag", key: "lag", format: count, unit: "messages", more: (s) => (s.lag ? "are waiting" : "nothing is waiting"), worry: late },
  { name: "Lag time", key: "lag_s", format: duration, more: (s, t) => `worst of ${t.partitions.length} partitions`, worry: late },
  { name: "End to end", key: "broker_p50", second: "broker_p95", format: duration, more: (s) => `95 %: ${text(duration, s.broker_p95)}, from the sensor ${text(duration, s.reading_p50)}` },
  { name: "Inference", key: "inference", second: "inference_p95", format: duration, more: (s) => `95 %: ${text(duration, s.inference_p95)}` },
  { name: "Batch", key: "batch", format: count, unit: "a poll", more: (s) => `${text(rate, s.messages)} messages` },
  { name: "CPU", key: "cpu", format: share, unit: "of a core", more: (s) => `loop ${text(share, s.busy)} busy` },
  { name: "Memory", key: "memory", format: bytes, more: (s, t) => (t.memory_limit ? `of ${text(bytes, t.memory_limit)}` : "no limit is set"), worry: (s, t) => (t.memory_limit && s.memory > 0.9 * t.memory_limit ? "bad" : "") },
  { name: "Devices", key: "devices", format: count, more: (s) => `${text(rate, s.late)} late readings` },
  { name: "Commits", key: "outbox", format: count, unit: "wait", more: (s, t) => `${text(duration, t.commit)} each, 95 %: ${text(duration, t.commit_p95)}` },
  { name: "Dead letters", key: "dead_letters", format: rate, more: (s, t) => `${text(count, Object.values(t.dead_letters).reduce((a, b) => a + b, 0))} so far`, worry: (s) => (s.dead_letters > 0 ? "warn" : "") },
];

class Tile {
  constructor(figure, history) {
    this.figure = figure;
    this.history = history;
    this.cursor = null;
    this.value = made("p", { class: "value" }, "–");
    this.more = made("p", { class: "more" });
    this.svg = madeSvg("svg", { viewBox: "0 0 300 44", preserveAspectRatio: "none", tabindex: "0", role: "img" });
    this.area = madeSvg("path", { class: "area" });
    this.second = madeSvg("path", { class: "trend second" });
    this.trend = madeSvg("path", { class: "trend" });
    this.mark = madeSvg("line", { class: "cursor", y1: 0, y2: 44, visibility: "hidden" });
    this.svg.append(this.area, this.second, this.trend, this.mark);
    this.element = made("article", { class: "figure" }, made("h2", {}, figure.name), this.value, this.more, this.svg);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.point(Math.round(((event.clientX - box.left) / box.width) * (this.width - 1)));
    });
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("blur", () => this.point(null));
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
      if (event.key === "Escape") this.point(null);
      if (!step) return;
      event.preventDefault();
      const place = (this.cursor ?? this.width - 1) + step;
      this.point(Math.min(this.width - 1, Math.max(this.width - this.history.samples.length, place)));
    });
  }

  // Samples that fit: a short history fills the chart too.
  get width() {
    return Math.max(SHORTEST, this.history.samples.length);
  }

  point(place) {
    this.cursor = place;
    this.draw();
  }

  draw() {
    const { samples, state } = this.history;
    if (!samples.length) return;
    const { key, second, format, unit, more, worry } = this.figure;
    const { width } = this;
    const first = width - samples.length;
    this.svg.setAttribute("viewBox", `0 0 ${width - 1} 44`);
    const pointed = this.cursor === null ? undefined : samples[this.cursor - first];
    const sample = pointed ?? samples.at(-1);
    const value = sample[key];
    const [number, suffix] = value === null ? ["–", ""] : format(value);
    this.value.replaceChildren(number, made("small", {}, `${suffix}${suffix && unit ? " " : ""}${unit ?? ""}`));
    const ago = Math.round(samples.at(-1).time - sample.time);
    this.more.textContent = pointed ? `${ago} s ago` : more(sample, state);
    this.element.dataset.level = worry?.(sample, state) ?? "";
    this.svg.setAttribute("aria-label", `${this.figure.name}: ${text(format, value)}${unit ? ` ${unit}` : ""}, last five minutes`);
    const top = Math.max(1e-9, ...samples.map((s) => Math.max(s[key] ?? 0, second ? (s[second] ?? 0) : 0)));
    const path = (name) => {
      let line = "";
      let joined = false;
      samples.forEach((s, n) => {
        const known = s[name] !== null && s[name] !== undefined;
        if (known) line += `${joined ? "L" : "M"}${first + n},${(42 - (38 * s[name]) / top).toFixed(1)}`;
        joined = known;
      });
      return line;
    };
    const line = path(key);
    this.trend.setAttribute("d", line);
    this.second.setAttribute("d", second ? path(second) : "");
    const whole = samples.every((s) => s[key] !== null);
    this.area.setAttribute("d", whole && line ? `${line}L${width - 1},44L${first},44Z` : "");
    this.mark.setAttribute("visibility", pointed ? "visible" : "hidden");
    this.mark.setAttribute("x1", this.cursor ?? 0);
    this.mark.setAttribute("x2", this.cursor ?? 0);
  }
}

// The stream of figures.

const history = { samples: [], state: null };
const tiles = FIGURES.map((figure) => new Tile(figure, history));
$("figures").append(...tiles.map((tile) => tile.element));
let isPaused = false;
let heardMs = performance.now();
let isLost = false;

const SHOWN_TOPICS = 4;
const LEVELS = { running: "good", held: "bad" };

function listed(topics) {
  const more = topics.length - SHOWN_TOPICS;
  return topics.slice(0, SHOWN_TOPICS).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function drawState(state) {
  const [first, ...others] = state.obstacles;
  $("health").dataset.level = first ? "bad" : "good";
  $("health").textContent = first ? `not ready: ${[first, ...others].join(", ")}` : "ready";
  $("warnings").hidden = !state.warnings.length;
  $("warnings").replaceChildren(...state.warnings.map((warning) => made("li", {}, warning)));
  const facts = { model: state.model, group: state.group, topic: listed(state.topics), guarantee: state.guarantee.replaceAll("_", " "), version: state.version, up: text(duration, state.uptime_s) };
  $("facts").replaceChildren(...Object.entries(facts).map(([name, fact]) => made("div", {}, made("dt", {}, name), made("dd", {}, fact))));
  const number = (value) => made("td", { class: "number" }, value);
  const hasWorkers = state.partitions.some((p) => p.worker !== undefined);
  $("worker").hidden = !hasWorkers;
  $("partitions").replaceChildren(
    ...state.partitions.map((p) =>
      made("tr", {},
        made("td", {}, `${p.topic}-${p.partition}`),
        ...(hasWorkers ? [made("td", {}, String(p.worker))] : []),
        made("td", {}, made("span", { class: "pill", "data-level": LEVELS[p.state] ?? "warn" }, p.state)),
        number(p.lag === null ? "–" : p.lag.toLocaleString("en")),
        number(p.lag === 0 ? "0" : text(duration, p.lag_s)),
        number(p.devices.toLocaleString("en")),
        number(p.offset.toLocaleString("en")))));
  if (!state.partitions.length) $("partitions").append(made("tr", {}, made("td", { colspan: 6 }, "none is assigned")));
  const letters = Object.entries(state.dead_letters);
  $("letters").replaceChildren(...letters.map(([reason, n]) => made("tr", {}, made("td", {}, reason), number(n.toLocaleString("en")))));
  if (!letters.length) $("letters").append(made("tr", {}, made("td", { colspan: 2 }, "none")));
}

function draw() {
  if (!history.state || isPaused) return;
  for (const tile of tiles) tile.draw();
  drawState(history.state);
}

function heard() {
  heardMs = performance.now();
  if (!isLost) return;
  isLost = false;
  document.body.classList.remove("is-lost");
  $("lost").hidden = true;
}

function follow(url, handlers) {
  let source;
  let timer;
  let isClosed = false;
  const open = () => {
    source = new EventSource(url);
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
    source.addEventListener("error", () => {
      // A browser tries again by itself after a broken connection, not after a refusal.
      if (source.readyState === EventSource.CLOSED && !isClosed) timer = setTimeout(open, RETRY_MS);
    });
  };
  open();
  return () => {
    isClosed = true;
    clearTimeout(timer);
    source.close();
  };
}

follow("/performance/samples", {
  history: (data) => {
    history.samples = data.samples;
    history.state = Object.keys(data.state).length ? data.state : null;
    heard();
    draw();
  },
  sample: (data) => {
    history.samples.push(data.sample);
    history.samples.splice(0, Math.max(0, history.samples.length - HISTORY));
    history.state = data.state;
    heard();
    draw();
  },
});

setInterval(() => {
  const silentMs = performance.now() - heardMs;
  if (silentMs < STALE_MS) return;
  isLost = true;
  document.body.classList.add("is-lost");
  $("lost").hidden = false;
  const words = `Connection lost: nothing came for ${Math.round(silentMs / 1000)} s. Trying again…`;
  if ($("lost").textContent !== words) $("lost").textContent = words;
}, 1000);

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", isPaused);
  draw();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  if (event.key === "/") {
    event.preventDefault();
    $("device").focus();
  } else if (event.key.toLowerCase() === "p") $("pause").click();
});

// One device.

class Signal {
  constructor(canvas, note, activity) {
    this.canvas = canvas;
    this.note = note;
    this.activity = activity;
    this.stop = () => {};
    this.clear();
    this.frame = this.frame.bind(this);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    addEventListener("resize", () => this.paint());
    requestAnimationFrame(this.frame);
  }

  clear() {
    this.parts = [];
    this.steps = [];
    this.total = 0;
    this.end = null;
    this.shownEnd = null;
  }

  watch(device) {
    this.stop();
    this.clear();
    this.device = device;
    this.activity.watch(device);
    this.note.textContent = `Waiting for readings of ${device} …`;
    this.canvas.setAttribute("aria-label", `Signal of ${device}`);
    const begun = performance.now();
    this.stop = follow(`/performance/signal?device=${encodeURIComponent(device)}`, {
      follows: () => this.activity.read(),
      signal: (data) => {
        this.take(data);
        this.activity.take(data);
      },
      alive: () => {
        if (this.end === null && performance.now() - begun > 3000) this.explain();
      },
    });
    this.paint();
  }

  async explain() {
    const answer = await fetch(`/v1/devices/${encodeURIComponent(this.device)}`);
    const found = await answer.json();
    if (this.end !== null) return;
    this.note.textContent = answer.ok
      ? `${this.device} is quiet; ${found.step_count.toLocaleString("en")} steps so far.`
      : `${this.device}: ${found.detail}.`;
  }

  take({ period, parts, steps }) {
    for (const part of parts) {
      this.parts.push({ ...part, period });
      this.end = part.at + part.accel.length * period;
      // A clock that was set back begins a new picture.
      this.parts = this.parts.filter((p) => p.at <= this.end && p.at > this.end - SHOWN_S - 4);
    }
    for (const [begin, end, number] of steps) {
      this.steps.push({ begin, end, number });
      this.total = number;
    }
    this.steps = this.steps.filter((s) => this.end === null || (s.end > this.end - SHOWN_S - 2 && s.begin <= this.end));
    const last = this.steps.at(-1);
    this.note.textContent = last
      ? `${this.device}: step ${this.total.toLocaleString("en")}, last one at ${new Date(last.end * 1000).toLocaleTimeString()}.`
      : `${this.device}: no steps in view.`;
  }

  frame(now) {
    if (this.end !== null && !isPaused && now - (this.paintedMs ?? 0) > FRAME_MS) {
      // Readings come in bursts; the picture moves evenly and catches up.
      const passed = Math.min(0.25, (now - (this.paintedMs ?? now)) / 1000);
      this.paintedMs = now;
      const behind = this.end - (this.shownEnd ?? this.end);
      if (this.shownEnd === null || Math.abs(behind) > 3) this.shownEnd = this.end;
      else this.shownEnd = Math.min(this.end, this.shownEnd + passed * (behind > 0.5 ? 1.25 : 1));
      this.paint();
    }
    requestAnimationFrame(this.frame);
  }

  paint() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const draw = canvas.getContext("2d");
    draw.setTransform(scale, 0, 0, scale, 0, 0);
    draw.clearRect(0, 0, width, height);
    draw.font = "11px system-ui, sans-serif";
    const left = 30;
    const base = height - 18;
    const values = this.parts.flatMap((p) => p.accel);
    const top = Math.max(20, ...values);
    const y = (value) => base - ((base - LANES) * value) / (top * 1.05);
    draw.fillStyle = colour("--soft");
    draw.strokeStyle = colour("--line");
    draw.lineWidth = 1;
    for (let value = 0; value <= top; value += 10) {
      draw.fillText(String(value), 4, y(value) + 4);
      line(draw, [[left, y(value)], [width, y(value)]]);
    }
    draw.fillText("m/s²", 4, LANES - 2);
    draw.fillText("steps", 0, 21);
    const end = this.shownEnd;
    if (end === null) return;
    const shown = width < 600 ? SHOWN_S / 2 : SHOWN_S;
    const x = (time) => width - ((width - left) * (end - time)) / shown;
    for (let second = Math.ceil(end - shown); second < end; second += 1) {
      draw.fillText(`${Math.round(end - second)} s`, x(second) - 8, height - 4);
    }
    draw.save();
    draw.beginPath();
    draw.rect(left, 0, width - left, height);
    draw.clip();
    for (const { begin, end: toe, number } of this.steps) {
      // Left and right overlap; which is which isn't known, only that they alternate.
      const lane = 2 + (number % 2) * 17;
      draw.fillStyle = colour("--fill");
      draw.beginPath();
      draw.roundRect(x(begin), lane, x(toe) - x(begin), 14, 4);
      draw.fill();
      draw.strokeStyle = colour("--accent");
      draw.lineWidth = 1;
      draw.stroke();
      draw.lineWidth = 2;
      line(draw, [[x(toe), lane], [x(toe), base]]);
      draw.fillStyle = colour("--accent");
      draw.textAlign = "center";
      const label = number.toLocaleString("en");
      if (draw.measureText(label).width < x(toe) - x(begin) - 4) draw.fillText(label, (x(begin) + x(toe)) / 2, lane + 11);
      draw.textAlign = "start";
    }
    draw.lineJoin = "round";
    const turns = this.parts.flatMap((p) => p.gyro);
    const most = Math.max(4, ...turns);
    for (const [name, key, width_, place] of [["--gyro", "gyro", 1, (v) => base - ((base - LANES) * v) / (most * 2.2)], ["--accent", "accel", 1.8, y]]) {
      draw.strokeStyle = colour(name);
      draw.lineWidth = width_;
      let joined = [];
      let next = null;
      for (const part of this.parts) {
        if (next !== null && Math.abs(part.at - next) > part.period * 1.5) {
          line(draw, joined);
          joined = [];
        }
        part[key].forEach((value, n) => joined.push([x(part.at + n * part.period), place(value)]));
        next = part.at + part[key].length * part.period;
      }
      line(draw, joined);
    }
    draw.restore();
  }
}

function line(draw, points) {
  draw.beginPath();
  for (const [px, py] of points) draw.lineTo(px, py);
  draw.stroke();
}

const signal = new Signal($("signal"), $("signal-note"), new Activity());
signal.paint();

async function listDevices() {
  const answer = await fetch(`/v1/devices?prefix=${encodeURIComponent($("device").value)}`);
  if (!answer.ok) return [];
  const { devices } = await answer.json();
  $("devices").replaceChildren(...devices.map((d) => made("option", { value: d.device_id })));
  return devices;
}

$("device").addEventListener("focus", listDevices);
$("device").addEventListener("input", listDevices);
$("choose").addEventListener("submit", async (event) => {
  event.preventDefault();
  const device = $("device").value.trim() || (await listDevices())[0]?.device_id;
  if (!device) {
    $("signal-note").textContent = "No device has a window here now.";
    return;
  }
  $("device").value = device;
  location.hash = `device=${encodeURIComponent(device)}`;
  signal.watch(device);
});

const chosen = new URLSearchParams(location.hash.slice(1)).get("device");
if (chosen) {
  $("device").value = chosen;
  signal.watch(chosen);
}
