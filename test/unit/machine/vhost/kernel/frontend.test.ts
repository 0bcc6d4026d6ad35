import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { VHOST_IOCTL, VHOST_IOCTL_ARGUMENT } from '../../../../../src/engine/events.ts';
import type { StartParams } from '../../../../../src/machine/vhost/hand-over.ts';
import { describeVhostIoctl } from '../../../../../src/machine/vhost/kernel/describe.ts';
import {
  type VhostNetFrontend,
  vhostNetInit,
  vhostNetStart,
  vhostNetStop,
} from '../../../../../src/machine/vhost/kernel/frontend.ts';
import {
  VHOST_GET_FEATURES,
  VHOST_IOCTL_NAMES,
  VHOST_NET_SET_BACKEND,
  VHOST_SET_FEATURES,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_BASE,
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_NUM,
  VhostNetDevice,
} from '../../../../../src/machine/vhost/kernel/vhost-net.ts';
import {
  offeredWithBackend,
  QEMU_KERNEL_FEATURE_BITS,
  VHOST_NET_OFFER,
} from '../../../../../src/machine/vhost/offers.ts';
import { NO_FD } from '../../../../../src/machine/vhost/session.ts';
import { featuresHex } from '../../../../../src/machine/virtio/features.ts';
import { u64Payload, vringStatePayload } from '../../../../../src/machine/wire/vhost-user-codec.ts';
import { BASIC_NET_FEATURES } from '../../virtio/basic-features.ts';

const HVA = 0x7f00_0000_0000;
const params: StartParams = {
  features: BASIC_NET_FEATURES,
  regions: [
    { guest_phys_addr: 0, memory_size: 0xa0000, userspace_addr: HVA, mmap_offset: 0, fd: NO_FD },
    {
      guest_phys_addr: 0xc0000,
      memory_size: 0x1000000 - 0xc0000,
      userspace_addr: HVA + 0xc0000,
      mmap_offset: 0xc0000,
      fd: NO_FD,
    },
  ],
  rings: [0x200000, 0x204000].map((gpa, i) => ({
    size: 256,
    base: 0,
    desc_user_addr: HVA + gpa,
    avail_user_addr: HVA + gpa + 0x1000,
    used_user_addr: HVA + gpa + 0x1240,
    log_guest_addr: gpa + 0x1240,
    kick: 20 + i,
    call: 30 + i,
    err: NO_FD,
  })),
};
function open(): { device: VhostNetDevice; calls: string[]; frontend: VhostNetFrontend } {
  const calls: string[] = [];
  const device = new VhostNetDevice((kind, a) => {
    if (kind === VHOST_IOCTL) calls.push(VHOST_IOCTL_NAMES.get(a) ?? String(a));
  });
  const frontend = vhostNetInit(device);
  assert.ok(typeof frontend !== 'number');
  return { device, calls, frontend };
}

describe('vhost-net hand-over', () => {
  it('is recorded with the structures that were passed, which can be read', () => {
    const said: object[] = [];
    let request = 0;
    const device = new VhostNetDevice((kind, a, _b, bytes) => {
      if (kind === VHOST_IOCTL) request = a;
      else if (kind === VHOST_IOCTL_ARGUMENT) said.push(describeVhostIoctl(request, bytes!));
    });
    const frontend = vhostNetInit(device) as VhostNetFrontend;
    vhostNetStart(frontend, params, 9);
    assert.deepEqual(said[5], { index: 0, num: 256 });
    assert.deepEqual(said[7], {
      index: 0,
      flags: 0,
      desc_user_addr: '0x7f0000200000',
      used_user_addr: '0x7f0000201240',
      avail_user_addr: '0x7f0000201000',
      log_guest_addr: '0x201240',
    });
    assert.deepEqual(said[8], { index: 0, fd: 20 });
    assert.deepEqual(said[4], {
      regions: '0x0+0xa0000@0x7f0000000000 0xc0000+0xf40000@0x7f00000c0000',
    });
  });
  it('says how long the worker polls, for each ring, where that is asked for', () => {
    const device = new VhostNetDevice(() => {});
    vhostNetInit(device);
    assert.deepEqual(
      [0, 1].map((ring) => device.busyloopOf(ring)),
      [0, 0],
    );
    const polling = new VhostNetDevice(() => {});
    vhostNetInit(polling, 50);
    assert.deepEqual(
      [0, 1].map((ring) => polling.busyloopOf(ring)),
      [50, 50],
    );
  });
  it('follows the reference order (flow DD-4) and leaves rings that run', () => {
    const { device, calls, frontend } = open();
    assert.equal(vhostNetStart(frontend, params, 9), 0);
    const perRing = ['NUM', 'BASE', 'ADDR', 'KICK', 'CALL'].map((n) => `VHOST_SET_VRING_${n}`);
    assert.deepEqual(calls, [
      'VHOST_SET_OWNER',
      'VHOST_GET_FEATURES',
      'VHOST_GET_BACKEND_FEATURES',
      'VHOST_SET_BACKEND_FEATURES',
      'VHOST_SET_FEATURES',
      'VHOST_SET_MEM_TABLE',
      ...perRing,
      ...perRing,
      'VHOST_NET_SET_BACKEND',
      'VHOST_NET_SET_BACKEND',
    ]);
    const s = device.session;
    assert.ok(s.running(0) && s.running(1));
    assert.equal(s.refused, 0);
    assert.equal(featuresHex(s.features), '0x130008000');
    const region = s.regions[s.translate(s.vrings[1]!.avail_user_addr, 518)]!;
    assert.equal(region.guest_phys_addr + s.translatedOffset, 0x205000);
    assert.deepEqual(
      s.vrings.map((v) => [v.num, v.kick, v.call, v.backend]),
      [
        [256, 20, 30, 9],
        [256, 21, 31, 9],
      ],
    );
  });
  it('StratoVirt has another order (flow SV-2)', () => {
    const { calls, frontend, device } = open();
    assert.equal(vhostNetStart(frontend, params, 9, 'stratovirt'), 0);
    const perRing = ['VRING_NUM', 'VRING_ADDR', 'VRING_BASE', 'VRING_KICK', 'VRING_CALL'].map((n) => `VHOST_SET_${n}`);
    assert.deepEqual(calls.slice(2), [
      'VHOST_SET_FEATURES',
      'VHOST_SET_MEM_TABLE',
      ...perRing,
      'VHOST_NET_SET_BACKEND',
      ...perRing,
      'VHOST_NET_SET_BACKEND',
    ]);
    assert.ok(device.session.running(1));
  });
  it('stops and starts again from the positions', () => {
    const { device, frontend } = open();
    vhostNetStart(frontend, params, 9);
    device.session.vrings[1]!.base = 300;
    assert.deepEqual(vhostNetStop(frontend, 2), [0, 300]);
    assert.equal(device.session.running(1), false);
    const again = { ...params, rings: params.rings.map((r, i) => ({ ...r, base: [0, 300][i]! })) };
    assert.equal(vhostNetStart(frontend, again, 9), 0);
    assert.equal(device.session.vrings[1]!.base, 300);
  });
  it('the offer, and what a guest gets to see of it', () => {
    assert.equal(featuresHex(VHOST_NET_OFFER), '0x33d008000');
    assert.deepEqual(
      offeredWithBackend(BASIC_NET_FEATURES, VHOST_NET_OFFER, QEMU_KERNEL_FEATURE_BITS),
      BASIC_NET_FEATURES,
    );
  });
});

describe('vhost-net refuses', () => {
  const EPERM = -1;
  const EFAULT = -14;
  const EBUSY = -16;
  const EINVAL = -22;
  const silent = (): void => {};
  it('everything but features before SET_OWNER, and a second owner', () => {
    const d = new VhostNetDevice(silent);
    assert.equal(d.ioctl(VHOST_SET_VRING_NUM, vringStatePayload(0, 256)), EPERM);
    assert.equal(d.ioctl(VHOST_SET_MEM_TABLE, new Uint8Array(8)), EPERM);
    assert.equal(d.ioctl(VHOST_GET_FEATURES, new Uint8Array(8)), 0);
    assert.equal(d.ioctl(VHOST_SET_OWNER), 0);
    assert.equal(d.ioctl(VHOST_SET_OWNER), EBUSY);
  });
  it('changes of a running ring', () => {
    const { device, frontend } = open();
    vhostNetStart(frontend, params, 9);
    assert.equal(device.ioctl(VHOST_SET_VRING_NUM, vringStatePayload(0, 128)), EBUSY);
    assert.equal(device.ioctl(VHOST_SET_VRING_BASE, vringStatePayload(0, 1)), EBUSY);
    assert.equal(device.ioctl(VHOST_SET_MEM_TABLE, new Uint8Array(8)), EFAULT, 'rings would lose their memory');
    assert.equal(device.session.regions.length, 2);
  });
  it('bad sizes, indices, features and structures', () => {
    const { device } = open();
    for (const n of [0, 3, 0x10000]) assert.equal(device.ioctl(VHOST_SET_VRING_NUM, vringStatePayload(0, n)), EINVAL);
    assert.equal(device.ioctl(VHOST_SET_VRING_NUM, vringStatePayload(2, 256)), -105);
    assert.equal(device.ioctl(VHOST_SET_VRING_BASE, vringStatePayload(0, 0x10000)), EINVAL);
    assert.equal(device.ioctl(VHOST_SET_FEATURES, u64Payload(1)), -95);
    assert.equal(device.ioctl(VHOST_SET_VRING_ADDR, new Uint8Array(39)), EFAULT);
    assert.equal(device.ioctl(0xdeadbeef, new Uint8Array(0xffff)), -25);
    assert.equal(device.ioctl(VHOST_NET_SET_BACKEND, vringStatePayload(0, 9)), EFAULT, 'no ring yet');
    assert.equal(device.ioctl(VHOST_SET_VRING_KICK, vringStatePayload(0, 0x80000000)), -9);
  });
  it('ring addresses that are not aligned, or outside memory when the tap comes', () => {
    for (const [field, value, at] of [
      ['desc_user_addr', HVA + 8, 'start'],
      ['avail_user_addr', HVA + 1, 'start'],
      ['used_user_addr', HVA + 2, 'start'],
      ['desc_user_addr', HVA + 0xa0000 - 16, 'backend'],
      ['used_user_addr', HVA + 0x1000000 - 4, 'backend'],
    ] as const) {
      const { frontend, device } = open();
      const rings = params.rings.map((r, i) => (i === 1 ? { ...r, [field]: value } : r));
      assert.equal(vhostNetStart(frontend, { ...params, rings }, 9), at === 'start' ? EINVAL : EFAULT, field);
      assert.equal(device.session.running(1), false);
    }
  });
  it('overlapping, empty and wrapping regions', () => {
    const { device } = open();
    const r = (guest_phys_addr: number, memory_size: number, userspace_addr: number) => ({
      guest_phys_addr,
      memory_size,
      userspace_addr,
      mmap_offset: 0,
      fd: NO_FD,
    });
    const s = device.session;
    assert.equal(s.setMemTable([r(0, 0x2000, 0x10000), r(0x1000, 0x1000, 0x20000)]), EINVAL);
    assert.equal(s.setMemTable([r(0, 0x2000, 0x10000), r(0x2000, 0x1000, 0x11000)]), EINVAL);
    assert.equal(s.setMemTable([r(0, 0, 0x10000)]), EFAULT);
    assert.equal(s.setMemTable([r(Number.MAX_SAFE_INTEGER, 0x1000, 0x10000)]), EFAULT);
    assert.equal(s.setMemTable([r(-1, 0x1000, 0x10000)]), EFAULT);
    assert.equal(s.setMemTable(Array.from({ length: 65 }, (_, i) => r(i * 0x1000, 0x1000, i * 0x1000))), -7);
    assert.equal(s.setMemTable([r(0, 0x2000, 0x10000), r(0x2000, 0x1000, 0x12000)]), 0);
    assert.equal(s.translate(0x12004, 8), 1);
    assert.equal(s.translatedOffset, 4);
    assert.equal(s.translate(0x11fff, 2), -1, 'regions that touch are still two');
    assert.equal(s.translateGpa(0x1ffe, 2), 0);
    assert.equal(s.translatedOffset, 0x1ffe);
    assert.equal(s.translate(0x12004, -1), -1);
  });
  it('never throws, whatever comes', () => {
    const requests = [...VHOST_IOCTL_NAMES.keys()];
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.oneof(fc.constantFrom(...requests), fc.nat(0xffff_ffff)),
            fc.oneof(
              fc.uint8Array({ maxLength: 80 }),
              fc.tuple(fc.nat(3), fc.constantFrom(0, 1, 256, 0xffffffff)).map(([i, n]) => vringStatePayload(i, n)),
            ),
          ),
          { maxLength: 100, size: 'max' },
        ),
        (calls) => {
          const { device, frontend } = open();
          vhostNetStart(frontend, params, 9);
          for (const [request, payload] of calls) assert.ok(device.ioctl(request, payload) <= 0);
          for (const v of device.session.vrings) {
            if (device.session.running(v.index)) assert.ok(device.session.translate(v.desc_user_addr, 16 * v.num) >= 0);
          }
        },
      ),
      { verbose: 1 },
    );
  });
});
