/** Why scored points, ratios and shapes are outside their bands, as far as it is known: by a point's id, `ratio <id>` or `shape <id>`. */
const HYPERTHREADS =
  "the source's two poll-mode threads are hyperthreads of one core, which do more together than one thread has; here they are one thread";
const TURNS =
  'what comes back is what the worker sends in its rare turns, one ring of frames and a few more each time, in the source about half of that. The softirq takes 1.55 Mpps and the guest gets nearly all of it, in the source as well';
const LOSSLESS =
  'both points are within their band, on opposite sides. vhost-user is slow: the cost of a dequeue was derived from rates through a guest, which have lines between cores in them already, and these are charged as well. vhost-net is fast: in the source many softirqs contend for the tap, here one fills it';
const WAKES =
  'two vhost workers that wake up make the way 13 µs longer here, 7.5 µs in the source; and TCP in a guest costs what UDP does, as nothing published tells them apart';

export const CAUSES: Readonly<Record<string, string>> = {
  'ovsperf-10f-128': HYPERTHREADS,
  'ovsperf-10f-256': HYPERTHREADS,
  'ovsperf-kernel-64': TURNS,
  'cx5-od-lat': WAKES,
  'ratio pvp-lossless': LOSSLESS,
  'ratio pvp-overload': `that of \`ovsperf-kernel-64\`: ${TURNS}`,
  'ratio latency-guests': WAKES,
  'shape pvp-lossless': LOSSLESS,
};
