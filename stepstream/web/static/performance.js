// The live page: what comes from its stream goes to its parts. At most one connection stays open.

import { Activity } from "./activity.js";
import { ask, pathOf } from "./api.js";
import { $, cell, fill, made, number, pill } from "./elements.js";
import { Figures } from "./figures.js";
import { duration, text, whole } from "./formats.js";
import { Health } from "./health.js";
import { Devices, Group, Letters, Timeline } from "./panels.js";
import { Signal } from "./signal.js";
import { Stream } from "./stream.js";

const SHOWN_TOPICS = 4;
const LEVELS = { running: "good", held: "bad" };

const health = new Health();
const figures = new Figures($("figures"));
const signal = new Signal($("signal"), $("signal-note"));
const activity = new Activity();
const panels = {
  devices: new Devices(watch),
  timeline: new Timeline(figures),
  group: new Group(),
  letters: new Letters(),
};
let isPaused = false;
let choices = 0;

function listed(topics) {
  const more = topics.length - SHOWN_TOPICS;
  return topics.slice(0, SHOWN_TOPICS).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function drawFacts(state) {
  const [first, ...others] = state.consumers;
  const consumer = others.length ? `${others.length + 1} workers on ${first.host}` : `${first.name} on ${first.host}, process ${first.pid}`;
  const facts = { consumer, group: state.group, model: state.model, topic: listed(state.topics), guarantee: state.guarantee.replaceAll("_", " "), version: state.version, up: text(duration, state.uptime_s) };
  $("facts").replaceChildren(...Object.entries(facts).map(([name, fact]) => made("div", {}, made("dt", {}, name), made("dd", {}, fact))));
}

function drawPartitions(partitions) {
  const hasWorkers = partitions.some((p) => p.worker !== undefined);
  $("worker").hidden = !hasWorkers;
  fill($("partitions"), partitions.map((p) =>
    made("tr", {},
      made("th", { scope: "row" }, `${p.topic}-${p.partition}`),
      ...(hasWorkers ? [cell(String(p.worker))] : []),
      cell(pill(LEVELS[p.state] ?? "warn", p.state)),
      number(p.lag === null ? "–" : whole(p.lag)),
      number(p.lag === 0 ? "0" : text(duration, p.lag_s)),
      number(whole(p.devices)),
      number(whole(p.committed)),
      number(whole(p.offset)))), "none is assigned");
}

function draw() {
  const { state, samples } = figures;
  if (!state?.obstacles) return;
  health.show(state, samples);
  if (isPaused || !state.model) return;
  figures.draw();
  $("warnings").hidden = !state.warnings.length;
  $("warnings").replaceChildren(...state.warnings.map((warning) => made("li", {}, warning)));
  drawFacts(state);
  drawPartitions(state.partitions);
  const letters = Object.entries(state.dead_letters);
  fill($("letters"), letters.map(([reason, n]) => made("tr", {}, cell(reason), number(whole(n)))), "none");
  panels.group.own(state.consumers);
  panels.devices.turn();
  panels.timeline.turn(state.timeline);
  panels.group.turn(state.consumers.map((one) => one.member_id).join());
  panels.letters.turn(JSON.stringify(state.dead_letters));
}

const stream = new Stream({
  history: ({ samples, state }) => {
    figures.take(samples, state);
    draw();
  },
  sample: ({ sample, state }) => {
    figures.take(sample ? [sample] : [], state);
    draw();
  },
  follows: () => activity.read(),
  signal: (data) => {
    signal.take(data);
    activity.take(data);
  },
  alive: () => signal.noteSilence(),
}, {
  onOpen: () => health.heard(),
  onRefused: (status, reason) => health.refused(status, reason),
  onLost: () => {},
});

// Browsers open six connections to a host: a page that nobody sees takes none.
function follow() {
  if (document.hidden) {
    stream.close();
    health.askHidden();
    return;
  }
  health.begin();
  stream.open(() => {
    const newest = figures.samples.at(-1);
    const { device, topic } = signal;
    return { ...(newest ? { since: newest.time } : {}), ...(device === null ? {} : named(device, topic)) };
  });
}

document.addEventListener("visibilitychange", follow);
addEventListener("pagehide", () => stream.close());
addEventListener("pageshow", (event) => event.persisted && follow());

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  signal.isPaused = isPaused;
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

const named = (device, topic) => ({ device, ...(topic ? { topic } : {}) });

// Without a topic it is the device that the consumer answers about.
async function watch(device, topic = "") {
  choices += 1;
  const choice = choices;
  $("device").value = device;
  const found = topic || (await ask(pathOf("devices", device)))?.topic || "";
  if (choice !== choices) return;
  location.hash = new URLSearchParams(named(device, found));
  signal.watch(device, found);
  activity.watch(device, found);
  follow();
}

async function listDevices() {
  const { devices } = (await ask(`/v1/devices?prefix=${encodeURIComponent($("device").value)}`)) ?? { devices: [] };
  $("devices").replaceChildren(...devices.map((d) => made("option", { value: d.device_id })));
  return devices;
}

$("device").addEventListener("focus", listDevices);
$("device").addEventListener("input", listDevices);
$("choose").addEventListener("submit", async (event) => {
  event.preventDefault();
  const device = $("device").value.trim();
  const first = device ? { device_id: device } : (await listDevices())[0];
  if (first) watch(first.device_id, first.topic);
  else $("signal-note").textContent = "No device has a window here now.";
});

signal.paint();
const chosen = new URLSearchParams(location.hash.slice(1));
const [device, topic] = ["device", "topic"].map((name) => chosen.get(name) ?? "");
// To ask for the topic takes a while.
if (!device || !topic) follow();
if (device) watch(device, topic);
