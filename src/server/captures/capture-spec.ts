/**
 * What a capture on disk was asked for, with everything filled in: kept in the database and shown in the answers. `null`
 * says that there is no such limit.
 */
import type { EventFilterQuery } from '../../readers/events/event-filter.ts';
import { VERSION } from '../version.ts';
import type { CaptureJob } from './capture-job.ts';

/** Files of one capture: all of them are listed in every answer. */
export const MOST_FILES = 1000;

export interface CaptureSpec {
  readonly view: 'wire' | 'journey' | 'events';
  /** null: all that the view has. */
  readonly points: readonly string[] | null;
  readonly filter: EventFilterQuery;
  /** Bytes kept of each frame; 0 = all. */
  readonly snaplen: number;
  readonly slow: 'drop' | 'block';
  readonly from: 'now' | 'start';
  readonly file: {
    readonly maxBytes: number | null;
    readonly maxPackets: number | null;
    readonly maxFiles: number | null;
    readonly ring: boolean;
  };
  readonly stop: {
    readonly packets: number | null;
    readonly bytes: number | null;
    readonly durationSeconds: number | null;
    readonly wallSeconds: number | null;
    readonly idleSeconds: number | null;
  };
  readonly trigger: { readonly on: EventFilterQuery; readonly before: number; readonly after: number } | null;
  /** ns since 1970 at virtual time 0 of the world that was captured. */
  readonly epochNs: string;
}

/** The part of a writer's job that follows from the spec. */
export function limitsOf(spec: CaptureSpec): Pick<CaptureJob, 'options' | 'file' | 'stop' | 'trigger'> {
  const { file, stop } = spec;
  const most = (value: number | null, factor = 1): number =>
    value === null ? Number.POSITIVE_INFINITY : value * factor;
  return {
    options: {
      view: spec.view,
      filter: spec.filter,
      snaplen: spec.snaplen,
      application: `Ringside ${VERSION}`,
      ...(spec.points === null ? {} : { points: spec.points }),
    },
    file: {
      maxBytes: most(file.maxBytes),
      maxPackets: most(file.maxPackets),
      maxFiles: file.maxFiles ?? MOST_FILES,
      ring: file.ring,
    },
    stop: {
      packets: most(stop.packets),
      bytes: most(stop.bytes),
      durationNs: most(stop.durationSeconds, 1e9),
      wallMs: most(stop.wallSeconds, 1e3),
      idleMs: most(stop.idleSeconds, 1e3),
    },
    trigger: spec.trigger,
  };
}
