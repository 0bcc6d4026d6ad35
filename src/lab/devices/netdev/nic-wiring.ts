/**
 * What a guest's NIC is plugged into: made by the builder, brought to life by the set-up of the guest's devices.
 */
import type { EventFd } from '../../../engine/eventfd.ts';
import type { NetQueuePair } from '../../../machine/backend/net-queue-pair.ts';
import type { UserspaceNic } from '../../../machine/backend/userspace-nic.ts';
import type { VhostNetWorker } from '../../../machine/backend/vhost-net.ts';
import type { VhostUserPort } from '../../../machine/backend/vhost-user.ts';
import type { GuestNic } from '../../../machine/guest/guest-nic.ts';
import type { QueuePlaces } from '../../../machine/guest/guest-queue-pair.ts';
import type { Tap } from '../../../machine/host/tap.ts';
import type { TunNamespace } from '../../../machine/host/tun-interface.ts';
import type { Pmd } from '../../../machine/ovs/datapath/pmd.ts';
import type { GuestNic as GuestNicDocument, VmmKind } from '../../topology.ts';

export interface RingFds {
  readonly rxKick: EventFd;
  readonly txKick: EventFd;
  readonly rxCall: EventFd;
  readonly txCall: EventFd;
}
/** One queue pair: its places, its eventfds, and the back-end's hands on its rings. */
export interface PairWiring {
  readonly places: QueuePlaces;
  readonly fds: RingFds;
  readonly pair: NetQueuePair;
  /** Arena offset of MAX_GSO_BYTES for frames that took several receive buffers. */
  readonly joined: number;
}
/** Entries of the control queue (qemu virtio_net_device_realize()). */
export const CONTROL_QUEUE_SIZE = 64;
export interface ControlWiring {
  readonly place: number;
  readonly kick: EventFd;
}
interface WiringBase {
  /** Whose device it is. */
  readonly vmm: VmmKind;
  readonly document: GuestNicDocument;
  readonly nic: GuestNic;
  /** Places of the driver and of the back-end. */
  readonly driverPlace: number;
  readonly backendPlace: number;
  readonly pairs: readonly PairWiring[];
  /** null where the device has no control queue. */
  readonly control: ControlWiring | null;
  /** Arena offset of JUMBO_BYTES: what QEMU reads frames of a tap into. */
  readonly bounce: number;
}
/** The lists are by queue pair. */
export type NicWiring = WiringBase &
  (
    | {
        readonly kind: 'qemu';
        readonly tap: Tap;
        /** Interfaces of the host, of which the tap is one. */
        readonly tuns: TunNamespace;
        readonly qemu: readonly UserspaceNic[];
        readonly ioeventfd: boolean;
      }
    | {
        readonly kind: 'vhost-net';
        readonly tap: Tap;
        /** Interfaces of the host, of which the tap is one. */
        readonly tuns: TunNamespace;
        readonly workers: readonly VhostNetWorker[];
      }
    | {
        readonly kind: 'vhost-user';
        readonly port: VhostUserPort;
        /** By queue pair: who polls it. */
        readonly pmds: readonly Pmd[];
        /** The bridge's `userspace-tso-enable`. */
        readonly userspaceTso: boolean;
      }
  );

export type VhostNetWiring = Extract<NicWiring, { kind: 'vhost-net' }>;

/** `rx0`, `tx0`, `rx1` … */
export const virtqueueName = (queue: number): string => `${(queue & 1) === 0 ? 'rx' : 'tx'}${queue >> 1}`;
/** Places of all its queues: rx0, tx0, rx1 …, ctrl. */
export const queuePlaces = (wiring: NicWiring): number[] =>
  frameQueuePlaces(wiring).concat(wiring.control?.place ?? []);
/** Places of those that carry frames. */
export const frameQueuePlaces = (wiring: NicWiring): number[] =>
  wiring.pairs.flatMap((p) => [p.places.rx, p.places.tx]);
/** The eventfds of a virtqueue: rx0, tx0, rx1 … */
export function kickOf(wiring: NicWiring, queue: number): EventFd {
  const { fds } = wiring.pairs[queue >> 1]!;
  return (queue & 1) === 0 ? fds.rxKick : fds.txKick;
}
export function callOf(wiring: NicWiring, queue: number): EventFd {
  const { fds } = wiring.pairs[queue >> 1]!;
  return (queue & 1) === 0 ? fds.rxCall : fds.txCall;
}
