/** One capture on disk, as the API thread knows it: what was asked for, how far it is, and who writes it. */
import type { StoredCapture } from '../store.ts';
import { type CaptureProgress, NO_PROGRESS } from './capture-job.ts';
import type { CaptureSpec } from './capture-spec.ts';
import type { CaptureWriter } from './capture-writer.ts';

export const CAPTURE_STATES = ['WAITING', 'RECORDING', 'STOPPED', 'INTERRUPTED', 'FAILED'] as const;
export type CaptureState = (typeof CAPTURE_STATES)[number];

export class DiskCapture {
  /** Never used twice on this server; ids without a name are made of it. */
  readonly number: number;
  readonly topology: string;
  readonly id: string;
  readonly createdAt: string;
  readonly spec: CaptureSpec;
  readonly folder: string;
  progress: CaptureProgress;
  endedAt: string | null;
  /** null when nothing more is written. */
  writer: CaptureWriter | null = null;

  constructor(row: StoredCapture, spec: CaptureSpec, folder: string) {
    this.number = row.number;
    this.topology = row.topology;
    this.id = row.id;
    this.createdAt = row.created;
    this.endedAt = row.ended;
    this.spec = spec;
    this.folder = folder;
    // Written by the registry, from what the writer said.
    this.progress = row.progress === null ? NO_PROGRESS : (JSON.parse(row.progress) as CaptureProgress);
  }

  get state(): CaptureState {
    const { end, trigger } = this.progress;
    if (end === null) return this.spec.trigger !== null && trigger === null ? 'WAITING' : 'RECORDING';
    if (end.reason === 'INTERRUPTED') return 'INTERRUPTED';
    return end.reason === 'ERROR' ? 'FAILED' : 'STOPPED';
  }
}
