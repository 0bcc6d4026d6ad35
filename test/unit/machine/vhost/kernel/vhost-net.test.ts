import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventFd } from '../../../../../src/engine/eventfd.ts';
import { TunFile } from '../../../../../src/machine/host/tun-file.ts';
import { TunNamespace } from '../../../../../src/machine/host/tun-interface.ts';
import { IFF_NO_PI, IFF_TAP, IFF_TUN, IFF_VNET_HDR, TUNSETIFF } from '../../../../../src/machine/host/tun-ioctls.ts';
import {
  E2BIG,
  EAGAIN,
  EBADF,
  EBUSY,
  EFAULT,
  EINVAL,
  ENOBUFS,
  ENOTSOCK,
  ENOTTY,
  EOPNOTSUPP,
  EPERM,
} from '../../../../../src/machine/kernel/errno.ts';
import { type EventFdFile, openEventFd } from '../../../../../src/machine/kernel/eventfd-file.ts';
import { FdTable } from '../../../../../src/machine/kernel/files.ts';
import { iotlbMessage } from '../../../../../src/machine/vhost/kernel/iotlb-channel.ts';
import * as V from '../../../../../src/machine/vhost/kernel/vhost-net.ts';
import { vhostNetSession } from '../../../../../src/machine/vhost/kernel/vhost-net.ts';
import { VHOST_NET_OFFER } from '../../../../../src/machine/vhost/offers.ts';
import { ifreqBytes } from '../../../../../src/machine/wire/tun.ts';
import * as W from '../../../../../src/machine/wire/vhost.ts';
import vectors from '../../../../vectors/uapi/vhost.json' with { type: 'json' };

const HVA = 0x7f00_0000_0000;
const words = (...n: number[]): Uint8Array => new Uint8Array(new Int32Array(n).buffer);
const u64 = (n: number): Uint8Array => new Uint8Array(new BigUint64Array([BigInt(n)]).buffer);
const VHOST_NET_F_MASK = new BigUint64Array([(BigInt(VHOST_NET_OFFER.hi) << 32n) | BigInt(VHOST_NET_OFFER.lo)]);

function memTable(...regions: [gpa: number, size: number, uva: number][]): Uint8Array {
  return new Uint8Array(
    new BigUint64Array([
      BigInt(regions.length),
      ...regions.flatMap(([gpa, size, uva]) => [BigInt(gpa), BigInt(size), BigInt(uva), 0n]),
    ]).buffer,
  );
}
const vringAddr = (ring: number, desc: number, used: number, avail: number, flags = 0): Uint8Array =>
  new Uint8Array(
    new BigUint64Array([BigInt(ring) | (BigInt(flags) << 32n), BigInt(desc), BigInt(used), BigInt(avail), 0n]).buffer,
  );

/** A process with the device open, a tap, and an eventfd. */
function opened() {
  const fds = new FdTable();
  const device = new V.VhostNetDevice(() => {}, vhostNetSession(), fds);
  const fd = fds.install(device);
  const netns = new TunNamespace();
  const tapFile = new TunFile(netns);
  tapFile.ioctl(TUNSETIFF, ifreqBytes('tap0', IFF_TAP | IFF_NO_PI | IFF_VNET_HDR));
  const tap = fds.install(tapFile);
  const kick = openEventFd(fds, new EventFd(0, 'kick'));
  const ioctl = (request: number, argument?: Uint8Array): number => fds.ioctl(fd, request, argument);
  return { fds, device, fd, tap, tapFile, kick, ioctl };
}
/** The same, owned, with 16 MiB of memory and ring 0 set up. */
function ready() {
  const o = opened();
  expect(o.ioctl(V.VHOST_SET_OWNER)).toBe(0);
  expect(o.ioctl(V.VHOST_SET_FEATURES, new Uint8Array(u64(2 ** 32)))).toBe(0);
  expect(o.ioctl(V.VHOST_SET_MEM_TABLE, memTable([0, 0x100_0000, HVA]))).toBe(0);
  expect(o.ioctl(V.VHOST_SET_VRING_NUM, words(0, 256))).toBe(0);
  expect(o.ioctl(V.VHOST_SET_VRING_BASE, words(0, 0))).toBe(0);
  expect(o.ioctl(V.VHOST_SET_VRING_ADDR, vringAddr(0, HVA + 0x1000, HVA + 0x3000, HVA + 0x2000))).toBe(0);
  return o;
}

describe('the numbers of /dev/vhost-net', () => {
  it('are those of the kernel headers', () => {
    const ours = V as unknown as Record<string, number>;
    for (const [name, [value, size]] of Object.entries(vectors.ioctls)) {
      if (name.includes('VDPA')) continue;
      expect([name, ours[name]]).toEqual([name, Number(value)]);
      expect([name, V.ioctlSize(ours[name]!)]).toEqual([name, size]);
      expect(V.VHOST_IOCTL_NAMES.get(ours[name]!)).toBe(name);
    }
    const wire = W as unknown as Record<string, number>;
    for (const [name, value] of Object.entries(vectors.constants))
      if (name in wire) expect([name, wire[name]]).toEqual([name, value]);
  });
  it('carry structures with the offsets of the headers', () => {
    const of = (name: keyof typeof vectors.structs): Record<string, number[]> => vectors.structs[name].fields;
    const layouts: [keyof typeof vectors.structs, Record<string, unknown>][] = [
      ['struct_vhost_vring_state', W.vhost_vring_state],
      ['struct_vhost_vring_file', W.vhost_vring_file],
      ['struct_vhost_vring_addr', W.vhost_vring_addr],
      ['struct_vhost_memory_region', W.vhost_memory_region],
      ['struct_vhost_iotlb_msg', W.vhost_iotlb_msg],
      ['struct_vhost_msg', W.vhost_msg],
      ['struct_vhost_msg_v2', W.vhost_msg_v2],
    ];
    for (const [name, layout] of layouts) {
      expect([name, layout['SIZE']]).toEqual([name, vectors.structs[name].size]);
      for (const [field, [offset]] of Object.entries(of(name)))
        expect([name, field, (layout[field] as { offset: number }).offset]).toEqual([name, field, offset]);
    }
  });
});

describe('what /dev/vhost-net refuses', () => {
  it('nearly everything before there is an owner, who is one', () => {
    const { ioctl } = opened();
    expect(ioctl(V.VHOST_GET_FEATURES, u64(0))).toBe(0);
    expect(ioctl(V.VHOST_SET_VRING_NUM, words(0, 256))).toBe(-EPERM);
    expect(ioctl(V.VHOST_RESET_OWNER)).toBe(-EPERM);
    expect(ioctl(V.VHOST_SET_OWNER)).toBe(0);
    expect(ioctl(V.VHOST_SET_OWNER)).toBe(-EBUSY);
    expect(ioctl(V.VHOST_RESET_OWNER)).toBe(0);
    expect(ioctl(V.VHOST_SET_OWNER)).toBe(0);
  });
  it('features and backend features that it did not offer', () => {
    const { ioctl } = opened();
    expect(ioctl(V.VHOST_SET_FEATURES, new Uint8Array(VHOST_NET_F_MASK.buffer.slice(0)))).toBe(0);
    expect(ioctl(V.VHOST_SET_FEATURES, u64(2 ** 5))).toBe(-EOPNOTSUPP);
    const backend = u64(0);
    expect(ioctl(V.VHOST_GET_BACKEND_FEATURES, backend)).toBe(0);
    expect(backend[0]).toBe(2);
    expect(ioctl(V.VHOST_SET_BACKEND_FEATURES, u64(4))).toBe(-EOPNOTSUPP);
  });
  it('rings that it does not have, sizes that are none, bases beyond 16 bits, endianness', () => {
    const { ioctl } = ready();
    expect(ioctl(V.VHOST_SET_VRING_NUM, words(2, 256))).toBe(-ENOBUFS);
    for (const size of [0, 3, 0x10000]) expect(ioctl(V.VHOST_SET_VRING_NUM, words(0, size))).toBe(-EINVAL);
    expect(ioctl(V.VHOST_SET_VRING_BASE, words(0, 0x10000))).toBe(-EINVAL);
    expect(ioctl(V.VHOST_SET_VRING_ENDIAN, words(0, 0))).toBe(-ENOTTY);
    expect(ioctl(0xaf7f)).toBe(-ENOTTY);
    expect(ioctl(V.VHOST_SET_VRING_NUM, words(0))).toBe(-EFAULT);
  });
  it('ring addresses that are not aligned or have flags that do not exist', () => {
    const { ioctl } = ready();
    expect(ioctl(V.VHOST_SET_VRING_ADDR, vringAddr(0, HVA, HVA + 2, HVA))).toBe(-EINVAL);
    expect(ioctl(V.VHOST_SET_VRING_ADDR, vringAddr(0, HVA, HVA, HVA + 1))).toBe(-EINVAL);
    expect(ioctl(V.VHOST_SET_VRING_ADDR, vringAddr(0, HVA, HVA, HVA, 2))).toBe(-EOPNOTSUPP);
  });
  it('memory tables that are too long, cut off, or overlap', () => {
    const { ioctl } = ready();
    const many = Array.from({ length: 65 }, (_, i): [number, number, number] => [i * 4096, 4096, HVA + i * 4096]);
    expect(ioctl(V.VHOST_SET_MEM_TABLE, memTable(...many))).toBe(-E2BIG);
    expect(ioctl(V.VHOST_SET_MEM_TABLE, memTable([0, 4096, HVA]).subarray(0, 20))).toBe(-EFAULT);
    expect(ioctl(V.VHOST_SET_MEM_TABLE, memTable([0, 8192, HVA], [4096, 4096, HVA + 8192]))).toBe(-EINVAL);
  });
  it('descriptors that are not open, no eventfd, or no tap', () => {
    const { ioctl, kick, tap, fds, fd } = ready();
    expect(ioctl(V.VHOST_SET_VRING_KICK, words(0, 77))).toBe(-EBADF);
    expect(ioctl(V.VHOST_SET_VRING_CALL, words(0, -2))).toBe(-EBADF);
    expect(ioctl(V.VHOST_SET_VRING_KICK, words(0, tap))).toBe(-EINVAL);
    expect(ioctl(V.VHOST_NET_SET_BACKEND, words(0, 77))).toBe(-EBADF);
    expect(ioctl(V.VHOST_NET_SET_BACKEND, words(0, kick))).toBe(-ENOTSOCK);
    expect(ioctl(V.VHOST_NET_SET_BACKEND, words(0, fd))).toBe(-ENOTSOCK);
    const tun = new TunFile(new TunNamespace());
    tun.ioctl(TUNSETIFF, ifreqBytes('tun0', IFF_TUN));
    expect(ioctl(V.VHOST_NET_SET_BACKEND, words(0, fds.install(tun)))).toBe(-ENOTSOCK);
    expect(ioctl(V.VHOST_SET_LOG_FD, words(tap))).toBe(-EINVAL);
    expect(ioctl(V.VHOST_SET_LOG_FD, words(kick))).toBe(0);
  });
  it('changes of a ring that runs, and a tap for one whose memory is not there', () => {
    const { ioctl, tap } = ready();
    expect(ioctl(V.VHOST_NET_SET_BACKEND, words(1, tap))).toBe(-EFAULT);
    expect(ioctl(V.VHOST_NET_SET_BACKEND, words(0, tap))).toBe(0);
    expect(ioctl(V.VHOST_SET_VRING_NUM, words(0, 128))).toBe(-EBUSY);
    expect(ioctl(V.VHOST_SET_VRING_BASE, words(0, 1))).toBe(-EBUSY);
    expect(ioctl(V.VHOST_SET_MEM_TABLE, memTable([0, 0x2000, HVA]))).toBe(-EFAULT);
    expect(ioctl(V.VHOST_NET_SET_BACKEND, words(0, -1))).toBe(0);
    expect(ioctl(V.VHOST_SET_VRING_NUM, words(0, 128))).toBe(0);
  });
});

describe('what /dev/vhost-net keeps', () => {
  it('busy-loop timeouts of each ring', () => {
    const { ioctl, device } = ready();
    const told: number[][] = [];
    device.hooks = { onBusyloop: (...of) => told.push(of), memoryAt: () => null };
    expect(ioctl(V.VHOST_SET_VRING_BUSYLOOP_TIMEOUT, words(1, 50))).toBe(0);
    const state = words(1, 0);
    expect(ioctl(V.VHOST_GET_VRING_BUSYLOOP_TIMEOUT, state)).toBe(0);
    expect(new Int32Array(state.buffer)[1]).toBe(50);
    expect(told).toEqual([[1, 50]]);
  });
  it('the files of its rings open, until it is reset or closed', () => {
    const { fds, fd, ioctl, kick, tap, tapFile } = ready();
    expect(ioctl(V.VHOST_SET_VRING_KICK, words(0, kick))).toBe(0);
    expect(ioctl(V.VHOST_NET_SET_BACKEND, words(0, tap))).toBe(0);
    const eventfd = fds.file(kick)!;
    fds.close(kick);
    fds.close(tap);
    expect([eventfd.references, tapFile.references]).toEqual([1, 1]);
    expect(tapFile.isTap).toBe(true);
    fds.close(fd);
    expect([eventfd.references, tapFile.references, fds.open]).toEqual([0, 0, 0]);
    expect(tapFile.isTap).toBe(false);
  });
  it('nothing that it was given, whatever comes in which order (property)', () => {
    const fdOf = fc.integer({ min: -3, max: 8 });
    const call = fc.record({
      request: fc.constantFrom(...V.VHOST_IOCTL_NAMES.keys()),
      ring: fc.integer({ min: 0, max: 2 }),
      second: fc.oneof(fdOf, fc.constantFrom(256, 0, 0x10000)),
    });
    fc.assert(
      fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
        const { fds, fd, ioctl, kick, tap, tapFile } = ready();
        const eventfd = fds.file(kick)!;
        for (const { request, ring, second } of calls) {
          const argument = new Uint8Array(40);
          argument.set(words(ring, second));
          expect(ioctl(request, argument)).toBeLessThanOrEqual(0);
        }
        for (const one of [kick, tap, fd]) fds.close(one);
        expect([eventfd.references, tapFile.references, fds.open]).toEqual([0, 0, 0]);
      }),
    );
  });
});

describe('the dirty log of /dev/vhost-net', () => {
  const LOG = 0x7e00_0000_0000;
  const LOG_ALL = 2 ** 26;
  it('has to be there before writes are to be marked, in memory that the caller has', () => {
    const { ioctl, device } = ready();
    expect(ioctl(V.VHOST_SET_FEATURES, u64(2 ** 32 + LOG_ALL))).toBe(-EFAULT);
    expect(ioctl(V.VHOST_SET_LOG_BASE, u64(LOG))).toBe(-EFAULT);
    const bits = new Uint8Array(512);
    device.hooks = { ...device.hooks, memoryAt: (address) => (address === LOG ? bits : null) };
    expect(ioctl(V.VHOST_SET_LOG_BASE, u64(LOG))).toBe(0);
    expect(device.logging).toBe(false);
    expect(ioctl(V.VHOST_SET_FEATURES, u64(2 ** 32 + LOG_ALL))).toBe(0);
    expect(device.logging).toBe(true);
  });
  it('marks pages of buffers, and of the used ring where that was asked for, and says so by its eventfd', () => {
    const { ioctl, device, fds, kick } = ready();
    const bits = new Uint8Array(512);
    device.hooks = { ...device.hooks, memoryAt: () => bits };
    ioctl(V.VHOST_SET_LOG_BASE, u64(LOG));
    ioctl(V.VHOST_SET_FEATURES, u64(2 ** 32 + LOG_ALL));
    expect(ioctl(V.VHOST_SET_LOG_FD, words(kick))).toBe(0);
    device.logWrite(0x5ffe, 4); // the last bytes of page 5 and the first of page 6
    expect([bits[0], bits[1]]).toEqual([0b0110_0000, 0]);
    const ring = device.session.vrings[0]!;
    device.logUsed(ring, 0, 8);
    expect(bits[0]).toBe(0b0110_0000);
    const logged = vringAddr(0, HVA + 0x1000, HVA + 0x3000, HVA + 0x2000, 1);
    new DataView(logged.buffer).setUint32(32, 0x3000, true);
    expect(ioctl(V.VHOST_SET_VRING_ADDR, logged)).toBe(0);
    device.logUsed(ring, 0, 8);
    expect(bits[0]).toBe(0b0110_1000);
    expect((fds.file(kick) as EventFdFile).eventfd.counter).toBe(2);
    expect(ioctl(V.VHOST_SET_FEATURES, u64(2 ** 32))).toBe(0);
    device.logWrite(0x10000, 1);
    expect(bits[2]).toBe(0);
  });
});

describe('IOTLB messages through read and write', () => {
  const page = { iova: 0xffff_e000, size: 4096 };
  function translating() {
    const o = ready();
    const seen: unknown[] = [];
    o.device.iotlb.hooks = {
      update: (range, uaddr, perm) => {
        if (uaddr < HVA) return -EFAULT;
        seen.push(['update', range, uaddr, perm]);
        return 0;
      },
      invalidate: (range) => {
        seen.push(['invalidate', range]);
        return 0;
      },
    };
    return { ...o, seen };
  }
  it('give each miss once, in the form that was negotiated', () => {
    const { device, ioctl } = translating();
    const buffer = new Uint8Array(72);
    expect(device.read(buffer)).toBe(-EAGAIN);
    expect(device.iotlb.miss(page.iova, W.VHOST_ACCESS_WO)).toBe(true);
    expect(device.iotlb.miss(page.iova, W.VHOST_ACCESS_WO)).toBe(false);
    expect(device.read(new Uint8Array(71))).toBe(-EINVAL);
    expect(device.read(buffer)).toBe(72);
    const m = new DataView(buffer.buffer);
    expect([W.vhost_msg.type.get(m, 0), W.vhost_iotlb_msg.iova.get(m, 8)]).toEqual([W.VHOST_IOTLB_MSG, page.iova]);
    expect([W.vhost_iotlb_msg.perm.get(m, 8), W.vhost_iotlb_msg.type.get(m, 8)]).toEqual([2, W.VHOST_IOTLB_MISS]);
    expect(device.iotlb.miss(page.iova, W.VHOST_ACCESS_WO)).toBe(false);
    expect(ioctl(V.VHOST_SET_BACKEND_FEATURES, u64(2))).toBe(0);
    device.iotlb.miss(0x1000, W.VHOST_ACCESS_RO);
    device.read(buffer);
    expect(W.vhost_msg_v2.type.get(m, 0)).toBe(W.VHOST_IOTLB_MSG_V2);
  });
  it('take updates and invalidations, and an answered miss may be asked again', () => {
    const { device, seen } = translating();
    device.iotlb.miss(page.iova, W.VHOST_ACCESS_RO);
    device.read(new Uint8Array(72));
    expect(device.write(iotlbMessage(true, W.VHOST_IOTLB_UPDATE, page, HVA, W.VHOST_ACCESS_RW))).toBe(72);
    expect(device.iotlb.waiting).toBe(0);
    expect(device.write(iotlbMessage(false, W.VHOST_IOTLB_INVALIDATE, page, 0, 0))).toBe(72);
    expect(device.iotlb.miss(page.iova, W.VHOST_ACCESS_RO)).toBe(true);
    expect(seen).toEqual([
      ['update', page, HVA, 3],
      ['invalidate', page],
    ]);
  });
  it('refuse what makes no sense, and everything before there is a table', () => {
    const { device, seen } = translating();
    const update = iotlbMessage(true, W.VHOST_IOTLB_UPDATE, page, HVA, 3);
    expect(device.write(update.subarray(0, 71))).toBe(-EINVAL);
    expect(device.write(iotlbMessage(true, W.VHOST_IOTLB_UPDATE, { iova: 0, size: 0 }, HVA, 3))).toBe(-EINVAL);
    expect(device.write(iotlbMessage(true, W.VHOST_IOTLB_UPDATE, page, 0x1000, 3))).toBe(-EFAULT);
    expect(device.write(iotlbMessage(true, W.VHOST_IOTLB_UPDATE, page, HVA, 0))).toBe(-EFAULT);
    expect(device.write(iotlbMessage(true, W.VHOST_IOTLB_MISS, page, HVA, 3))).toBe(-EFAULT);
    const otherSpace = update.slice();
    otherSpace[4] = 1;
    expect(device.write(otherSpace)).toBe(-EFAULT);
    const otherType = update.slice();
    otherType[0] = 9;
    expect(device.write(otherType)).toBe(-EINVAL);
    expect(seen).toEqual([]);
    device.iotlb.hooks = null;
    expect(device.write(update)).toBe(-EFAULT);
  });
});
