/**
 * What the firmware does to PCI functions before the kernel runs: sizes every BAR, places it, switches decoding on.
 * seabios src/fw/pciinit.c. The order of its accesses is not taken from a trace; where things end up, on the recorded machine,
 * is.
 */
import {
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_COMMAND_SERR,
  PCI_STD_NUM_BARS,
  pci_header,
  pciBarOffset,
} from '../../wire/pci.ts';
import type { PciAccess } from './probe-types.ts';

const H = pci_header;
type ConfigAccess = Pick<PciAccess, 'cfgRead' | 'cfgWrite'>;

export interface FirmwareAssignment {
  readonly msixBar: number;
  readonly modernBar: number;
  /** Of an I/O BAR: the legacy registers, or the port for notifications. */
  readonly ioBar?: number;
  readonly rom: number;
  readonly irqLine: number;
}
/** Where the recorded machine (q35, one device) had it. */
export const SEABIOS_Q35_ASSIGNMENT: FirmwareAssignment = {
  msixBar: 0xfebc_0000,
  modernBar: 0xfebf_c000,
  ioBar: 0xc040,
  rom: 0xfeb8_0000,
  irqLine: 10,
};

/** One BAR, or the ROM, as its sizing showed it. */
export interface Resource {
  readonly bus: ConfigAccess;
  /** Offset of the register. */
  readonly at: number;
  readonly kind: 'io' | 'memory' | 'prefetchable';
  readonly is64: boolean;
  readonly size: number;
}
/** Sizes the BARs of one function: all ones written, read, and what was there put back (PCI Local Bus 3.0 §6.2.5.1). */
export function sizeBars(bus: ConfigAccess): Resource[] {
  const found: Resource[] = [];
  for (let bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
    const at = pciBarOffset(bar);
    const sized = sizeRegister(bus, at, 0xffff_ffff);
    if (sized === 0) continue;
    const io = (sized & PCI_BASE_ADDRESS_SPACE_IO) !== 0;
    const is64 = !io && (sized & PCI_BASE_ADDRESS_MEM_TYPE_64) !== 0;
    const prefetchable = !io && (sized & PCI_BASE_ADDRESS_MEM_PREFETCH) !== 0;
    const size = lowestBit(io ? sized & ~3 : sized & ~0xf);
    found.push({ bus, at, kind: io ? 'io' : prefetchable ? 'prefetchable' : 'memory', is64, size });
    if (is64) bar++;
  }
  const rom = sizeRegister(bus, H.rom_address.offset, 0xffff_fffe);
  if (rom !== 0) {
    found.push({ bus, at: H.rom_address.offset, kind: 'memory', is64: false, size: lowestBit(rom & ~0x7ff) });
  }
  return found;
}
function sizeRegister(bus: ConfigAccess, at: number, ones: number): number {
  const old = bus.cfgRead(at, 4);
  bus.cfgWrite(at, 4, ones);
  const sized = bus.cfgRead(at, 4);
  bus.cfgWrite(at, 4, old);
  return sized;
}
const lowestBit = (n: number): number => (n & -n) >>> 0;

function place({ bus, at, is64 }: Resource, address: number): void {
  bus.cfgWrite(at, 4, address >>> 0);
  if (is64) bus.cfgWrite(at + 4, 4, Math.floor(address / 0x1_0000_0000));
}
/** Interrupt line, and decoding of ports and memory. */
function switchOn(bus: ConfigAccess, irqLine: number): void {
  if (bus.cfgRead(H.interrupt_pin.offset, 1) !== 0) bus.cfgWrite(H.interrupt_line.offset, 1, irqLine);
  const command = bus.cfgRead(H.command.offset, 2);
  bus.cfgWrite(H.command.offset, 2, command | PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
}

/** A single virtio function, at places that are given. */
export function firmwareInit(bus: PciAccess, where: FirmwareAssignment): void {
  for (const resource of sizeBars(bus)) {
    const memory = resource.at === H.rom_address.offset ? where.rom : where.msixBar;
    const io = where.ioBar ?? SEABIOS_Q35_ASSIGNMENT.ioBar!;
    place(resource, resource.kind === 'io' ? io : resource.is64 ? where.modernBar : memory);
  }
  switchOn(bus, where.irqLine);
}

/** Below this the machine's own memory-mapped registers begin (I/O APIC). */
const PCI_MEMORY_END = 0xfec0_0000;
const PCI_IO_BASE = 0xc000;
/** qemu q35: PIRQ lines of a slot's pin, in turn. */
const IRQ_LINES = [10, 10, 11, 11] as const;

/**
 * All functions of a bus: of prefetchable memory and other memory, what has the coarser alignment lies below the other; ports
 * from 0xc000 up; in each the large ones first, and among equals in the order of the functions. seabios pci_bios_map_devices(),
 * pci_bios_init_root_regions_mem().
 */
export function assignResources(functions: readonly { readonly bus: ConfigAccess; readonly slot: number }[]): void {
  const all = functions.flatMap(({ bus }) => sizeBars(bus));
  const memory = largestFirst(all, 'memory');
  const prefetchable = largestFirst(all, 'prefetchable');
  let end = PCI_MEMORY_END;
  for (const list of alignment(memory) < alignment(prefetchable) ? [memory, prefetchable] : [prefetchable, memory]) {
    const sum = list.reduce((total, r) => total + r.size, 0);
    end = Math.floor((end - sum) / alignment(list)) * alignment(list);
    fill(list, end);
  }
  fill(largestFirst(all, 'io'), PCI_IO_BASE);
  for (const { bus, slot } of functions) switchOn(bus, IRQ_LINES[slot % IRQ_LINES.length]!);
}
const alignment = (list: readonly Resource[]): number => list[0]?.size ?? 1;
const largestFirst = (all: readonly Resource[], kind: Resource['kind']): Resource[] =>
  all.filter((r) => r.kind === kind).sort((a, b) => b.size - a.size);
/** Sizes are powers of two and fall, so each is aligned. */
function fill(list: readonly Resource[], base: number): void {
  let at = base;
  for (const r of list) {
    place(r, at);
    at += r.size;
  }
}
