/**
 * What is checked of a guest and its NICs, and the defaults there that depend on other fields: bridges, vectors, feature bits,
 * memory. Read validate.ts first.
 */
import { BUFFER_BYTES, checkBridge, checkPower, defaultBridge, type Limits, Unique } from './document-checks.ts';
import { type DraftGuest, type DraftGuestNic, type DraftHost, eachOf } from './document-draft.ts';
import type { Faults } from './document-faults.ts';
import {
  defaultOf,
  FEATURE_RULES,
  type FeatureFields,
  type FeatureRule,
  lacking,
  offeredBy,
  resolveFeatures,
} from './document-features.ts';
import { RANGES } from './document-schema.ts';
import { iommuPages } from './iommu-memory.ts';
import type { Transport } from './topology.ts';
import { formatSize } from './units.ts';
import { checkDpdk, checkGuestPages, dpdkBytes } from './validate-hugepages.ts';
import { checkStratovirt, stratovirtTransport } from './validate-stratovirt.ts';
import { checkXdpNic, xdpFeatures } from './validate-xdp.ts';

/** Places of a guest that are not NICs have these names. */
const RESERVED_NIC = /^(vcpu[0-9]+|qemu|stratovirt)$/;
const MiB = 1 << 20;

export function checkGuest(host: DraftHost, guest: DraftGuest, at: string, limits: Limits, faults: Faults): void {
  const names = new Unique(faults, 'duplicate-name');
  const count = guest.nics?.length ?? 0;
  if (count > limits.maxNicsPerGuest)
    faults.add(`${at}/nics`, 'too-many', `${count} NICs`, `at most ${limits.maxNicsPerGuest} in a guest`);
  eachOf(guest.nics, `${at}/nics`, (nic, p) => {
    names.claim(nic.name, `${p}/name`, 'the name of a NIC of this guest');
    if (nic.name !== undefined && RESERVED_NIC.test(nic.name))
      faults.add(
        `${p}/name`,
        'reserved-name',
        `"${nic.name}" is what a vCPU or the VMM is called`,
        'another name, such as "net0"',
      );
    checkQueueSize(nic, p, faults);
    if (nic.bridge === null) nic.bridge = defaultBridge(host, nic.backend, p, faults);
    else checkBridge(host, nic.bridge, nic.backend, p, faults);
    if (nic.ioeventfd === false && nic.backend !== undefined && nic.backend !== 'virtio-net')
      faults.add(
        `${p}/ioeventfd`,
        'wrong-backend',
        `${nic.backend} gets its kicks through an ioeventfd and has no other way`,
        'true, or "backend": "virtio-net"',
      );
    if ((nic.pollUs ?? 0) > 0 && nic.backend !== undefined && nic.backend !== 'vhost-net')
      faults.add(
        `${p}/pollUs`,
        'wrong-backend',
        `${nic.backend} has no vhost worker that could poll`,
        '0, or "backend": "vhost-net"',
      );
    if (
      nic.vhostUser !== null &&
      nic.vhostUser !== undefined &&
      nic.backend !== undefined &&
      nic.backend !== 'vhost-user'
    )
      faults.add(`${p}/vhostUser`, 'wrong-backend', `${nic.backend} has no socket`, 'none, or "backend": "vhost-user"');
    if (nic.tx === 'timer' && nic.backend !== undefined && nic.backend !== 'virtio-net')
      faults.add(
        `${p}/tx`,
        'wrong-backend',
        `${nic.backend} transmits by itself, and QEMU's timer is without effect there`,
        '"bh", or "backend": "virtio-net"',
      );
    if (nic.transport === null) nic.transport = guest.vmm === 'stratovirt' ? stratovirtTransport(guest) : 'pci-modern';
    checkTransport(nic, p, faults);
    checkFeatures(nic, guest, p, faults);
    checkBehindIommu(nic, guest, p, faults);
    if (guest.vmm === 'qemu') checkCoalescing(nic, p, faults);
  });
  checkIommu(guest, at, faults);
  if (guest.vmm === 'stratovirt') checkStratovirt(guest, at, faults);
  if (guest.vcpus === null) guest.vcpus = Math.max(1, ...(guest.nics ?? []).map((nic) => nic?.queuePairs ?? 1));
  checkDrivers(guest, at, faults);
  checkDpdk(guest, at, faults);
  checkGuestMemory(guest, at, limits, faults);
  checkGuestPages(guest, at, faults);
}

// ---- the IOMMU --------------------------------------------------------------------------------------------------
/** Fills in the default of caching mode, which Linux and batching exclude each other with (linux intel_iommu_init()). */
function checkIommu({ iommu, vmm }: DraftGuest, at: string, faults: Faults): void {
  if (iommu === null || iommu === undefined) return;
  if (vmm === 'stratovirt')
    faults.add(`${at}/iommu`, 'wrong-vmm', 'StratoVirt has no intel-iommu', 'none, or "vmm": "qemu"');
  if (iommu.mode === undefined || iommu.cachingMode === undefined) return;
  iommu.cachingMode ??= iommu.mode !== 'lazy';
  if (iommu.mode === 'lazy' && iommu.cachingMode)
    faults.add(
      `${at}/iommu/cachingMode`,
      'out-of-range',
      'Linux does not batch invalidations in caching mode',
      'false, or "mode": "strict"',
    );
}
/** intel-iommu translates for functions of the PCI bus, and iommu_platform=on needs disable-legacy=on. */
function checkBehindIommu(nic: DraftGuestNic, guest: DraftGuest, at: string, faults: Faults): void {
  if (guest.iommu === null || guest.iommu === undefined) return;
  if (nic.transport === 'pci-modern' || nic.features?.['VIRTIO_F_ACCESS_PLATFORM'] !== true) return;
  faults.add(
    `${at}/transport`,
    'wrong-transport',
    `VIRTIO_F_ACCESS_PLATFORM, which this guest's NICs have behind its IOMMU, needs a device without legacy interface on PCI`,
    '"pci-modern", or "VIRTIO_F_ACCESS_PLATFORM": false',
  );
}

// ---- one NIC ----------------------------------------------------------------------------------------------------
/** One burst of a polling driver, and what the kernel driver keeps free besides the frame that it sends. */
const LEAST_QUEUE = 32;
function checkQueueSize({ queueSize, packed, driver }: DraftGuestNic, at: string, faults: Faults): void {
  if (queueSize === undefined || packed === undefined || driver === undefined) return;
  const pointer = `${at}/queueSize`;
  const least = driver === 'none' || (packed && driver === 'virtio-net') ? 1 : LEAST_QUEUE;
  if (queueSize < least)
    faults.add(
      pointer,
      'out-of-range',
      `${queueSize} is out of range`,
      packed
        ? `at least ${least} for this driver`
        : `at least ${least}; less is for packed rings and the driver "none"`,
    );
  else if (!packed) checkPower(queueSize, pointer, faults);
}

/** Two for each queue pair, one for the control queue, one for changes of the configuration (qemu, nvectors of virtio-net-pci). */
export function defaultVectors(nic: { readonly queuePairs: number; readonly transport: Transport }): number {
  return nic.transport === 'mmio' ? 0 : 2 * nic.queuePairs + 2;
}

function checkTransport(nic: DraftGuestNic, at: string, faults: Faults): void {
  const { transport, driver, queuePairs } = nic;
  if (transport === undefined || transport === null) return;
  const add = (field: string, detail: string, expected: string): void =>
    faults.add(`${at}/${field}`, 'wrong-transport', detail, expected);
  if (driver === 'virtio-pmd' && (transport === 'mmio' || transport === 'pci-legacy'))
    add('transport', `the polling driver does not know ${transport}`, '"pci-modern" or "pci-transitional"');
  if (nic.packed === true && transport === 'pci-legacy')
    add('packed', 'packed rings need a modern interface, and pci-legacy has none', 'false, or another transport');
  if (transport === 'mmio' && (nic.vectors ?? 0) > 0)
    add('vectors', 'virtio-mmio has one interrupt and no vectors', '0, or a transport over PCI');
  if (nic.vectors === null && queuePairs !== undefined) nic.vectors = defaultVectors({ queuePairs, transport });
}

// ---- feature bits -----------------------------------------------------------------------------------------------
/** What turns on a bit that follows from a field; MQ with one pair is a device that real ones can be, too. */
const TURNED_ON_BY: Partial<Record<string, string>> = {
  packed: '"packed": true',
  mtu: 'an "mtu"',
  speed: 'a "speed" or "duplex"',
  transport: 'a transport other than "pci-legacy"',
  legacy: '"transport": "pci-transitional" or "pci-legacy"',
  iommu: 'an "iommu" of the guest',
};

/** Null where a field that bits follow from has a fault. */
function fieldsOf(
  { packed, mtu, speed, duplex, transport, queuePairs, backend }: DraftGuestNic,
  { vmm, iommu }: DraftGuest,
): FeatureFields | null {
  if (packed === undefined || transport === undefined || transport === null || queuePairs === undefined) return null;
  if (backend === undefined || vmm === undefined) return null;
  const said = { mtu: mtu ?? null, speed: speed ?? null, duplex: duplex ?? null };
  return { packed, transport, queuePairs, backend, vmm, iommu: iommu !== null && iommu !== undefined, ...said };
}

function checkFeatures(nic: DraftGuestNic, guest: DraftGuest, at: string, faults: Faults): void {
  const said = nic.features;
  const fields = fieldsOf(nic, guest);
  if (said === undefined || fields === null || Object.values(said).includes(undefined)) return;
  const features = resolveFeatures(guest.app === 'xdp-tx' ? xdpFeatures(said, fields) : said, fields);
  for (const rule of FEATURE_RULES) {
    if (said[rule.name] === true) checkTurnedOn(rule, features, fields, `${at}/features/${rule.name}`, faults);
  }
  nic.features = features;
  if (nic.driver === 'virtio-pmd' && (fields.mtu ?? 0) > 1500 && features['VIRTIO_NET_F_MRG_RXBUF'] === false)
    faults.add(
      `${at}/mtu`,
      'wrong-driver',
      'the polling driver receives frames that are longer than its buffers only with VIRTIO_NET_F_MRG_RXBUF',
      'at most 1500, or "VIRTIO_NET_F_MRG_RXBUF": true',
    );
  if (fields.queuePairs > 1 && said['VIRTIO_NET_F_MQ'] === null && features['VIRTIO_NET_F_MQ'] === false)
    faults.add(
      `${at}/queuePairs`,
      'wrong-feature',
      `${fields.queuePairs} queue pairs need VIRTIO_NET_F_MQ, and that needs VIRTIO_NET_F_CTRL_VQ, which is off`,
      '1, or "VIRTIO_NET_F_CTRL_VQ": true',
    );
  if (fields.transport !== 'pci-legacy' && features['VIRTIO_F_VERSION_1'] === false && nic.driver !== 'none')
    faults.add(
      `${at}/features/VIRTIO_F_VERSION_1`,
      'wrong-driver',
      `drivers refuse a device on ${fields.transport} that does not offer VIRTIO_F_VERSION_1`,
      'true, "transport": "pci-legacy", or "driver": "none"',
    );
}
function checkCoalescing({ coalescing, backend, driver, features }: DraftGuestNic, at: string, faults: Faults): void {
  if (coalescing === null || coalescing === undefined) return;
  const add = (code: 'wrong-backend' | 'wrong-driver' | 'wrong-feature', detail: string, expected: string): void =>
    faults.add(`${at}/coalescing`, code, detail, expected);
  if (backend !== undefined && backend !== 'virtio-net')
    add('wrong-backend', `${backend} holds no notifications back`, 'none, or "backend": "virtio-net"');
  else if (driver === 'virtio-pmd') add('wrong-driver', 'the polling driver wants no notifications', 'none');
  else if (driver === 'none')
    add('wrong-driver', 'without a driver nobody asks the device; a client can, through the control queue', 'none');
  else if (features !== undefined && features['VIRTIO_NET_F_NOTF_COAL'] !== true)
    add('wrong-feature', 'this needs VIRTIO_NET_F_NOTF_COAL, which is off', 'none, or "VIRTIO_NET_F_NOTF_COAL": true');
}
function checkTurnedOn(
  rule: FeatureRule,
  features: Readonly<Record<string, boolean>>,
  fields: FeatureFields,
  pointer: string,
  faults: Faults,
): void {
  if (!offeredBy(fields, rule.name)) {
    const detail = `StratoVirt's device with the backend ${fields.backend} does not have ${rule.name}`;
    faults.add(pointer, 'wrong-vmm', detail, 'false, or "vmm": "qemu"');
    return;
  }
  const field = TURNED_ON_BY[String(rule.byDefault)];
  if (field !== undefined && !defaultOf(rule, fields)) {
    faults.add(pointer, 'wrong-feature', `${rule.name} comes with ${field}`, `${field}, or false`);
    return;
  }
  const missing = lacking(rule, features);
  if (missing === null) return;
  const names = missing.join(' or ');
  faults.add(
    pointer,
    'wrong-feature',
    `${rule.name} needs ${names}, which ${missing.length > 1 ? 'are' : 'is'} off`,
    `false, or "${missing[0]}": true`,
  );
}

// ---- the guest --------------------------------------------------------------------------------------------------
function checkDrivers(guest: DraftGuest, at: string, faults: Faults): void {
  const drivers = new Set((guest.nics ?? []).flatMap((nic) => nic?.driver ?? []));
  // a NIC without a driver of ours is beside any other
  drivers.delete('none');
  if (guest.app === 'bridge') checkGuestBridge(guest, at, faults);
  else if (guest.app === 'xdp-tx') checkGuestXdp(guest, at, faults);
  else if (guest.app !== undefined && guest.app !== 'stack') {
    const does = { macswap: 'forwards', io: 'forwards', txonly: 'sends', rxonly: 'receives' }[guest.app];
    if (guest.nics?.length === 0)
      faults.add(
        `${at}/app`,
        'wrong-driver',
        `${guest.app} ${does} frames, and this guest has no NIC`,
        'at least one NIC',
      );
    eachOf(guest.nics, `${at}/nics`, (nic, p) => {
      if (nic.driver !== undefined && nic.driver !== 'virtio-pmd')
        faults.add(
          `${p}/driver`,
          'wrong-driver',
          nic.driver === 'none'
            ? `${guest.app} ${does} frames, and without a driver it has none`
            : `${guest.app} is a DPDK program and cannot use the kernel's driver`,
          '"virtio-pmd"',
        );
    });
  } else if (drivers.size > 1) {
    // DEVIATION: on real hosts a guest can poll one NIC on one vCPU and leave another to the kernel.
    faults.add(
      `${at}/nics`,
      'mixed-drivers',
      'the polling driver takes the vCPU whole, and leaves none to the kernel driver beside it',
      'one driver for all NICs of a guest',
    );
  }
}

function checkGuestBridge({ nics }: DraftGuest, at: string, faults: Faults): void {
  if (nics === undefined || nics.length === 0 || nics.length % 2 === 1)
    faults.add(
      `${at}/app`,
      'wrong-driver',
      `bridge forwards between two NICs each, and this guest has ${nics?.length ?? 0}`,
      'an even number of NICs',
    );
  eachOf(nics, `${at}/nics`, (nic, p) => {
    if (nic.driver !== undefined && nic.driver !== 'virtio-net')
      faults.add(`${p}/driver`, 'wrong-driver', 'bridge is the kernel’s and needs its driver', '"virtio-net"');
  });
}

function checkGuestXdp({ nics }: DraftGuest, at: string, faults: Faults): void {
  if (nics?.length === 0)
    faults.add(`${at}/app`, 'wrong-driver', 'xdp-tx sends frames back, and this guest has no NIC', 'at least one NIC');
  eachOf(nics, `${at}/nics`, (nic, p) => checkXdpNic(nic, p, faults));
}

// ---- memory -----------------------------------------------------------------------------------------------------
const PAGE = 4096;
/** What the guest's kernel takes beside rings and buffers. */
const KERNEL_BYTES = MiB;
const DEFAULT_MEMORY = 16 * MiB;
/** A frame of 65,550 bytes with its header, in whole pages: what is sent without being cut. */
const GSO_BUFFER_BYTES = 68 * 1024;
/** What receives one, without mergeable buffers. */
const BIG_RX_BYTES = 18 * PAGE;
/** Mergeable buffers of rings up to this are longer than usual, so that a full ring holds such a frame. */
const SHORT_RING = 32;
/** Frames of that size that a NIC can have under way to the device. */
const GSO_BUFFERS = 16;
/** Indirect tables of both rings, as gso-buffers.ts has them: MAX_SKB_FRAGS and two more to receive, 6 to send. */
const INDIRECT_BYTES = (20 + 6) * 16;
/** Ring of 64 entries with its indirect tables, and a page for the commands. */
const CONTROL_BYTES = 5 * PAGE;
/** Polling drivers keep bursts of 32 in their hands, for each direction. */
const MEMPOOL_SPARE = 2 * 32;

/** What decides about the memory of a NIC. */
export interface NicMemory {
  readonly driver: string;
  readonly queueSize: number;
  readonly queuePairs: number;
  readonly packed: boolean;
  readonly mtu: number | null;
  readonly features: Readonly<Record<string, boolean>>;
}
/** Bytes of guest memory that the rings and buffers of a NIC take: all its pairs, the control queue, large segments. */
export function nicBytes(nic: NicMemory): number {
  if (nic.driver === 'none') return 0;
  const { queueSize, queuePairs, features } = nic;
  const on = (...names: string[]): boolean => names.some((name) => features[`VIRTIO_NET_F_${name}`] === true);
  const large = on('GUEST_TSO4', 'GUEST_TSO6', 'GUEST_UFO', 'GUEST_USO4', 'GUEST_USO6');
  let rxBuffer = BUFFER_BYTES;
  if (nic.driver === 'virtio-net') {
    // as rx-buffers.ts lays them out
    if (on('MRG_RXBUF')) rxBuffer = queueSize <= SHORT_RING ? PAGE : BUFFER_BYTES;
    else if (large) rxBuffer = BIG_RX_BYTES;
    else if ((nic.mtu ?? 1500) > 1500) rxBuffer = PAGE * (1 + Math.ceil(nic.mtu! / PAGE));
  }
  const pair = 2 * ringBytes(queueSize, nic.packed) + queueSize * (rxBuffer + BUFFER_BYTES + INDIRECT_BYTES);
  const long = (nic.mtu ?? 1500) + 14 + 20 > BUFFER_BYTES;
  const gso = long || on('HOST_TSO4', 'HOST_TSO6', 'HOST_UFO', 'HOST_USO') ? GSO_BUFFERS * GSO_BUFFER_BYTES : 0;
  const spare = nic.driver === 'virtio-pmd' ? MEMPOOL_SPARE * BUFFER_BYTES : 0;
  return queuePairs * (pair + spare) + gso + CONTROL_BYTES;
}
/** Virtio 1.2 §2.7 and §2.8, on pages of its own; a legacy device has the used ring on a page of its own, too. */
function ringBytes(size: number, packed: boolean): number {
  const bytes = packed ? 16 * size + 8 : 16 * size + (6 + 2 * size) + (6 + 8 * size) + PAGE;
  return Math.ceil(bytes / PAGE) * PAGE;
}

/** What all NICs need and the kernel; null where a field that it depends on has a fault. */
function neededBytes(guest: DraftGuest): number | null {
  let needed = 0;
  for (const nic of guest.nics ?? []) {
    const { driver, queueSize, queuePairs, packed, features } = nic ?? {};
    if (driver === undefined || queueSize === undefined || queuePairs === undefined || packed === undefined)
      return null;
    if (features === undefined || Object.values(features).some((value) => typeof value !== 'boolean')) return null;
    const known = features as Record<string, boolean>;
    needed += nicBytes({ driver, queueSize, queuePairs, packed, mtu: nic?.mtu ?? null, features: known });
  }
  let kernel = KERNEL_BYTES;
  if (guest.iommu !== null && guest.iommu !== undefined) {
    const mapped = (guest.nics ?? []).map((nic) => ({
      queueSize: nic?.queueSize ?? 0,
      queuePairs: nic?.queuePairs ?? 0,
    }));
    const tables = (memory: number): number => PAGE * iommuPages(mapped, memory);
    // Tables are for all memory, and where the document says none it is as large as what is needed, tables included.
    const without = needed + KERNEL_BYTES + tables(DEFAULT_MEMORY);
    kernel += tables(guest.memory ?? Math.max(DEFAULT_MEMORY, without + tables(without) + MiB));
  }
  const { dpdk } = guest;
  if (dpdk !== null && dpdk !== undefined) {
    if (dpdk.hugepages === undefined || dpdk.mempool === undefined) return null;
    needed = dpdkBytes(guest, needed, kernel);
  }
  needed += kernel;
  return Math.ceil(needed / PAGE) * PAGE;
}

function checkGuestMemory(guest: DraftGuest, at: string, limits: Limits, faults: Faults): void {
  if (guest.memory === undefined) return;
  const pointer = `${at}/memory`;
  const needed = guest.nics === undefined ? null : neededBytes(guest);
  guest.memory ??= Math.max(DEFAULT_MEMORY, Math.ceil((needed ?? 0) / MiB) * MiB);
  if (guest.memory % PAGE !== 0)
    faults.add(pointer, 'not-page-aligned', `${formatSize(guest.memory)} is not a multiple of 4 KiB`);
  const most = Math.min(limits.maxGuestMemoryBytes, RANGES.memory.max);
  if (guest.memory > most)
    faults.add(
      pointer,
      'memory-too-large',
      `${formatSize(guest.memory)} of memory`,
      `at most ${formatSize(most)} per guest`,
    );
  if (needed !== null && guest.memory < needed)
    faults.add(
      pointer,
      'memory-too-small',
      `${formatSize(guest.memory)} cannot hold the rings and buffers of this guest's NICs and 1 MiB for its kernel`,
      `at least ${Math.ceil(needed / 1024)}KiB`,
    );
}
