/**
 * A kernel guest behind an IOMMU over vhost-user beside a recorded one: ring addresses, misses, updates.
 * test/vectors/vhost-user/viommu.json: QEMU 7.2.22, Linux 6.1 guest in strict mode, DPDK 22.11 testpmd, recorded.
 */
import { expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { hexOf, scenario } from '../machine/vhost/user/golden.ts';
import { recorded } from './recorded.ts';
import { makeWorld, placeId, runOut } from './world-driver.ts';

const SET_VRING_NUM = '08';
const IOTLB_MSG = '16';
/** Bytes of an IOTLB message in the order of the wire: header, iova and size; then QEMU's address; perm and type; padding. */
function known(hex: string): string {
  return hex.startsWith(IOTLB_MSG) && hex.length > 60 ? hex.slice(0, 56) + hex.slice(72, 76) : hex;
}
/** From the first ring's size on, as many messages as asked for. */
function fromRings(messages: readonly string[], count: number): string[] {
  return messages
    .slice(
      messages.findIndex((m) => m.startsWith(SET_VRING_NUM)),
      undefined,
    )
    .slice(0, count)
    .map(known);
}

test('the rings of a kernel guest are handed over as in a recording, address by address', () => {
  const guest = {
    iommu: { mode: 'strict', cachingMode: false },
    nics: [{ name: 'net0', backend: 'vhost-user', addresses: ['10.77.9.2/24'] }],
  };
  const hosts = [{ name: 'h1', bridges: [{ name: 'br0', datapath: 'netdev' }], guests: [{ name: 'a', ...guest }] }];
  const world = makeWorld({ recorder: { events: 1 << 17, bytes: '8MiB' }, hosts });
  runOut(world);
  const place = placeId(world.machine, 'a/net0/vhost-user');
  const { events, bytesOf } = recorded(world, E.VHOST_USER_MESSAGE);
  const ours = events.filter((e) => e.place === place).map((e) => hexOf(bytesOf(e)));
  const main = scenario('viommu').messages.filter((m) => m.channel === 'main');
  const golden = main.map((m) => m.hex);
  // to the answers of four updates: both used rings, then both descriptor tables
  const count = golden
    .slice(golden.findIndex((m) => m.startsWith(SET_VRING_NUM)))
    .findIndex((m) => m.includes('90ebff'));
  expect(count).toBe(21);
  expect(fromRings(ours, count)).toEqual(fromRings(golden, count));
});
