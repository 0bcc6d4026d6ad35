import { describe, expect, it } from 'vitest';
import { TUN_IOCTL, TUN_IOCTL_ARGUMENT, TUN_IOCTL_RESULT } from '../../../../src/engine/events.ts';
import { describeTunIoctl } from '../../../../src/machine/host/tun-describe.ts';
import { TunFile } from '../../../../src/machine/host/tun-file.ts';
import { NO_TUN_HOOKS, TunNamespace } from '../../../../src/machine/host/tun-interface.ts';
import * as T from '../../../../src/machine/host/tun-ioctls.ts';
import { TUN_READQ_SIZE } from '../../../../src/machine/host/tun-packets.ts';
import { EAGAIN, EBADFD, EBUSY, EEXIST, EFAULT, EINVAL, EPERM } from '../../../../src/machine/kernel/errno.ts';
import { FdTable } from '../../../../src/machine/kernel/files.ts';
import { ifNameOf, ifreq, ifreqBytes, TUN_PKT_STRIP, tun_pi } from '../../../../src/machine/wire/tun.ts';
import vectors from '../../../vectors/uapi/tun.json' with { type: 'json' };

const HYPERVISOR = T.IFF_TAP | T.IFF_NO_PI | T.IFF_VNET_HDR;
const int = (n: number): Uint8Array => new Uint8Array(new Int32Array([n]).buffer);
const numberIn = (b: Uint8Array): number => new DataView(b.buffer).getInt32(0, true);

function attached(flags: number, name = 'tap0', netns = new TunNamespace()): { file: TunFile; netns: TunNamespace } {
  const file = new TunFile(netns);
  expect(file.ioctl(T.TUNSETIFF, ifreqBytes(name, flags))).toBe(0);
  return { file, netns };
}

describe('the numbers of /dev/net/tun', () => {
  it('are those of the kernel headers', () => {
    const ours = T as unknown as Record<string, number>;
    for (const [name, [value]] of Object.entries(vectors.ioctls))
      expect([name, ours[name]]).toEqual([name, Number(value)]);
    for (const [name, value] of Object.entries(vectors.constants))
      if (/^(IFF_(?!NO_CARRIER|NOFILTER)|TUN_F_)/.test(name)) expect([name, ours[name]]).toEqual([name, value]);
    expect(TUN_READQ_SIZE).toBe(vectors.constants.TUN_READQ_SIZE);
    expect(ifreq.SIZE).toBe(vectors.structs.struct_ifreq.size);
    expect(ifreq.ifr_flags.offset).toBe(vectors.structs.struct_ifreq.fields.ifr_flags[0]);
    expect(tun_pi.SIZE).toBe(vectors.structs.struct_tun_pi.size);
  });
});

describe('TUNSETIFF and TUNSETQUEUE', () => {
  it('makes an interface, names it where the name has %d, and writes the name back', () => {
    const netns = new TunNamespace();
    const named = ['tap%d', '', 'tap%d'].map((name) => {
      const request = ifreqBytes(name, HYPERVISOR);
      expect(new TunFile(netns).ioctl(T.TUNSETIFF, request)).toBe(0);
      return ifNameOf(request);
    });
    expect(named).toEqual(['tap0', 'tap1', 'tap2']);
    expect(netns.names).toEqual(named);
  });
  it('refuses a second TUNSETIFF, a busy interface, another type, and what is neither tun nor tap', () => {
    const { file, netns } = attached(HYPERVISOR);
    expect(file.ioctl(T.TUNSETIFF, ifreqBytes('tap1', HYPERVISOR))).toBe(-EEXIST);
    expect(new TunFile(netns).ioctl(T.TUNSETIFF, ifreqBytes('tap0', HYPERVISOR))).toBe(-EBUSY);
    expect(new TunFile(netns).ioctl(T.TUNSETIFF, ifreqBytes('tap0', T.IFF_TUN | T.IFF_NO_PI))).toBe(-EINVAL);
    expect(new TunFile(netns).ioctl(T.TUNSETIFF, ifreqBytes('tap0', HYPERVISOR | T.IFF_MULTI_QUEUE))).toBe(-EINVAL);
    expect(new TunFile(netns).ioctl(T.TUNSETIFF, ifreqBytes('x', T.IFF_NO_PI))).toBe(-EINVAL);
    expect(new TunFile(netns).ioctl(T.TUNSETIFF, ifreqBytes('tap0', HYPERVISOR | T.IFF_TUN_EXCL))).toBe(-EBUSY);
    expect(new TunFile(netns).ioctl(T.TUNSETIFF, new Uint8Array(8))).toBe(-EFAULT);
    expect(netns.names).toEqual(['tap0']);
  });
  it('takes several files as queues, out of use and back, and says how many there are', () => {
    const flags = HYPERVISOR | T.IFF_MULTI_QUEUE;
    const { file, netns } = attached(flags);
    const seen: number[] = [];
    file.tun!.hooks = { ...NO_TUN_HOOKS, onQueues: (n) => seen.push(n) };
    const second = attached(flags, 'tap0', netns).file;
    expect(second.ioctl(T.TUNSETQUEUE, ifreqBytes('', T.IFF_ATTACH_QUEUE))).toBe(-EINVAL);
    expect(second.ioctl(T.TUNSETQUEUE, ifreqBytes('', T.IFF_DETACH_QUEUE))).toBe(0);
    expect(second.ioctl(T.TUNSETQUEUE, ifreqBytes('', T.IFF_DETACH_QUEUE))).toBe(-EINVAL);
    expect(second.ioctl(T.TUNSETQUEUE, ifreqBytes('', T.IFF_ATTACH_QUEUE))).toBe(0);
    expect(seen).toEqual([2, 1, 2]);
    const single = attached(HYPERVISOR, 'tap1', netns).file;
    expect(single.ioctl(T.TUNSETQUEUE, ifreqBytes('', T.IFF_DETACH_QUEUE))).toBe(-EINVAL);
  });
  it('leaves with its last descriptor, unless it is persistent', () => {
    const netns = new TunNamespace();
    const table = new FdTable();
    const fd = table.install(attached(HYPERVISOR, 'tap0', netns).file);
    const kept = table.install(attached(HYPERVISOR, 'tap1', netns).file);
    expect(table.ioctl(kept, T.TUNSETPERSIST, new Uint8Array(0), 1)).toBe(0);
    table.close(fd);
    table.close(kept);
    expect(netns.names).toEqual(['tap1']);
    expect(table.open).toBe(0);
    // and can be opened again
    attached(HYPERVISOR, 'tap1', netns);
  });
});

describe('settings of a tap', () => {
  it('are refused before there is an interface, but for what the kernel can', () => {
    const file = new TunFile(new TunNamespace());
    const features = int(0);
    expect(file.ioctl(T.TUNGETFEATURES, features)).toBe(0);
    expect(numberIn(features)).toBe(T.TUN_FEATURES);
    for (const request of [T.TUNGETIFF, T.TUNSETVNETHDRSZ, T.TUNSETSNDBUF, T.TUNSETOFFLOAD])
      expect(file.ioctl(request, new Uint8Array(ifreq.SIZE))).toBe(-EBADFD);
    expect(file.ioctl(T.TUNSETIFINDEX, int(7))).toBe(0);
    expect(attached(HYPERVISOR).file.ioctl(T.TUNSETIFINDEX, int(7))).toBe(-EPERM);
  });
  it('take offloads that fit together', () => {
    const { file } = attached(HYPERVISOR);
    const seen: number[] = [];
    file.tun!.hooks = { ...NO_TUN_HOOKS, onOffloads: (n) => seen.push(n) };
    const set = (flags: number): number => file.ioctl(T.TUNSETOFFLOAD, new Uint8Array(0), flags);
    const tso = T.TUN_F_CSUM | T.TUN_F_TSO4 | T.TUN_F_TSO6 | T.TUN_F_TSO_ECN;
    expect([0, T.TUN_F_CSUM, tso, T.TUN_F_CSUM | T.TUN_F_UFO].map(set)).toEqual([0, 0, 0, 0]);
    const bad = [T.TUN_F_TSO4, T.TUN_F_UFO, T.TUN_F_CSUM | T.TUN_F_TSO_ECN, T.TUN_F_USO4, 0x100];
    expect(bad.map(set)).toEqual(bad.map(() => -EINVAL));
    expect(seen).toEqual([0, T.TUN_F_CSUM, tso, T.TUN_F_CSUM | T.TUN_F_UFO]);
    expect(file.tun!.offloads).toBe(T.TUN_F_CSUM | T.TUN_F_UFO);
  });
  it('check header sizes and buffers, and give back what was set', () => {
    const { file } = attached(HYPERVISOR);
    expect(file.ioctl(T.TUNSETVNETHDRSZ, int(9))).toBe(-EINVAL);
    for (const size of [10, 12, 20]) {
      expect(file.ioctl(T.TUNSETVNETHDRSZ, int(size))).toBe(0);
      const back = int(0);
      expect(file.ioctl(T.TUNGETVNETHDRSZ, back)).toBe(0);
      expect(numberIn(back)).toBe(size);
    }
    expect(file.ioctl(T.TUNSETSNDBUF, int(0))).toBe(-EINVAL);
    expect(file.ioctl(T.TUNSETSNDBUF, int(4096))).toBe(0);
    expect(file.ioctl(T.TUNGETSNDBUF, new Uint8Array(2))).toBe(-EFAULT);
    expect(file.ioctl(T.TUNSETVNETBE, int(1))).toBe(-EINVAL);
    expect(file.ioctl(T.TUNGETDEVNETNS)).toBe(-EPERM);
    expect(file.ioctl(0x5401)).toBe(-EINVAL);
    const got = new Uint8Array(ifreq.SIZE);
    expect(file.ioctl(T.TUNGETIFF, got)).toBe(0);
    expect([ifNameOf(got), ifreq.ifr_flags.get(new DataView(got.buffer), 0)]).toEqual(['tap0', HYPERVISOR]);
  });
  it('records each request with what it was given', () => {
    const seen: (number | Uint8Array | undefined)[][] = [];
    const file = new TunFile(new TunNamespace(), (...of) => seen.push(of));
    file.ioctl(T.TUNSETIFF, ifreqBytes('tap0', HYPERVISOR));
    file.ioctl(T.TUNSETOFFLOAD, new Uint8Array(0), T.TUN_F_CSUM);
    file.ioctl(T.TUNSETOFFLOAD, new Uint8Array(0), T.TUN_F_TSO4);
    expect(seen).toEqual([
      [TUN_IOCTL, T.TUNSETIFF, HYPERVISOR],
      [TUN_IOCTL_ARGUMENT, 0, 0, ifreqBytes('tap0', HYPERVISOR)],
      [TUN_IOCTL, T.TUNSETOFFLOAD, T.TUN_F_CSUM],
      [TUN_IOCTL, T.TUNSETOFFLOAD, T.TUN_F_TSO4],
      [TUN_IOCTL_RESULT, T.TUNSETOFFLOAD, -EINVAL],
    ]);
    expect(describeTunIoctl(T.TUNSETIFF, seen[1]![3] as Uint8Array)).toEqual({
      ifr_name: 'tap0',
      ifr_flags: 'IFF_TAP IFF_NO_PI IFF_VNET_HDR',
    });
  });
});

describe('packets through the file', () => {
  const frame = Uint8Array.from({ length: 60 }, (_, i) => i);
  frame.set([0x08, 0x06], 12);

  it('have a header of the size that was set, and what does not fit is cut', () => {
    const { file } = attached(HYPERVISOR);
    file.ioctl(T.TUNSETVNETHDRSZ, int(12));
    const buffer = new Uint8Array(100);
    expect(file.read(buffer)).toBe(-EAGAIN);
    file.tun!.transmit({ header: new Uint8Array([1, 0, 0, 0, 0, 0, 34, 0, 6, 0]), bytes: frame });
    expect(file.read(buffer)).toBe(72);
    expect([...buffer.subarray(0, 13)]).toEqual([1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0, 0]);
    expect(buffer.subarray(12, 72)).toEqual(frame);
    file.tun!.transmit({ header: null, bytes: frame });
    expect(file.read(new Uint8Array(40))).toBe(40);
  });
  it('have struct tun_pi without IFF_NO_PI: EtherType, and whether they were cut', () => {
    const { file } = attached(T.IFF_TAP);
    file.tun!.transmit({ header: null, bytes: frame });
    const buffer = new Uint8Array(32);
    expect(file.read(buffer)).toBe(32);
    const m = new DataView(buffer.buffer);
    expect([tun_pi.flags.get(m, 0), tun_pi.proto.get(m, 0)]).toEqual([TUN_PKT_STRIP, 0x0806]);
  });
  it('go into the host when they are whole', () => {
    const { file } = attached(HYPERVISOR);
    const got: Uint8Array[] = [];
    file.tun!.hooks = { ...NO_TUN_HOOKS, onPacket: (p) => got.push(p.bytes) };
    const written = new Uint8Array(70);
    written.set(frame, 10);
    expect(file.write(written)).toBe(70);
    expect(got).toEqual([frame]);
    expect(file.write(new Uint8Array(9))).toBe(-EINVAL);
    expect(file.write(new Uint8Array(10 + 13))).toBe(-EINVAL);
    const outside = written.slice();
    outside.set([1, 0, 0, 0, 0, 0, 50, 0, 16, 0]);
    expect(file.write(outside)).toBe(-EINVAL);
    expect(got.length).toBe(1);
  });
  it('are IP packets on a tun, which says its version itself', () => {
    const { file } = attached(T.IFF_TUN | T.IFF_NO_PI, 'tun0');
    expect(file.write(new Uint8Array([0x45, 0, 0, 20]))).toBe(4);
    expect(file.write(new Uint8Array([0x15, 0, 0, 20]))).toBe(-EINVAL);
  });
  it('are dropped when the queue is full, and with a queue that is detached', () => {
    const flags = HYPERVISOR | T.IFF_MULTI_QUEUE;
    const { file, netns } = attached(flags);
    attached(flags, 'tap0', netns);
    const tun = file.tun!;
    for (let i = 0; i < TUN_READQ_SIZE; i++) expect(tun.transmit({ header: null, bytes: frame }, 0)).toBe(true);
    expect(tun.transmit({ header: null, bytes: frame }, 0)).toBe(false);
    expect(file.ioctl(T.TUNSETQUEUE, ifreqBytes('', T.IFF_DETACH_QUEUE))).toBe(0);
    expect(file.read(new Uint8Array(100))).toBe(-EAGAIN);
  });
});
