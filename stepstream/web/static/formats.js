// Figures as they are read: number and unit of a value, as short as it can be.

const digits = (value, most) => {
  const size = Math.abs(value);
  const places = size >= 100 || size === 0 ? 0 : size >= 10 ? Math.min(1, most) : most;
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
};

export const count = (value) => {
  if (value >= 1e6) return [digits(value / 1e6, 2), "M"];
  if (value >= 1e5) return [digits(value / 1e3, 0), "k"];
  return [Math.round(value).toLocaleString("en"), ""];
};

export const rate = (value) => {
  const [number, unit] = value > 0 && value < 10 ? [digits(value, 1), ""] : count(value);
  return [number, `${unit}/s`];
};

export const duration = (value) => {
  if (value === 0) return ["0", "s"];
  if (value < 0.001) return [digits(value * 1e6, 0), "µs"];
  if (value < 1) return [digits(value * 1e3, 1), "ms"];
  if (value < 120) return [digits(value, 1), "s"];
  if (value < 7200) return [digits(value / 60, 0), "min"];
  if (value < 172800) return [digits(value / 3600, 1), "h"];
  return [digits(value / 86400, 1), "d"];
};

export const bytes = (value) => {
  if (value >= 1 << 30) return [digits(value / 2 ** 30, 2), "GiB"];
  return [digits(value / 2 ** 20, 0), "MiB"];
};

export const share = (value) => [digits(value * 100, 0), "%"];

export const text = (format, value) => (value === null || value === undefined ? "–" : format(value).filter(Boolean).join("\u202f"));

export const whole = (number) => Math.round(number).toLocaleString("en");

export const plural = (number, one) => `${whole(number)} ${one}${number === 1 ? "" : "s"}`;

export const clock = (time, more = {}) => new Date(time * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...more });

// The end of an axis that begins with 0: the next of 1, 2, 5, 10 ...
export const axisEnd = (value) => {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((factor) => value <= factor * unit * 1.0001) * unit;
};
