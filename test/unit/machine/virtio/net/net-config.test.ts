import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import {
  featureBit,
  featuresOf,
  NO_FEATURES,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_MTU,
} from '../../../../../src/machine/virtio/features.ts';
import {
  NetConfig,
  netConfigLength,
  SUPPORTED_TUNNEL_TYPES,
} from '../../../../../src/machine/virtio/net/net-config.ts';
import { deviceOffer } from '../../../../../src/machine/virtio/net/net-offers.ts';
import { virtio_net_config, virtio_net_hdr_v1_hash } from '../../../../../src/machine/wire/virtio-net.ts';
import { GOLDEN, optionsOf } from '../golden-options.ts';

const MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const bytesOf = (c: NetConfig, n: number): string =>
  Array.from({ length: n }, (_, i) => c.read(i, 1).toString(16).padStart(2, '0')).join('');
const configOf = (name: string): NetConfig => {
  const options = optionsOf(name);
  return new NetConfig(MAC, { ...options, offered: deviceOffer(options) });
};
const F = (...names: string[]): ReturnType<typeof featuresOf> => featuresOf(...names.map(featureBit));

describe('struct virtio_net_config', () => {
  it('the layout of virtio 1.4 §5.1.4', () => {
    const at = Object.entries(virtio_net_config).flatMap(([k, v]) =>
      typeof v === 'number' ? [] : [`${k}@${v.offset}`],
    );
    assert.equal(
      at.join(' '),
      'mac@0 status@6 max_virtqueue_pairs@8 mtu@10 speed@12 duplex@16 rss_max_key_size@17 ' +
        'rss_max_indirection_table_length@18 supported_hash_types@20 supported_tunnel_types@24',
    );
    assert.equal(virtio_net_config.SIZE, 28);
    assert.equal(virtio_net_hdr_v1_hash.SIZE, 20);
    assert.equal(virtio_net_hdr_v1_hash.hash_value.offset, 12);
    assert.equal(virtio_net_hdr_v1_hash.hash_report.offset, 16);
  });
  for (const [name, golden] of Object.entries(GOLDEN)) {
    if (golden.config === undefined) continue;
    it(`bytes as QEMU 7.2 shows them before any driver: ${name} {core.config.6}`, () => {
      assert.equal(bytesOf(configOf(name), 32), golden.config);
    });
  }
  it('is as long as the offered bits need it', () => {
    const lengths: Record<string, number> = {
      VIRTIO_NET_F_STATUS: 8,
      VIRTIO_NET_F_MQ: 10,
      VIRTIO_NET_F_MTU: 12,
      VIRTIO_NET_F_SPEED_DUPLEX: 17,
      VIRTIO_NET_F_RSS: 24,
      VIRTIO_NET_F_HASH_REPORT: 24,
      VIRTIO_NET_F_HASH_TUNNEL: 28,
    };
    for (const [name, length] of Object.entries(lengths)) assert.equal(netConfigLength(F(name)), length, name);
    assert.equal(netConfigLength(NO_FEATURES), 6);
    assert.equal(new NetConfig(MAC).length, 8);
  });
  it('an access across the end reads all ones as a whole', () => {
    const c = configOf('mq4'); // 10 bytes
    assert.equal(c.read(8, 2), 4);
    assert.equal(c.read(8, 4), 0xffff_ffff);
    assert.equal(c.read(9, 2), 0xffff);
    assert.equal(c.read(10, 1), 0xff);
    assert.equal(c.read(-1, 2), 0xffff);
    assert.equal(configOf('rss_hash').read(20, 4), 0x1ff);
  });
  it('queue pairs from 1 to 0x8000 {net.config.1}', () => {
    const pairs = (queuePairs: number): number =>
      new NetConfig(MAC, { offered: F('VIRTIO_NET_F_MQ'), queuePairs }).read(8, 2);
    assert.equal(pairs(1), 1);
    assert.equal(pairs(0x8000), 0x8000);
    assert.throws(() => pairs(0), RangeError);
    assert.throws(() => pairs(0x8001), RangeError);
  });
  it('an MTU from 68 to 65535 that nothing changes {net.config.2} {net.config.4}', () => {
    const with_ = (mtu: number): NetConfig => new NetConfig(MAC, { offered: featuresOf(VIRTIO_NET_F_MTU), mtu });
    assert.throws(() => with_(67), RangeError);
    assert.throws(() => with_(65536), RangeError);
    assert.equal(with_(68).read(10, 2), 68);
    const c = with_(1450);
    for (let at = 0; at < 12; at++) c.write(at, 1, 0xee, NO_FEATURES);
    c.setLinkUp(false);
    c.reset();
    assert.equal(c.read(10, 2), 1450);
    assert.equal(c.mtu, 1450);
  });
  it('limits of RSS and hash reports {net.config.7} {net.config.8}', () => {
    const rss = configOf('rss_hash');
    assert.ok(rss.read(17, 1) >= 40);
    assert.ok(rss.read(18, 2) >= 128);
    const report = new NetConfig(MAC, { offered: featuresOf(VIRTIO_NET_F_HASH_REPORT) });
    assert.equal(report.read(17, 1), 40);
    const tunnel = new NetConfig(MAC, { offered: F('VIRTIO_NET_F_HASH_REPORT', 'VIRTIO_NET_F_HASH_TUNNEL') });
    assert.equal(tunnel.read(24, 4), SUPPORTED_TUNNEL_TYPES);
  });
  it('speed and duplex, known and unknown, and the same whatever the link does {net.config.10} {net.config.11} {net.config.12}', () => {
    const offered = F('VIRTIO_NET_F_SPEED_DUPLEX');
    const of = (speed: number | null, duplex: string | null): [number, number] => {
      const c = new NetConfig(MAC, { offered, speed, duplex });
      c.setLinkUp(false);
      c.setLinkUp(true);
      c.reset();
      return [c.read(12, 4), c.read(16, 1)];
    };
    assert.deepEqual(of(10000, 'full'), [10000, 1]);
    assert.deepEqual(of(0, 'half'), [0, 0]);
    assert.deepEqual(of(null, null), [0xffff_ffff, 0xff]);
    assert.deepEqual(of(0x7fff_ffff, 'unknown'), [0x7fff_ffff, 0xff]);
    assert.throws(() => of(0x8000_0000, 'full'), RangeError);
    assert.throws(() => of(-1, 'full'), RangeError);
  });
  it('status: link and announce, each on its own, told when it changes', () => {
    const c = new NetConfig(MAC);
    assert.equal(c.read(6, 2), 1);
    assert.equal(c.setAnnounce(true), true);
    assert.equal(c.setAnnounce(true), false);
    assert.equal(c.read(6, 2), 3, 'as recorded at announce-self');
    assert.equal(c.setLinkUp(true), false);
    assert.equal(c.setLinkUp(false), true);
    assert.deepEqual([c.read(6, 2), c.linkUp, c.announcing], [2, false, true]);
    c.reset();
    assert.deepEqual([c.read(6, 2), c.announcing], [0, false]);
  });
  it('the address: set by the device side, restored by reset', () => {
    const c = new NetConfig(MAC);
    assert.equal(c.setMac(Uint8Array.of(9, 2, 0, 0, 0, 0, 7), 1), true);
    assert.equal(bytesOf(c, 6), '020000000007');
    assert.equal(c.setMac(Uint8Array.from(c.mac), 0), false);
    c.reset();
    assert.deepEqual(c.mac, MAC);
    assert.throws(() => new NetConfig([1, 2, 3]), RangeError);
  });
  it('a legacy driver writes its address there, a modern one nothing at all', () => {
    const access = fc.record({
      offset: fc.integer({ min: -4, max: 40 }),
      width: fc.constantFrom(1, 2, 4),
      value: fc.nat(0xffff_ffff),
      modern: fc.boolean(),
      ctrl: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 20 }), (accesses) => {
        const c = configOf('rss_hash');
        const mac = [...MAC];
        const rest = bytesOf(c, 32).slice(12);
        for (const { offset, width, value, modern, ctrl } of accesses) {
          const bits = [...(modern ? [VIRTIO_F_VERSION_1] : []), ...(ctrl ? [VIRTIO_NET_F_CTRL_MAC_ADDR] : [])];
          const before = mac.join();
          if (!modern && !ctrl && offset >= 0 && offset + width <= c.length)
            for (let i = 0; i < width; i++) if (offset + i < 6) mac[offset + i] = (value >>> (8 * i)) & 0xff;
          assert.equal(c.write(offset, width, value, featuresOf(...bits)), before !== mac.join());
          assert.deepEqual(c.mac, mac);
          assert.equal(bytesOf(c, 32).slice(12), rest);
        }
      }),
      { verbose: 1 },
    );
  });
});
