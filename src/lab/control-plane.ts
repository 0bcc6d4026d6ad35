/**
 * The control plane of a guest as it was recorded, decoded: ioctls with the structures that they were given and what they
 * returned, vhost-user messages with their payloads, phases of the VMM, register writes that matter.
 */
import { RingReader } from '../engine/event-ring.ts';
import * as E from '../engine/events.ts';
import { describeTunIoctl } from '../machine/host/tun-describe.ts';
import { TUN_IOCTL_NAMES } from '../machine/host/tun-ioctls.ts';
import { describeVfioIoctl } from '../machine/vfio/describe.ts';
import { describeVhostIoctl } from '../machine/vhost/kernel/describe.ts';
import { VHOST_IOCTL_NAMES } from '../machine/vhost/kernel/vhost-net.ts';
import { featureName } from '../machine/virtio/features.ts';
import {
  KVM_CAP_NAMES,
  KVM_CHECK_EXTENSION,
  KVM_EXIT_NAMES,
  KVM_IOCTL_NAMES,
  kvmArgument,
} from '../machine/wire/kvm.ts';
import { VFIO_IOCTL_NAMES } from '../machine/wire/vfio.ts';
import { messageFields, type PayloadFields } from '../machine/wire/vhost-user-fields.ts';
import type { Machine } from './build/machine.ts';
import type { ControlPlaneQuery, ControlStep, ControlSteps } from './control-steps.ts';
import { findGuest } from './inspect.ts';

/** ioctls: names of the requests, and the kinds of event with the argument's bytes and the result, where they are recorded. */
const IOCTLS: ReadonlyMap<number, ReadonlyMap<number, string>> = new Map([
  [E.KVM_IOCTL, KVM_IOCTL_NAMES],
  [E.VHOST_IOCTL, VHOST_IOCTL_NAMES],
  [E.TUN_IOCTL, TUN_IOCTL_NAMES],
  [E.VFIO_IOCTL, VFIO_IOCTL_NAMES],
]);
const ARGUMENTS: ReadonlySet<number> = new Set([
  E.KVM_IOCTL_ARGUMENT,
  E.VFIO_IOCTL_ARGUMENT,
  E.VHOST_IOCTL_ARGUMENT,
  E.TUN_IOCTL_ARGUMENT,
]);
const RESULTS: ReadonlySet<number> = new Set([
  E.KVM_IOCTL_RESULT,
  E.VFIO_IOCTL_RESULT,
  E.VHOST_IOCTL_RESULT,
  E.TUN_IOCTL_RESULT,
]);
const MESSAGES: ReadonlyMap<number, 'main' | 'backend'> = new Map([
  [E.VHOST_USER_MESSAGE, 'main'],
  [E.VHOST_USER_BACKEND_MESSAGE, 'backend'],
]);
/** Kinds that are shown with their columns as they are. */
const PLAIN: ReadonlySet<number> = new Set([
  E.KVM_OPEN,
  E.KVM_USERSPACE_EXIT,
  E.KVM_RUN_CALL,
  E.QEMU_PHASE,
  E.QEMU_DEVICE_REALIZE,
  E.QEMU_DEVICE_RESET,
  E.VIRTIO_STATUS,
  E.VIRTIO_FEATURES,
  E.VIRTIO_QUEUE_ENABLE,
  E.VIRTIO_QUEUE_RESET,
  E.VIRTIO_NET_CTRL,
  E.VFIO_OPEN,
]);
/** Exits and re-entries of the probe drown everything else. */
const EXITS: ReadonlySet<number> = new Set([E.KVM_USERSPACE_EXIT, E.KVM_RUN_CALL]);

type Draft = { -readonly [K in keyof ControlStep]: ControlStep[K] };

/**
 * Up to `limit` steps of the guest from sequence number `from` on, oldest first; with `exits` also KVM_RUN's returns. Throws
 * Refusal NOT_FOUND.
 */
export function controlPlane(machine: Machine, guest: string, { from, limit, exits }: ControlPlaneQuery): ControlSteps {
  const { name } = findGuest(machine, guest);
  machine.recorder.publish(machine.scheduler.now[0]!);
  const reader = new RingReader(machine.arena.buffer, machine.catalog);
  const { places, contexts } = machine.catalog;
  const items: Draft[] = [];
  let request = 0;
  for (let at = Math.max(from, reader.tail()); at < reader.head(); ) {
    const n = reader.read(at);
    if (n === 0) break;
    const { block } = reader;
    for (let i = 0; i < n; i++) {
      const meta = block.meta[i]!;
      const kind = E.kindOf(meta);
      const a = block.a[i]! >>> 0;
      const b = block.b[i]! >>> 0;
      const last = items.at(-1);
      const place = places[E.placeOf(meta)];
      if (place?.guest !== name) continue;
      if (last !== undefined && ARGUMENTS.has(kind)) {
        last.fields = argumentFields(kind, request, bytesOf(reader, a, b));
        continue;
      }
      if (last !== undefined && RESULTS.has(kind)) {
        last.result = b | 0;
        continue;
      }
      const ioctls = IOCTLS.get(kind);
      const channel = MESSAGES.get(kind);
      if (ioctls === undefined && channel === undefined && !PLAIN.has(kind)) continue;
      if (!exits && EXITS.has(kind)) continue;
      const seq = block.first + i;
      if (items.length === limit) return { items, next: seq };
      const step: Draft = {
        seq,
        ns: block.time[i]!,
        event: E.KIND_BY_ID[kind]!.name,
        place: place.name,
        context: contexts[E.contextOf(meta)]?.name ?? '',
        call: E.KIND_BY_ID[kind]!.name,
        fields: {},
        result: null,
      };
      if (ioctls !== undefined) {
        request = a;
        step.call = ioctls.get(a) ?? `0x${a.toString(16)}`;
        step.result = 0;
        step.fields = a === KVM_CHECK_EXTENSION ? { capability: KVM_CAP_NAMES.get(b) ?? b } : { argument: b };
      } else if (channel !== undefined) {
        const message = messageFields(bytesOf(reader, a, b), channel, featureName);
        if (message === null) continue;
        step.call = message.name;
        step.fields = { reply: message.reply ? 1 : 0, need_reply: message.needReply ? 1 : 0, ...message.payload };
      } else step.fields = columns(kind, a, b);
      items.push(step);
    }
    at = block.first + n;
  }
  return { items, next: null };
}

function bytesOf(reader: RingReader, a: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  reader.readBytes(reader.bytePosition(a), length, bytes);
  return bytes;
}
function argumentFields(kind: number, request: number, bytes: Uint8Array): PayloadFields {
  if (kind === E.VFIO_IOCTL_ARGUMENT) return vfioFields(request, bytes);
  if (kind === E.VHOST_IOCTL_ARGUMENT) return describeVhostIoctl(request, bytes);
  if (kind === E.TUN_IOCTL_ARGUMENT) return describeTunIoctl(request, bytes);
  const argument = kvmArgument(request, bytes);
  if (argument === null) return { bytes: bytes.length };
  return argument.entries === undefined ? argument.fields : { ...argument.fields, entries: argument.entries };
}
/** A value that no number holds is left out. */
function vfioFields(request: number, argument: Uint8Array): PayloadFields {
  const out: Record<string, number | string> = {};
  for (const [name, value] of Object.entries(describeVfioIoctl(request, argument).fields))
    if (value !== null) out[name] = value;
  return out;
}
/** Columns under the names of the table; an exit_reason by its name. */
function columns(kind: number, a: number, b: number): PayloadFields {
  const out: Record<string, number | string> = {};
  const row = E.KIND_BY_ID[kind]!;
  const short = (text: string): string => text.split('|')[0]!.trim();
  if (row.a !== '') out[short(row.a)] = kind === E.KVM_USERSPACE_EXIT ? (KVM_EXIT_NAMES.get(a) ?? a) : a;
  if (row.b !== '') out[short(row.b)] = b;
  return out;
}
