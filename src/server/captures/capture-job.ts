/**
 * What the API thread gives to the thread that writes a capture to disk, and hears from it. Plain data and shared memory:
 * the writer reads the world's rings itself and is told to stop by a word, so that neither waits for the other.
 */
import type { WorldCatalog } from '../../engine/catalog.ts';
import type { CaptureOptions } from '../../readers/capture/capture.ts';
import type { EventFilterQuery } from '../../readers/events/event-filter.ts';

/** Why a capture ended. */
export const END_REASONS = [
  'REQUESTED',
  'PACKETS',
  'BYTES',
  'DURATION',
  'WALL_TIME',
  'IDLE',
  'FILES',
  'TRIGGER',
  'DISK_LIMIT',
  'WORLD_ENDED',
  'SERVER_STOPPED',
  'INTERRUPTED',
  'ERROR',
] as const;
export type EndReason = (typeof END_REASONS)[number];
/** Reasons that the API thread gives, by the value of the stop word; 0 = go on. */
export const STOP_REASONS = [undefined, 'REQUESTED', 'WORLD_ENDED', 'SERVER_STOPPED'] as const;
export type StopReason = NonNullable<(typeof STOP_REASONS)[number]>;

/** When a file is full, and what then. */
export interface FileLimits {
  readonly maxBytes: number;
  readonly maxPackets: number;
  readonly maxFiles: number;
  /** The oldest file goes when there are maxFiles; else the capture ends. */
  readonly ring: boolean;
}
/** When a capture ends by itself; Infinity = not by this. */
export interface StopLimits {
  readonly packets: number;
  readonly bytes: number;
  /** Virtual time since the capture began, ns. */
  readonly durationNs: number;
  readonly wallMs: number;
  /** Wall time without a new event, ms. */
  readonly idleMs: number;
}
export interface Trigger {
  readonly on: EventFilterQuery;
  /** Events before the one that matches, and events from it on. */
  readonly before: number;
  readonly after: number;
}

export interface CaptureJob {
  readonly memory: SharedArrayBuffer;
  readonly catalog: WorldCatalog;
  /** Exists and is empty. */
  readonly folder: string;
  readonly options: CaptureOptions;
  /** First event that is of interest: rows begin here, or the search for the trigger does. */
  readonly fromEvent: number;
  /** Virtual time of that, ns. */
  readonly startNs: number;
  /** Hold that the API thread took for this capture; null with slow=drop. */
  readonly holdSlot: number | null;
  readonly file: FileLimits;
  readonly stop: StopLimits;
  readonly trigger: Trigger | null;
  /** One word: index into STOP_REASONS. Notified when it changes. */
  readonly stopWord: Int32Array;
  readonly disk: DiskQuota;
}

/** Bytes of all captures together, shared by all writers and the API thread. */
export interface DiskQuota {
  /** [0] bytes that are written. */
  readonly used: BigInt64Array;
  readonly limit: number;
}
/** Books bytes; false where they would exceed the limit. */
export function takeDisk(quota: DiskQuota, bytes: number): boolean {
  const before = Atomics.add(quota.used, 0, BigInt(bytes));
  if (Number(before) + bytes <= quota.limit) return true;
  Atomics.sub(quota.used, 0, BigInt(bytes));
  return false;
}
export function giveDisk(quota: DiskQuota, bytes: number): void {
  Atomics.sub(quota.used, 0, BigInt(bytes));
}

export interface CaptureFile {
  readonly name: string;
  readonly bytes: number;
  readonly packets: number;
  /** Lowest and highest frame id; 0 = none yet. */
  readonly firstFrame: number;
  readonly lastFrame: number;
  /** Virtual time of the first and the last packet, ns; both 0 while there is none. */
  readonly firstNs: number;
  readonly lastNs: number;
  /** Nothing will be added. */
  readonly sealed: boolean;
}

export interface CaptureProgress {
  /** Files that are there, oldest first. */
  readonly files: readonly CaptureFile[];
  /** Packets written since the beginning; those in files that a ring of files has removed are among them. */
  readonly packets: number;
  readonly removedFiles: number;
  /** Events that were overwritten before they could be read. */
  readonly lostEvents: number;
  /** Packets that were seen and could not be written; known at the end. */
  readonly lostPackets: number | null;
  /** The event that the trigger matched. */
  readonly trigger: { readonly event: number; readonly ns: number } | null;
  readonly end: { readonly reason: EndReason; readonly detail: string } | null;
}
export const NO_PROGRESS: CaptureProgress = {
  files: [],
  packets: 0,
  removedFiles: 0,
  lostEvents: 0,
  lostPackets: null,
  trigger: null,
  end: null,
};
