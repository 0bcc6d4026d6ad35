/**
 * QEMU's monitor: what its user asks for (QMP stop, cont, set_link, and a NIC's other back-end) is done on the main loop, one
 * step after the other, each with its time. What comes meanwhile waits its turn.
 */
import type { LoopSource } from '../../../machine/backend/qemu.ts';
import type { Vmm } from './vmm.ts';

export interface MonitorStep {
  /** ns of the main loop. */
  readonly cost: number;
  /**
   * What has to be over before the step begins: a worker's batch, a PMD's burst. True: it is; else `wake` is called when it may
   * be, and then it is asked again.
   */
  readonly ready?: (wake: () => void) => boolean;
  readonly run: () => void;
}

export class Monitor implements LoopSource {
  private readonly steps: MonitorStep[] = [];
  /** The first step waits for somebody. */
  private waiting = false;
  private readonly vmm: Vmm;

  constructor(vmm: Vmm) {
    this.vmm = vmm;
  }

  get ready(): boolean {
    if (this.waiting) return false;
    const first = this.steps[0];
    if (first === undefined) return false;
    if (first.ready === undefined || first.ready(this.wake)) return true;
    this.waiting = true;
    return false;
  }
  get cost(): number {
    return this.steps[0]!.cost;
  }
  run(contextBits: number): void {
    const step = this.steps.shift();
    if (step !== undefined) this.vmm.actAs(contextBits, step.run);
  }

  private readonly wake = (): void => {
    if (!this.waiting) return;
    this.waiting = false;
    this.rouse();
  };
  private rouse(): void {
    const loop = this.vmm.mainLoop!;
    loop.clock[1] = loop.clock[0]! + this.vmm.services.ns('idle_backend_wakeup');
    loop.rouse();
  }
  /** Steps to be done behind those that wait. The command arrives now, at the socket of the monitor. */
  ask(steps: readonly MonitorStep[]): void {
    this.steps.push(...steps);
    this.rouse();
  }
}

/** The monitor of a guest of QEMU, made when it is first asked for something. */
export function monitorOf(vmm: Vmm): Monitor {
  const before = vmm.monitor;
  if (before !== null) return before;
  const monitor = new Monitor(vmm);
  vmm.monitor = monitor;
  vmm.mainLoop!.sources.push(monitor);
  return monitor;
}
