// The signal and the steps of one device, as they come.

import { pathOf } from "./api.js";
import { say } from "./elements.js";
import { whole } from "./formats.js";

const SHOWN_S = 10;
const FRAME_MS = 30;
const LANES = 42;

export class Signal {
  constructor(canvas, note) {
    this.canvas = canvas;
    this.note = note;
    this.device = null;
    this.topic = "";
    this.isPaused = false;
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

  watch(device, topic) {
    this.clear();
    this.device = device;
    this.topic = topic;
    this.note.textContent = `Waiting for readings of ${device} …`;
    this.canvas.setAttribute("aria-label", `Signal of ${device}`);
    this.begunMs = performance.now();
    this.paint();
  }

  // The stream is there, and nothing came of the device.
  noteSilence() {
    if (this.end === null && performance.now() - this.begunMs > 3000) this.explain();
  }

  async explain() {
    const { device, topic } = this;
    const answer = await fetch(pathOf("devices", device, topic)).catch(() => null);
    const found = await answer?.json().catch(() => null);
    if (!found || this.end !== null || this.device !== device || this.topic !== topic) return;
    say(this.note, answer.ok ? `${device} is quiet; ${whole(found.step_count)} steps so far.` : `${device}: ${found.detail}.`);
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
      ? `${this.device}: step ${whole(this.total)}, last one at ${new Date(last.end * 1000).toLocaleTimeString()}.`
      : `${this.device}: no steps in view.`;
  }

  frame(now) {
    if (this.end !== null && !this.isPaused && now - (this.paintedMs ?? 0) > FRAME_MS) {
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
      const label = whole(number);
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
