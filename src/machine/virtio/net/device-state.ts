/**
 * The state of a virtio-net device as bytes: what a migration carries from the QEMU that stops to the one that goes on. Status,
 * features, configuration, queue registers, where each ring stands, and what the driver has set through the control queue.
 *
 * Read first: qemu hw/virtio/virtio.c, virtio_save(), virtio_load(); hw/net/virtio-net.c, vmstate_virtio_net_device.
 * DEVIATION: the same fields in one layout of ours, where QEMU's stream has sections and subsections with names. Statistics, the
 * PCI configuration space and the MSI-X table are not in it: here they stay with the device.
 */
import { le16, le32, le64, struct, u8, viewOf } from '../../wire/struct.ts';
import { isPackedVirtqSize, isVirtqSize } from '../../wire/virtio-ring.ts';
import { type Features, hasFeature, isSubset, VIRTIO_F_RING_PACKED } from '../features.ts';

const MAGIC = 0x5645_4444; // "DDEV"
const VERSION = 1;
/** Bytes of a configuration at most. */
const MAX_CONFIG = 256;

const head = struct({
  magic: le32,
  version: le16,
  status: u8,
  config_generation: u8,
  features_lo: le32,
  features_hi: le32,
  offloads_lo: le32,
  offloads_hi: le32,
  active_pairs: le16,
  config_len: le16,
  queues: le16,
  control_len: le16,
});
const queueState = struct({
  size: le32,
  enabled: u8,
  /** `base` is one: somebody has used the ring. */
  stands: u8,
  vector: le16,
  desc: le64,
  driver: le64,
  device: le64,
  base: le32,
  reserved: le32,
});

export interface SavedQueue {
  readonly size: number;
  readonly enabled: boolean;
  readonly msixVector: number;
  readonly descGpa: number;
  readonly driverGpa: number;
  readonly deviceGpa: number;
  /** As VHOST_GET_VRING_BASE says it; null: nobody has used the ring. */
  readonly base: number | null;
}
export interface SavedDevice {
  readonly status: number;
  readonly configGeneration: number;
  readonly features: Features;
  /** Receive offloads that are on (VIRTIO_NET_CTRL_GUEST_OFFLOADS). */
  readonly offloads: Features;
  /** Queue pairs in use. */
  readonly activePairs: number;
  readonly config: readonly number[];
  readonly queues: readonly SavedQueue[];
  /** Filter, RSS and coalescing as controlBytes() has them; empty without a control queue. */
  readonly control: readonly number[];
}

/** `saved` as bytes. */
export function saveDevice(saved: SavedDevice): Uint8Array {
  const { config, queues, control } = saved;
  const out = new Uint8Array(head.SIZE + config.length + queues.length * queueState.SIZE + control.length);
  const m = viewOf(out);
  head.magic.set(m, 0, MAGIC);
  head.version.set(m, 0, VERSION);
  head.status.set(m, 0, saved.status);
  head.config_generation.set(m, 0, saved.configGeneration);
  head.features_lo.set(m, 0, saved.features.lo);
  head.features_hi.set(m, 0, saved.features.hi);
  head.offloads_lo.set(m, 0, saved.offloads.lo);
  head.offloads_hi.set(m, 0, saved.offloads.hi);
  head.active_pairs.set(m, 0, saved.activePairs);
  head.config_len.set(m, 0, config.length);
  head.queues.set(m, 0, queues.length);
  head.control_len.set(m, 0, control.length);
  out.set(config, head.SIZE);
  let at = head.SIZE + config.length;
  for (const q of queues) {
    queueState.size.set(m, at, q.size);
    queueState.enabled.set(m, at, q.enabled ? 1 : 0);
    queueState.stands.set(m, at, q.base === null ? 0 : 1);
    queueState.vector.set(m, at, q.msixVector);
    queueState.desc.set(m, at, q.descGpa);
    queueState.driver.set(m, at, q.driverGpa);
    queueState.device.set(m, at, q.deviceGpa);
    queueState.base.set(m, at, q.base ?? 0);
    at += queueState.SIZE;
  }
  out.set(control, at);
  return out;
}

/** What the device that loads a state is. */
export interface LoadInto {
  /** What it offers through its own back-end. */
  readonly offered: Features;
  /** Its queues, the control queue among them, and how large each may be. */
  readonly queueSizes: readonly number[];
  readonly pairs: number;
  inRam(gpa: number, bytes: number): boolean;
}

/** The state in `bytes`, or what is wrong with it for that device. Trusts nothing: a stream may come from anywhere. */
export function loadDevice(bytes: Uint8Array, into: LoadInto): SavedDevice | string {
  if (bytes.length < head.SIZE) return `${bytes.length} bytes are too few for a device`;
  const m = viewOf(bytes);
  if (head.magic.get(m, 0) !== MAGIC) return 'this is no state of a virtio-net device';
  if (head.version.get(m, 0) !== VERSION) return `version ${head.version.get(m, 0)} of the state is not known`;
  const configLength = head.config_len.get(m, 0);
  const count = head.queues.get(m, 0);
  const controlLength = head.control_len.get(m, 0);
  const expected = head.SIZE + configLength + count * queueState.SIZE + controlLength;
  if (bytes.length !== expected) return `${bytes.length} bytes where the state says ${expected}`;
  if (configLength > MAX_CONFIG) return `a configuration of ${configLength} bytes`;
  const features = { lo: head.features_lo.get(m, 0), hi: head.features_hi.get(m, 0) };
  // qemu virtio_set_features_nocheck_maybe_co(): "Features … unsupported. Allowed features: …"
  if (!isSubset(features, into.offered)) return 'features are in use that the device does not offer';
  if (count > into.queueSizes.length) return `${count} queues where the device has ${into.queueSizes.length}`;
  const activePairs = head.active_pairs.get(m, 0);
  if (activePairs < 1 || activePairs > into.pairs) return `${activePairs} queue pairs in use, of ${into.pairs}`;
  const queues: SavedQueue[] = [];
  let at = head.SIZE + configLength;
  for (let i = 0; i < count; i++, at += queueState.SIZE) {
    const q = readQueue(m, at);
    const fault = queueFault(q, into.queueSizes[i]!, hasFeature(features, VIRTIO_F_RING_PACKED), into);
    if (fault !== null) return `queue ${i}: ${fault}`;
    queues.push(q);
  }
  return {
    status: head.status.get(m, 0),
    configGeneration: head.config_generation.get(m, 0),
    features,
    offloads: { lo: head.offloads_lo.get(m, 0), hi: head.offloads_hi.get(m, 0) },
    activePairs,
    config: [...bytes.subarray(head.SIZE, head.SIZE + configLength)],
    queues,
    control: [...bytes.subarray(at)],
  };
}

function readQueue(m: DataView, at: number): SavedQueue {
  return {
    size: queueState.size.get(m, at),
    enabled: queueState.enabled.get(m, at) === 1,
    msixVector: queueState.vector.get(m, at),
    descGpa: queueState.desc.get(m, at),
    driverGpa: queueState.driver.get(m, at),
    deviceGpa: queueState.device.get(m, at),
    base: queueState.stands.get(m, at) === 1 ? queueState.base.get(m, at) : null,
  };
}
function queueFault(q: SavedQueue, largest: number, packed: boolean, into: LoadInto): string | null {
  const valid = packed ? isPackedVirtqSize(q.size) : isVirtqSize(q.size);
  if (!valid || q.size > largest) return `${q.size} entries of at most ${largest}`;
  if (!q.enabled) return null;
  const places = [q.descGpa, q.driverGpa, q.deviceGpa];
  if (places.some((gpa) => gpa < 0 || !into.inRam(gpa, 4))) return 'its ring is not in memory';
  if (q.base === null) return null;
  // qemu virtio_load(): "VQ … size … Guest index … inconsistent with Host index …"
  const slots = packed ? [q.base & 0x7fff, (q.base >>> 16) & 0x7fff] : [];
  if (slots.some((slot) => slot >= q.size)) return `it stands at slot ${Math.max(...slots)} of ${q.size}`;
  return !packed && q.base > 0xffff ? `it stands at ${q.base}` : null;
}
