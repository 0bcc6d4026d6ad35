/**
 * intel-iommu, the device that QEMU puts between a guest's devices and its memory: registers, translation, the invalidation
 * queue, fault recording (qemu 7.2 hw/i386/intel_iommu.c). Everything that it knows lies in guest memory: the root table, the
 * context tables, the second-level tables and the queue; nothing read there is trusted.
 *
 * Runs on the vCPU that writes a register (an exit that userspace answers) and on QEMU's main loop (translations for
 * back-ends). Read first: second-level.ts.
 *
 * DEVIATION: interrupts are not remapped (intremap=on would also look at their messages), and the fault interrupt is recorded
 * but not delivered: Linux would print a line and clear the record.
 */
import { IOMMU_FAULT, IOMMU_INVALIDATE, IOMMU_WAIT_DONE } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import {
  CONTEXT_AW_39,
  CONTEXT_DOMAIN_SHIFT,
  CONTEXT_TT_MASK,
  CONTEXT_TT_PASS_THROUGH,
  DMA_FECTL_IM,
  DMA_FSTS_IQE,
  DMA_FSTS_PFO,
  DMA_FSTS_PPF,
  DMA_GCMD_QIE,
  DMA_GCMD_SRTP,
  DMA_GCMD_TE,
  DMAR_CAP_REG,
  DMAR_ECAP_REG,
  DMAR_FECTL_REG,
  DMAR_FRCD_REG,
  DMAR_FSTS_REG,
  DMAR_GCMD_REG,
  DMAR_GSTS_REG,
  DMAR_IQA_REG,
  DMAR_IQH_REG,
  DMAR_IQT_REG,
  DMAR_REG_SIZE,
  DMAR_RTADDR_REG,
  DMAR_VER_REG,
  QI_CC_TYPE,
  QI_DEV_IOTLB_SIZE,
  QI_DIOTLB_TYPE,
  QI_GRAN_GLOBAL,
  QI_GRAN_MASK,
  QI_GRAN_PAGE,
  QI_IEC_TYPE,
  QI_IOTLB_AM_MASK,
  QI_IOTLB_DID_SHIFT,
  QI_IOTLB_TYPE,
  QI_IWD_STATUS_WRITE,
  QI_IWD_TYPE,
  qi_desc,
  VTD_CAP_CM,
  VTD_CAP_ND,
  VTD_CAP_SLLPS_HI,
  VTD_ECAP_DT,
  VTD_ECAP_PT,
  VTD_ECAP_QI,
  VTD_FR_CONTEXT_ENTRY_INV,
  VTD_FR_CONTEXT_ENTRY_P,
  VTD_FR_CONTEXT_TABLE_INV,
  VTD_FR_ROOT_ENTRY_P,
  VTD_FR_ROOT_TABLE_INV,
  VTD_MAMV,
  VTD_PRESENT,
  vtd_context_entry,
  vtd_root_entry,
} from '../wire/vtd.ts';
import { IotlbTable } from './iotlb-table.ts';
import { ADDRESS_LIMIT, type GuestMemory, pageBytes, Walk, type WalkStep, walkTables } from './second-level.ts';

const WORD = 2 ** 32;
const PAGE = 4096;
/** qemu VTD_IOTLB_MAX_SIZE: then everything is forgotten. */
const VTD_IOTLB_MAX_SIZE = 1024;
/** Keys of QEMU's IOTLB: the domain above the address. */
const DOMAIN_STRIDE = ADDRESS_LIMIT;

/** Who caches translations of a device: told by device-TLB invalidations. */
export interface DeviceTlb {
  /**
   * Forgets [iova, iova + bytes). Returns the ns that it takes until nothing that began before uses them, messages and work
   * in flight included.
   */
  invalidate(iova: number, bytes: number, contextBits: number): number;
}
/** A fault as the guest could read it, and for inspection. */
export interface IommuFault {
  readonly sourceId: number;
  readonly reason: number;
  readonly iova: number;
  readonly write: boolean;
  readonly atNs: number;
}
/** What a translation gave: an object of the IOMMU's. */
export class Translation extends Walk {
  /** The address is its own translation (pass-through, or translation off). */
  identity = false;
  domain = 0;
}

/** Faults that inspection shows: the first ones. */
const FAULTS_KEPT = 16;

export class IntelIommu {
  readonly memory: GuestMemory;
  readonly cachingMode: boolean;
  /** The registers, as the guest reads them. */
  readonly registers = new DataView(new ArrayBuffer(DMAR_REG_SIZE));
  /** Faults since the start, and the first of them. */
  faults = 0;
  readonly firstFaults: IommuFault[] = [];
  /** QEMU's own IOTLB: lookups that found something, and walks. */
  hits = 0;
  walks = 0;
  private readonly recorder: Recorder;
  /** Place of QEMU in meta words. */
  private readonly place: number;
  private readonly descriptorCost: number;
  private readonly iotlb = new IotlbTable(VTD_IOTLB_MAX_SIZE);
  private readonly tlbs = new Map<number, DeviceTlb[]>();
  private readonly result = new Translation();
  /** Told of each fault, before anything else happens. */
  onFault: (sourceId: number, contextBits: number) => void = () => {};

  constructor(
    memory: GuestMemory,
    recorder: Recorder,
    options: { readonly place: number; readonly cachingMode: boolean; readonly descriptorCost: number },
  ) {
    this.memory = memory;
    this.recorder = recorder;
    this.place = options.place;
    this.cachingMode = options.cachingMode;
    this.descriptorCost = options.descriptorCost;
    const m = this.registers;
    m.setUint32(DMAR_VER_REG, 0x10, true);
    // SAGAW: three levels (bit 9); MGAW 39 bits; one fault register at FRO 0x22
    const mgaw = (39 - 1) << 16;
    m.setUint32(DMAR_CAP_REG, VTD_CAP_ND | (this.cachingMode ? VTD_CAP_CM : 0) | (1 << 9) | mgaw | (0x22 << 24), true);
    m.setUint32(DMAR_CAP_REG + 4, VTD_CAP_SLLPS_HI | (VTD_MAMV << 16) | (1 << 7), true);
    m.setUint32(DMAR_ECAP_REG, VTD_ECAP_QI | VTD_ECAP_DT | VTD_ECAP_PT, true);
    m.setUint32(DMAR_FECTL_REG, DMA_FECTL_IM, true);
  }

  /** Registers as plain data, and taken over; what QEMU has cached is not among them. */
  standing(): Uint8Array {
    return new Uint8Array(this.registers.buffer).slice();
  }
  standAs(registers: Uint8Array): void {
    new Uint8Array(this.registers.buffer).set(registers);
    this.iotlb.clear();
  }

  private word(gpa: number): number {
    return this.memory.arena.u32[(this.memory.ram + gpa) >> 2]!;
  }
  private inRam(gpa: number, bytes: number): boolean {
    return gpa >= 0 && gpa % 4 === 0 && gpa + bytes <= this.memory.ramBytes;
  }
  read(offset: number): number {
    return offset >= 0 && offset + 4 <= DMAR_REG_SIZE && offset % 4 === 0 ? this.registers.getUint32(offset, true) : 0;
  }
  private read64(offset: number): number {
    return (this.registers.getUint32(offset + 4, true) & 0x1f_ffff) * WORD + this.registers.getUint32(offset, true);
  }
  get enabled(): boolean {
    return (this.read(DMAR_GSTS_REG) & DMA_GCMD_TE) !== 0;
  }

  // ---- registers ----------------------------------------------------------------------------------------------------
  /**
   * A write of 32 bits, on the vCPU's thread (its part of meta words). Returns the ns that QEMU needs beyond the exit, which
   * the vCPU waits: a write to the tail of the invalidation queue is done when the descriptors are.
   */
  write(offset: number, value: number, contextBits: number): number {
    const m = this.registers;
    switch (offset) {
      case DMAR_GCMD_REG: {
        const status = m.getUint32(DMAR_GSTS_REG, true);
        const kept = DMA_GCMD_SRTP & (status | value);
        m.setUint32(DMAR_GSTS_REG, (kept | (value & (DMA_GCMD_TE | DMA_GCMD_QIE))) >>> 0, true);
        if ((value & DMA_GCMD_SRTP) !== 0) this.iotlb.clear();
        return 0;
      }
      case DMAR_IQT_REG:
        m.setUint32(offset, value & 0x7_fff0, true);
        return this.runQueue(contextBits);
      case DMAR_FSTS_REG:
        // write 1 to clear
        m.setUint32(offset, (m.getUint32(offset, true) & ~(value & (DMA_FSTS_PFO | DMA_FSTS_IQE))) >>> 0, true);
        return (value & DMA_FSTS_IQE) !== 0 ? this.runQueue(contextBits) : 0;
      case DMAR_FRCD_REG + 12:
        if ((value & 0x8000_0000) !== 0) this.clearFault();
        return 0;
      case DMAR_RTADDR_REG:
      case DMAR_RTADDR_REG + 4:
      case DMAR_IQA_REG:
      case DMAR_IQA_REG + 4:
      case DMAR_FECTL_REG:
        m.setUint32(offset, value >>> 0, true);
        return 0;
      default:
        return 0; // read-only, or none
    }
  }

  // ---- translation --------------------------------------------------------------------------------------------------
  /**
   * What a device (source id: bus, device, function) reaches at `iova`. The answer is an object of the IOMMU's, good until the
   * next call; its `fault` is 0 where there is one. A fault is recorded for the guest. qemu vtd_do_iommu_translate().
   */
  translate(sourceId: number, iova: number, write: boolean, contextBits: number): Translation {
    const r = this.result;
    r.fault = 0;
    r.identity = false;
    if (!this.enabled) return this.same(iova);
    const context = this.contextEntry(sourceId);
    if (context < 0) return this.faulted(sourceId, iova, write, contextBits);
    const lo = this.word(context + vtd_context_entry.lo.offset);
    const hi = this.word(context + vtd_context_entry.hi.offset);
    r.domain = (hi >>> CONTEXT_DOMAIN_SHIFT) & 0xffff;
    if ((lo & CONTEXT_TT_MASK) === CONTEXT_TT_PASS_THROUGH) return this.same(iova);
    if (iova >= 0 && iova < ADDRESS_LIMIT) {
      const cached = this.iotlb.find(r.domain * DOMAIN_STRIDE + iova);
      // an entry knows reads and writes; which of them are allowed is in its lowest bits
      if (cached >= 0 && (this.iotlb.targetOf(cached) & (write ? 2 : 1)) !== 0) {
        this.hits++;
        const target = this.iotlb.targetOf(cached);
        const bytes = this.iotlb.bytesOf(cached);
        r.gpa = target - (target % PAGE) + ((r.domain * DOMAIN_STRIDE + iova) % bytes);
        r.level = bytes === PAGE ? 1 : bytes === pageBytes(2) ? 2 : 3;
        return r;
      }
    }
    this.walks++;
    const root = this.word(context + vtd_context_entry.lo_hi.offset) * WORD + ((lo & 0xffff_f000) >>> 0);
    if (!walkTables(this.memory, root, iova, write, r)) return this.faulted(sourceId, iova, write, contextBits);
    this.remember(r, iova);
    return r;
  }
  private same(iova: number): Translation {
    const r = this.result;
    r.identity = true;
    r.gpa = iova;
    r.level = 0;
    return r;
  }
  private remember(r: Translation, iova: number): void {
    if (this.iotlb.count === VTD_IOTLB_MAX_SIZE) this.iotlb.clear(); // vtd_reset_iotlb_locked()
    const bytes = pageBytes(r.level);
    const key = r.domain * DOMAIN_STRIDE + iova - (iova % bytes);
    this.iotlb.invalidate(key, bytes);
    this.iotlb.insert(key, bytes, r.gpa - (r.gpa % bytes) + (r.pteLo & 3));
  }

  /** Guest-physical address of the device's context entry; -1 with the reason in `result.fault`. */
  private contextEntry(sourceId: number): number {
    const r = this.result;
    const root = this.read64(DMAR_RTADDR_REG);
    const at = root - (root % PAGE) + (sourceId >>> 8) * vtd_root_entry.SIZE;
    if (!this.inRam(at, vtd_root_entry.SIZE)) return this.no(VTD_FR_ROOT_TABLE_INV);
    const lo = this.word(at);
    if ((lo & VTD_PRESENT) === 0) return this.no(VTD_FR_ROOT_ENTRY_P);
    const table = this.word(at + 4) * WORD + ((lo & 0xffff_f000) >>> 0);
    const context = table + (sourceId & 0xff) * vtd_context_entry.SIZE;
    if (!this.inRam(context, vtd_context_entry.SIZE)) return this.no(VTD_FR_CONTEXT_TABLE_INV);
    const entry = this.word(context);
    if ((entry & VTD_PRESENT) === 0) return this.no(VTD_FR_CONTEXT_ENTRY_P);
    const width = this.word(context + vtd_context_entry.hi.offset) & 7;
    if ((entry & CONTEXT_TT_MASK) !== CONTEXT_TT_PASS_THROUGH && width !== CONTEXT_AW_39)
      return this.no(VTD_FR_CONTEXT_ENTRY_INV);
    r.fault = 0;
    return context;
  }
  private no(reason: number): -1 {
    this.result.fault = reason;
    return -1;
  }

  /**
   * The entries on the way of `iova`, for people: nothing is cached, recorded or counted. `fault` as translate(); null where
   * translation is off.
   */
  look(sourceId: number, iova: number, write: boolean): { steps: WalkStep[]; walk: Walk; passThrough: boolean } | null {
    if (!this.enabled) return null;
    const walk = new Walk();
    const steps: WalkStep[] = [];
    const context = this.contextEntry(sourceId);
    walk.fault = this.result.fault;
    if (context < 0) return { steps, walk, passThrough: false };
    const lo = this.word(context);
    if ((lo & CONTEXT_TT_MASK) === CONTEXT_TT_PASS_THROUGH) {
      walk.gpa = iova;
      return { steps, walk, passThrough: true };
    }
    walkTables(this.memory, this.word(context + 4) * WORD + ((lo & 0xffff_f000) >>> 0), iova, write, walk, steps);
    return { steps, walk, passThrough: false };
  }

  // ---- faults -------------------------------------------------------------------------------------------------------
  /** vtd_report_dmar_fault(): one record; what comes while it is not read sets the overflow bit. */
  private faulted(sourceId: number, iova: number, write: boolean, contextBits: number): Translation {
    const r = this.result;
    const { recorder, registers: m } = this;
    this.faults++;
    if (this.firstFaults.length < FAULTS_KEPT) {
      this.firstFaults.push({ sourceId, reason: r.fault, iova, write, atNs: recorder.stamp[0]! });
    }
    const page = Math.floor(iova / PAGE);
    recorder.event((this.place << 8) | contextBits | IOMMU_FAULT, 0, (r.fault | (sourceId << 16)) >>> 0, page >>> 0);
    const status = m.getUint32(DMAR_FSTS_REG, true);
    if ((status & DMA_FSTS_PPF) !== 0) m.setUint32(DMAR_FSTS_REG, status | DMA_FSTS_PFO, true);
    else {
      m.setUint32(DMAR_FRCD_REG, (page * PAGE) >>> 0, true);
      m.setUint32(DMAR_FRCD_REG + 4, Math.floor(iova / WORD) >>> 0, true);
      m.setUint32(DMAR_FRCD_REG + 8, sourceId, true);
      // F, T (1: a read), the reason
      m.setUint32(DMAR_FRCD_REG + 12, (0x8000_0000 | (write ? 0 : 0x4000_0000) | r.fault) >>> 0, true);
      m.setUint32(DMAR_FSTS_REG, status | DMA_FSTS_PPF, true);
    }
    this.onFault(sourceId, contextBits);
    return r;
  }
  private clearFault(): void {
    const m = this.registers;
    m.setUint32(DMAR_FRCD_REG + 12, 0, true);
    m.setUint32(DMAR_FSTS_REG, m.getUint32(DMAR_FSTS_REG, true) & ~DMA_FSTS_PPF, true);
  }

  // ---- invalidation -------------------------------------------------------------------------------------------------
  /** Translations of the device are cached there from now on, until forget(). */
  attach(sourceId: number, tlb: DeviceTlb): void {
    this.tlbs.set(sourceId, [...(this.tlbs.get(sourceId) ?? []), tlb]);
  }
  detach(sourceId: number, tlb: DeviceTlb): void {
    this.tlbs.set(
      sourceId,
      (this.tlbs.get(sourceId) ?? []).filter((t) => t !== tlb),
    );
  }

  /** vtd_fetch_inv_desc(): executes what lies between head and tail. Returns the ns that it takes. */
  private runQueue(contextBits: number): number {
    const m = this.registers;
    if ((this.read(DMAR_GSTS_REG) & DMA_GCMD_QIE) === 0 || (this.read(DMAR_FSTS_REG) & DMA_FSTS_IQE) !== 0) return 0;
    const base = this.read64(DMAR_IQA_REG);
    const entries = 256 << (base & 7);
    const queue = base - (base % PAGE);
    const tail = this.read(DMAR_IQT_REG) >>> 4;
    let head = this.read(DMAR_IQH_REG) >>> 4;
    let ns = 0;
    let waited = 0;
    if (tail >= entries || !this.inRam(queue, entries * qi_desc.SIZE)) return this.queueError(ns);
    while (head !== tail) {
      const at = queue + head * qi_desc.SIZE;
      const lo = this.word(at);
      const hi = this.word(at + 8);
      ns += this.descriptorCost;
      switch (lo & 0xf) {
        case QI_CC_TYPE:
          // QEMU looks its context cache up again by generation; here contexts are read for each translation
          this.note(contextBits, lo, 0);
          break;
        case QI_IOTLB_TYPE:
          this.invalidateIotlb(lo, hi, this.word(at + 12), contextBits);
          break;
        case QI_DIOTLB_TYPE: {
          const more = this.invalidateDevice(this.word(at + 4), hi, this.word(at + 12), contextBits);
          ns += more;
          waited += more;
          break;
        }
        case QI_IEC_TYPE:
          break;
        case QI_IWD_TYPE:
          this.finishWait(at, lo, hi, waited, contextBits);
          waited = 0;
          break;
        default:
          return this.queueError(ns);
      }
      head = head + 1 === entries ? 0 : head + 1;
      m.setUint32(DMAR_IQH_REG, head << 4, true);
    }
    return ns;
  }
  /** vtd_handle_inv_queue_error(). */
  private queueError(ns: number): number {
    this.registers.setUint32(DMAR_FSTS_REG, this.read(DMAR_FSTS_REG) | DMA_FSTS_IQE, true);
    return ns;
  }
  private note(contextBits: number, lo: number, page: number): void {
    this.recorder.event((this.place << 8) | contextBits | IOMMU_INVALIDATE, 0, lo & (0xf | QI_GRAN_MASK), page >>> 0);
  }

  private invalidateIotlb(lo: number, hi: number, hiHi: number, contextBits: number): void {
    const domain = lo >>> QI_IOTLB_DID_SHIFT;
    const iova = hiHi * WORD + ((hi & 0xffff_f000) >>> 0);
    this.note(contextBits, lo, Math.floor(iova / PAGE));
    const granularity = lo & QI_GRAN_MASK;
    if (granularity === QI_GRAN_GLOBAL) this.iotlb.clear();
    else if (granularity === QI_GRAN_PAGE) {
      const bytes = PAGE * 2 ** Math.min(hi & QI_IOTLB_AM_MASK, VTD_MAMV);
      if (iova < ADDRESS_LIMIT) this.iotlb.invalidate(domain * DOMAIN_STRIDE + iova - (iova % bytes), bytes);
    } else this.iotlb.invalidate(domain * DOMAIN_STRIDE, DOMAIN_STRIDE);
  }

  /** vtd_process_device_iotlb_desc(): of a size that is in the address, by its lowest clear bits. */
  private invalidateDevice(loHi: number, hi: number, hiHi: number, contextBits: number): number {
    const sourceId = loHi & 0xffff;
    let iova = hiHi * WORD + ((hi & 0xffff_f000) >>> 0);
    let bytes = PAGE;
    if ((hi & QI_DEV_IOTLB_SIZE) !== 0) {
      bytes = 2 * PAGE;
      let pages = Math.floor(iova / PAGE);
      while (pages % 2 === 1 && bytes < ADDRESS_LIMIT) {
        bytes *= 2;
        pages = (pages - 1) / 2;
      }
      bytes = Math.min(bytes, ADDRESS_LIMIT);
      iova -= iova % bytes;
    }
    this.note(contextBits, QI_DIOTLB_TYPE, Math.floor(iova / PAGE));
    const tlbs = this.tlbs.get(sourceId);
    let ns = 0;
    if (tlbs !== undefined) for (let i = 0; i < tlbs.length; i++) ns += tlbs[i]!.invalidate(iova, bytes, contextBits);
    return ns;
  }

  private finishWait(at: number, lo: number, hi: number, waited: number, contextBits: number): void {
    const data = this.word(at + 4);
    const address = this.word(at + 12) * WORD + hi;
    const { arena, ram } = this.memory;
    if ((lo & QI_IWD_STATUS_WRITE) !== 0 && this.inRam(address, 4)) arena.u32[(ram + address) >> 2] = data;
    this.recorder.event((this.place << 8) | contextBits | IOMMU_WAIT_DONE, 0, data, Math.min(waited, 0xffff_ffff));
  }
}
