/**
 * What StratoVirt does not offer, said of each field that asks for it. Read validate-guest.ts first.
 *
 * Source: stratovirt 2.5.0 machine_manager/src/config/network.rs, machine/src/micro_common/mod.rs, virtio/src/device/net.rs.
 */
import { type DraftGuest, type DraftGuestNic, eachOf } from './document-draft.ts';
import type { Faults } from './document-faults.ts';
import type { Transport } from './topology.ts';

/** network.rs, valid_network_queue_size(). */
const LEAST_QUEUE = 256;
const MOST_QUEUE = 4096;
/** micro_common/mod.rs, MMIO_REPLACEABLE_NET_NR: slots of a microVM for devices that StratoVirt itself serves. */
const MICROVM_NICS = 2;
/** Lines 5 to 15 (devices/src/sysbus/mod.rs), less those of its four block and two network slots. */
const MICROVM_LINES = 5;

/** StratoVirt has two machines: a microVM with virtio-mmio, a standard VM with PCI. One NIC that needs PCI makes it the second. */
export function stratovirtTransport(guest: DraftGuest): Transport {
  const pci = (guest.nics ?? []).some(
    (nic) => nic?.driver === 'virtio-pmd' || nic?.transport?.startsWith('pci') === true || (nic?.queuePairs ?? 1) > 1,
  );
  return pci ? 'pci-modern' : 'mmio';
}

/** `transport`s are filled in. */
export function checkStratovirt(guest: DraftGuest, at: string, faults: Faults): void {
  eachOf(guest.nics, `${at}/nics`, (nic, p) => checkNic(nic, p, faults));
  const transports = new Set((guest.nics ?? []).flatMap((nic) => nic?.transport ?? []));
  if (transports.has('mmio') && transports.size > 1)
    faults.add(
      `${at}/nics`,
      'wrong-vmm',
      "StratoVirt's microVM has virtio-mmio and no PCI, and its standard VM has no virtio-mmio",
      'one transport for all NICs of the guest',
    );
  const all = (guest.nics ?? []).filter((nic) => nic?.transport === 'mmio').length;
  if (all > MICROVM_LINES)
    faults.add(
      `${at}/nics`,
      'wrong-vmm',
      `${all} NICs, and StratoVirt's microVM has interrupt lines for ${MICROVM_LINES}`,
      `at most ${MICROVM_LINES}, or "transport": "pci-modern"`,
    );
  const own = (guest.nics ?? []).filter((nic) => nic?.transport === 'mmio' && nic.backend === 'virtio-net').length;
  if (own > MICROVM_NICS)
    faults.add(
      `${at}/nics`,
      'wrong-vmm',
      `${own} NICs with the backend virtio-net, and StratoVirt's microVM has ${MICROVM_NICS} slots for them`,
      `at most ${MICROVM_NICS}, or "transport": "pci-modern"`,
    );
}

function checkNic(nic: DraftGuestNic, at: string, faults: Faults): void {
  const lacks = (field: string, detail: string, expected: string): void =>
    faults.add(`${at}/${field}`, 'wrong-vmm', detail, expected);
  const { transport, queueSize } = nic;
  if (nic.packed === true) lacks('packed', 'StratoVirt has no packed rings', 'false');
  if (transport === 'pci-transitional' || transport === 'pci-legacy')
    lacks('transport', "StratoVirt's devices have no legacy interface", '"mmio" or "pci-modern"');
  if (nic.tx === 'timer') lacks('tx', 'StratoVirt transmits at each kick, and has no timer for it', '"bh"');
  if ((nic.pollUs ?? 0) > 0) lacks('pollUs', 'StratoVirt does not set VHOST_SET_VRING_BUSYLOOP_TIMEOUT', '0');
  if (nic.ioeventfd === false) lacks('ioeventfd', 'StratoVirt has an ioeventfd for each queue', 'true');
  if (queueSize !== undefined && (queueSize < LEAST_QUEUE || queueSize > MOST_QUEUE))
    lacks('queueSize', `StratoVirt has no queues of ${queueSize} entries`, `from ${LEAST_QUEUE} to ${MOST_QUEUE}`);
  if ((nic.queuePairs ?? 1) > 1 && transport === 'mmio')
    lacks('queuePairs', "StratoVirt's microVM has one queue pair for each NIC", '1, or "transport": "pci-modern"');
  if (transport === 'pci-modern' && nic.vectors === 0)
    lacks('vectors', "StratoVirt's devices on PCI have MSI-X", 'at least one');
  for (const field of ['mtu', 'speed', 'duplex'] as const)
    if (nic[field] !== null && nic[field] !== undefined)
      lacks(field, `StratoVirt's device does not say its ${field === 'mtu' ? 'MTU' : field}`, `no "${field}"`);
  if (nic.vhostUser?.mode === 'server') lacks('vhostUser/mode', 'StratoVirt connects to the socket', '"client"');
  if (nic.vhostUser?.inflight === true)
    lacks('vhostUser/inflight', 'StratoVirt negotiates no protocol features', 'false');
  if (nic.coalescing !== null && nic.coalescing !== undefined)
    lacks('coalescing', "StratoVirt's device holds no notifications back", 'none');
}
