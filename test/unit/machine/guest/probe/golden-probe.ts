/**
 * The recorded boots of QEMU 7.2 with a Linux 6.1 guest, and the same boots here: our firmware and our Linux driver on our
 * device, with the same options. What differs is listed by line, so that a page can justify it.
 */
import { readFileSync } from 'node:fs';
import { bootPci } from '../../../../../src/machine/guest/probe/boot.ts';
import type { PciAccess, ProbeOptions, ProbeResult } from '../../../../../src/machine/guest/probe/probe-types.ts';
import {
  bindVirtioNet,
  firmwareInit,
  LINUX_6_1_VIRTIO_NET_FEATURES,
} from '../../../../../src/machine/guest/probe/virtio-probe.ts';
import { enumerateFunction } from '../../../../../src/machine/guest/probe/virtio-transport.ts';
import {
  CONFIG_ADDRESS,
  CONFIG_DATA,
  configAddress,
  type PciHostBridge,
} from '../../../../../src/machine/pci/host-bridge.ts';
import { q35HostBridge } from '../../../../../src/machine/pci/q35.ts';
import { featuresHex } from '../../../../../src/machine/virtio/features.ts';
import type { MsiMessage } from '../../../../../src/machine/virtio/msix.ts';
import { NetConfig } from '../../../../../src/machine/virtio/net/net-config.ts';
import { deviceOffer, legacyOffer } from '../../../../../src/machine/virtio/net/net-offers.ts';
import { VirtioPciDevice } from '../../../../../src/machine/virtio/pci-transport.ts';
import { legacyConfigOffset, virtio_pci_common_cfg, virtio_pci_legacy } from '../../../../../src/machine/wire/pci.ts';
import { virtio_net_config } from '../../../../../src/machine/wire/virtio-net.ts';
import { GOLDEN, optionsOf } from '../../virtio/golden-options.ts';

/** A recorded boot. `before` and `after`: configuration space around the driver; `lines`: its accesses. */
export interface RecordedBoot {
  readonly machine: string;
  readonly address: string;
  readonly before: string;
  readonly after: string;
  readonly size: number;
  readonly lines: string;
}
const file = new URL('../../../../vectors/probe/qemu-7.2.json', import.meta.url);
export const BOOTS: Readonly<Record<string, RecordedBoot>> = JSON.parse(readFileSync(file, 'utf8')).cases;
export const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/** The device of an option set. */
export function goldenDevice(name: string): VirtioPciDevice {
  const options = optionsOf(name);
  const offered = deviceOffer(options);
  const said = new Map(GOLDEN[name]!.device.split(',').map((pair) => pair.split('=') as [string, string]));
  const { queuePairs } = options;
  const rx = Number(said.get('rx_queue_size') ?? 256);
  const vectors = said.get('vectors');
  return new VirtioPciDevice({
    mac: MAC,
    offered,
    legacyOffered: legacyOffer(options),
    queueSizes: [...Array.from({ length: 2 * queuePairs }, (_, i) => (i % 2 === 0 ? rx : 256)), 64],
    netConfig: new NetConfig(MAC, { ...options, offered }),
    flavour:
      options.transport === 'pci-legacy' ? 'legacy' : options.transport === 'pci-modern' ? 'modern' : 'transitional',
    ...(vectors === undefined ? {} : { vectors: Number(vectors) }),
    pagePerVq: said.get('page-per-vq') === 'on',
    modernPioNotify: said.get('modern-pio-notify') === 'on',
    ats: said.get('ats') === 'on',
    onRootPort: said.has('bus'),
  });
}

const nameAt = (fields: object, offset: number): string | undefined =>
  Object.entries(fields).find(([, f]) => typeof f === 'object' && f !== null && f.offset === offset)?.[0];
/** Names that the recording gave to registers of the legacy interface. */
const LEGACY_NAMES: Readonly<Record<string, string>> = {
  host_features: 'device_features',
  guest_features: 'driver_features',
  queue_pfn: 'queue_address(pfn)',
  queue_num: 'queue_size',
  queue_sel: 'queue_select',
  status: 'device_status',
  config_vector: 'config_msix_vector',
  queue_vector: 'queue_msix_vector',
};
function configField(offset: number): string {
  if (offset < 6) return `mac[${offset}]`;
  return nameAt(virtio_net_config, offset) ?? `config+0x${offset.toString(16)}`;
}
function register(device: VirtioPciDevice, bar: number, offset: number): string {
  if (bar === 1) {
    const field = ['addr_lo', 'addr_hi', 'data', 'vector_control'][(offset & 15) >> 2];
    return `msix_table.entry[${offset >> 4}].${field}`;
  }
  if (bar === 0) {
    const begin = legacyConfigOffset(device.msixEnabled);
    if (offset >= begin) return `legacy_io.device_config(at +0x${begin.toString(16)}).${configField(offset - begin)}`;
    const name = nameAt(virtio_pci_legacy, offset) ?? '?';
    return `legacy_io.${LEGACY_NAMES[name] ?? name}`;
  }
  if (offset < 0x1000) return `common.${nameAt(virtio_pci_common_cfg, offset)}`;
  if (offset < 0x2000) return 'isr.isr_status';
  return offset < 0x3000 ? `device_cfg.${configField(offset - 0x2000)}` : `notify+0x${(offset - 0x3000).toString(16)}`;
}
const hex = (n: number): string => `0x${n.toString(16)}`;

/** Every access goes through the host bridge: ports for the configuration, memory and ports for what BARs map. */
class BridgedPci implements PciAccess {
  readonly lines: string[] = [];
  private readonly bridge: PciHostBridge;
  private readonly device: VirtioPciDevice;
  private readonly slot: number;

  constructor(bridge: PciHostBridge, device: VirtioPciDevice, slot: number) {
    this.bridge = bridge;
    this.device = device;
    this.slot = slot;
  }
  private select(offset: number): number {
    this.bridge.ioWrite(CONFIG_ADDRESS, 4, configAddress(this.slot, 0, offset));
    return CONFIG_DATA + (offset & 3);
  }
  cfgRead(offset: number, width: number): number {
    const value = this.bridge.ioRead(this.select(offset), width);
    this.lines.push(`R pci_config[${hex(offset)}] ${hex(value)}`);
    return value;
  }
  cfgWrite(offset: number, width: number, value: number): void {
    this.lines.push(`W pci_config[${hex(offset)}] ${hex(value)}`);
    this.bridge.ioWrite(this.select(offset), width, value);
  }
  barRead(bar: number, offset: number, width: number): number {
    const at = this.device.barAddress(bar) + offset;
    const name = register(this.device, bar, offset);
    const { bridge } = this;
    const value = this.device.barIsIo(bar) ? bridge.ioRead(at, width) : bridge.memoryRead(at, width);
    this.lines.push(`R${width} ${name} ${hex(value)}`);
    return value;
  }
  barWrite(bar: number, offset: number, width: number, value: number): void {
    const at = this.device.barAddress(bar) + offset;
    this.lines.push(`W${width} ${register(this.device, bar, offset)} ${hex(value)}`);
    if (this.device.barIsIo(bar)) this.bridge.ioWrite(at, width, value);
    else this.bridge.memoryWrite(at, width, value);
  }
}

/** What the guest's kernel chose by itself, from the recording: where rings lie, which CPU and vector an MSI-X entry goes to. */
function chosen(lines: readonly string[], packed: boolean): { rings: number[]; messages: MsiMessage[] } {
  const rings: number[] = [];
  const written = new Map<number, { lo: number; data: number }>();
  const allocated = packed ? /queue_(desc|driver|device)_lo/ : /queue_desc_lo/;
  for (const line of lines) {
    const [op, name, text] = line.split(' ') as [string, string, string];
    const value = Number(text);
    if (!op.startsWith('W')) continue;
    if (allocated.test(name)) rings.push(value);
    if (name === 'legacy_io.queue_address(pfn)') rings.push(value * 4096);
    const entry = /^msix_table\.entry\[(\d+)\]\.(addr_lo|data)$/.exec(name);
    if (entry === null) continue;
    const message = written.get(Number(entry[1])) ?? { lo: 0, data: 0 };
    if (entry[2] === 'data') message.data = value;
    else message.lo = value;
    written.set(Number(entry[1]), message);
  }
  const entries = [...written.keys()].sort((a, b) => a - b);
  return { rings, messages: entries.map((e) => ({ address: written.get(e)!.lo, data: written.get(e)!.data })) };
}

export interface OwnBoot {
  readonly device: VirtioPciDevice;
  readonly before: string;
  readonly after: string;
  readonly lines: readonly string[];
  readonly result: ProbeResult;
}
const dword = (bytes: string, at: number): number => Buffer.from(bytes, 'hex').readUInt32LE(at);
const configHex = (d: VirtioPciDevice, size: number): string =>
  Buffer.from(Array.from({ length: size }, (_, i) => d.readConfig(i, 1))).toString('hex');

/** Boots an option set. On a q35's root bus our firmware places the BARs; elsewhere they are where the recording had them. */
export function boot(name: string): OwnBoot {
  const recorded = BOOTS[name]!;
  const device = goldenDevice(name);
  const slot = recorded.address === '00:02.0' ? 2 : 1;
  const bridge = q35HostBridge();
  bridge.add(slot, 0, device);
  const pci = new BridgedPci(bridge, device, slot);
  if (placesBars(name)) {
    bootPci({
      read: (s, fn, offset, width) => {
        bridge.ioWrite(CONFIG_ADDRESS, 4, configAddress(s, fn, offset));
        return bridge.ioRead(CONFIG_DATA + (offset & 3), width);
      },
      write: (s, fn, offset, width, value) => {
        bridge.ioWrite(CONFIG_ADDRESS, 4, configAddress(s, fn, offset));
        bridge.ioWrite(CONFIG_DATA + (offset & 3), width, value);
      },
    });
  } else {
    firmwareInit(pci, {
      msixBar: (dword(recorded.before, 0x14) & ~0xf) >>> 0,
      modernBar: (dword(recorded.before, 0x20) & ~0xf) >>> 0,
      ioBar: (dword(recorded.before, 0x10) & ~3) >>> 0,
      rom: dword(recorded.before, 0x30),
      irqLine: dword(recorded.before, 0x3c) & 0xff,
    });
  }
  const before = configHex(device, recorded.size);
  // the PCI core's look at the device comes before virtio_pci is loaded, and was not recorded
  const found = enumerateFunction(pci);
  pci.lines.length = 0;
  const { rings, messages } = chosen(recorded.lines.split('\n'), optionsOf(name).packed === true);
  const options: ProbeOptions = messages.length === 0 ? {} : { messages };
  const allocator = { alloc: () => rings.shift() ?? -1 };
  const result = bindVirtioNet(pci, found!, allocator, LINUX_6_1_VIRTIO_NET_FEATURES, options);
  return { device, before, after: configHex(device, recorded.size), lines: pci.lines, result };
}
/** The option sets on a q35's root bus. */
export const placesBars = (name: string): boolean =>
  BOOTS[name]!.machine === 'q35' && BOOTS[name]!.address === '00:01.0';

export interface Difference {
  readonly set: string;
  readonly where: 'configuration space' | 'device configuration' | 'offered' | 'accepted' | 'accesses';
  /** Byte, or register. */
  readonly what: string;
  readonly recorded: string;
  readonly own: string;
}
const hexByte = (bytes: string, i: number): string => bytes.slice(2 * i, 2 * i + 2) || '00';
function byteDifferences(set: string, when: string, recorded: string, own: string, size: number): Difference[] {
  return Array.from({ length: size }, (_, i) => i)
    .filter((i) => hexByte(recorded, i) !== hexByte(own, i))
    .map((i) => ({
      set,
      where: 'configuration space',
      what: `${hex(i)} ${when}`,
      recorded: hexByte(recorded, i),
      own: hexByte(own, i),
    }));
}
/** Lines of `a` and `b` that are not in their longest common subsequence. */
function lineDifferences(set: string, a: readonly string[], b: readonly string[]): Difference[] {
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const skip = Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
      longest[i * width + j] = a[i] === b[j] ? longest[(i + 1) * width + j + 1]! + 1 : skip;
    }
  }
  const out: Difference[] = [];
  const put = (line: string, mine: boolean): void => {
    const [, what, value] = /^\S+ (.*) (0x\w+)$/.exec(line)!;
    out.push({ set, where: 'accesses', what: what!, recorded: mine ? '' : value!, own: mine ? value! : '' });
  };
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (i < a.length && a[i] === b[j]) {
      i++;
      j++;
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!)) {
      put(a[i++]!, false);
    } else put(b[j++]!, true);
  }
  return out;
}
const word = (set: string, where: Difference['where'], recorded: string, own: string): Difference[] =>
  recorded === own ? [] : [{ set, where, what: 'feature bits', recorded, own }];

/** Everything in which our boot of an option set differs from the recorded one. */
export function differencesOf(set: string): Difference[] {
  const recorded = BOOTS[set]!;
  const golden = GOLDEN[set]!;
  const own = boot(set);
  const { device } = own;
  const said = Buffer.from(Array.from({ length: 32 }, (_, i) => device.netConfig.read(i, 1))).toString('hex');
  const config = golden.config === undefined || golden.config === said ? [] : [{ recorded: golden.config, own: said }];
  return [
    ...byteDifferences(set, 'before the driver', recorded.before, own.before, recorded.size),
    ...byteDifferences(set, 'after the driver', recorded.after, own.after, recorded.size),
    ...config.map((both) => ({ set, where: 'device configuration' as const, what: 'first 32 bytes', ...both })),
    ...word(set, 'offered', golden.offered, featuresHex(device.offered)),
    ...word(set, 'accepted', golden.accepted, featuresHex(device.driverFeatures)),
    ...lineDifferences(set, recorded.lines.split('\n'), own.lines),
  ];
}

/** Why something differs. Each reason has to be used, and each difference has to have one. */
export const REASONS: readonly { readonly why: string; fits(d: Difference): boolean }[] = [
  {
    why: 'The guest was started with an IOMMU (`intel_iommu=on`), whose driver in the guest switches address translation services on before the NIC has a driver. The emulated guests’ IOMMU driver leaves that capability alone: it is there, the bit stays 0.',
    fits: (d) => d.set === 'iommu_platform_ats' && d.what.startsWith('0x107 '),
  },
  {
    why: 'With interrupt remapping a message names an entry of the IOMMU’s table: it is final from the start, so that the kernel writes no placeholder, and writes it once when the interrupt is requested. Interrupt remapping is not emulated: the placeholder and the second writing are there, as in the other option sets.',
    fits: (d) => d.set === 'iommu_platform_ats' && /^msix_table\.entry\[\d\]\.(addr_lo|addr_hi|data)$/.test(d.what),
  },
];
