/** Metrics of captures, on disk and live: what there is, what was written, what was lost, and why captures ended. */
import { type CountedMetric, countedMetric } from '../counted-metrics.ts';
import { END_REASONS, type EndReason } from './capture-job.ts';
import { CAPTURE_STATES, type CaptureState } from './disk-capture.ts';
import { followTotals } from './follow.ts';

/** Why a capture on disk is no longer written. */
const REASONS = [...END_REASONS, 'DELETED'] as const;
export type CountedReason = EndReason | 'DELETED';

/** What the registry of captures on disk knows. Totals count since the server started. */
export interface CaptureCounts {
  readonly states: ReadonlyMap<CaptureState, number>;
  readonly ended: ReadonlyMap<CountedReason, number>;
  readonly packets: number;
  readonly lostEvents: number;
  readonly diskBytes: number;
}

const metric = countedMetric<CaptureCounts>;
export const CAPTURE_METRICS: readonly CountedMetric<CaptureCounts>[] = [
  metric('captures', 'gauge', 'Captures on disk, by state.', 'state', ({ states }) =>
    CAPTURE_STATES.map((state) => [state, states.get(state) ?? 0]),
  ),
  metric(
    'captures_ended_total',
    'counter',
    'Captures on disk that ended since the server started, by reason; DELETED while they were written.',
    'reason',
    ({ ended }) => REASONS.map((reason) => [reason, ended.get(reason) ?? 0]),
  ),
  metric('capture_packets_written_total', 'counter', 'Rows that captures on disk have written.', null, (c) => [
    ['', c.packets],
  ]),
  metric(
    'capture_events_lost_total',
    'counter',
    'Events that were overwritten in the ring before a capture on disk could read them.',
    null,
    (c) => [['', c.lostEvents]],
  ),
  metric('capture_disk_bytes', 'gauge', 'Bytes of all captures on disk, their indexes included.', null, (c) => [
    ['', c.diskBytes],
  ]),
  metric('live_captures', 'gauge', 'Captures that a client follows at the moment.', null, () => [
    ['', followTotals.open],
  ]),
  metric('live_capture_bytes_total', 'counter', 'Bytes that followed captures have sent.', null, () => [
    ['', followTotals.bytes],
  ]),
  metric(
    'live_capture_events_lost_total',
    'counter',
    'Events that were overwritten in the ring before a followed capture could read them.',
    null,
    () => [['', followTotals.lostEvents]],
  ),
];
