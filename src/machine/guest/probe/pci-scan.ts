/**
 * How a guest finds its PCI functions: it asks every slot of bus 0 for its vendor, and where a function says that it is one of
 * several, the others too. linux drivers/pci/probe.c, pci_scan_slot() and pci_setup_device().
 */
import { FUNCTIONS, SLOTS } from '../../pci/host-bridge.ts';
import { PCI_HEADER_TYPE_MULTI_FUNCTION, pci_header } from '../../wire/pci.ts';

/** Configuration space of any function of bus 0. An implementation records the exits and charges their time. */
export interface PciConfigMechanism {
  read(slot: number, fn: number, offset: number, width: number): number;
  write(slot: number, fn: number, offset: number, width: number, value: number): void;
}
export interface ScannedFunction {
  readonly slot: number;
  readonly fn: number;
  readonly vendor: number;
  readonly device: number;
  readonly headerType: number;
  /** Class and subclass. */
  readonly class: number;
}

const H = pci_header;
/** linux pci_bus_generic_read_dev_vendor_id(): nobody there, or some broken boards. */
const NOBODY: ReadonlySet<number> = new Set([0xffff_ffff, 0, 0x0000_ffff, 0xffff_0000]);

/** All functions, in order of slot and function. */
export function scanBus(config: PciConfigMechanism): ScannedFunction[] {
  const found: ScannedFunction[] = [];
  for (let slot = 0; slot < SLOTS; slot++) {
    let functions = 1;
    for (let fn = 0; fn < functions; fn++) {
      const ids = config.read(slot, fn, H.vendor_id.offset, 4);
      if (NOBODY.has(ids)) continue;
      const headerType = config.read(slot, fn, H.header_type.offset, 1);
      const revisionAndClass = config.read(slot, fn, H.revision_id.offset, 4);
      if (fn === 0 && (headerType & PCI_HEADER_TYPE_MULTI_FUNCTION) !== 0) functions = FUNCTIONS;
      found.push({ slot, fn, vendor: ids & 0xffff, device: ids >>> 16, headerType, class: revisionAndClass >>> 16 });
    }
  }
  return found;
}
