/**
 * PromQL for counters that advance in virtual time.
 *
 * Prometheus scrapes in wall time, a run happens in virtual time, so rate() says nothing about the emulated host. Every query
 * divides what one counter grew by in a window by what another grew by in the same window: frames, bits, virtual seconds.
 *
 * Growth is the last sample less the lowest one, not increase(): that one extrapolates to the edges of the window, each
 * counter differently (one that starts at 0 never below 0), which moves ratios by a third in short windows. All counters of a
 * world are scraped at once, so exact differences give exact ratios. A world that is built again starts all its counters
 * again: from there on the lowest sample is the new beginning.
 *
 * A counter that was not there when the window began has grown from 0: traffic that ran before Prometheus first came by is
 * not lost. The few counters that booting moves have a second metric that says how far, and have grown from there.
 */
import { MOVED_BY_BOOTING } from '../src/readers/metrics/prometheus-kvm.ts';

/** The window of a point in a chart: as long as Grafana says that a rate needs. */
export const WINDOW = '$__rate_interval';
/** The time range of the dashboard. */
export const RANGE = '$__range';

/** A metric with its label matchers, as it stands between name and window. */
export interface Series {
  readonly metric: string;
  readonly labels: string;
}
export const series = (metric: string, ...labels: readonly string[]): Series => ({
  metric: `ringside_${metric}`,
  labels: labels.filter((label) => label !== '').join(','),
});

/** Where counters stand when a world has booted, for those that do not stand at 0. */
const BOOT: Readonly<Record<string, string>> = {
  ...Object.fromEntries(MOVED_BY_BOOTING.map((name) => [`ringside_${name}_total`, `ringside_boot_${name}`])),
  ringside_virtual_time_seconds: 'ringside_boot_virtual_time_seconds',
};

/** What each of these counters grew by in the window. */
export const growth = ({ metric, labels }: Series, window: string): string => {
  const samples = `${metric}{${labels}}[${window}]`;
  const boot = BOOT[metric];
  const born = boot === undefined ? `0 * last_over_time(${samples})` : `last_over_time(${boot}{${labels}}[${window}])`;
  return `last_over_time(${samples}) - (min_over_time(${samples}) and ${metric}{${labels}} offset ${window} or ${born})`;
};
/** The same, summed up by labels. */
export const grown = (counter: Series, by: string, window: string): string =>
  `sum by (${by}) (${growth(counter, window)})`;

/**
 * Dividend / divisor, where the divisor is more than 0: where it did not advance there is nothing to show.
 * `on` are the divisor's labels, where the dividend has more of them.
 */
export const ratio = (dividend: string, divisor: string, on = ''): string =>
  `${dividend} / ${on === '' ? '' : `on (${on}) group_left () `}(${divisor} > 0)`;

/** Which share of all of these series each label set has. */
export const shareOfAll = (counter: Series, whole: Series, by: string, window: string): string =>
  `${grown(counter, by, window)} / on () group_left () (sum (${grown(whole, 'topology', window)}) > 0)`;

/** Virtual seconds that passed, by topology. */
export const virtualSeconds = (window: string): string =>
  `max by (topology) (${growth(series('virtual_time_seconds', 'topology=~"$topology"'), window)})`;

/** Growth for each second of virtual time. */
export const perVirtualSecond = (counter: Series, by: string, window = WINDOW): string =>
  ratio(grown(counter, by, window), virtualSeconds(window), 'topology');

/** Bits of received frames, with the 4 bytes of FCS that a cable would carry: as `frameBitsPerSecond` of a run. */
export const receivedBits = (labels: string, by: string, window: string): string =>
  `8 * (${grown(series('received_bytes_total', labels), by, window)} + ` +
  `4 * ${grown(series('received_frames_total', labels), by, window)})`;

/** A quantile of a histogram: interpolated within a bucket, hence right to a factor of two. */
export const quantile = (q: number, histogram: string, labels: string, by: string, window = WINDOW): string =>
  `histogram_quantile(${q}, ${grown(series(`${histogram}_bucket`, labels), `${by}, le`, window)})`;
