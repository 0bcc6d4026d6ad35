/** What the specification asks of a driver of virtio-mmio (virtio 1.4 §4.2): the Linux driver on a device that is watched, and on ones that lie. */

import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import type { Probed } from '../../../../../src/machine/guest/probe/probe-types.ts';
import {
  featuresOf,
  orFeatures,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
} from '../../../../../src/machine/virtio/features.ts';
import { BASIC_NET_FEATURES } from '../../virtio/basic-features.ts';
import { type MmioProbe, probeMmio } from './mmio-bus.ts';

const READ_ONLY =
  /^(MAGIC_VALUE|VERSION|DEVICE_ID|VENDOR_ID|DEVICE_FEATURES|QUEUE_NUM_MAX|INTERRUPT_STATUS|CONFIG_GENERATION|SHM_(LEN|BASE)_(LOW|HIGH))$/;
const WRITE_ONLY =
  /^(DEVICE_FEATURES_SEL|DRIVER_FEATURES|DRIVER_FEATURES_SEL|QUEUE_SEL|QUEUE_NUM|QUEUE_NOTIFY|INTERRUPT_ACK|QUEUE_(DESC|AVAIL|USED)_(LOW|HIGH)|SHM_SEL)$/;
const PACKED = orFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_F_RING_PACKED));
const PAIRS = orFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ));

function good(p: MmioProbe): Probed {
  assert.equal(p.result.failed, undefined);
  return p.result as Probed;
}
/** A driver's whole life: found, set up, interrupted, let go. */
function life(options: Parameters<typeof probeMmio>[0] = {}): MmioProbe {
  const p = probeMmio(options);
  const { binding } = good(p);
  p.device.notifyQueue(0);
  p.device.setLinkUp(false);
  binding.takeInterrupt();
  binding.readStatusField();
  binding.unbind();
  return p;
}
const LIVES = [{}, { offered: PACKED }, { offered: PAIRS, queueSizes: [256, 256, 128, 128, 64] }];

describe('accesses', () => {
  test('documented registers alone, none against its direction {mmio.drv.1}', () => {
    for (const options of LIVES) {
      for (const { op, name } of life(options).bus.log) {
        assert.ok(!name.startsWith('+'), name);
        assert.ok(!(op === 'write' ? READ_ONLY : WRITE_ONLY).test(name), `${op} ${name}`);
      }
    }
  });
  test('control registers by aligned words of 32 bits {mmio.drv.2}', () => {
    for (const options of LIVES) {
      for (const { name, width } of life(options).bus.log) {
        if (!name.startsWith('config+')) assert.deepEqual([name, width], [name, 4]);
      }
    }
  });
  test('fields of the configuration by their own widths {mmio.drv.3}', () => {
    const widths = new Map([
      [6, 2],
      [8, 2],
      [10, 2],
      [12, 4],
      [16, 1],
    ]);
    let seen = 0;
    for (const options of LIVES) {
      for (const { op, name, width } of life(options).bus.log) {
        if (!name.startsWith('config+')) continue;
        seen++;
        assert.equal(op, 'read');
        const at = Number(name.slice(7));
        assert.equal(width, at < 6 ? 1 : widths.get(at), name);
      }
    }
    assert.ok(seen > 20);
  });
  test('no shared memory is asked for {mmio.drv.17}', () => {
    for (const options of LIVES) assert.ok(!life(options).bus.log.some((a) => a.name.startsWith('SHM')));
  });
});

describe('discovery', () => {
  const names = (p: MmioProbe): string[] => p.bus.log.map((a) => `${a.op} ${a.name}`);
  const lie = (register: string, value: number) => probeMmio({ lie: (name, v) => (name === register ? value : v) });

  test('magic value and version come first {mmio.drv.15}', () => {
    assert.deepEqual(names(probeMmio()).slice(0, 3), ['read MAGIC_VALUE', 'read VERSION', 'read DEVICE_ID']);
  });
  test('another magic value: not looked at any further {mmio.drv.4}', () => {
    for (const value of [0, 0xffff_ffff, 0x7669_7274]) {
      const p = lie('MAGIC_VALUE', value);
      assert.notEqual(p.result.failed, undefined);
      assert.deepEqual(names(p), ['read MAGIC_VALUE']);
    }
  });
  test('another version: not looked at any further {mmio.drv.5}', () => {
    for (const value of [0, 1, 3, 0xffff_ffff]) {
      const p = lie('VERSION', value);
      assert.notEqual(p.result.failed, undefined);
      assert.deepEqual(names(p), ['read MAGIC_VALUE', 'read VERSION']);
    }
  });
  test('device 0: left alone, nothing of it is touched {mmio.drv.6} {mmio.drv.16}', () => {
    const p = lie('DEVICE_ID', 0);
    assert.notEqual(p.result.failed, undefined);
    assert.deepEqual(names(p), ['read MAGIC_VALUE', 'read VERSION', 'read DEVICE_ID']);
    assert.equal(p.device.status, 0);
  });
});

describe('set-up', () => {
  test('in the general order: reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK and its check, queues, DRIVER_OK {mmio.drv.18}', () => {
    for (const options of LIVES) {
      const { log } = probeMmio(options).bus;
      const status = log.flatMap((a, i) => (a.op === 'write' && a.name === 'STATUS' ? [[a.value, i] as const] : []));
      assert.deepEqual(
        status.map(([value]) => value),
        [0, 1, 3, 0xb, 0xf],
      );
      const at = (value: number): number => status.find(([v]) => v === value)![1];
      for (const [i, { op, name }] of log.entries()) {
        if (name.includes('FEATURES') && op === 'write') assert.ok(i > at(3) && i < at(0xb), name);
        if (/^QUEUE_/.test(name)) assert.ok(i > at(0xb) && i < at(0xf), name);
      }
      const check = log.findIndex((a, i) => i > at(0xb) && a.op === 'read' && a.name === 'STATUS');
      assert.ok(check > 0 && check < log.findIndex((a) => a.name === 'QUEUE_SEL'));
      assert.equal(log[check]!.value & 8, 8);
    }
  });
  test('each feature word is selected before it is read or written {mmio.drv.7} {mmio.drv.8}', () => {
    for (const options of LIVES) {
      const p = probeMmio(options);
      const seen = new Map<string, number>();
      const selected: Record<string, number> = {};
      for (const { op, name, value } of p.bus.log) {
        if (op === 'write' && name.endsWith('FEATURES_SEL')) selected[name.slice(0, -4)] = value;
        if (name !== 'DEVICE_FEATURES' && name !== 'DRIVER_FEATURES') continue;
        const word = selected[name];
        assert.ok(word !== undefined, `${name} before any selection`);
        delete selected[name];
        seen.set(`${name} ${word}`, value);
      }
      const { offered } = p.device;
      assert.deepEqual([seen.get('DEVICE_FEATURES 0'), seen.get('DEVICE_FEATURES 1')], [offered.lo, offered.hi]);
      const { features } = good(p);
      assert.deepEqual([seen.get('DRIVER_FEATURES 0'), seen.get('DRIVER_FEATURES 1')], [features.lo, features.hi]);
    }
  });
  test('no ring is larger than the device has it {mmio.drv.9}', () => {
    for (const most of [1, 2, 64, 1024, 32_768]) {
      for (const limit of [16, 256, 65_536]) {
        const { bus } = probeMmio({ queueSizes: [most, most, most], limits: [limit, limit, limit] });
        assert.ok(bus.writes('QUEUE_NUM').length >= 2);
        for (const size of bus.writes('QUEUE_NUM')) assert.ok(size <= most && size <= limit);
      }
    }
  });
  test('registers of a queue are written while it is not ready, and one that is ready already is not taken {mmio.drv.10}', () => {
    const settings = /^QUEUE_(NUM|(DESC|AVAIL|USED)_(LOW|HIGH))$/;
    for (const options of LIVES) {
      const ready = new Set<number>();
      let selected = 0;
      for (const { op, name, value } of life(options).bus.log) {
        if (op !== 'write') continue;
        if (name === 'QUEUE_SEL') selected = value;
        if (name === 'QUEUE_READY') value === 1 ? ready.add(selected) : ready.delete(selected);
        if (settings.test(name)) assert.ok(!ready.has(selected), `${name} of queue ${selected}`);
      }
    }
    const p = probeMmio({ lie: (name, value) => (name === 'QUEUE_READY' ? 1 : value) });
    assert.notEqual(p.result.failed, undefined);
    assert.ok(!p.bus.log.some((a) => a.op === 'write' && settings.test(a.name)));
  });
  test('a queue is stopped by 0 in QueueReady, which is read back until it says so {mmio.drv.11}', () => {
    let reads = 0;
    let stopping = false;
    const p = probeMmio({
      lie: (name, value) => (stopping && name === 'QUEUE_READY' && ++reads % 5 !== 0 ? 1 : value),
    });
    const { binding, queues } = good(p);
    stopping = true;
    const from = p.bus.log.length;
    binding.unbind();
    const log = p.bus.log.slice(from).filter((a) => a.name === 'QUEUE_READY');
    const once = ['write 0', 'read 1', 'read 1', 'read 1', 'read 1', 'read 0'];
    assert.deepEqual(
      log.map((a) => `${a.op} ${a.value}`),
      queues.flatMap(() => once),
    );
  });
  test('no queue is reset: RING_RESET is not accepted over this transport', () => {
    const offered = orFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_F_RING_RESET));
    const p = life({ offered });
    const { binding, features } = good(probeMmio({ offered }));
    assert.equal(features.hi & (1 << (VIRTIO_F_RING_RESET - 32)), 0);
    assert.equal(typeof binding.resizeQueue(0, 64, { alloc: () => 0x40_0000 }), 'string');
    assert.ok(!p.bus.log.some((a) => a.name === 'QUEUE_RESET'));
  });
});

describe('interrupts', () => {
  /** The driver's handling of an interrupt, on a device that shows these bits. */
  function handle(status: number): { answer: number; log: string[] } {
    let lying = false;
    const p = probeMmio({ lie: (name, value) => (lying && name === 'INTERRUPT_STATUS' ? status : value) });
    const { binding } = good(p);
    lying = true;
    const from = p.bus.log.length;
    const answer = binding.takeInterrupt();
    return { answer, log: p.bus.log.slice(from).map((a) => `${a.op} ${a.name} ${a.value}`) };
  }
  test('the status is read, then acknowledged, bits without a meaning apart {mmio.drv.12} {mmio.drv.13} {mmio.drv.19} {mmio.drv.21}', () => {
    for (const status of [1, 2, 3]) {
      assert.deepEqual(handle(status), {
        answer: status,
        log: [`read INTERRUPT_STATUS ${status}`, `write INTERRUPT_ACK ${status}`],
      });
    }
    for (const status of [0x8000_0001, 0x86, 0xffff_fffc, 0xffff_ffff]) {
      const { answer, log } = handle(status);
      assert.equal(answer, (status & 3) >>> 0);
      assert.deepEqual(log, [`read INTERRUPT_STATUS ${status}`, `write INTERRUPT_ACK ${(status & 3) >>> 0}`]);
    }
  });
  test('what the device raises is answered, and the line goes down', () => {
    const levels: boolean[] = [];
    const p = probeMmio({ hooks: { onIntx: (up) => levels.push(up) } });
    const { binding } = good(p);
    p.device.notifyQueue(1);
    assert.deepEqual(levels, [true]);
    assert.equal(binding.takeInterrupt(), 1);
    p.device.setLinkUp(false);
    assert.equal(binding.takeInterrupt(), 2);
    assert.equal(binding.readStatusField() & 1, 0);
    assert.deepEqual(levels, [true, false, true, false]);
  });
});
