/** A guest's memory with an intel-iommu in front of it and its kernel's driver: no world, no vCPU. */
import { KVM_EXIT_MMIO_USER } from '../../../../src/engine/events.ts';
import type { Recorder } from '../../../../src/engine/recorder.ts';
import { type DmaOwner, IntelIommuDriver } from '../../../../src/machine/iommu/intel-driver.ts';
import { IntelIommu } from '../../../../src/machine/iommu/intel-iommu.ts';
import type { GuestMemory } from '../../../../src/machine/iommu/second-level.ts';
import { Arena } from '../../../../src/machine/memory/arena.ts';

export const RAM_BYTES = 16 * 2 ** 20;
const TABLES_GPA = 8 * 2 ** 20;
const PAGE = 4096;

export interface RecordedEvent {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
}
export class Rig implements DmaOwner {
  readonly memory: GuestMemory;
  readonly iommu: IntelIommu;
  readonly driver: IntelIommuDriver;
  readonly events: RecordedEvent[] = [];
  readonly recorder: Recorder;
  readonly vcpuBase = 0;
  readonly contextBits = 0;
  owed = 0;
  /** Table pages handed out. */
  tables = 0;

  constructor(cachingMode = true, pages = 512) {
    const arena = new Arena(RAM_BYTES + 65536);
    this.memory = { arena, ram: 65536, ramBytes: RAM_BYTES };
    this.recorder = {
      stamp: new Float64Array(1),
      event: (meta: number, _frame: number, a: number, b: number) => this.events.push({ kind: meta & 0xff, a, b }),
    } as unknown as Recorder;
    this.iommu = new IntelIommu(this.memory, this.recorder, { place: 0, cachingMode, descriptorCost: 10 });
    const take = (): number => (this.tables === pages ? -1 : TABLES_GPA + this.tables++ * PAGE);
    this.driver = new IntelIommuDriver(this.iommu, this.recorder, { take }, 5);
    this.driver.enable(this);
  }
  leave(address: number, value: number): void {
    this.events.push({ kind: KVM_EXIT_MMIO_USER, a: address, b: value });
    this.owed += 1000;
  }
  enter(): void {}
  owe(ns: number): void {
    this.owed += ns;
  }
  /** A 64-bit word of guest memory, lower half. */
  poke(gpa: number, value: number): void {
    this.memory.arena.u32[(this.memory.ram + gpa) >> 2] = value;
  }
  count(kind: number): number {
    return this.events.filter((e) => e.kind === kind).length;
  }
}
