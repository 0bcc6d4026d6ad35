/**
 * How IOTLB messages travel: as struct vhost_msg over read() and write() of /dev/vhost-net, or as vhost-user messages, misses on
 * the back-end's channel and answers on the main one, each answer acknowledged (recorded: flags 0x9, reply u64 0).
 */
import {
  SCHED_SYSCALL,
  VHOST_USER_BACKEND_REQUEST,
  VHOST_USER_REPLY,
  VHOST_USER_REQUEST,
} from '../../engine/events.ts';
import { SYS_read } from '../../machine/kvm/vm.ts';
import { type Trace, VhostNetDevice } from '../../machine/vhost/ioctl-carrier.ts';
import { iotlbMessage } from '../../machine/vhost/kernel/iotlb-channel.ts';
import { iotlbPayload } from '../../machine/vhost/user/backend-iotlb.ts';
import { encodeMessage, u64Payload } from '../../machine/vhost/user/codec.ts';
import { VHOST_USER_BACKEND_IOTLB_MSG, VHOST_USER_IOTLB_MSG } from '../../machine/vhost/user/requests.ts';
import { VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_MISS, VHOST_IOTLB_UPDATE, vhost_msg } from '../../machine/wire/vhost.ts';
import { VHOST_USER_NEED_REPLY_MASK, VHOST_USER_REPLY_MASK } from '../../machine/wire/vhost-user.ts';
import type { OpenBackend } from './nic-backend.ts';
import type { IotlbCarrier } from './nic-translation.ts';

const ACCESS_RW = 3;
const SYS_write = 1;

/** Messages of a NIC's back-end. `trace`: events of the back-end's place. */
export function iotlbCarrier(backend: OpenBackend, trace: Trace): IotlbCarrier {
  if (backend.kind === 'vhost-net') return kernelCarrier(backend, trace);
  if (backend.kind === 'vhost-user') return userCarrier(trace);
  return { missed: () => {}, update: () => {}, invalidate: () => {} };
}

function kernelCarrier(backend: Extract<OpenBackend, { kind: 'vhost-net' }>, trace: Trace): IotlbCarrier {
  const devices = backend.opened.map(({ frontend }) => frontend.carrier);
  const buffer = new Uint8Array(vhost_msg.SIZE);
  const write = (device: number, type: number, iova: number, size: number, uaddr: number): void => {
    const file = devices[device];
    trace(SCHED_SYSCALL, SYS_write, 0);
    if (!(file instanceof VhostNetDevice)) return;
    // what the messages do to the table is done by whoever sends them
    file.iotlb.hooks ??= { update: () => 0, invalidate: () => 0 };
    file.write(iotlbMessage(file.iotlb.v2, type, { iova, size }, uaddr, ACCESS_RW));
  };
  return {
    missed: (device, iova, access) => {
      const file = devices[device];
      if (file instanceof VhostNetDevice) file.iotlb.miss(iova, access);
    },
    update: (device, iova, bytes, uaddr) => {
      const file = devices[device];
      if (file instanceof VhostNetDevice && file.read(buffer) > 0) trace(SCHED_SYSCALL, SYS_read, 0);
      write(device, VHOST_IOTLB_UPDATE, iova, bytes, uaddr);
    },
    invalidate: (device, iova, bytes) => write(device, VHOST_IOTLB_INVALIDATE, iova, bytes, 0),
  };
}

function userCarrier(trace: Trace): IotlbCarrier {
  const ok = encodeMessage(VHOST_USER_IOTLB_MSG, VHOST_USER_REPLY_MASK, u64Payload(0));
  const send = (type: number, iova: number, size: number, uaddr: number, perm: number): void => {
    const payload = iotlbPayload({ iova, size, uaddr, perm, type });
    const message = encodeMessage(VHOST_USER_IOTLB_MSG, VHOST_USER_NEED_REPLY_MASK, payload);
    trace(VHOST_USER_REQUEST, VHOST_USER_IOTLB_MSG, payload.length, message);
    trace(VHOST_USER_REPLY, VHOST_USER_IOTLB_MSG, 8, ok);
  };
  return {
    missed: (_device, iova, perm) => {
      const payload = iotlbPayload({ iova, size: 0, uaddr: 0, perm, type: VHOST_IOTLB_MISS });
      trace(VHOST_USER_BACKEND_REQUEST, VHOST_USER_BACKEND_IOTLB_MSG, payload.length);
    },
    update: (_device, iova, bytes, uaddr) => send(VHOST_IOTLB_UPDATE, iova, bytes, uaddr, ACCESS_RW),
    // the rest of the message is what was in QEMU's memory; here 0
    invalidate: (_device, iova, bytes) => send(VHOST_IOTLB_INVALIDATE, iova, bytes, 0, 0),
  };
}
