/**
 * The captures on disk of all topologies: where they are made, ended and removed. Their files lie in
 * `<data folder>/captures/<topology>/<id>/`, what is known about them in the database; the files are the truth, so that a
 * capture which a crash interrupted is listed with what it had written.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { epochOf } from '../../readers/capture/pcapng-blocks.ts';
import type { HostedTopology } from '../hosted-topology.ts';
import { notFound, Problem } from '../problem.ts';
import type { Limits } from '../settings.ts';
import type { TopologyStore } from '../store.ts';
import type { World } from '../world.ts';
import { type CaptureJob, type DiskQuota, giveDisk, type StopReason } from './capture-job.ts';
import type { CaptureCounts, CountedReason } from './capture-metrics.ts';
import { type CaptureSpec, limitsOf } from './capture-spec.ts';
import { CaptureWriter } from './capture-writer.ts';
import { type CaptureState, DiskCapture } from './disk-capture.ts';
import { folderBytes, recoverFolder } from './file-recovery.ts';

/** How long a writer may take to end when the server stops, ms. */
const STOP_MS = 2000;

export class CaptureRegistry {
  private readonly store: TopologyStore;
  private readonly limits: Limits;
  private readonly folder: () => string;
  private readonly captures = new Map<number, DiskCapture>();
  private readonly disk: DiskQuota;
  /** For the metrics, since the server started. */
  private readonly ended = new Map<CountedReason, number>();
  private packets = 0;
  private lostEvents = 0;
  /** Being removed: that their writers end is no error. */
  private readonly removing = new Set<DiskCapture>();
  /** Without a data folder: made when the first capture is, removed at the end. */
  private temporary: string | null = null;

  constructor(store: TopologyStore, dataDir: string | null, limits: Limits) {
    this.store = store;
    this.limits = limits;
    this.disk = { used: new BigInt64Array(new SharedArrayBuffer(8)), limit: limits.captureDisk };
    this.folder = () => {
      if (dataDir !== null) return join(dataDir, 'captures');
      this.temporary ??= mkdtempSync(join(tmpdir(), 'ringside-captures-'));
      return this.temporary;
    };
    if (dataDir !== null) this.restore();
  }

  /** Captures of one topology, oldest first. */
  list(topology: string): DiskCapture[] {
    return [...this.captures.values()].filter((c) => c.topology === topology).sort((a, b) => a.number - b.number);
  }
  get(topology: string, id: string): DiskCapture {
    const found = this.find(topology, id);
    if (found === undefined) throw notFound(`Topology '${topology}' has no capture '${id}'`);
    return found;
  }
  private find(topology: string, id: string): DiskCapture | undefined {
    for (const c of this.captures.values()) if (c.topology === topology && c.id === id) return c;
    return undefined;
  }
  /** Captures that are being written. */
  get writing(): number {
    let n = 0;
    for (const c of this.captures.values()) if (c.writer !== null) n++;
    return n;
  }

  /** What there is and what has been written, for the metrics. */
  get counts(): CaptureCounts {
    const states = new Map<CaptureState, number>();
    for (const { state } of this.captures.values()) states.set(state, (states.get(state) ?? 0) + 1);
    const diskBytes = Number(Atomics.load(this.disk.used, 0));
    return { states, ended: this.ended, packets: this.packets, lostEvents: this.lostEvents, diskBytes };
  }

  /** Starts a capture of a world as it is now. `spec` has been checked against the world. */
  create(hosted: HostedTopology, world: World, name: string | null, spec: CaptureSpec): DiskCapture {
    if (this.captures.size >= this.limits.captures) {
      const detail = `This server keeps at most ${this.limits.captures} captures; delete one`;
      throw new Problem('RINGSIDE_E_TOO_MANY', detail);
    }
    if (name !== null && this.find(hosted.name, name) !== undefined) {
      throw new Problem('RINGSIDE_E_EXISTS', `Topology '${hosted.name}' has a capture '${name}' already`);
    }
    const hold = spec.slow === 'block' ? world.takeHold(startOf(world, spec).fromEvent) : null;
    let capture: DiskCapture | null = null;
    try {
      const row = this.store.addCapture(hosted.name, name, JSON.stringify(spec));
      capture = new DiskCapture(row, spec, this.folderOf(hosted.name, row.id));
      rmSync(capture.folder, { recursive: true, force: true });
      mkdirSync(capture.folder, { recursive: true, mode: 0o700 });
    } catch (error) {
      hold?.release();
      if (capture !== null) this.store.deleteCapture(capture.number);
      const cause = error instanceof Error ? error.message : String(error);
      throw new Problem('RINGSIDE_E_STORAGE', `The data folder cannot be written: ${cause}`);
    }
    this.captures.set(capture.number, capture);
    this.start(capture, world, hold);
    return capture;
  }

  private start(capture: DiskCapture, world: World, hold: ReturnType<World['takeHold']> | null): void {
    const { spec } = capture;
    const job: CaptureJob = {
      ...world.shared,
      ...limitsOf(spec),
      folder: capture.folder,
      ...startOf(world, spec),
      holdSlot: hold?.slot ?? null,
      stopWord: new Int32Array(new SharedArrayBuffer(4)),
      disk: this.disk,
    };
    const ended = (): void => writer.stop('WORLD_ENDED');
    const writer = new CaptureWriter(
      job,
      hold,
      (progress) => {
        this.packets += progress.packets - capture.progress.packets;
        this.lostEvents += progress.lostEvents - capture.progress.lostEvents;
        capture.progress = progress;
        if (progress.end !== null) this.save(capture);
      },
      (failure) => {
        world.events.off('end', ended);
        capture.writer = null;
        if (failure === null) return;
        this.interrupted(capture, 'ERROR', failure);
        this.save(capture);
      },
    );
    capture.writer = writer;
    world.events.once('end', ended);
    if (world.over) ended();
  }

  /** Ends it and waits until its files are complete. One that has ended stays as it is. */
  async stop(capture: DiskCapture, reason: StopReason = 'REQUESTED'): Promise<void> {
    const { writer } = capture;
    if (writer === null) return;
    writer.stop(reason);
    await writer.ended;
  }

  /** Removes it with its files. */
  async remove(capture: DiskCapture): Promise<void> {
    if (capture.writer !== null) {
      this.removing.add(capture);
      const { ended } = capture.writer;
      await capture.writer.kill();
      await ended;
    }
    this.removing.delete(capture);
    if (!this.captures.delete(capture.number)) return;
    giveDisk(this.disk, folderBytes(capture.folder));
    rmSync(capture.folder, { recursive: true, force: true });
    this.store.deleteCapture(capture.number);
  }

  /** A topology has been deleted: its captures go with it. */
  async removeAll(topology: string): Promise<void> {
    await Promise.all(this.list(topology).map((capture) => this.remove(capture)));
    if (this.list(topology).length === 0) rmSync(join(this.folder(), topology), { recursive: true, force: true });
  }

  /** Ends all writers; those that take too long are cut off, and found interrupted at the next start. */
  async close(): Promise<void> {
    const writers = [...this.captures.values()].flatMap((c) => c.writer ?? []);
    for (const writer of writers) writer.stop('SERVER_STOPPED');
    const late = setTimeout(() => {
      for (const writer of writers) void writer.kill();
    }, STOP_MS);
    await Promise.all(writers.map((writer) => writer.ended));
    clearTimeout(late);
    if (this.temporary !== null) rmSync(this.temporary, { recursive: true, force: true });
  }

  /** Reads the database; what was being written when the server died is looked at, trimmed and called interrupted. */
  private restore(): void {
    const topologies = new Set(this.store.all().map((t) => t.name));
    for (const row of this.store.captures()) {
      // Written by `create`, from a complete spec.
      const spec = JSON.parse(row.spec) as CaptureSpec;
      const capture = new DiskCapture(row, spec, this.folderOf(row.topology, row.id));
      if (!topologies.has(row.topology)) {
        this.store.deleteCapture(row.number);
        continue;
      }
      this.captures.set(row.number, capture);
      if (capture.progress.end === null) {
        this.interrupted(capture, 'INTERRUPTED', 'the server ended while it was written');
        this.save(capture);
      }
      Atomics.add(this.disk.used, 0, BigInt(folderBytes(capture.folder)));
    }
    this.removeStrays();
  }

  /** Folders that no capture has: their topology was deleted when the server died. */
  private removeStrays(): void {
    const known = new Set([...this.captures.values()].map((c) => c.folder));
    for (const topology of foldersIn(this.folder())) {
      const below = foldersIn(topology);
      const strays = below.filter((folder) => !known.has(folder));
      for (const folder of strays) rmSync(folder, { recursive: true, force: true });
      if (strays.length === below.length) rmSync(topology, { recursive: true, force: true });
    }
  }

  private interrupted(capture: DiskCapture, reason: 'INTERRUPTED' | 'ERROR', detail: string): void {
    const before = capture.progress;
    let files = before.files;
    try {
      files = recoverFolder(capture.folder, epochOf(capture.spec.epochNs));
    } catch (error) {
      detail = `${detail}; its files cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    }
    const packets = Math.max(
      before.packets,
      files.reduce((n, f) => n + f.packets, 0),
    );
    capture.progress = { ...before, files, packets, end: { reason, detail } };
  }
  private save(capture: DiskCapture): void {
    if (!this.captures.has(capture.number)) return;
    if (capture.endedAt === null && capture.progress.end !== null) {
      const reason = this.removing.has(capture) ? 'DELETED' : capture.progress.end.reason;
      this.ended.set(reason, (this.ended.get(reason) ?? 0) + 1);
    }
    capture.endedAt ??= new Date().toISOString();
    this.store.updateCapture(capture.number, JSON.stringify(capture.progress), capture.endedAt);
  }
  private folderOf(topology: string, id: string): string {
    return join(this.folder(), topology, id);
  }
}

/** Sequence number of the first event that a capture looks at, and the virtual time of that. */
function startOf(world: World, spec: CaptureSpec): { readonly fromEvent: number; readonly startNs: number } {
  const { counters } = world;
  if (spec.from === 'now') return { fromEvent: counters.head(), startNs: counters.virtualTimeNs() };
  const reader = world.openReader();
  const held = reader.read(reader.tail()) > 0;
  return { fromEvent: reader.block.first, startNs: held ? reader.block.time[0]! : counters.virtualTimeNs() };
}

function foldersIn(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(folder, entry.name));
  } catch {
    return [];
  }
}
