/** The state of a NIC's device saved as bytes, and loaded again: what a migration does on its two sides. */
import { hasFeature, VIRTIO_F_RING_PACKED } from '../../../machine/virtio/features.ts';
import { loadDevice, type SavedDevice, saveDevice } from '../../../machine/virtio/net/device-state.ts';
import type { NetControl } from '../../../machine/virtio/net/net-control.ts';
import { CONTROL_QUEUE_SIZE } from '../netdev/nic-wiring.ts';
import type { NicDevice } from '../nic-device.ts';

/** What commands have set: receive filter, RSS, coalescing. */
function controlBytes(control: NetControl | null): number[] {
  if (control === null) return [];
  const { coalescing } = control;
  const said = {
    filter: control.filter.state(),
    rss: control.rss.state(),
    usecs: [...coalescing.max_usecs],
    packets: [...coalescing.max_packets],
  };
  return [...new TextEncoder().encode(JSON.stringify(said))];
}

function savedOf(nic: NicDevice): SavedDevice {
  const { device, control, activePairs } = nic;
  const { netConfig } = device;
  const bases = nic.positions();
  return {
    status: device.status,
    configGeneration: device.configGeneration,
    features: device.driverFeatures,
    offloads: control?.offloads ?? device.driverFeatures,
    activePairs,
    config: Array.from({ length: netConfig.length }, (_, i) => netConfig.read(i, 1)),
    queues: device.queues.map((q, i) => {
      const { size, enabled, msixVector, descGpa, driverGpa, deviceGpa } = q;
      return { size, enabled, msixVector, descGpa, driverGpa, deviceGpa, base: bases[i] ?? null };
    }),
    control: controlBytes(control),
  };
}

/** The device is stopped. */
export function saveNic(nic: NicDevice): Uint8Array {
  return saveDevice(savedOf(nic));
}

/**
 * Loads the state into a NIC whose rings nobody has. Returns null, or what does not fit; then nothing has changed.
 * DEVIATION: what the control queue has set is still in the device, because it is the same one; it is compared.
 */
export function loadNic(nic: NicDevice, bytes: Uint8Array): string | null {
  const { device, wiring } = nic;
  const { queueSize, queuePairs } = wiring.document;
  const sizes = device.queues.map((q) => (q.index === device.controlQueue ? CONTROL_QUEUE_SIZE : queueSize));
  const loaded = loadDevice(bytes, {
    offered: device.offered,
    queueSizes: sizes,
    pairs: queuePairs,
    inRam: (address, length) => nic.inMemory(address, length),
  });
  if (typeof loaded === 'string') return loaded;
  const own = controlBytes(nic.control);
  if (own.length !== loaded.control.length || own.some((byte, i) => byte !== loaded.control[i]))
    return 'the control queue has set something else';
  const packed = hasFeature(loaded.features, VIRTIO_F_RING_PACKED);
  device.restore(loaded);
  nic.standAt(loaded.queues.map(({ base }) => (base === null || !packed ? base : wholeBase(base))));
  return null;
}

/**
 * Both halves of a packed ring's base: DPDK answers VHOST_USER_GET_VRING_BASE with the lower one, and has used all that it took.
 * DEVIATION: QEMU 7.2 takes the upper half as it comes, 0, and goes on at a wrong slot with its own data path.
 */
export function wholeBase(base: number): number {
  return base >>> 16 === 0 ? (base | (base << 16)) >>> 0 : base;
}
