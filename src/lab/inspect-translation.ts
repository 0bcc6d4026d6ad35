/**
 * The three translations of one address, each as it stands in memory or in a table now (flow VU-3): I/O virtual to
 * guest-physical by the vIOMMU's tables, guest-physical to QEMU's own by its memory map, QEMU's to the back-end's by the region
 * that it has mapped. Reads only: nothing is cached, asked for or counted.
 */
import type { IntelIommu } from '../machine/iommu/intel-iommu.ts';
import { pageBytes, type WalkStep } from '../machine/iommu/second-level.ts';
import { VTD_FAULT_TEXT, VTD_SL_PT_PAGE_SIZE_MASK, VTD_SL_R, VTD_SL_W } from '../machine/wire/vtd.ts';
import type { BuiltNic } from './build/machine.ts';
import type { NicIommu } from './devices/guest-iommu.ts';
import { QEMU_RAM_UVA } from './devices/netdev/nic-backend.ts';
import type { NicDevice } from './devices/nic-device.ts';
import { deviceState } from './inspect.ts';
import type { NicIommuState, TranslationState, TranslationStep } from './protocol.ts';
import { Refusal } from './refusal.ts';

/** Where a vhost-user process has mapped the i-th region's file: addresses of its own, examples like QEMU's. */
const BACKEND_UVA = 0x7e00_0000_0000;
const BACKEND_STRIDE = 0x1_0000_0000;
const PAGE = 4096;

const hex = (n: number): string => `0x${n.toString(16)}`;
const word64 = (lo: number, hi: number): string => `0x${((BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)).toString(16)}`;
/** 00:01.0, as lspci says it. */
const functionName = (sourceId: number): string => {
  const two = (n: number): string => n.toString(16).padStart(2, '0');
  return `${two(sourceId >>> 8)}:${two((sourceId >>> 3) & 0x1f)}.${sourceId & 7}`;
};

/** What translating `iova` for the NIC gives now, for reading or for writing. Refused where it does not translate, with the reason. */
export function translationOf(nic: BuiltNic, iova: number, write: boolean): TranslationState {
  const device = deviceState(nic).nic;
  const { vm } = nic.guest;
  const { iommu } = device;
  const walked = device.translates && iommu !== null ? walk(iommu, iova, write) : null;
  const gpa = walked === null ? iova : walked.gpa;
  const slot = vm.layout.find((s) => gpa >= s.gpa && gpa < s.gpa + s.size);
  if (slot === undefined)
    throw new Refusal('CONFLICT', `${hex(iova)} is ${hex(gpa)} of ${nic.guest.name}, which is no memory of the guest`);
  const inRam = slot.offsetInRam + (gpa - slot.gpa);
  return {
    iova: hex(iova),
    access: write ? 'write' : 'read',
    iommu: walked === null ? null : walked.state,
    gpa: hex(gpa),
    qemu: {
      hva: hex(QEMU_RAM_UVA + inRam),
      slot: slot.slot,
      slotGpa: hex(slot.gpa),
      slotBytes: slot.size,
      slotHva: hex(QEMU_RAM_UVA + slot.offsetInRam),
    },
    backend: backendPart(device, inRam, gpa),
    iotlb: iotlbPart(device, iova),
  };
}

function walk(nic: NicIommu, iova: number, write: boolean) {
  const { iommu, mode } = nic.guest;
  const found = iommu.look(nic.sourceId, iova, write);
  if (found === null) return null;
  const { walk: at, passThrough } = found;
  const steps = found.steps.map(stepOf);
  if (at.fault !== 0) throw new Refusal('CONFLICT', faultText(iommu, nic.sourceId, iova, at.fault, found.steps));
  const state = {
    function: functionName(nic.sourceId),
    domain: nic.domain === null ? null : nic.domain.id,
    mode,
    passThrough,
    pageBytes: passThrough ? null : pageBytes(at.level),
    steps,
  };
  return { gpa: at.gpa, state };
}
function stepOf({ level, pteGpa, pteLo, pteHi }: WalkStep): TranslationStep {
  return {
    level,
    pteGpa: hex(pteGpa),
    pte: word64(pteLo, pteHi),
    read: (pteLo & VTD_SL_R) !== 0,
    write: (pteLo & VTD_SL_W) !== 0,
    leaf: level === 1 || (pteLo & VTD_SL_PT_PAGE_SIZE_MASK) !== 0,
    coversBytes: pageBytes(level),
  };
}
function faultText(
  iommu: IntelIommu,
  sourceId: number,
  iova: number,
  reason: number,
  steps: readonly WalkStep[],
): string {
  const last = steps.at(-1);
  const where =
    last === undefined
      ? ''
      : `; the entry of level ${last.level} at ${hex(last.pteGpa)} is ${word64(last.pteLo, last.pteHi)}`;
  const text = VTD_FAULT_TEXT[reason] ?? 'the walk ends';
  const recorded = iommu.faults === 0 ? '' : ` (${iommu.faults} faults of the guest's devices so far)`;
  return `${hex(iova)} does not translate for ${functionName(sourceId)}: fault reason ${reason}, ${text}${where}${recorded}`;
}

/** How the process or kernel that moves the frames reaches the byte: null where that is QEMU itself. */
function backendPart(device: NicDevice, inRam: number, gpa: number): TranslationState['backend'] {
  const { backend } = device;
  if (backend.kind === 'qemu' || device.servedBy === 'userspace') return null;
  const session = backend.kind === 'vhost-user' ? backend.session : backend.opened[0]!.session;
  const index = session.regions.findIndex((r) => gpa >= r.guest_phys_addr && gpa < r.guest_phys_addr + r.memory_size);
  const region = session.regions[index];
  if (region === undefined) return null;
  const kernel = backend.kind === 'vhost-net';
  return {
    kind: backend.kind,
    // the kernel uses the mapping of its caller
    hva: hex(kernel ? QEMU_RAM_UVA + inRam : BACKEND_UVA + index * BACKEND_STRIDE + inRam),
    region: index,
    regionGpa: hex(region.guest_phys_addr),
    regionBytes: region.memory_size,
    regionUserAddress: hex(region.userspace_addr),
    mmapOffset: kernel ? null : hex(region.mmap_offset),
    mmapAddress: kernel ? null : hex(BACKEND_UVA + index * BACKEND_STRIDE),
  };
}
function iotlbPart(device: NicDevice, iova: number): TranslationState['iotlb'] {
  if (!device.translates) return [];
  return device.translation!.iotlbs.map((iotlb, index) => {
    const held = iotlb.look(iova);
    return {
      device: index,
      state: held !== null ? 'held' : iotlb.isPending(iova) ? 'pending' : 'absent',
      iova: held === null ? null : hex(held.iova),
      bytes: held === null ? null : held.bytes,
    };
  });
}

/** The IOMMU in front of a NIC, and what is known of translations; null without. */
export function iommuState(device: NicDevice): NicIommuState | null {
  const { iommu, translation } = device;
  if (iommu === null || translation === null) return null;
  const { ports, vfio } = iommu;
  const sum = (of: 'maps' | 'unmaps' | 'failed'): number => ports.reduce((n, port) => n + port[of], 0);
  return {
    mode: iommu.guest.mode,
    cachingMode: iommu.guest.iommu.cachingMode,
    function: functionName(iommu.sourceId),
    domain: iommu.domain === null ? null : iommu.domain.id,
    user: vfio !== null ? 'vfio' : ports.length > 0 ? 'dma-api' : 'none',
    maps: sum('maps'),
    unmaps: sum('unmaps'),
    regions: (vfio?.regions ?? []).map((r) => ({ iova: hex(r.iova), gpa: hex(r.gpa), bytes: r.bytes })),
    iotlb: translation.statistics,
    faults: iommu.guest.iommu.firstFaults
      .filter((f) => f.sourceId === iommu.sourceId)
      .map((f) => ({
        reason: f.reason,
        text: VTD_FAULT_TEXT[f.reason] ?? '',
        iova: hex(f.iova - (f.iova % PAGE)),
        access: f.write ? 'write' : 'read',
        atSeconds: f.atNs / 1e9,
      })),
  };
}
