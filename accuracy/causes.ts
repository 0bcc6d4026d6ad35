/** Why scored points, ratios and shapes are outside their bands, as far as it is known: by a point's id, `ratio <id>` or `shape <id>`. */
const HYPERTHREADS =
  "the source's two poll-mode threads are hyperthreads of one core, which do more together than one thread has; here they are one thread";
const TURNS =
  'what comes back is what the worker sends in its rare turns: a ring of 256 frames each time, in the source about 157 (35,000 a second while 1.63 million are received, in turns of 512 KiB). The softirq takes 1.55 Mpps and the guest gets nearly all of it, in the source as well';
const CONTENTION =
  'in the source 16 hyperthreads receive, and their softirqs take 6 of them for 0.4 Mpps, which is 15 µs a frame: they wait for the tap’s locks and share cores with each other and with the vhost worker, whose frames take 2.5 µs. Here locks are not waited for, and a hyperthread is a core';
const WAKES =
  'two vhost workers that wake up make the way 12 µs longer here, 7.5 µs in the source; and TCP in a guest costs what UDP does, as nothing published tells them apart';
const SENDERS =
  'vhost-net is bound by its worker, 1.2 µs a frame with the bridge, where the source has 1.5 µs on a processor that it does not name; vhost-user by the sender, which each frame that the switch has taken interrupts';

export const CAUSES: Readonly<Record<string, string>> = {
  'sig21-f8b-k1000': CONTENTION,
  'ovsperf-10f-128': HYPERTHREADS,
  'ovsperf-kernel-64': TURNS,
  'cx5-od-lat': WAKES,
  'ratio pvp-lossless': `that of \`sig21-f8b-k1000\`: ${CONTENTION}`,
  'ratio pvp-overload': `that of \`ovsperf-kernel-64\`: ${TURNS}`,
  'ratio udp-guests': SENDERS,
  'ratio latency-guests': WAKES,
  'shape udp-guests': SENDERS,
};
