// What the page asks of the API.

// About a device: an id may be one device in each of several topics.
export const pathOf = (kind, device, topic) => `/v1/${kind}/${encodeURIComponent(device)}${topic ? `?topic=${encodeURIComponent(topic)}` : ""}`;

// The answer, or null if there is none.
export async function ask(path) {
  const answer = await fetch(path).catch(() => null);
  return answer?.ok ? answer.json() : null;
}
