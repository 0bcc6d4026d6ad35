/** Why scored points, ratios and shapes are outside their bands, as far as it is known: by a point's id, `ratio <id>` or `shape <id>`. */
const HYPERTHREADS =
  "the source's two poll-mode threads are hyperthreads of one core, which do more together than one thread has; here they are one thread";
const CACHES =
  'the EMC entries of a thousand flows do not fit the caches next to a core, and every NIC’s driver costs the same here: the pass was derived from another machine, NIC and driver';
const TURNS =
  'what comes back is what the worker sends in its rare turns: about one ring of frames each time. The softirq takes 1.55 Mpps and the guest gets nearly all of it, as in the source';
const GUEST_WAKES =
  'waking two vhost workers makes up most of the difference here, 13 µs of 7.5 in the source; and a guest’s own TCP costs no more than its UDP, as nothing published tells them apart';

export const CAUSES: Readonly<Record<string, string>> = {
  'sig21-f8a-d1000': CACHES,
  'ovsperf-10f-128': HYPERTHREADS,
  'ovsperf-10f-256': HYPERTHREADS,
  'ovsperf-kernel-64': TURNS,
  'cx5-od-lat': GUEST_WAKES,
  'ratio p2p': `that of \`sig21-f8a-d1000\`: ${CACHES}`,
  'ratio pvp-lossless':
    'both points are within their band, on opposite sides: several softirqs contend for the tap in the source, here one fills it; and the vhost library is slower here',
  'ratio pvp-overload': `that of \`ovsperf-kernel-64\`: ${TURNS}`,
  'ratio latency-guests': GUEST_WAKES,
  'shape p2p': `that of \`sig21-f8a-d1000\`: ${CACHES}`,
};
