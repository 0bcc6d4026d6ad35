/**
 * How IOTLB messages travel: as struct vhost_msg over read() and write() of /dev/vhost-net, or as vhost-user messages, misses on
 * the back-end's channel and answers on the main one, each answer acknowledged.
 */
import { SCHED_SYSCALL } from '../../../engine/events.ts';
import { EINVAL } from '../../../machine/kernel/errno.ts';
import { SYS_read } from '../../../machine/kvm/vm.ts';
import type { Services } from '../../../machine/services.ts';
import { iotlbMessage } from '../../../machine/vhost/kernel/iotlb-channel.ts';
import { type Trace, VhostNetDevice } from '../../../machine/vhost/kernel/vhost-net.ts';
import { VhostUserFrontend } from '../../../machine/vhost/user/frontend.ts';
import { VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_UPDATE, vhost_msg } from '../../../machine/wire/vhost.ts';
import type { OpenBackend } from './nic-backend.ts';
import type { VhostUserConnection } from './vhost-user-connection.ts';

const ACCESS_RW = 3;
/** linux arch/x86/entry/syscalls/syscall_64.tbl. */
const SYS_write = 1;

/** The messages of a NIC's back-end, by vhost device. What is translated is decided elsewhere. */
export interface IotlbCarrier {
  /** ns of one message, and of all messages of a miss that is answered. */
  readonly messageCost: number;
  readonly answerCost: number;
  /** The back-end sends a miss. */
  missed(device: number, iova: number, access: number): void;
  /** QEMU reads it. */
  read(device: number): void;
  /** QEMU gives a translation: 0, or a negative errno where the back-end does not take it. */
  update(device: number, iova: number, bytes: number, uaddr: number): number;
  /** QEMU takes what lies in the range away. */
  invalidate(device: number, iova: number, bytes: number): void;
}

/** `trace`: events of the back-end's place. */
export function iotlbCarrier(backend: OpenBackend, trace: Trace, services: Services): IotlbCarrier {
  if (backend.kind === 'vhost-net') return kernelCarrier(backend, trace, services);
  if (backend.kind === 'vhost-user') return userCarrier(backend, services);
  return { messageCost: 0, answerCost: 0, missed: () => {}, read: () => {}, update: () => 0, invalidate: () => {} };
}

function kernelCarrier(
  backend: Extract<OpenBackend, { kind: 'vhost-net' }>,
  trace: Trace,
  services: Services,
): IotlbCarrier {
  const devices = backend.opened.map(({ frontend }) => frontend.carrier);
  const buffer = new Uint8Array(vhost_msg.SIZE);
  const write = (device: number, type: number, iova: number, size: number, uaddr: number): number => {
    const file = devices[device];
    trace(SCHED_SYSCALL, SYS_write, 0);
    if (!(file instanceof VhostNetDevice)) return -EINVAL;
    // the table that the data path looks into is kept by whoever sends the messages
    file.iotlb.hooks ??= { update: () => 0, invalidate: () => 0 };
    return Math.min(0, file.write(iotlbMessage(file.iotlb.v2, type, { iova, size }, uaddr, ACCESS_RW)));
  };
  const messageCost = services.ns('iotlb_message_kernel');
  return {
    messageCost,
    // a read and a write
    answerCost: 2 * messageCost,
    missed: (device, iova, access) => {
      const file = devices[device];
      if (file instanceof VhostNetDevice) file.iotlb.miss(iova, access);
    },
    read: (device) => {
      const file = devices[device];
      trace(SCHED_SYSCALL, SYS_read, 0);
      if (file instanceof VhostNetDevice) file.read(buffer);
    },
    update: (device, iova, bytes, uaddr) => write(device, VHOST_IOTLB_UPDATE, iova, bytes, uaddr),
    invalidate: (device, iova, bytes) => {
      write(device, VHOST_IOTLB_INVALIDATE, iova, bytes, 0);
    },
  };
}

function userCarrier(connection: VhostUserConnection, services: Services): IotlbCarrier {
  const { frontend } = connection;
  const messageCost = services.ns('iotlb_message_user');
  // a message waits for its acknowledgement
  const costs = { messageCost, answerCost: messageCost };
  if (!(frontend instanceof VhostUserFrontend))
    return { ...costs, missed: () => {}, read: () => {}, update: () => -EINVAL, invalidate: () => {} };
  // a miss is answered by messages of their own, on the main loop's time
  frontend.onBackendMessage = () => 0;
  return {
    ...costs,
    missed: (_device, iova, access) => {
      connection.backend.iotlbMiss(iova, access);
    },
    read: () => {
      frontend.serveBackend();
    },
    update: (_device, iova, bytes, uaddr) => frontend.iotlbUpdate(iova, bytes, uaddr),
    invalidate: (_device, iova, bytes) => {
      frontend.iotlbInvalidate(iova, bytes);
    },
  };
}
